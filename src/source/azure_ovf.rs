//! What does the provisioning medium say this VM is to be?

use super::{prefer, prefer_custom_data, prefer_keys, prefer_pre_provisioning};
use crate::error::Result;
use crate::facts::{Facts, PasswordHash, PreProvisioning, Provenance};
use crate::format::base64::Output;
use crate::format::ovf::{OvfDocument, OvfRepr};
use crate::format::sha512_crypt::{self, sha512_crypt};

/// Names of the document on a medium, in the order they are tried.
pub const PATHS: &[&str] = &["ovf-env.xml"];

const FROM: Provenance = Provenance::OvfMedium;

/// What became of the password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Password {
    /// There was none.
    None,
    /// There was `REDACTED` or `*`: an agent removed it from this copy.
    Masked,
    /// Its hash is in the facts.
    Hashed,
    /// There was one, but no randomness for a salt: it stays unknown, the account locked.
    NoEntropy,
}

/// What a stage may want to say about a document; the rest is in the facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// What became of the password.
    pub password: Password,
    /// Keys that only name a certificate: not installed.
    pub fingerprint_only_keys: u32,
    /// Keys that are no OpenSSH keys: not installed.
    pub refused_keys: u32,
}

/// Reads one ovf-env.xml after another. 40 KiB: a static, not a local.
pub struct OvfReader {
    document: OvfDocument,
}

impl OvfReader {
    /// Ready for a document.
    #[must_use]
    pub const fn new() -> Self {
        Self { document: OvfDocument::new() }
    }

    /// Forgets what was read: another try, another drive.
    pub fn reset(&mut self) {
        self.document.reset();
    }

    /// Reads the next bytes; decoded customData goes to `spool`. The caller overwrites `bytes` afterwards: they hold
    /// the password in clear.
    ///
    /// # Errors
    /// `NotApplicable`: not Azure's, try the next drive. Otherwise the verdict on the medium. What was spooled is
    /// to be forgotten in both cases.
    pub fn push(&mut self, bytes: &[u8], spool: &mut Output<'_>) -> Result<()> {
        self.document.push(bytes, spool)
    }

    /// True when there is a password to be hashed, so that [`finish`](Self::finish) wants a salt.
    #[must_use]
    pub fn needs_salt(&self) -> bool {
        self.document.has_password()
    }

    /// The document ends: what it says is merged into `facts`, all of it or only what concerns the platform. The password is hashed with a
    /// salt made of `random`, and overwritten; the reader is ready for another document.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(
        &mut self,
        facts: &mut Facts,
        random: Option<[u8; sha512_crypt::RANDOM]>,
    ) -> Result<Learned> {
        let learned = match self.document.finish() {
            Ok(repr) => learn(repr, random, facts),
            Err(error) => {
                learn_platform(self.document.platform(), facts);
                Err(error)
            }
        };
        self.document.reset();
        learned
    }
}

impl Default for OvfReader {
    fn default() -> Self {
        Self::new()
    }
}

fn learn(
    repr: &mut OvfRepr,
    random: Option<[u8; sha512_crypt::RANDOM]>,
    facts: &mut Facts,
) -> Result<Learned> {
    let (password, hash) = hash(repr, random)?;
    // Without a word on it, a password that was set is meant to be used (cloud-init `read_azure_ovf`).
    let has_password = matches!(password, Password::Hashed | Password::NoEntropy);
    let login = repr.disable_password_login.map(|disabled| !disabled).or(has_password.then_some(true));
    prefer(&mut facts.hostname, repr.hostname.take(), FROM);
    prefer(&mut facts.user, repr.user.take(), FROM);
    prefer(&mut facts.password, hash, FROM);
    prefer(&mut facts.password_login, login, FROM);
    prefer(&mut facts.wants_guest_agent, repr.wants_guest_agent, FROM);
    prefer(&mut facts.wants_proxy_agent, repr.wants_proxy_agent, FROM);
    prefer_keys(facts, &repr.keys, FROM);
    prefer_custom_data(facts, repr.custom_data_bytes as u64, FROM);
    prefer_pre_provisioning(facts, repr.pre_provisioning(), FROM);
    Ok(Learned {
        password,
        fingerprint_only_keys: repr.fingerprint_only_keys,
        refused_keys: repr.refused_keys,
    })
}

/// Where requests are to be signed, or a VM is of a pool, that holds whatever else is wrong.
fn learn_platform(platform: Option<(bool, PreProvisioning)>, facts: &mut Facts) {
    let Some((wants_proxy_agent, pool)) = platform else { return };
    prefer(&mut facts.wants_proxy_agent, wants_proxy_agent.then_some(true), FROM);
    if pool != PreProvisioning::None {
        prefer_pre_provisioning(facts, pool, FROM);
    }
}

fn hash(
    repr: &mut OvfRepr,
    random: Option<[u8; sha512_crypt::RANDOM]>,
) -> Result<(Password, Option<PasswordHash>)> {
    if repr.is_password_masked {
        return Ok((Password::Masked, None));
    }
    if repr.password.is_empty() {
        return Ok((Password::None, None));
    }
    let Some(random) = random else { return Ok((Password::NoEntropy, None)) };
    let hash = sha512_crypt(repr.password.expose(), &sha512_crypt::salt(random), None);
    repr.password.wipe();
    Ok((Password::Hashed, Some(hash?)))
}

#[cfg(test)]
mod tests {
    use super::{OvfReader, Password};
    use crate::error::{Kind, Result};
    use crate::facts::{Fact, Facts};
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, fs};

    /// Makes the salt `0123456789abcdef`.
    const RANDOM: [u8; 12] = [0x14, 0x40, 0xc2, 0x24, 0x81, 0xc6, 0x9e, 0x62, 0xca, 0xae, 0xaa, 0x68];

    fn read(
        document: &[u8],
        step: usize,
        random: Option<[u8; 12]>,
    ) -> (Facts, Vec<u8>, Result<super::Learned>) {
        let (mut reader, mut facts, mut spooled) = (OvfReader::new(), Facts::new(), Vec::new());
        let mut spool = |chunk: &[u8]| {
            spooled.extend(chunk);
            Ok(())
        };
        for chunk in document.chunks(step) {
            if let Err(error) = reader.push(chunk, &mut spool) {
                return (facts, spooled, Err(error));
            }
        }
        let learned = reader.finish(&mut facts, random);
        (facts, spooled, learned)
    }

    /// The facts as `name = value (source)` lines, as the files `expected` hold them.
    fn describe(facts: &Facts, custom_data: &[u8], learned: Result<super::Learned>) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{name} = {value}\n"));
            }
        };
        fn fact<T>(fact: &Option<Fact<T>>, show: impl Fn(&T) -> String) -> Option<String> {
            fact.as_ref().map(|fact| format!("{} ({})", show(&fact.value), fact.from.word()))
        }
        match learned {
            Err(error) if error.is(Kind::NotApplicable) => {
                line("not applicable", Some(error.reason().to_string()))
            }
            Err(error) => {
                line("error", Some(error.reason().to_string()));
                line("proxy agent", fact(&facts.wants_proxy_agent, bool::to_string));
            }
            Ok(learned) => {
                line("hostname", fact(&facts.hostname, |name| name.as_str().to_string()));
                line("user", fact(&facts.user, |name| name.as_str().to_string()));
                line("password", Some(format!("{:?}", learned.password)));
                line("hash", fact(&facts.password, |hash| hash.as_str().to_string()));
                line("password login", fact(&facts.password_login, bool::to_string));
                for key in facts.keys.iter().flat_map(|keys| keys.value.lines()) {
                    line("key", Some(key.to_string()));
                }
                let count = |n: u32| (n > 0).then(|| n.to_string());
                line("fingerprint-only keys", count(learned.fingerprint_only_keys));
                line("refused keys", count(learned.refused_keys));
                line("custom data", fact(&facts.custom_data, u64::to_string));
                let spooled = String::from_utf8_lossy(custom_data).escape_debug().to_string();
                line("spooled", (!custom_data.is_empty()).then_some(spooled));
                line("guest agent", fact(&facts.wants_guest_agent, bool::to_string));
                line("proxy agent", fact(&facts.wants_proxy_agent, bool::to_string));
                line("pre-provisioning", fact(&facts.pre_provisioning, |kind| format!("{kind:?}")));
            }
        }
        text
    }

    #[test]
    fn every_fixture_says_what_is_expected_however_it_is_cut() {
        let cases = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ovf")).unwrap();
        let mut count = 0;
        for case in cases.map(|case| case.unwrap().path()).filter(|case| case.is_dir()) {
            let document = fs::read(case.join("input.xml")).unwrap();
            let expected = fs::read_to_string(case.join("expected")).unwrap();
            for step in [1, 2, 7, 100, document.len().max(1)] {
                let (facts, spooled, learned) = read(&document, step, Some(RANDOM));
                assert_eq!(describe(&facts, &spooled, learned), expected, "{} by {step}", case.display());
            }
            count += 1;
        }
        assert!(count >= 20, "only {count} cases found");
    }

    #[test]
    fn without_randomness_there_is_no_hash() {
        let document = include_bytes!("../../tests/fixtures/ovf/sample-a-password/input.xml");
        let (facts, _, learned) = read(document, 100, None);
        assert_eq!(learned.unwrap().password, Password::NoEntropy);
        assert!(facts.password.is_none() && facts.user.is_some());
        assert!(facts.password_login.unwrap().value);
    }

    #[test]
    fn a_reader_is_good_for_another_document_whatever_came_before() {
        let document = include_bytes!("../../tests/fixtures/ovf/sample-b-keys/input.xml");
        let mut reader = OvfReader::new();
        for junk in [&b"<x/>"[..], b"junk", document, &document[..700]] {
            let mut facts = Facts::new();
            let _ = reader.push(junk, &mut |_| Ok(()));
            let _ = reader.finish(&mut facts, None);
            reader.push(document, &mut |_| Ok(())).unwrap();
            assert!(!reader.needs_salt());
            let mut facts = Facts::new();
            let learned = reader.finish(&mut facts, None).unwrap();
            assert_eq!((learned.fingerprint_only_keys, facts.custom_data.unwrap().value), (1, 29));
        }
    }

    #[test]
    fn a_document_in_error_changes_no_fact() {
        let document = include_bytes!("../../tests/fixtures/ovf/sample-a-password/input.xml");
        let (facts, _, learned) = read(&document[..document.len() - 5], 64, Some(RANDOM));
        assert!(learned.is_err());
        assert!(facts.hostname.is_none() && facts.password.is_none() && facts.user.is_none());
    }
}
