//! What does an IMDS instance document say?
//!
//! Microsoft, "Azure Instance Metadata Service", `/metadata/instance`. Numbers and booleans come as strings (and as
//! themselves: azure-init `string_bool`), absent values as `""`. The document may exceed 150 KB, so it is read as it
//! comes and only the wanted paths are kept; userData goes out decoded, piece by piece. A value of another type than
//! documented counts as absent, and so do a vmId and a MAC address that are none; of a repeated key the last counts.

mod interfaces;
mod paths;
#[cfg(test)]
mod tests;

use super::base64::{Decoder, Output, base64_rules};
use super::json::{self, DEPTH, Event, Sink, Tokenizer};
use crate::error::{Error, Result, Rule};
use crate::facts::{Hostname, InstanceId, PreProvisioning, SshKey, SshKeys, UserName};
use crate::limits;
use paths::{Field, IPV6, KEY, Place, Target, find};

pub use interfaces::{Family, Interface, Interfaces};

const WHAT: &str = "IMDS";
const USER_DATA: &str = "IMDS userData";

/// What the document says.
pub struct ImdsRepr {
    /// `compute.osProfile.computerName`
    pub hostname: Option<Hostname>,
    /// `compute.osProfile.adminUsername`
    pub user: Option<UserName>,
    /// `compute.osProfile.disablePasswordAuthentication`
    pub disable_password_login: Option<bool>,
    /// `compute.osProfile` names the VM or its user. False only where the document is known to be complete, because it has
    /// `extended.compute`: then the disk was prepared elsewhere. Old versions know no osProfile, and early in a boot
    /// other replies may lack it (azure-init#134).
    pub has_os_profile: Option<bool>,
    /// Why a value counts as absent: the first.
    pub fault: Option<Error>,
    /// `compute.publicKeys[].keyData`; empty when one of them is no OpenSSH key.
    pub keys: SshKeys,
    /// Why the keys cannot be used.
    pub key_fault: Option<Error>,
    /// Length of decoded `compute.userData`.
    pub user_data_bytes: usize,
    /// Why userData cannot be used; what was spooled of it is to be forgotten.
    pub user_data_fault: Option<Error>,
    /// `compute.vmId`
    pub vm_id: Option<InstanceId>,
    /// `network.interface`
    pub interfaces: Interfaces,
    /// `extended.compute.hasCustomData`
    pub has_custom_data: Option<bool>,
    /// `extended.compute.ppsType`
    pub pre_provisioning: Option<PreProvisioning>,
}

impl ImdsRepr {
    const fn new() -> Self {
        Self {
            hostname: None,
            user: None,
            disable_password_login: None,
            has_os_profile: None,
            fault: None,
            keys: SshKeys::new(),
            key_fault: None,
            user_data_bytes: 0,
            user_data_fault: None,
            vm_id: None,
            interfaces: Interfaces::new(),
            has_custom_data: None,
            pre_provisioning: None,
        }
    }

    fn reset(&mut self) {
        (self.hostname, self.user, self.vm_id) = (None, None, None);
        (self.disable_password_login, self.has_custom_data, self.pre_provisioning) = (None, None, None);
        (self.has_os_profile, self.user_data_bytes) = (None, 0);
        (self.fault, self.key_fault, self.user_data_fault) = (None, None, None);
        self.keys.clear();
        self.interfaces.clear();
    }

    /// Takes a value; false when it breaks the rules of its kind.
    fn set(&mut self, field: Field, text: &str) -> bool {
        fn keep<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
            *slot = value;
            slot.is_some()
        }
        match field {
            Field::ComputerName => return keep(&mut self.hostname, Hostname::parse(text).ok()),
            Field::AdminUsername => return keep(&mut self.user, UserName::parse(text).ok()),
            Field::DisablePasswordLogin => return keep(&mut self.disable_password_login, truth(text)),
            Field::HasCustomData => return keep(&mut self.has_custom_data, truth(text)),
            Field::VmId => self.vm_id = InstanceId::parse(text).ok(),
            Field::PpsType => self.pre_provisioning = Some(PreProvisioning::of_azure(text)),
            Field::MacAddress => self.interfaces.set_mac(mac(text)),
            Field::PrivateAddress => return self.interfaces.add_address(text),
            Field::PrefixLength => return self.interfaces.set_prefix(text),
            Field::KeyData | Field::UserData => {}
        }
        true
    }
}

/// Reads one document at a time. 40 KiB: a static, not a local.
pub struct ImdsDocument {
    tokenizer: Tokenizer,
    content: Content,
    failed: Option<Error>,
}

/// What is known so far; the tokenizer's sink.
struct Content {
    repr: ImdsRepr,
    places: heapless::Vec<Place, DEPTH>,
    /// The key being read; `None` once it is longer than any we look for.
    key: Option<heapless::Vec<u8, KEY>>,
    /// What the value that follows is.
    target: Option<Target>,
    has_compute: bool,
    has_extended: bool,
    /// Text of the string we are in.
    text: heapless::Vec<u8, { limits::SSH_KEY }>,
    /// A string did not fit into `text`.
    is_long: bool,
    /// The last byte of a key was a carriage return.
    after_return: bool,
    user_data: Decoder,
    has_user_data: bool,
}

impl ImdsDocument {
    /// Ready for a document.
    #[must_use]
    pub const fn new() -> Self {
        let content = Content {
            repr: ImdsRepr::new(),
            places: heapless::Vec::new(),
            key: None,
            target: None,
            has_compute: false,
            has_extended: false,
            text: heapless::Vec::new(),
            is_long: false,
            after_return: false,
            user_data: Decoder::new(base64_rules!(USER_DATA), limits::CUSTOM_DATA),
            has_user_data: false,
        };
        Self { tokenizer: Tokenizer::new(), content, failed: None }
    }

    /// Forgets everything and is ready for another document.
    pub fn reset(&mut self) {
        self.content.reset();
        self.tokenizer = Tokenizer::new();
        self.failed = None;
    }

    /// Reads the next bytes; decoded userData goes to `spool`.
    ///
    /// # Errors
    /// `Malformed`, `TooMany`, `spool`'s own; the reader says the same until it is reset.
    pub fn push(&mut self, bytes: &[u8], spool: &mut Output<'_>) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut sink = Spooled { content: &mut self.content, spool };
        let result = self.tokenizer.push(bytes, &mut sink);
        self.judge(result)
    }

    /// The document ends.
    ///
    /// # Errors
    /// As [`push`](Self::push); `Malformed` when it is cut short or is no instance document.
    pub fn finish(&mut self) -> Result<&ImdsRepr> {
        let result = match self.failed {
            Some(error) => Err(error),
            None => {
                let mut sink = Spooled { content: &mut self.content, spool: &mut |_| Ok(()) };
                self.tokenizer.finish(&mut sink).and_then(|()| self.content.finish())
            }
        };
        self.judge(result)?;
        Ok(&self.content.repr)
    }

    /// What was read; only after [`finish`](Self::finish).
    #[must_use]
    pub fn repr(&self) -> &ImdsRepr {
        &self.content.repr
    }

    fn judge(&mut self, result: Result<()>) -> Result<()> {
        let result = result.map_err(|error| error.told_by(JSON_RULES));
        self.failed = result.err();
        result
    }
}

impl Default for ImdsDocument {
    fn default() -> Self {
        Self::new()
    }
}

/// The content and where userData goes.
struct Spooled<'s, 'o> {
    content: &'s mut Content,
    spool: &'s mut Output<'o>,
}

impl Sink for Spooled<'_, '_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        let content = &mut *self.content;
        match event {
            Event::ObjectStart => content.open(true),
            Event::ArrayStart => content.open(false),
            Event::ObjectEnd | Event::ArrayEnd => {
                content.places.pop();
                Ok(())
            }
            Event::KeyPart(part) => {
                content.key_part(part);
                Ok(())
            }
            Event::Key => {
                content.finish_key();
                Ok(())
            }
            Event::StringPart(part) if content.target == Some(Target::Value(Field::UserData)) => {
                let result = content.user_data.push(part, self.spool);
                content.user_data_outcome(result)
            }
            Event::StringPart(part) => {
                content.string_part(part);
                Ok(())
            }
            Event::String => match content.target.take() {
                Some(Target::Value(Field::UserData)) => content.finish_user_data(self.spool),
                Some(Target::Value(field)) => {
                    content.string(field);
                    Ok(())
                }
                _ => Ok(()),
            },
            Event::Bool(value) => {
                content.truth(value);
                Ok(())
            }
            Event::NumberPart(part) if content.target == Some(Target::Value(Field::PrefixLength)) => {
                content.string_part(part);
                Ok(())
            }
            Event::Number if content.target == Some(Target::Value(Field::PrefixLength)) => {
                content.target = None;
                content.string(Field::PrefixLength);
                Ok(())
            }
            Event::Number | Event::Null => {
                content.target = None;
                Ok(())
            }
            Event::NumberPart(_) => Ok(()),
        }
    }
}

impl Content {
    fn reset(&mut self) {
        self.repr.reset();
        self.places.clear();
        (self.key, self.target) = (None, None);
        self.text.clear();
        self.user_data.reset();
        (self.has_compute, self.has_extended, self.is_long) = (false, false, false);
        (self.after_return, self.has_user_data) = (false, false);
    }

    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(Place::Document)
    }

    fn open(&mut self, is_object: bool) -> Result<()> {
        let place = match (self.place(), self.target.take()) {
            (Place::Document, _) if is_object => Place::Root,
            (Place::PublicKeys, _) if is_object => Place::PublicKey,
            (Place::Interfaces, _) if is_object => Place::Interface,
            (Place::Addresses, _) if is_object => Place::Address,
            (Place::Subnets, _) if is_object => Place::Subnet,
            (_, Some(Target::Array(place))) if !is_object => place,
            (_, Some(Target::Object(place))) if is_object => place,
            _ => Place::Other,
        };
        self.has_compute |= place == Place::Compute;
        self.has_extended |= place == Place::ExtendedCompute;
        match place {
            Place::PublicKeys => {
                self.repr.keys.clear();
                self.repr.key_fault = None;
            }
            place => {
                if let Some(fault) = self.repr.interfaces.open(place) {
                    self.repr.fault = self.repr.fault.or(Some(fault));
                }
            }
        }
        self.key = Some(heapless::Vec::new());
        // The tokenizer is bounded by the same depth.
        self.places.push(place).map_err(|_| too_many!("JSON nesting", DEPTH))
    }

    fn key_part(&mut self, part: &[u8]) {
        if self.key.as_mut().is_some_and(|key| key.extend_from_slice(part).is_err()) {
            self.key = None;
        }
    }

    fn finish_key(&mut self) {
        self.target = self.key.as_ref().and_then(|key| find(self.place(), key));
        if self.target == Some(Target::Object(Place::Family)) {
            self.repr.interfaces.is_v6 = self.key.as_ref().is_some_and(|key| key == IPV6.as_bytes());
        }
        self.key = Some(heapless::Vec::new());
        self.text.clear();
        (self.is_long, self.after_return) = (false, false);
    }

    /// A piece of a wanted string. Inside keys, old portals put line ends, which are no part of the key
    /// (cloud-init `sources/azure/certs.py`, LP#1910835).
    fn string_part(&mut self, part: &[u8]) {
        if !matches!(self.target, Some(Target::Value(_))) {
            return;
        }
        for byte in part {
            let after_return = core::mem::take(&mut self.after_return);
            if after_return && *byte == b'\n' {
                continue;
            }
            if after_return {
                self.is_long |= self.text.push(b'\r').is_err();
            }
            if *byte == b'\r' {
                self.after_return = true;
            } else {
                self.is_long |= self.text.push(*byte).is_err();
            }
        }
    }

    /// A wanted string is whole. What is wrong with it costs its value and no other.
    fn string(&mut self, field: Field) {
        // The tokenizer lets only UTF-8 through.
        let text = core::str::from_utf8(&self.text).unwrap_or_default().trim_ascii();
        if field == Field::KeyData {
            return self.key_data();
        }
        if text.is_empty() {
            return;
        }
        let repr = &mut self.repr;
        let is_good = !self.is_long && repr.set(field, text);
        if !is_good {
            repr.fault = repr.fault.or(Some(field.rule().at(0)));
        }
        if matches!(field, Field::AdminUsername | Field::ComputerName) {
            repr.has_os_profile = Some(true);
        }
    }

    fn key_data(&mut self) {
        let text = core::str::from_utf8(&self.text).unwrap_or_default();
        let outcome = if self.is_long {
            Err(too_many!("SSH key", limits::SSH_KEY))
        } else if text.trim_ascii().is_empty() {
            Ok(())
        } else {
            SshKey::parse(text).and_then(|key| self.repr.keys.push(key))
        };
        self.repr.key_fault = self.repr.key_fault.or(outcome.err());
    }

    fn truth(&mut self, value: bool) {
        match self.target.take() {
            Some(Target::Value(Field::DisablePasswordLogin)) => {
                self.repr.disable_password_login = Some(value);
            }
            Some(Target::Value(Field::HasCustomData)) => self.repr.has_custom_data = Some(value),
            _ => {}
        }
    }

    /// userData is the user's; what is wrong with it must not cost the VM its keys.
    fn user_data_outcome(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(fault) if fault.what() == USER_DATA => {
                self.repr.user_data_fault = Some(fault);
                self.target = None;
                self.user_data.reset();
                Ok(())
            }
            other => other,
        }
    }

    fn finish_user_data(&mut self, spool: &mut Output<'_>) -> Result<()> {
        let result = match self.user_data.finish(spool) {
            Ok(0) => Ok(()),
            Ok(_) if self.has_user_data => Err(malformed!(USER_DATA, "userData twice", 0)),
            Ok(bytes) => {
                self.has_user_data = true;
                self.repr.user_data_bytes = bytes;
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.user_data_outcome(result)
    }

    fn finish(&mut self) -> Result<()> {
        if !self.has_compute {
            return Err(malformed!(WHAT, "invalid IMDS metadata for key=compute", 0));
        }
        if self.has_extended && self.repr.has_os_profile.is_none() {
            self.repr.has_os_profile = Some(false);
        }
        if self.repr.key_fault.is_some() {
            self.repr.keys.clear();
        }
        if self.repr.user_data_fault.is_some() {
            self.repr.user_data_bytes = 0;
        }
        Ok(())
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Twelve hexadecimal digits.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut digits = text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    for byte in &mut mac {
        *byte = (digits.next()?? << 4) | digits.next()??;
    }
    if digits.next().is_none() { Some(mac) } else { None }
}

/// cloud-init's words before the JSON rule: the platform's pages know them.
const JSON_RULES: &[&Rule] = json::rules_of!(WHAT, "error parsing IMDS metadata: ");
