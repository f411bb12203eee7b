//! Which devices of this machine wait for a driver that provisioning needs?
//!
//! By bus, not by walking /sys/devices: four listings instead of thousands of directories. Taken are storage,
//! optical drives, network cards, and what carries them: virtio, and PCI behind Hyper-V (NVMe disks of newer
//! Azure sizes). Not taken: sound, graphics, input, USB. They cost time, and udev loads them later anyway.

use super::list::List;
use crate::error::Result;
use crate::format::text::{PathText, join};
use crate::sys::{Dir, FileType};

/// Where devices that matter are listed.
const BUSES: [&str; 4] = ["vmbus", "pci", "virtio", "scsi"];

/// What was seen, bound to a driver or not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Something whose disks and drives are SCSI devices: sd_mod and sr_mod will be asked for when its
    /// asynchronous scan ends, so they are loaded before anybody has to wait for that.
    pub(super) has_scsi_host: bool,
    /// A network card.
    pub(super) has_nic: bool,
}

/// Adds the modalias of every device without a driver to `wanted`; `names` is room for one listing.
///
/// # Errors
/// `TooMany` when a list is full.
pub(super) fn collect(
    host: &mut dyn Dir,
    is_hyperv: bool,
    names: &mut [u8],
    wanted: &mut List<'_>,
) -> Result<Found> {
    let mut found = Found::default();
    for bus in BUSES {
        let mut devices = List::new(names);
        let mut outcome = Ok(());
        let directory = path_of(bus, "", "");
        // A bus that is not there has no devices.
        let _ = host.list(&directory, &mut |name: &str, _: FileType| {
            outcome = devices.push_once(name);
            outcome.is_ok()
        });
        outcome?;
        for name in devices.iter() {
            take(host, is_hyperv, [bus, name], wanted, &mut found)?;
        }
    }
    Ok(found)
}

#[inline(never)]
fn take(
    host: &mut dyn Dir,
    is_hyperv: bool,
    [bus, name]: [&str; 2],
    wanted: &mut List<'_>,
    found: &mut Found,
) -> Result<()> {
    let mut buf = [0; 256];
    let length = host.read(&path_of(bus, name, "/modalias"), &mut buf).unwrap_or_default();
    let text = buf.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default();
    let modalias = text.trim_ascii();
    let Some(class) = class_of(modalias, is_hyperv) else { return Ok(()) };
    found.has_scsi_host |= class == Class::ScsiHost;
    found.has_nic |= class == Class::Nic;
    if host.stat(&path_of(bus, name, "/driver")).is_err() {
        wanted.push_once(modalias)?;
    }
    Ok(())
}

fn path_of(bus: &str, name: &str, attribute: &str) -> PathText {
    // Too long cannot be: bus and attribute are ours, and the kernel's device names have at most 20 bytes
    // here. If it were, the path would name nothing.
    join(&["sys/bus/", bus, "/devices/", name, attribute]).unwrap_or_default()
}

/// Why a device matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    ScsiHost,
    Nic,
    Other,
}

/// `None`: provisioning does not need it.
fn class_of(modalias: &str, is_hyperv: bool) -> Option<Class> {
    match modalias.split_once(':')? {
        ("pci", id) => class_of_pci(id, is_hyperv),
        ("virtio", id) => class_of_virtio(id),
        // sd_mod and sr_mod, nothing else, bind by SCSI type.
        ("scsi", id) => ["t-0x00", "t-0x04", "t-0x05", "t-0x07"].contains(&id).then_some(Class::Other),
        ("vmbus", id) => class_of_vmbus(id),
        _ => None,
    }
}

/// `v00008086d00007010sv00001AF4sd00001100bc01sc01i80` (drivers/pci/pci-sysfs.c modalias_show).
fn class_of_pci(id: &str, is_hyperv: bool) -> Option<Class> {
    match (id.get(1..9)?, id.get(40..42)?, id.get(44..46)?) {
        // The transport; what it carries shows up on the virtio bus.
        ("00001AF4", _, _) => Some(Class::Other),
        // NVMe has no SCSI layer.
        (_, "01", "08") => Some(Class::Other),
        (_, "01", _) => Some(Class::ScsiHost),
        // On Hyper-V a PCI network card is the accelerated twin of a synthetic one. Without its driver all
        // traffic stays on the synthetic path, which is where we listen.
        (_, "02", _) if !is_hyperv => Some(Class::Nic),
        _ => None,
    }
}

/// `d00000001v00001AF4` (include/uapi/linux/virtio_ids.h).
fn class_of_virtio(id: &str) -> Option<Class> {
    match id.get(..9)? {
        "d00000001" => Some(Class::Nic),
        "d00000002" => Some(Class::Other),
        "d00000008" => Some(Class::ScsiHost),
        _ => None,
    }
}

/// The class GUID, in the byte order of include/linux/hyperv.h.
fn class_of_vmbus(id: &str) -> Option<Class> {
    match id {
        // HV_NIC_GUID
        "635161f83edfc546913ff2d2f965ed0e" => Some(Class::Nic),
        // HV_IDE_GUID, HV_SCSI_GUID, HV_SYNTHFC_GUID
        "32264132cb86a2449b5c50d1417354f5"
        | "d96361baa104294db60572e2ffb1dc7f"
        | "4acc9b2f6900f34ab76b6fd0be528cda" => Some(Class::ScsiHost),
        // HV_PCIE_GUID
        "1df6c444444400449d52802e27ede19f" => Some(Class::Other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Found, class_of, collect};
    use crate::stage::modules::list::List;
    use crate::sys::fake::World;
    use std::vec::Vec;

    const PIIX: &str = "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80";
    const NVME: &str = "pci:v00001414d0000B111sv00001414sd0000B111bc01sc08i02";
    const MLX5: &str = "pci:v000015B3d00001016sv000015B3sd00000190bc02sc00i00";
    const VGA: &str = "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00";
    const VIRTIO: &str = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";

    #[test]
    fn only_storage_network_and_their_carriers_count() {
        for (modalias, class) in [
            (PIIX, Some(Class::ScsiHost)),
            (NVME, Some(Class::Other)),
            (MLX5, Some(Class::Nic)),
            (VGA, None),
            (VIRTIO, Some(Class::Other)),
            ("virtio:d00000001v00001AF4", Some(Class::Nic)),
            ("virtio:d00000010v00001AF4", None),
            ("scsi:t-0x05", Some(Class::Other)),
            ("scsi:t-0x0d", None),
            ("vmbus:635161f83edfc546913ff2d2f965ed0e", Some(Class::Nic)),
            ("vmbus:02780ada77e3ac4a8e770558eb1073f8", None),
            ("pci:v0000", None),
            ("cpu:type:x86", None),
            ("", None),
        ] {
            assert_eq!(class_of(modalias, false), class, "{modalias}");
        }
    }

    #[test]
    fn the_accelerated_twin_is_left_alone_on_hyperv() {
        assert_eq!(class_of(MLX5, true), None);
        assert_eq!(class_of(NVME, true), Some(Class::Other));
    }

    #[test]
    fn a_device_with_a_driver_is_not_asked_for() {
        let mut world = World::new();
        world.host.put("sys/bus/pci/devices/0000:00:01.1/modalias", [PIIX, "\n"].concat());
        world.host.put("sys/bus/pci/devices/0000:00:02.0/modalias", VIRTIO);
        world.host.put_dir("sys/bus/pci/devices/0000:00:01.1/driver");
        let (mut names, mut text) = ([0; 512], [0; 512]);
        let mut wanted = List::new(&mut text);
        let found = collect(&mut world.host, false, &mut names, &mut wanted).unwrap();
        assert_eq!(found, Found { has_scsi_host: true, has_nic: false });
        assert_eq!(wanted.iter().collect::<Vec<_>>(), [VIRTIO]);
    }
}
