//! `preroot show`: which facts does the seed hold, and where is each from? Never a secret.

use super::identity;
use crate::error::Result;
use crate::facts::{Fact, Facts, Provenance};
use crate::seed::{self, Context};
use crate::sys::Kernel;
use core::fmt::{self, Write};

pub(super) mod from;

/// Prints the published seed, else the one kept on the root. `buf` is what [`seed::load`] needs.
///
/// # Errors
/// `NotApplicable` when there is none (it is dropped once the platform knows); why it is not to be trusted.
#[inline(never)]
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    facts: &mut Facts,
    buf: &mut [u8],
    out: &mut dyn Write,
) -> Result<()> {
    let context = if kernel.run.stat(seed::SEED).is_ok() {
        seed::verify(kernel.run, seed::SEED)?;
        seed::load(kernel.run, seed::SEED, buf, facts)?;
        seed::load_context(kernel.run, seed::SEED)?
    } else {
        let none = not_applicable!("no seed: none was made, or it was dropped after the report");
        let id = identity::observe(kernel).vm_id.ok_or(none)?;
        let pending = seed::pending(&id)?;
        kernel.root.stat(&pending).map_err(|_| none)?;
        seed::verify(kernel.root, &pending)?;
        seed::load(kernel.root, &pending, buf, facts)?;
        seed::load_context(kernel.root, &pending)?
    };
    // Standard output that takes nothing is not our fault.
    let _ = print_facts(out, facts);
    let _ = print_context(out, &context);
    Ok(())
}

fn print_facts(out: &mut dyn Write, facts: &Facts) -> fmt::Result {
    let yes = |fact: &Option<Fact<bool>>| fact.as_ref().map(|f| (if f.value { "yes" } else { "no" }, f.from));
    let hash_bytes = facts.password.as_ref().map(|f| (f.value.as_str().len() as u64, f.from));
    let keys = facts.keys.as_ref().map(|f| (f.value.lines().count() as u64, f.from));
    let data_bytes = facts.custom_data.as_ref().map(|f| (f.value, f.from));
    row(out, "instance id", facts.instance_id.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    row(out, "host name", facts.hostname.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    row(out, "user", facts.user.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    count(out, "password hash", hash_bytes, ["<redacted, ", " bytes>"])?;
    row(out, "password login", yes(&facts.password_login))?;
    count(out, "SSH keys", keys, ["", ""])?;
    count(out, "customData", data_bytes, ["<redacted, ", " bytes>"])?;
    row(out, "guest agent", yes(&facts.wants_guest_agent))?;
    row(out, "proxy agent", yes(&facts.wants_proxy_agent))
}

fn print_context(out: &mut dyn Write, context: &Context) -> fmt::Result {
    if let Some(medium) = &context.medium {
        writeln!(out, "{:<16} {}", "medium", medium.as_str())?;
    }
    if let Some(lease) = &context.lease {
        let [a, b, c, d] = lease.address;
        writeln!(out, "{:<16} {a}.{b}.{c}.{d}/{}", "lease", lease.prefix)?;
    }
    if let Some(failure) = &context.failure {
        let is_fatal = context.verdict == crate::seed::Verdict::Fail;
        let kind = if is_fatal { "failure (fatal)" } else { "fault" };
        write!(out, "{kind:<16} ")?;
        super::print_plain(failure, out)?;
        out.write_char('\n')?;
    }
    Ok(())
}

fn row(out: &mut dyn Write, name: &str, fact: Option<(&str, Provenance)>) -> fmt::Result {
    let Some((value, from)) = fact else { return Ok(()) };
    writeln!(out, "{name:<16} {value:<40} {}", from.word())
}

/// A row of which only a number is shown, between two words.
fn count(
    out: &mut dyn Write,
    name: &str,
    fact: Option<(u64, Provenance)>,
    [before, behind]: [&str; 2],
) -> fmt::Result {
    let Some((number, from)) = fact else { return Ok(()) };
    let mut value = heapless::String::<48>::new();
    write!(value, "{before}{number}{behind}")?;
    row(out, name, Some((&value, from)))
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::facts::{Fact, Facts, Hostname, PasswordHash, Provenance, SshKey, SshKeys};
    use crate::seed;
    use crate::sys::fake::World;
    use std::boxed::Box;
    use std::string::String;

    #[test]
    fn facts_are_shown_and_secrets_are_not() {
        let mut world = World::new();
        let mut facts = Box::new(Facts::new());
        let from = Provenance::OvfMedium;
        facts.hostname = Some(Fact { value: Hostname::parse("web-1").unwrap(), from: Provenance::Imds });
        facts.password = Some(Fact { value: PasswordHash::parse("$6$salt$CANARYHASH").unwrap(), from });
        let mut keys = SshKeys::new();
        keys.push(SshKey::parse("ssh-ed25519 AAAAC3Nz CANARYKEY").unwrap()).unwrap();
        facts.keys = Some(Fact { value: keys, from });
        seed::begin(&mut world.run).unwrap();
        seed::spool(&mut world.run, seed::CUSTOM_DATA, b"CANARYDATA").unwrap();
        facts.custom_data = Some(Fact { value: 10, from });
        seed::publish(&mut world.run, &facts, &seed::Context::default()).unwrap();
        let mut out = String::new();
        let mut buf = std::vec![0; crate::limits::SSH_KEYS];
        run(&mut world.kernel(), &mut Box::new(Facts::new()), &mut buf, &mut out).unwrap();
        assert!(out.contains("host name        web-1                                    imds\n"), "{out}");
        assert!(out.contains("password hash    <redacted, 18 bytes>                     ovf\n"), "{out}");
        assert!(out.contains("customData       <redacted, 10 bytes>"), "{out}");
        assert!(!out.contains("CANARY"), "{out}");
    }

    #[test]
    fn no_seed_is_not_applicable() {
        let outcome =
            run(&mut World::new().kernel(), &mut Box::new(Facts::new()), &mut [], &mut String::new());
        assert_eq!(outcome.unwrap_err().exit_code(), 76);
    }
}
