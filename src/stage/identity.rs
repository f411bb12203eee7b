//! Which machine is this, for a stage of any part of the boot?
//!
//! Azure's firmware says it. Elsewhere the medium does, so what it said outlives the seed for this boot in [`FILE`]; and
//! where there is no medium any more, the root says it, if it is marked with the system's UUID: that is what OpenStack's
//! instance ids are (cloud-init's check_instance_id does the same).

use crate::error::Result;
use crate::facts::InstanceId;
use crate::format::text::{join, split_once};
use crate::machine::{self, Machine, Platform};
use crate::seed;
use crate::sys::{Dir, Kernel, Owner};

/// Below /run/preroot: platform and id, as this boot's medium said them, and [`DISK`].
const FILE: &str = "identity";
/// The medium was no optical drive.
const DISK: &str = "disk";

/// Looks at the machine, and at what was learnt of it.
#[inline(never)]
pub(super) fn observe(kernel: &mut Kernel<'_>) -> Machine {
    let mut machine = machine::observe(kernel);
    if machine.platform == Some(Platform::Azure) {
        return machine;
    }
    let said = read(kernel.run);
    let system_id = machine.system_id.clone();
    if let Some(Said { platform, id, is_disk }) = said
        && !(is_disk
            && system_id.as_ref().is_some_and(|own| !own.is_same_vm(&id) && is_provisioned(kernel.root, own)))
    {
        (machine.platform, machine.vm_id) = (Some(platform), Some(id));
    } else if let Some(id) = system_id
        && let Some(platform) = known_platform(kernel.root, &id)
    {
        machine.platform = machine.platform.or(Some(platform));
        machine.vm_id = Some(id);
    }
    machine
}

/// Its id, for stages that do nothing without one.
///
/// # Errors
/// `Malformed` where firmware has to say it and does not; else `NotApplicable`: no medium said it, or not yet.
pub(super) fn id_of(machine: &Machine) -> Result<InstanceId> {
    match (&machine.vm_id, machine.platform) {
        (Some(id), _) => Ok(id.clone()),
        (None, Some(Platform::Azure)) => Err(malformed!("SMBIOS", "failure to identify Azure VM ID", 0)),
        (None, _) => Err(not_applicable!("no medium said who this machine is to be")),
    }
}

/// True when everything was applied for the machine of this id. Against that a disk that somebody attached has no say.
fn is_provisioned(root: &mut dyn Dir, id: &InstanceId) -> bool {
    [seed::PROVISIONED, seed::PROVISIONED_HERE].iter().any(|mark| seed::is_marked(root, mark, id))
}

/// Whose machine this is, where the root was this one's before, or is about to be.
fn known_platform(root: &mut dyn Dir, id: &InstanceId) -> Option<Platform> {
    if is_provisioned(root, id) {
        return Some(Platform::OpenStack);
    }
    let pending = seed::pending(id).ok()?;
    root.stat(&pending).ok()?;
    let platform = seed::load_context(root, &pending).ok()?.platform;
    // Azure's seed is for Azure's firmware to own up to.
    (platform != Platform::Azure).then_some(platform)
}

/// What a medium said in this boot.
struct Said {
    platform: Platform,
    id: InstanceId,
    /// It was no optical drive.
    is_disk: bool,
}

fn read(run: &mut dyn Dir) -> Option<Said> {
    let mut buf = [0; 128];
    let length = run.read(FILE, &mut buf).ok()?;
    let text = core::str::from_utf8(buf.get(..length)?).ok()?;
    let (platform, id) = split_once(text.trim_ascii(), " ")?;
    let (id, device) = split_once(id, " ").unwrap_or((id, ""));
    let (platform, id) = (Platform::of_word(platform)?, InstanceId::parse(id).ok()?);
    Some(Said { platform, id, is_disk: device == DISK })
}

/// Keeps what the medium said for the stages that come.
///
/// # Errors
/// `Os`.
pub(super) fn keep(run: &mut dyn Dir, platform: Platform, id: &InstanceId, is_disk: bool) -> Result<()> {
    let _ = run.remove(FILE);
    let [blank, device] = if is_disk { [" ", DISK] } else { [""; 2] };
    let line = join(&[platform.word(), " ", id.as_str(), blank, device, "\n"])?;
    run.create_unsynced(FILE, Owner::root(0o644), line.as_bytes())
}

/// True once a medium said who this is.
pub(super) fn is_kept(run: &mut dyn Dir) -> bool {
    read(run).is_some()
}

#[cfg(test)]
mod tests {
    use super::{keep, observe};
    use crate::facts::InstanceId;
    use crate::machine::Platform;
    use crate::seed;
    use crate::sys::fake::World;

    const UUID: &str = "3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11";

    #[test]
    fn the_medium_says_it_and_then_the_root() {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{UUID}\n"));
        assert_eq!(observe(&mut world.kernel()).platform, None);
        let id = InstanceId::parse(UUID).unwrap();
        seed::mark(&mut world.root, seed::PROVISIONED, &id).unwrap();
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id), (Some(Platform::OpenStack), Some(id.clone())));
        let other = InstanceId::parse("iid-1").unwrap();
        keep(&mut world.run, Platform::NoCloud, &other, true).unwrap();
        assert_eq!(observe(&mut world.kernel()).vm_id, Some(id), "a disk has no say against the root's mark");
        keep(&mut world.run, Platform::NoCloud, &other, false).unwrap();
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id), (Some(Platform::NoCloud), Some(other)));
    }

    #[test]
    fn a_root_of_another_machine_says_nothing() {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{UUID}\n"));
        seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse("iid-1").unwrap()).unwrap();
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id), (None, None));
    }

    #[test]
    fn on_azure_nobody_but_the_firmware_is_asked() {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{UUID}\n")).put_dir("sys/firmware/efi");
        keep(&mut world.run, Platform::NoCloud, &InstanceId::parse("iid-1").unwrap(), false).unwrap();
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id.unwrap().as_str()), (Some(Platform::Azure), UUID));
    }
}
