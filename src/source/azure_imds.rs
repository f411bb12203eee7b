//! What does IMDS say this VM is to be?

use super::{azure_network, prefer, prefer_custom_data, prefer_keys, prefer_pre_provisioning};
use crate::error::{Error, Result};
use crate::facts::{Facts, Provenance};
use crate::format::base64::Output;
use crate::format::imds::{ImdsDocument, ImdsRepr};

const FROM: Provenance = Provenance::Imds;

/// What a stage may want to say about a document; the rest is in the facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// Why a value of it was left out: the first.
    pub fault: Option<Error>,
    /// Why its keys were left out: they are used only if all of them are OpenSSH keys.
    pub key_fault: Option<Error>,
    /// Why its userData was left out. What was spooled of it is to be forgotten.
    pub user_data_fault: Option<Error>,
}

/// Reads one reply after another. 40 KiB: a static, not a local.
pub struct ImdsReader {
    document: ImdsDocument,
}

impl ImdsReader {
    /// Ready for a reply.
    #[must_use]
    pub const fn new() -> Self {
        Self { document: ImdsDocument::new() }
    }

    /// Forgets what was read: another try. What was spooled is to be forgotten, too.
    pub fn reset(&mut self) {
        self.document.reset();
    }

    /// Reads the next bytes; decoded userData goes to `spool`. Lend one that drops it unless
    /// [`wants_user_data`](super::wants_user_data).
    ///
    /// # Errors
    /// `Malformed`, `TooMany`, `spool`'s own.
    pub fn push(&mut self, bytes: &[u8], spool: &mut Output<'_>) -> Result<()> {
        self.document.push(bytes, spool)
    }

    /// The reply ends: what it says is merged into `facts`, all of it or nothing. The identity of the VM is never
    /// taken from the network. `primary`: the card over which the platform is reached, where it is known.
    ///
    /// # Errors
    /// As [`push`](Self::push); `Malformed` when the reply is cut short, is no instance document, or is another VM's:
    /// whoever answers for that one must not choose who administers this.
    pub fn finish(&mut self, facts: &mut Facts, primary: Option<[u8; 6]>) -> Result<Learned> {
        let repr = self.document.finish()?;
        let firmware = facts.instance_id.as_ref().map(|fact| &fact.value);
        if repr.vm_id.as_ref().zip(firmware).is_some_and(|(ours, theirs)| !ours.is_same_vm(theirs)) {
            return Err(malformed!("IMDS", "invalid IMDS metadata for key=compute.vmId", 0));
        }
        Ok(learn(repr, facts, primary))
    }
}

impl Default for ImdsReader {
    fn default() -> Self {
        Self::new()
    }
}

fn learn(repr: &ImdsRepr, facts: &mut Facts, primary: Option<[u8; 6]>) -> Learned {
    prefer(&mut facts.hostname, repr.hostname.clone(), FROM);
    prefer(&mut facts.user, repr.user.clone(), FROM);
    prefer(&mut facts.password_login, repr.disable_password_login.map(|disabled| !disabled), FROM);
    prefer(&mut facts.has_custom_data, repr.has_custom_data, FROM);
    prefer(&mut facts.has_os_profile, repr.has_os_profile, FROM);
    prefer_keys(facts, &repr.keys, FROM);
    prefer_custom_data(facts, repr.user_data_bytes as u64, FROM);
    if let Some(kind) = repr.pre_provisioning {
        prefer_pre_provisioning(facts, kind, FROM);
    }
    let mut fault = repr.fault;
    if facts.network_from.is_none_or(|from| from == FROM) {
        let described = azure_network::describe(&repr.interfaces, primary, &mut facts.network);
        fault = fault.or(described.err());
        facts.network_from = Some(FROM).filter(|_| !facts.network.is_empty());
    }
    Learned { fault, key_fault: repr.key_fault, user_data_fault: repr.user_data_fault }
}

#[cfg(test)]
mod tests {
    use super::{ImdsReader, Learned};
    use crate::error::{Error, Result};
    use crate::facts::{Fact, Facts, InstanceId, Provenance};
    use crate::format::network::seed;
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, fs};

    const INSTANCE: &[u8] = include_bytes!("../../tests/fixtures/imds/instance/input.json");

    /// The card that has the lease, in these tests.
    const PRIMARY: [u8; 6] = [0, 0x0d, 0x3a, 0x65, 0x43, 0x21];

    fn firmware() -> Facts {
        let value = InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap();
        Facts { instance_id: Some(Fact { value, from: Provenance::Dmi }), ..Facts::new() }
    }

    fn read(document: &[u8], step: usize) -> (Facts, Vec<u8>, Result<Learned>) {
        let (mut reader, mut facts, mut spooled) = (ImdsReader::new(), firmware(), Vec::new());
        let mut result = Ok(());
        for chunk in document.chunks(step) {
            result = result.and_then(|()| {
                reader.push(chunk, &mut |bytes| {
                    spooled.extend(bytes);
                    Ok(())
                })
            });
        }
        let learned = result.and_then(|()| reader.finish(&mut facts, Some(PRIMARY)));
        (facts, spooled, learned)
    }

    /// The facts as `name = value (source)` lines, as the files `expected` hold them.
    fn describe(facts: &Facts, user_data: &[u8], learned: Result<Learned>) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{name} = {value}\n"));
            }
        };
        fn fact<T>(fact: &Option<Fact<T>>, show: impl Fn(&T) -> String) -> Option<String> {
            fact.as_ref().map(|fact| format!("{} ({})", show(&fact.value), fact.from.word()))
        }
        let why = |error: Error| error.reason().to_string();
        let learned = match learned {
            Ok(learned) => learned,
            Err(error) => return format!("error = {}\n", why(error)),
        };
        line("hostname", fact(&facts.hostname, |name| name.as_str().to_string()));
        line("user", fact(&facts.user, |name| name.as_str().to_string()));
        line("password login", fact(&facts.password_login, bool::to_string));
        for key in facts.keys.iter().flat_map(|keys| keys.value.lines()) {
            line("key", Some(key.to_string()));
        }
        line("fault", learned.fault.map(why));
        line("key fault", learned.key_fault.map(why));
        line("custom data", fact(&facts.custom_data, u64::to_string));
        let spooled = String::from_utf8_lossy(user_data).escape_debug().to_string();
        line("spooled", (!user_data.is_empty() && learned.user_data_fault.is_none()).then_some(spooled));
        line("userData fault", learned.user_data_fault.map(why));
        line("has customData", fact(&facts.has_custom_data, bool::to_string));
        line("has osProfile", fact(&facts.has_os_profile, bool::to_string));
        line("pre-provisioning", fact(&facts.pre_provisioning, |kind| format!("{kind:?}")));
        for at in facts.network.positions() {
            let mut link = String::new();
            let mut put = |text: &[u8]| {
                link.push_str(core::str::from_utf8(text).unwrap());
                Ok(())
            };
            seed::emit(&facts.network, at, &mut put).unwrap();
            line("link", Some(link.trim_end().replace('\n', ", ")));
        }
        text
    }

    #[test]
    fn every_fixture_says_what_is_expected_however_it_is_cut() {
        let cases = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/imds")).unwrap();
        let mut count = 0;
        for case in cases.map(|case| case.unwrap().path()).filter(|case| case.is_dir()) {
            let document = fs::read(case.join("input.json")).unwrap();
            let expected = fs::read_to_string(case.join("expected")).unwrap();
            for step in [1, 2, 7, 100, document.len().max(1)] {
                let (facts, spooled, learned) = read(&document, step);
                let described = describe(&facts, &spooled, learned);
                assert_eq!(described, expected, "{} by {step}", case.display());
            }
            count += 1;
        }
        assert!(count >= 20, "only {count} cases found");
    }

    #[test]
    fn a_reply_in_error_changes_no_fact() {
        let (facts, _, learned) = read(&INSTANCE[..INSTANCE.len() - 3], 64);
        assert!(learned.is_err());
        assert!(facts.hostname.is_none() && facts.keys.is_none() && facts.has_os_profile.is_none());
    }

    #[test]
    fn a_reader_is_good_for_another_try_whatever_came_before() {
        let mut reader = ImdsReader::new();
        for junk in [&b"{}"[..], b"junk", INSTANCE, &INSTANCE[..2000]] {
            let mut facts = firmware();
            let _ = reader.push(junk, &mut |_| Ok(()));
            let _ = reader.finish(&mut Facts::new(), None);
            reader.reset();
            reader.push(INSTANCE, &mut |_| Ok(())).unwrap();
            let learned = reader.finish(&mut facts, None).unwrap();
            assert_eq!(learned, Learned { fault: None, key_fault: None, user_data_fault: None });
            assert_eq!((facts.network.links.len(), facts.custom_data.unwrap().value), (2, 14));
        }
    }
}
