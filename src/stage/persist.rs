//! Does the seed reach the real root, or is this VM provisioned already? The last hook before switch-root.

use super::{JOIN_POLL_MS, grow};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::InstanceId;
use crate::limits;
use crate::machine;
use crate::seed;
use crate::sys::{CANCEL, Kernel, Owner};

const STAGE: &str = "persist";
/// Below /run/preroot: fetch has ended, however.
pub(super) const FETCH_ENDED: &str = "fetch.ended";
/// Below /run/preroot: `root=` could not be resolved before the mount; the mounted root tells its device.
pub(super) const GROW_LATER: &str = "grow.later";

/// Grows the root where that could not be done before the mount; joins a running fetch, or stops it where
/// this VM is provisioned already; copies the seed to the root mounted at `root_path`.
///
/// # Errors
/// `NotApplicable` where there is nothing to persist; `Os` when the root cannot be written (the seed in
/// memory stays and `apply` uses that).
pub(super) fn run(kernel: &mut Kernel<'_>, bytes: &mut [u8], root_path: &str) -> Result<()> {
    let machine = machine::observe(kernel);
    if machine.platform.is_none() {
        return Err(Error::NotApplicable { why: "not a platform of ours" });
    }
    if kernel.run.remove(GROW_LATER).is_ok() {
        // Said there already; the seed matters more than the size.
        let _ = grow::after_mount(kernel, bytes, false);
    }
    let id = machine.vm_id.ok_or(Error::malformed("SMBIOS", "failure to identify Azure VM ID", 0))?;
    if seed::is_marked(kernel.root, seed::PROVISIONED, &id) {
        return stop_fetch(kernel);
    }
    join_fetch(kernel);
    if kernel.run.stat(seed::SEED).is_err() {
        return Err(Error::NotApplicable { why: "no seed to persist" });
    }
    copy(kernel, root_path, &id)
}

/// A second boot waits for nothing and reports nothing.
fn stop_fetch(kernel: &mut Kernel<'_>) -> Result<()> {
    let _ = kernel.run.create_unsynced(CANCEL, Owner::root(0o644), b"");
    seed::remove(kernel.run, seed::SEED)?;
    kernel.say(Level::Info, STAGE, "this VM is provisioned already; fetch is stopped", &[]);
    Err(Error::NotApplicable { why: "provisioned already" })
}

/// Waits for fetch to end, at most [`limits::JOIN_MS`].
fn join_fetch(kernel: &mut Kernel<'_>) {
    let begin = kernel.clock.now_us();
    let mut is_said = false;
    loop {
        if kernel.run.stat(FETCH_ENDED).is_ok() || kernel.clock.is_cancelled() {
            return;
        }
        let waited_ms = kernel.clock.now_us().saturating_sub(begin) / 1000;
        if waited_ms >= limits::JOIN_MS {
            let values = [Value::Millis(waited_ms)];
            kernel.say(
                Level::Warning,
                STAGE,
                "fetch has not ended after {}; it is stopped, what it has is used",
                &values,
            );
            // It must not publish again, or hold a link up, after the system has taken over.
            let _ = kernel.run.create_unsynced(CANCEL, Owner::root(0o644), b"");
            return;
        }
        if waited_ms >= 1000 && !is_said {
            kernel.say(
                Level::Info,
                STAGE,
                "waiting for fetch, at most {}",
                &[Value::Millis(limits::JOIN_MS)],
            );
            is_said = true;
        }
        kernel.clock.sleep_ms(JOIN_POLL_MS);
    }
}

fn copy(kernel: &mut Kernel<'_>, root_path: &str, id: &InstanceId) -> Result<()> {
    let was_read_only = kernel.system.remount(root_path, false)?;
    let outcome = seed::persist(kernel.run, kernel.root, id);
    if was_read_only && let Err(error) = kernel.system.remount(root_path, true) {
        kernel.say(Level::Warning, STAGE, "the root stays writable: {}", &[Value::Why(error)]);
    }
    outcome?;
    kernel.say(Level::Info, STAGE, "seed is on the root", &[]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::error::Error;
    use crate::facts::{Facts, InstanceId};
    use crate::seed;
    use crate::sys::fake::World;

    const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
        world.host.put_dir("sys/firmware/efi");
        world.system.read_only.insert("/sysroot".into());
        world
    }

    fn publish(world: &mut World) {
        seed::begin(&mut world.run).unwrap();
        seed::publish(&mut world.run, &Facts::new(), &seed::Context::default()).unwrap();
    }

    #[test]
    fn a_provisioned_vm_waits_for_nothing_and_stops_fetch() {
        let mut world = azure();
        seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
        publish(&mut world);
        let before = world.root.dump();
        assert!(matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(Error::NotApplicable { .. })));
        assert!(world.clock.sleeps.is_empty());
        assert!(world.run.text(crate::sys::CANCEL).is_some());
        assert!(world.run.owner(seed::SEED).is_none());
        assert_eq!(world.root.dump(), before);
    }

    #[test]
    fn the_seed_is_copied_and_the_root_is_read_only_again() {
        let mut world = azure();
        publish(&mut world);
        world.run.put(super::FETCH_ENDED, "");
        run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
        assert!(world.root.owner(&seed::pending(&InstanceId::parse(ID).unwrap()).unwrap()).is_some());
        assert!(world.system.read_only.contains("/sysroot"));
    }

    #[test]
    fn a_fetch_that_hangs_is_left_behind_after_the_deadline() {
        let mut world = azure();
        publish(&mut world);
        world.clock.tick_us = 10;
        run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
        let waited: u64 = world.clock.sleeps.iter().sum();
        assert!((9_000..=11_000).contains(&waited), "{waited}");
        assert!(world.log.lines.iter().any(|line| line.contains("has not ended")));
        assert!(world.run.text(crate::sys::CANCEL).is_some());
    }

    #[test]
    fn another_platform_is_not_applicable() {
        let mut world = World::new();
        assert!(matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(Error::NotApplicable { .. })));
        assert!(world.log.lines.is_empty());
    }
}
