//! What does the provisioning medium say?

use super::{STAGE, identify};
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::{DeviceName, Fact, Facts, Provenance};
use crate::limits;
use crate::plan::{self, Outcome, Verdict};
use crate::seed::{self, Context};
use crate::source::azure_ovf::{Learned, OvfReader, Password};
use crate::source::medium::Missing;
use crate::stage::entropy;
use crate::stage::offline::{self, Medium};
use crate::sys::linux::Scratch;
use crate::sys::{Dir, Kernel, Log};

const UNREADABLE: &str = "provisioning medium unreadable";

/// Reads the provisioning medium into a first seed. There is a seed afterwards even without a medium: it
/// names this VM, and says what was wrong.
///
/// Whatever ends fetch early (the boot that goes on without it, a panic, SIGKILL) leaves the last seed that was
/// published. So one that must not be applied is there before anything is waited for, and what the medium alone
/// does not allow to apply stays forbidden until IMDS was heard: then in the real root.
///
/// # Errors
/// `NotApplicable` on a machine that is not ours; `Error::STOPPED`; `Os` when no seed can be written.
pub(in crate::stage) fn offline(kernel: &mut Kernel<'_>, scratch: &mut Scratch) -> Result<()> {
    kernel.log.enter(STAGE);
    let Scratch { facts, bytes, ovf, .. } = scratch;
    facts.instance_id = Some(Fact { value: identify(kernel)?, from: Provenance::Dmi });
    if kernel.clock.is_cancelled() {
        return Err(Error::STOPPED);
    }
    seed::begin(kernel.run)?;
    let failure = seed::failure(Missing::Stopped.reason());
    seed::publish(
        kernel.run,
        facts,
        &Context { verdict: seed::Verdict::Wait, failure, ..Context::default() },
    )?;
    seed::begin(kernel.run)?;
    let mut context = Context::default();
    let read = read_medium(kernel, bytes, ovf, facts, &mut context);
    ovf.reset();
    if kernel.clock.is_cancelled() {
        seed::abandon(kernel.run)?;
        return Err(Error::STOPPED);
    }
    let mut medium = if context.medium.is_some() { Outcome::Good } else { Outcome::Absent };
    if let Err(reason) = read {
        seed::forget_spooled(kernel.run, seed::CUSTOM_DATA)?;
        context.failure = seed::failure(reason);
        medium = Outcome::Bad;
    }
    context.verdict = match plan::verdict(facts, medium, Outcome::Late) {
        Verdict::Fail(_) => seed::Verdict::Fail,
        Verdict::AskAgain => seed::Verdict::Wait,
        _ => seed::Verdict::Provision,
    };
    seed::publish(kernel.run, facts, &context)
}

/// The medium into `facts`.
///
/// # Errors
/// What was wrong with a medium that is there. None at all is no error.
#[inline(never)]
fn read_medium(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    ovf: &mut OvfReader,
    facts: &mut Facts,
    context: &mut Context,
) -> core::result::Result<(), &'static str> {
    let mut document = |run: &mut dyn Dir, chunk: &[u8]| {
        ovf.push(chunk, &mut |data| seed::spool(run, seed::CUSTOM_DATA, data))
    };
    let medium = offline::read_medium(kernel, bytes, &mut document, &mut |run| {
        // A root that is mounted before the drive is given up stops this.
        let _ = seed::note_failure(run, UNREADABLE);
    });
    if !matches!(medium, Ok(Medium::Read(_))) {
        // Half a document may have brought the password along.
        ovf.reset();
    }
    let document = match medium {
        Ok(Medium::Read(document)) => document,
        Ok(Medium::Missing(Missing::Unreadable(_) | Missing::Malformed(_))) => {
            return Err(UNREADABLE);
        }
        Ok(Medium::Missing(_)) => return Ok(()),
        Err(error) => return refuse(kernel, error),
    };
    let random = if ovf.needs_salt() { entropy::salt(kernel) } else { None };
    match ovf.finish(facts, random) {
        Ok(learned) => say_document(kernel.log, &learned),
        Err(error) => return refuse(kernel, error),
    }
    context.medium = DeviceName::parse(&document.drive).ok();
    Ok(())
}

/// Somebody else's document is no medium of ours; anything else is a fault.
fn refuse(kernel: &mut Kernel<'_>, error: Error) -> core::result::Result<(), &'static str> {
    kernel.say(Level::Error, "ovf-env.xml cannot be used: {}", &[Value::Why(error)]);
    match error {
        error if error.is(Kind::NotApplicable) => Ok(()),
        error => Err(error.reason()),
    }
}

/// What of a document cannot be used.
pub(in crate::stage) fn say_document(log: &mut dyn Log, learned: &Learned) {
    if learned.password == Password::NoEntropy {
        let text = "no randomness for a salt after {}: the password stays locked";
        log.say(Level::Error, text, &[Value::Millis(limits::SALT_MS)]);
    }
    for (count, text) in [
        (learned.fingerprint_only_keys, "{} keys are given by fingerprint only; not installed"),
        (learned.refused_keys, "{} keys are no OpenSSH keys; not installed"),
    ] {
        if count > 0 {
            log.say(Level::Warning, text, &[Value::Number(u64::from(count))]);
        }
    }
}

#[cfg(test)]
pub(in crate::stage) mod tests {
    use super::offline;
    use crate::error::Error;
    use crate::format::media::{DOCUMENT, image};
    use crate::seed;
    use crate::stage::fetch::tests::scratch;
    use crate::sys::DriveStatus;
    use crate::sys::fake::{FakeDisk, World};
    use std::vec::Vec;

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\n");
        world.host.put_dir("sys/firmware/efi");
        world.host.put_dir("sys/class/block");
        world
    }

    /// A medium whose document is Azure's, with a password; blanks fill the place of the longer one.
    fn azure_medium() -> Vec<u8> {
        medium_with(include_bytes!("../../../tests/fixtures/ovf/sample-a-password/input.xml"))
    }

    pub(in crate::stage) fn medium_with(document: &[u8]) -> Vec<u8> {
        let mut medium = image("bridge");
        let at = medium.windows(DOCUMENT.len()).position(|window| window == DOCUMENT).unwrap();
        medium[at..at + DOCUMENT.len()].fill(b' ');
        medium[at..at + document.len()].copy_from_slice(document);
        medium
    }

    fn is_waiting(world: &mut World) -> bool {
        seed::verify(&mut world.run, seed::SEED).unwrap();
        seed::load_context(&mut world.run, seed::SEED).unwrap().verdict == seed::Verdict::Wait
    }

    #[test]
    fn without_a_medium_nothing_may_be_applied_until_imds_was_heard() {
        let mut world = azure();
        offline(&mut world.kernel(), &mut scratch()).unwrap();
        assert!(is_waiting(&mut world));
    }

    #[test]
    fn a_medium_with_a_login_is_enough_to_apply() {
        let mut world = azure();
        let disk = FakeDisk { status: Some(DriveStatus::DiscOk), ..FakeDisk::new(azure_medium()) };
        world.disks.disks.insert("sr0".into(), disk);
        world.host.put_symlink("sys/class/block/sr0", "../x");
        let mut scratch = scratch();
        offline(&mut world.kernel(), &mut scratch).unwrap();
        assert!(scratch.facts.user.is_some() && !is_waiting(&mut world), "{:?}", world.log.lines);
    }

    #[test]
    fn a_fetch_that_is_stopped_leaves_a_seed_that_is_not_applied() {
        let mut world = azure();
        world.clock.cancelled_from_us = Some(1_000_000);
        assert_eq!(offline(&mut world.kernel(), &mut scratch()), Err(Error::STOPPED));
        assert!(is_waiting(&mut world));
        let why = seed::load_context(&mut world.run, seed::SEED).unwrap().failure;
        assert_eq!(why.as_deref(), Some("stopped while waiting for the provisioning medium"));
    }

    #[test]
    fn a_fetch_that_was_stopped_before_it_began_leaves_nothing() {
        let mut world = azure();
        world.clock.cancelled = true;
        assert_eq!(offline(&mut world.kernel(), &mut scratch()), Err(Error::STOPPED));
        assert!(world.run.dump().is_empty());
    }
}
