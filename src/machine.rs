//! What is this machine? Observed once, from what the kernel shows of firmware and boot loader.

use crate::facts::InstanceId;
use crate::sys::{Dir, Kernel};

/// Azure's chassis asset tag: "MSFT AZURE VM" in decimal ASCII. A plain Hyper-V host has another.
/// Source: cloud-init `sources/azure/identity.py`.
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// A platform we know how to ask and to report to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Platform {
    /// Microsoft Azure, or an Azure Stack Hub.
    Azure,
}

impl Platform {
    /// The word of the seed's `platform` file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Azure => "azure",
        }
    }
}

/// Firmware of a Hyper-V machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// BIOS: the DVD is on an IDE controller, the first three fields of the UUID are byte-swapped.
    One,
    /// UEFI.
    Two,
}

/// What we know of the machine before asking anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Whose it is; `None`: nobody's we know, so nothing is asked and no packet sent.
    pub platform: Option<Platform>,
    /// Which one, as Azure's `compute.vmId` says it; `None` where the firmware has no UUID.
    pub vm_id: Option<InstanceId>,
    /// Its firmware.
    pub generation: Generation,
    /// CPUID says Hyper-V.
    pub is_hyperv: bool,
}

/// Looks at DMI, firmware and CPUID. What cannot be read counts as absent.
#[must_use]
pub fn observe(kernel: &mut Kernel<'_>) -> Machine {
    let generation = match kernel.host.stat("sys/firmware/efi") {
        Ok(_) => Generation::Two,
        Err(_) => Generation::One,
    };
    Machine {
        platform: platform(kernel.host),
        vm_id: vm_id(kernel.host, generation),
        generation,
        is_hyperv: kernel.system.is_hyperv(),
    }
}

fn platform(host: &mut dyn Dir) -> Option<Platform> {
    let mut buf = [0; 128];
    let tag = text(host, "sys/class/dmi/id/chassis_asset_tag", &mut buf);
    (tag.trim_ascii() == AZURE_TAG).then_some(Platform::Azure)
}

/// SMBIOS's system UUID; on BIOS machines (SMBIOS 2.3) its first three fields are in the other byte order.
fn vm_id(host: &mut dyn Dir, generation: Generation) -> Option<InstanceId> {
    let mut buf = [0; 128];
    let system = InstanceId::parse(text(host, "sys/class/dmi/id/product_uuid", &mut buf)).ok()?;
    match generation {
        Generation::One => system.swapped(),
        Generation::Two => Some(system),
    }
}

/// A small kernel file; "" when it cannot be read.
fn text<'b>(host: &mut dyn Dir, path: &str, buf: &'b mut [u8]) -> &'b str {
    let length = host.read(path, buf).unwrap_or_default();
    buf.get(..length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Generation, Platform, observe};
    use crate::sys::fake::World;

    const UUID: &str = "527C2691-029F-FE4C-B1F4-A4DA7EBAC2CF\n";

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", UUID);
        world
    }

    #[test]
    fn a_bios_machine_has_a_swapped_id() {
        let machine = observe(&mut azure().kernel());
        assert_eq!(machine.platform, Some(Platform::Azure));
        assert_eq!(machine.generation, Generation::One);
        assert_eq!(machine.vm_id.unwrap().as_str(), "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf");
    }

    #[test]
    fn an_efi_machine_has_its_uuid() {
        let mut world = azure();
        world.host.put_dir("sys/firmware/efi");
        let machine = observe(&mut world.kernel());
        assert_eq!(machine.generation, Generation::Two);
        assert_eq!(machine.vm_id.unwrap().as_str(), "527c2691-029f-fe4c-b1f4-a4da7ebac2cf");
    }

    #[test]
    fn a_plain_hyperv_host_is_not_azure() {
        let mut world = World::new();
        world.system.hyperv = true;
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77x\n");
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id, machine.is_hyperv), (None, None, true));
    }
}
