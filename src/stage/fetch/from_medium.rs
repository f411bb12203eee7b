//! What does the provisioning medium say?

use super::{STAGE, identify};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::{DeviceName, Fact, Facts, Provenance};
use crate::format::sha512_crypt::RANDOM;
use crate::limits;
use crate::seed::{self, Context};
use crate::source::azure_ovf::{Learned, OvfReader, Password};
use crate::source::medium::Missing;
use crate::stage::entropy;
use crate::stage::offline::{self, Medium};
use crate::sys::Kernel;
use crate::sys::linux::Scratch;

/// Reads the provisioning medium into a first seed. There is a seed afterwards even without a medium: it
/// names this VM, and says what was wrong.
///
/// # Errors
/// `NotApplicable` on a machine that is not ours; `Os` when no seed can be written.
pub(in crate::stage) fn offline(kernel: &mut Kernel<'_>, scratch: &mut Scratch) -> Result<()> {
    let Scratch { facts, bytes, ovf, .. } = scratch;
    facts.instance_id = Some(Fact { value: identify(kernel)?, from: Provenance::Dmi });
    seed::begin(kernel.run)?;
    let mut context = Context::default();
    if let Err(reason) = read_medium(kernel, bytes, ovf, facts, &mut context) {
        seed::forget_custom_data(kernel.run)?;
        context.failure = seed::failure(&reason);
    }
    seed::publish(kernel.run, facts, &context)
}

/// The medium into `facts`.
///
/// # Errors
/// What was wrong with a medium that is there. None at all is no error.
fn read_medium(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    ovf: &mut OvfReader,
    facts: &mut Facts,
    context: &mut Context,
) -> core::result::Result<(), &'static str> {
    let medium = offline::read_medium(kernel, bytes, &mut |run, chunk| {
        ovf.push(chunk, &mut |data| seed::spool_custom_data(run, data))
    });
    if !matches!(medium, Ok(Medium::Read(_))) {
        // Half a document may have brought the password along.
        ovf.reset();
    }
    let document = match medium {
        Ok(Medium::Read(document)) => document,
        Ok(Medium::Missing(Missing::Unreadable(_) | Missing::Malformed(_))) => {
            return Err("provisioning medium unreadable");
        }
        Ok(Medium::Missing(_)) => return Ok(()),
        Err(error) => return refuse(kernel, error),
    };
    let random = if ovf.needs_salt() { salt(kernel) } else { None };
    match ovf.finish(facts, random) {
        Ok(learned) => say_learned(kernel, &learned),
        Err(error) => return refuse(kernel, error),
    }
    context.medium = DeviceName::parse(&document.drive).ok();
    Ok(())
}

/// Somebody else's document is no medium of ours; anything else is a fault.
fn refuse(kernel: &mut Kernel<'_>, error: Error) -> core::result::Result<(), &'static str> {
    kernel.say(Level::Error, STAGE, "ovf-env.xml cannot be used: {}", &[Value::Why(error)]);
    match error {
        Error::NotApplicable { .. } => Ok(()),
        error => Err(error.reason()),
    }
}

fn say_learned(kernel: &mut Kernel<'_>, learned: &Learned) {
    if learned.password == Password::NoEntropy {
        let text = "no randomness for a salt after {}: the password stays locked";
        kernel.say(Level::Error, STAGE, text, &[Value::Millis(limits::SALT_MS)]);
    }
    for (count, text) in [
        (learned.fingerprint_only_keys, "{} keys are given by fingerprint only; not installed"),
        (learned.refused_keys, "{} keys are no OpenSSH keys; not installed"),
    ] {
        if count > 0 {
            kernel.say(Level::Warning, STAGE, text, &[Value::Number(u64::from(count))]);
        }
    }
}

/// Random bytes for a salt; `None` when there are none in time: then no hash is made, the password stays
/// locked, and that is said.
fn salt(kernel: &mut Kernel<'_>) -> Option<[u8; RANDOM]> {
    let mut random = [0; RANDOM];
    entropy::fill(kernel, &mut random).is_ok().then_some(random)
}
