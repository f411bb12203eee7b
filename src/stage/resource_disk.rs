//! What becomes of the resource disk in this boot? A stage of its own, because it is a duty of every boot, and because
//! nobody who logs in waits for it.

use super::identity;
use crate::apply::resource_disk::{Outcome, settle};
use crate::apply::scsi_timeout;
use crate::apply::{Buffers, Root, SeedPlace};
use crate::cli::Command;
use crate::config;
use crate::error::Result;
use crate::event::{Level, Value};
use crate::limits;
use crate::machine::Platform;
use crate::seed;
use crate::sys::{Dir, Kernel};

/// Formats it where it is fresh, mounts it, makes its swap file. `bytes` holds the names of all disks and what is
/// read of one: 64 KiB.
///
/// # Errors
/// `NotApplicable` where nothing is to be done; why it could not be done.
#[inline(never)]
pub(super) fn run(kernel: &mut Kernel<'_>, bytes: &mut [u8], command: &Command) -> Result<()> {
    kernel.log.enter("resource-disk");
    let machine = identity::observe(kernel);
    if machine.platform != Some(Platform::Azure) {
        return Err(not_applicable!("no temporary disk on this platform"));
    }
    let id = machine.vm_id.ok_or(malformed!("SMBIOS", "failure to identify Azure VM ID", 0))?;
    let config = config::load(kernel.root, bytes, &mut |_, _| {});
    if let (Some(seconds), false) = (config.scsi_timeout_s(), command.dry_run) {
        scsi_timeout::set(kernel.host, seconds);
    }
    if !config::is_ours(kernel.root, &config) {
        return Err(not_applicable!("another agent provisions this image"));
    }
    let begin_us = kernel.clock.now_us();
    let mut waited_ms = 0;
    let outcome = loop {
        let before = count(kernel.host);
        let wall_s = kernel.clock.wall_s();
        let mut root = Root {
            dir: kernel.root,
            run: kernel.run,
            host: kernel.host,
            disks: kernel.disks,
            system: kernel.system,
            clock: kernel.clock,
            until_us: u64::MAX,
            is_switched_off: false,
            is_last_try: false,
            partly: None,
            path: command.root,
            seed: SeedPlace::Run(seed::SEED),
            config: &config,
            id: &id,
            wall_s,
            buffers: Buffers::halves_of(bytes),
        };
        match settle(&mut root, command.dry_run)? {
            Outcome::Absent if !command.dry_run && wait_for_more(kernel, before, &mut waited_ms) => {}
            outcome => break outcome,
        }
    };
    let (text, device) = match outcome {
        Outcome::Unwanted => return Err(not_applicable!("no resource disk is wanted")),
        Outcome::Absent => return Err(not_applicable!("this machine has no temporary disk")),
        Outcome::LeftAlone(why) => {
            kernel.say(Level::Warning, "the resource disk is left alone: {}", &[Value::Text(why)]);
            return Ok(());
        }
        Outcome::AsItShouldBe(device) => ("{}: as it should be, at {}", device),
        Outcome::Mounted(device) if command.dry_run => ("{}: would be mounted at {}", device),
        Outcome::Formatted(device) | Outcome::OneFormatted(device) if command.dry_run => {
            ("{}: fresh; would be formatted for {}", device)
        }
        Outcome::OneFormatted(device) => (
            "{}: fresh; formatted and mounted at {} in {}; other local disks stay unused without mdadm",
            device,
        ),
        Outcome::Mounted(device) => ("{}: mounted at {} in {}", device),
        Outcome::Formatted(device) => ("{}: fresh; formatted and mounted at {} in {}", device),
    };
    let took = kernel.clock.now_us().saturating_sub(begin_us) / 1000;
    let point = config.resource_disk_mount_point();
    kernel.say(Level::Info, text, &[Value::Name(&device), Value::Name(point), Value::Millis(took)]);
    Ok(())
}

/// Waits until there are other than `before` block devices; false when none came in time. Others boot meanwhile: all
/// disks are looked at again only then.
fn wait_for_more(kernel: &mut Kernel<'_>, before: usize, waited_ms: &mut u64) -> bool {
    while *waited_ms < limits::TEMPORARY_DISK_MS {
        kernel.clock.sleep_ms(limits::POLL_MS);
        *waited_ms += limits::POLL_MS;
        if count(kernel.host) != before {
            return true;
        }
    }
    false
}

fn count(host: &mut dyn Dir) -> usize {
    let mut count = 0_usize;
    let _ = host.list("sys/class/block", &mut |_, _| {
        count = count.saturating_add(1);
        true
    });
    count
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::error::Kind;
    use crate::sys::fake::{FakeDisk, World};

    fn boot(world: &mut World) -> crate::error::Result<()> {
        let command = crate::cli::parse(&mut [Some("resource-disk")].into_iter()).unwrap();
        run(&mut world.kernel(), &mut std::vec![0; 128 * 1024], &command)
    }

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world
            .host
            .put("sys/class/dmi/id/product_uuid", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\n")
            .put("sys/devices/pci0000:00/0000:00:1e.0/block/vdb/dev", "8:16\n")
            .put_symlink("sys/class/block/vdb", "../../devices/pci0000:00/0000:00:1e.0/block/vdb");
        world.disks.disks.insert("vdb".into(), FakeDisk::new(std::vec![7; 1 << 20]));
        world
    }

    #[test]
    fn it_is_nobody_s_business_elsewhere() {
        assert!(boot(&mut World::new()).unwrap_err().is(Kind::NotApplicable), "not our platform");
        let mut world = azure();
        assert!(boot(&mut world).unwrap_err().is(Kind::NotApplicable), "no resource disk");
        assert_eq!(
            world.clock.sleeps.iter().sum::<u64>(),
            crate::limits::TEMPORARY_DISK_MS,
            "it might come late"
        );
        world
            .root
            .put("etc/preroot.conf", "ResourceDisk.Place=0000:00:1e.0\nProvisioning.Agent=cloud-init\n");
        assert!(boot(&mut world).unwrap_err().is(Kind::NotApplicable), "another agent's");
        assert!(world.log.lines.is_empty() && world.disks.opened.is_empty());
    }

    #[test]
    fn every_scsi_disk_gets_the_time_that_is_configured() {
        let mut world = azure();
        world.root.put("etc/preroot.conf", "OS.RootDeviceScsiTimeout=240\n");
        for name in ["sda", "sdb", "vda"] {
            world.host.put(&std::format!("sys/class/block/{name}/device/timeout"), "30\n");
        }
        world.host.put("sys/class/block/sda1/size", "1\n");
        assert!(boot(&mut world).is_err());
        let time =
            |world: &World, name| world.host.text(&std::format!("sys/class/block/{name}/device/timeout"));
        assert_eq!(time(&world, "sda").unwrap(), "240");
        assert_eq!(time(&world, "sdb").unwrap(), "240");
        assert_eq!(time(&world, "vda").unwrap(), "30\n");
    }

    #[test]
    fn what_is_left_alone_is_told_with_its_reason() {
        let mut world = azure();
        world.root.put("etc/preroot.conf", "ResourceDisk.Place=0000:00:1e.0\n");
        boot(&mut world).unwrap();
        let line =
            "resource-disk: the resource disk is left alone: the temporary disk holds nothing we recognise";
        assert!(world.log.lines.concat().contains(line), "{:?}", world.log.lines);
        assert!(world.system.runs.is_empty());
    }
}
