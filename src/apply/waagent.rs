//! What does waagent, left in the image for its extensions, have to find so that it provisions nothing itself?
//!
//! `provisioned` in its directory ends its provisioning before it begins. One that is there is left alone: should it
//! name another VM, waagent has its own state of that one to clear (`run_changed_unique_id`), and writes it anew.
//! `ovf-env.xml` is for those that read it later, the password masked as waagent does. The document itself is gone by
//! now: this one has what the facts have. Source: WALinuxAgent pa/provision/default.py, common/protocol/ovfenv.py.

use super::replace::{self, Ownership, Target};
use super::{Root, State, below, exists, home, named, read, split};
use crate::error::{Errno, Result};
use crate::facts::Facts;
use crate::format::text::Out;
use crate::sys::Owner;

const PROGRAMS: &[&str] = &["/usr/sbin/waagent", "/usr/bin/waagent", "/usr/share/oem/bin/waagent"];
const DOCUMENT: &str = "ovf-env.xml";
/// The platform wants no extensions in this VM (ProvisionGuestAgent): waagent would have written it now.
const NO_EXTENSIONS: &str = "disable_agent";
const PROVISIONED: &str = "provisioned";
const WHAT: &str = "state of waagent";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    Ok(if settle(facts, root, false)? { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    if root.program(PROGRAMS).is_some() {
        make_directory(root)?;
    }
    settle(facts, root, true).map(|_| ())
}

fn make_directory(root: &mut Root<'_>) -> Result<()> {
    let directory = root.config.agent_directory().trim_matches('/');
    home::make_parents(root.dir, split(directory).0)?;
    match root.dir.make_dir(directory, Owner::root(0o700)) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome.and_then(|()| root.dir.sync_dir(split(directory).0)).map_err(named(object!(WHAT))),
    }
}

/// True when each file is as it should be; with `acts` it is made so.
#[inline(never)]
fn settle(facts: &Facts, root: &mut Root<'_>, acts: bool) -> Result<bool> {
    if root.program(PROGRAMS).is_none() {
        return Ok(true);
    }
    // The mark last.
    for name in [DOCUMENT, NO_EXTENSIONS, PROVISIONED] {
        let mut wanted = Out::new(object!(WHAT).full, root.buffers.new);
        let is_asked = match name {
            DOCUMENT => emit(facts, &mut wanted)?,
            NO_EXTENSIONS => wants_no_extensions(facts),
            _ => wanted.put(root.id.as_str().as_bytes()).map(|()| true)?,
        };
        let path = below(root.config.agent_directory().trim_matches('/'), name)?;
        if !is_asked || (name != DOCUMENT && exists(root.dir, &path)?) {
            continue;
        }
        let there = read(root.dir, &path, object!(WHAT), root.buffers.old)?;
        if name != DOCUMENT || there != wanted.as_bytes() {
            if !acts {
                return Ok(false);
            }
            put(root.dir, &path, wanted.as_bytes())?;
        }
    }
    Ok(true)
}

fn put(dir: &mut dyn crate::sys::Dir, path: &str, content: &[u8]) -> Result<()> {
    let ownership = Ownership::Force(Owner::root(0o600));
    replace::write(dir, Target { path, object: object!(WHAT), ownership }, content, &mut |_, _| Ok(()))
}

fn wants_no_extensions(facts: &Facts) -> bool {
    facts.wants_guest_agent.as_ref().is_some_and(|fact| !fact.value)
}

/// The document; false without the names that one has to have. No value in it needs escaping: their types see to it.
fn emit(facts: &Facts, out: &mut Out<'_>) -> Result<bool> {
    let (Some(hostname), Some(user)) = (&facts.hostname, &facts.user) else { return Ok(false) };
    let truth = |is_true| if is_true { "true" } else { "false" };
    let has_password_login = facts.password_login.as_ref().is_some_and(|fact| fact.value);
    for text in [
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\" \
         xmlns:wa=\"http://schemas.microsoft.com/windowsazure\">\n\
         <wa:ProvisioningSection><wa:Version>1.0</wa:Version><wa:LinuxProvisioningConfigurationSet>\
         <wa:ConfigurationSetType>LinuxProvisioningConfiguration</wa:ConfigurationSetType>\n<wa:HostName>",
        hostname.value.as_str(),
        "</wa:HostName>\n<wa:UserName>",
        user.value.as_str(),
        "</wa:UserName>\n",
        if facts.password.is_some() { "<wa:UserPassword>*</wa:UserPassword>\n" } else { "" },
        "<wa:DisableSshPasswordAuthentication>",
        truth(!has_password_login),
        "</wa:DisableSshPasswordAuthentication>\n\
         </wa:LinuxProvisioningConfigurationSet></wa:ProvisioningSection>\n\
         <wa:PlatformSettingsSection><wa:Version>1.0</wa:Version><wa:PlatformSettings><wa:ProvisionGuestAgent>",
        truth(!wants_no_extensions(facts)),
        "</wa:ProvisionGuestAgent></wa:PlatformSettings></wa:PlatformSettingsSection>\n</Environment>\n",
    ] {
        out.put(text.as_bytes())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::emit;
    use crate::facts::{Fact, Facts, Hostname, PasswordHash, Provenance, UserName};
    use crate::format::text::Out;
    use std::boxed::Box;

    const READ_BY_WAAGENT: &str = include_str!("../../tests/fixtures/waagent/ovf-env.xml");

    fn fact<T>(value: T) -> Option<Fact<T>> {
        Some(Fact { value, from: Provenance::Imds })
    }

    /// tests/fixtures/waagent/make-deprovision.sh shows it to waagent itself.
    #[test]
    fn the_document_is_one_that_waagent_reads() {
        let facts = Box::new(Facts {
            hostname: fact(Hostname::parse("vm1.example.com").unwrap()),
            user: fact(UserName::parse("ops").unwrap()),
            password: fact(PasswordHash::parse("$6$canary$hash").unwrap()),
            password_login: fact(true),
            wants_guest_agent: fact(false),
            ..Facts::default()
        });
        let mut bytes = [0; 2048];
        let mut out = Out::new(too_many!("test"), &mut bytes);
        assert!(emit(&facts, &mut out).unwrap());
        assert_eq!(core::str::from_utf8(out.as_bytes()).unwrap(), READ_BY_WAAGENT);
    }

    #[test]
    fn without_names_there_is_no_document() {
        let mut bytes = [0; 16];
        let mut out = Out::new(too_many!("test"), &mut bytes);
        assert!(!emit(&Facts::default(), &mut out).unwrap() && out.as_bytes().is_empty());
    }
}
