//! What does ovf-env.xml on an Azure provisioning medium say?
//!
//! Grammar: OVF environment (DMTF DSP8027) with Azure's sections; there is no published schema, so what counts as an
//! error follows cloud-init `sources/helpers/azure.py` (`OvfEnvXml`), and its reasons are used word for word. Texts
//! are trimmed, passwords are not. The reader takes the document as it comes and keeps only what is wanted:
//! customData goes out decoded, piece by piece; the password lies in one [`Secret`] until [`OvfDocument::reset`].

mod elements;
#[cfg(test)]
mod tests;

use super::base64::{Decoder, Output, base64_rules};
use super::xml::{self, Name, Sink, Tokenizer};
use crate::error::{Error, Kind, Result, Rule};
use crate::facts::{Hostname, PreProvisioning, SshKey, SshKeys, UserName};
use crate::limits;
use crate::secret::Secret;
use elements::{ELEMENTS, Field, NAMESPACES, Place, Times, below, bit, find};

const WHAT: &str = "ovf-env.xml";
const CUSTOM_DATA: &str = "ovf-env.xml CustomData";
/// Places nest this deep.
const PLACES: usize = 8;

/// What the document says.
pub struct OvfRepr {
    /// HostName; the element is required, but may be empty.
    pub hostname: Option<Hostname>,
    /// UserName.
    pub user: Option<UserName>,
    /// UserPassword in clear; empty when there is none.
    pub password: Secret<{ limits::PASSWORD }>,
    /// UserPassword was `REDACTED` or `*`: a copy from which an agent removed it.
    pub is_password_masked: bool,
    /// DisableSshPasswordAuthentication.
    pub disable_password_login: Option<bool>,
    /// PublicKey elements with a Value.
    pub keys: SshKeys,
    /// PublicKey elements that only name a certificate, which we cannot fetch.
    pub fingerprint_only_keys: u32,
    /// PublicKey elements whose Value is no OpenSSH key.
    pub refused_keys: u32,
    /// Length of decoded customData.
    pub custom_data_bytes: usize,
    /// ProvisionGuestAgent; as for waagent, only `false` is false.
    pub wants_guest_agent: Option<bool>,
    /// ProvisionGuestProxyAgent.
    pub wants_proxy_agent: Option<bool>,
    is_preprovisioned: bool,
    preprovisioned_type: Option<PreProvisioning>,
}

impl OvfRepr {
    const fn new() -> Self {
        Self {
            hostname: None,
            user: None,
            password: Secret::new(),
            is_password_masked: false,
            disable_password_login: None,
            keys: SshKeys::new(),
            fingerprint_only_keys: 0,
            refused_keys: 0,
            custom_data_bytes: 0,
            wants_guest_agent: None,
            wants_proxy_agent: None,
            is_preprovisioned: false,
            preprovisioned_type: None,
        }
    }

    /// PreprovisionedVMType, else PreprovisionedVm.
    #[must_use]
    pub fn pre_provisioning(&self) -> PreProvisioning {
        match self.preprovisioned_type {
            None | Some(PreProvisioning::None) if self.is_preprovisioned => PreProvisioning::Running,
            None => PreProvisioning::None,
            Some(kind) => kind,
        }
    }
}

/// Reads one document at a time. 40 KiB: a static, not a local.
pub struct OvfDocument {
    tokenizer: Tokenizer,
    content: Content,
    failed: Option<Error>,
    /// It was read to its end.
    is_whole: bool,
}

/// What is known so far; the tokenizer's sink.
struct Content {
    repr: OvfRepr,
    places: heapless::Vec<Place, PLACES>,
    /// Elements we are in that nobody looks for.
    skipped: usize,
    /// Bits of the elements seen.
    seen: u32,
    /// The first value that breaks the rules of its kind. Nothing of the document is used then, but it is read on: what
    /// says how the platform may be spoken to comes last.
    fault: Option<Error>,
    /// Text of the value we are in.
    text: heapless::Vec<u8, { limits::SSH_KEY }>,
    password_characters: usize,
    custom_data: Decoder,
    /// The PublicKey we are in: it has a fingerprint, it had a value.
    key: (bool, bool),
}

impl OvfDocument {
    /// Ready for a document.
    #[must_use]
    pub const fn new() -> Self {
        let content = Content {
            repr: OvfRepr::new(),
            places: heapless::Vec::new(),
            skipped: 0,
            seen: 0,
            fault: None,
            text: heapless::Vec::new(),
            password_characters: 0,
            custom_data: Decoder::new(base64_rules!(CUSTOM_DATA), limits::CUSTOM_DATA),
            key: (false, false),
        };
        Self { tokenizer: Tokenizer::new(NAMESPACES), content, failed: None, is_whole: false }
    }

    /// Forgets everything and is ready for another document. The password is overwritten.
    pub fn reset(&mut self) {
        self.content.reset();
        self.tokenizer = Tokenizer::new(NAMESPACES);
        (self.failed, self.is_whole) = (None, false);
    }

    /// Reads the next bytes; decoded customData goes to `spool`. The caller overwrites `bytes`: they hold the
    /// password in clear.
    ///
    /// # Errors
    /// `Malformed`, `TooMany`, `NotApplicable` (another document), `spool`'s own. The password is overwritten then, and
    /// the reader says the same until it is reset. What is wrong with a value is said at the end.
    pub fn push(&mut self, bytes: &[u8], spool: &mut Output<'_>) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut sink = Spooled { content: &mut self.content, spool };
        let result = self.tokenizer.push(bytes, &mut sink);
        self.judge(result)
    }

    /// The document ends. The reader holds the password until it is reset.
    ///
    /// # Errors
    /// As [`push`](Self::push); `Malformed`, `TooMany`, `Unsupported` (password length) of a value; `NotApplicable` when
    /// this is no document of Azure's.
    pub fn finish(&mut self) -> Result<&mut OvfRepr> {
        let result = match self.failed {
            Some(error) => Err(error),
            None => self.tokenizer.finish().and_then(|()| {
                self.is_whole = true;
                self.content.fault.map_or(Ok(()), Err).and(self.content.check_required())
            }),
        };
        self.judge(result)?;
        Ok(&mut self.content.repr)
    }

    /// How the platform may be spoken to, as a document says that was read to its end, whatever is wrong with its values:
    /// `ProvisionGuestProxyAgent` and the pool.
    #[must_use]
    pub fn platform(&self) -> Option<(bool, PreProvisioning)> {
        let repr = &self.content.repr;
        self.is_whole.then(|| (repr.wants_proxy_agent == Some(true), repr.pre_provisioning()))
    }

    /// True when a password was read that must be hashed.
    #[must_use]
    pub fn has_password(&self) -> bool {
        !self.content.repr.password.is_empty()
    }

    fn judge(&mut self, result: Result<()>) -> Result<()> {
        let result = result.map_err(in_cloud_init_words);
        self.failed = result.err();
        if result.is_err() {
            self.content.repr.password.wipe();
        }
        result
    }
}

impl Default for OvfDocument {
    fn default() -> Self {
        Self::new()
    }
}

/// The content and where customData goes.
struct Spooled<'s, 'o> {
    content: &'s mut Content,
    spool: &'s mut Output<'o>,
}

impl Sink for Spooled<'_, '_> {
    fn open(&mut self, name: Name<'_>) -> Result<()> {
        self.content.open(name)
    }

    fn text(&mut self, chunk: &[u8]) -> Result<()> {
        let content = &mut *self.content;
        let mut lost = None;
        let result = match content.place() {
            Place::Value(_) if content.skipped > 0 => Ok(()),
            // Nothing secret and nothing to be kept is taken any more.
            Place::Value(Field::CustomData | Field::UserPassword) if content.fault.is_some() => Ok(()),
            Place::Value(Field::CustomData) => content
                .custom_data
                .push(chunk, &mut |data| (self.spool)(data).inspect_err(|error| lost = Some(*error))),
            Place::Value(Field::UserPassword) => content.password(chunk),
            Place::Value(_) => {
                let long = too_many!("ovf-env.xml value", limits::SSH_KEY);
                content.text.extend_from_slice(chunk).map_err(|_| long)
            }
            _ => Ok(()),
        };
        content.note(result, lost)
    }

    fn close(&mut self) -> Result<()> {
        let content = &mut *self.content;
        if content.skipped > 0 {
            content.skipped = content.skipped.saturating_sub(1);
            return Ok(());
        }
        let mut lost = None;
        let result = match content.places.pop() {
            Some(Place::Value(Field::CustomData)) if content.fault.is_some() => Ok(()),
            Some(Place::Value(Field::CustomData)) => {
                let bytes = content
                    .custom_data
                    .finish(&mut |data| (self.spool)(data).inspect_err(|error| lost = Some(*error)));
                bytes.map(|bytes| content.repr.custom_data_bytes = bytes)
            }
            Some(Place::Value(field)) => content.value(field),
            Some(Place::PublicKey) => {
                content.finish_key();
                Ok(())
            }
            _ => Ok(()),
        };
        content.note(result, lost)
    }
}

impl Content {
    fn reset(&mut self) {
        let repr = &mut self.repr;
        repr.password.wipe();
        repr.keys.clear();
        (repr.hostname, repr.user) = (None, None);
        (repr.is_password_masked, repr.disable_password_login) = (false, None);
        (repr.fingerprint_only_keys, repr.refused_keys, repr.custom_data_bytes) = (0, 0, 0);
        (repr.wants_guest_agent, repr.wants_proxy_agent) = (None, None);
        (repr.is_preprovisioned, repr.preprovisioned_type) = (false, None);
        self.places.clear();
        self.text.clear();
        self.custom_data.reset();
        (self.skipped, self.seen, self.password_characters, self.key) = (0, 0, 0, (false, false));
        self.fault = None;
    }

    /// A value that cannot be used; what was `lost` of a good one ends the document.
    fn note(&mut self, result: Result<()>, lost: Option<Error>) -> Result<()> {
        match result {
            Err(error) if Some(error) != lost => {
                self.fault.get_or_insert(error);
                self.repr.password.wipe();
                Ok(())
            }
            result => result,
        }
    }

    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(Place::Document)
    }

    fn open(&mut self, name: Name<'_>) -> Result<()> {
        let found = if self.skipped > 0 { None } else { find(self.place(), name) };
        let Some((at, element)) = found else {
            if self.places.is_empty() && self.skipped == 0 {
                return Err(not_applicable!("not an OVF environment"));
            }
            self.skipped = self.skipped.saturating_add(1);
            return Ok(());
        };
        if let (Times::Optional(twice) | Times::Required(twice, _), true) =
            (element.times, self.seen & bit(at) != 0)
        {
            self.fault.get_or_insert(twice.at(0));
        }
        self.seen |= bit(at);
        if element.place == Place::PublicKey {
            self.seen &= !below(Place::PublicKey);
            self.key = (false, false);
        }
        self.text.clear();
        self.places.push(element.place).map_err(|_| too_many!(WHAT, PLACES))
    }

    /// A piece of the password. The platform counts characters, not bytes.
    fn password(&mut self, chunk: &[u8]) -> Result<()> {
        let characters = chunk.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count();
        self.password_characters = self.password_characters.saturating_add(characters);
        if self.password_characters > limits::PASSWORD_CHARS {
            return Err(unsupported!("ovf-env.xml UserPassword", "unsupported password length"));
        }
        self.repr.password.push(too_many!("UserPassword"), chunk)
    }

    /// The text of a value is whole.
    fn value(&mut self, field: Field) -> Result<()> {
        // The tokenizer lets only UTF-8 through.
        let text = core::str::from_utf8(&self.text).unwrap_or_default().trim_ascii();
        let repr = &mut self.repr;
        match field {
            Field::UserPassword => {
                repr.is_password_masked = matches!(repr.password.expose(), b"REDACTED" | b"*");
                if repr.is_password_masked {
                    repr.password.wipe();
                }
            }
            Field::KeyFingerprint => self.key.0 = !text.is_empty(),
            Field::KeyValue => {
                self.key.1 = !text.is_empty();
                return self.key_value();
            }
            _ if text.is_empty() => {}
            Field::HostName => repr.hostname = Some(Hostname::parse(text)?),
            Field::UserName => repr.user = Some(UserName::parse(text)?),
            Field::DisablePasswordLogin => repr.disable_password_login = Some(is_true(text)),
            Field::GuestAgent => repr.wants_guest_agent = Some(!text.eq_ignore_ascii_case("false")),
            Field::ProxyAgent => repr.wants_proxy_agent = Some(is_true(text)),
            Field::PreprovisionedVm => repr.is_preprovisioned = is_true(text),
            Field::PreprovisionedVmType => repr.preprovisioned_type = Some(PreProvisioning::of_azure(text)),
            Field::CustomData => {}
        }
        Ok(())
    }

    /// Several lines are several keys, as the agents write them to authorized_keys, or one key that was broken.
    fn key_value(&mut self) -> Result<()> {
        let text = core::str::from_utf8(&self.text).unwrap_or_default();
        let mut lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
        if lines.clone().any(|line| SshKey::parse(line).is_err()) {
            self.repr.refused_keys = self.repr.refused_keys.saturating_add(1);
            return Ok(());
        }
        lines.try_for_each(|line| self.repr.keys.push(SshKey::parse(line)?))
    }

    fn finish_key(&mut self) {
        if self.key == (true, false) {
            self.repr.fingerprint_only_keys = self.repr.fingerprint_only_keys.saturating_add(1);
        }
    }

    fn check_required(&self) -> Result<()> {
        let is_seen = |place: Place| {
            (0..).zip(ELEMENTS).any(|(at, element)| element.place == place && self.seen & bit(at) != 0)
        };
        if !is_seen(Place::Provisioning) {
            return Err(not_applicable!("no ProvisioningSection: not an Azure document"));
        }
        for (at, element) in (0..).zip(ELEMENTS) {
            if let (Times::Required(_, missing), true) = (element.times, self.seen & bit(at) == 0) {
                return Err(missing.at(0));
            }
        }
        Ok(())
    }
}

/// cloud-init `util.is_true` over `util.translate_bool`.
fn is_true(text: &str) -> bool {
    ["true", "1", "on", "yes"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// cloud-init's words before the XML rule: the platform's pages know them.
const XML_RULES: &[&Rule] = xml::rules_of!(WHAT, "error parsing ovf-env.xml: ");

fn in_cloud_init_words(error: Error) -> Error {
    if error.is(Kind::Malformed) && error.what() == CUSTOM_DATA {
        return malformed!(WHAT, "unexpected metadata parsing ovf-env.xml: CustomData is not base64", 0);
    }
    error.told_by(XML_RULES)
}
