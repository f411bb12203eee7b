//! What does a mapping with the keys of cloud-config ask for? JSON events in, entries of the seed out, in constant memory.
//!
//! For vendor_data.json given as a mapping. Drive it so: a [`Mapping`] gets every [`Event`] from the mapping's
//! `ObjectStart` to its `ObjectEnd`, both included, wherever in a document that stands ([`Mapping::is_whole`] then), and
//! [`Mapping::finish`] says what was learned. Should it turn out to be no mapping of this kind after all (a key
//! `cloud-init` beside the others, a document that ends early), [`Mapping::forget`] takes back what was put.
//!
//! Nothing in a mapping is fatal: a value that cannot be used is left out and counted. Errors are those of [`Entries`].
//! What needs a shell or the whole of YAML (`runcmd`, `bootcmd`, packages) is left to others, and named.
//! Source: cloud-init, config/cc_*.py.

mod accounts;
mod rows;

use super::hosts;
use super::json::{DEPTH, Event};
use super::openstack::hostname_of;
use super::sha512_crypt::RANDOM;
use super::text::{digits, join};
use crate::error::{Error, Result};
use crate::limits;
use accounts::Accounts;
use rows::{Act, KEY, LEFT, Place, Row, find};
use zeroize::Zeroize;

const WHAT: &str = "cloud-config";
/// Longest domain name (RFC 1035), for `fqdn`.
const NAME: usize = 255;

type Text = heapless::Vec<u8, { limits::SSH_KEY }>;

/// Where it goes: a seed that is being written. Entries are those of docs/seed-format.md. `hostname` and
/// `user/password-login` are among them, which a source keeps as facts.
pub trait Entries {
    /// The next bytes of an entry; the first make it, even if there are none.
    ///
    /// # Errors
    /// Its own; they end the document.
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()>;
    /// What was put of an entry counts no more; one that is not there is fine.
    ///
    /// # Errors
    /// Its own.
    fn forget(&mut self, entry: &str) -> Result<()>;
    /// Random bytes for a password's salt; `None` when there are none in time: then the password is left out.
    fn random(&mut self) -> Option<[u8; RANDOM]>;
}

/// What a mapping asked for, beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Learned {
    /// Keys of ours at its top. None: it is no mapping of this kind.
    pub known: u32,
    /// Keys, at any depth, that mean nothing here.
    pub unknown: u32,
    /// Values that cannot be used.
    pub refused: u32,
    /// Why the first of them cannot; the number counts entries of `write_files` or `users`, from 1, where it is one.
    pub fault: Option<Error>,
    left: u32,
}

impl Learned {
    /// Top keys whose work is left to others.
    pub fn left(&self) -> impl Iterator<Item = &'static str> {
        let left = self.left;
        (0u32..).zip(LEFT).filter(move |(n, _)| left & 1u32.wrapping_shl(*n) != 0).map(|(_, name)| *name)
    }

    fn refuse(&mut self, error: Error) {
        self.refused = self.refused.saturating_add(1);
        self.fault = self.fault.or(Some(error));
    }
}

/// An open container, and what the next value in it is.
#[derive(Clone, Copy)]
struct Frame {
    is_array: bool,
    /// Of an object: what it is.
    place: Place,
    /// Of the next value; an array's are all the same.
    next: Row,
}

/// Parts of an entry of `write_files` in the seed; the first makes it one.
pub const FILE_PARTS: &[&str] = &["path", "mode", "owner", "encoding", "append", "defer", "content"];

/// The entry of `write_files` that is read.
#[derive(Clone, Copy, Default)]
struct File {
    has_path: bool,
    has_content: bool,
    has_source: bool,
    is_compressed: bool,
}

/// Reads one mapping. 6 KiB: a static, not a local.
pub struct Mapping {
    text: Text,
    state: State,
}

/// What is known so far.
struct State {
    frames: heapless::Vec<Frame, DEPTH>,
    /// `None` once it is longer than any of ours.
    key: Option<heapless::Vec<u8, KEY>>,
    /// The value does not fit into `text`.
    is_long: bool,
    is_whole: bool,
    learned: Learned,
    hostname: heapless::String<NAME>,
    fqdn: heapless::String<NAME>,
    prefers_fqdn: bool,
    manages_resolv_conf: bool,
    is_ntp_off: bool,
    /// Whole ones.
    files: usize,
    file: File,
    accounts: Accounts,
}

impl Default for Mapping {
    fn default() -> Self {
        Self::new()
    }
}

impl Mapping {
    /// Ready for a mapping.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: heapless::Vec::new(), state: State::new() }
    }

    /// True once the mapping's end was read.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.state.is_whole
    }

    /// What was learned since the last time: for who knows lines, and asks after each event. [`Self::finish`] has the rest.
    pub fn take_learned(&mut self) -> Learned {
        core::mem::take(&mut self.state.learned)
    }

    /// Forgets everything, secrets included; what was put stays.
    pub fn reset(&mut self) {
        self.text.as_mut_slice().zeroize();
        self.text.clear();
        self.state.accounts.reset();
        self.state = State::new();
    }

    /// Takes back everything that was put, and is ready for another mapping.
    ///
    /// # Errors
    /// Of `entries`.
    #[inline(never)]
    pub fn forget(&mut self, entries: &mut dyn Entries) -> Result<()> {
        rows::entries().try_for_each(|entry| entries.forget(entry))?;
        (0..=self.state.files).try_for_each(|n| forget_file(n, entries))?;
        self.state.accounts.forget(entries)?;
        self.reset();
        Ok(())
    }

    /// The next event of the mapping; those behind its end say nothing.
    ///
    /// # Errors
    /// Of `entries`; `TooMany` for nesting.
    #[inline(never)]
    pub fn event(&mut self, event: Event<'_>, entries: &mut dyn Entries) -> Result<()> {
        let Self { text, state } = self;
        if state.is_whole {
            return Ok(());
        }
        match event {
            Event::ObjectStart => state.open(false),
            Event::ArrayStart => state.open(true),
            Event::ObjectEnd | Event::ArrayEnd => state.close(entries),
            Event::KeyPart(part) => {
                state.key_part(part);
                Ok(())
            }
            Event::Key => {
                state.finish_key();
                Ok(())
            }
            Event::StringPart(part) | Event::NumberPart(part) => state.part(part, text, entries),
            Event::String => state.scalar(text, true, entries),
            Event::Number => state.scalar(text, false, entries),
            Event::Bool(truth) => {
                state.part(if truth { b"true" } else { b"false" }, text, entries)?;
                state.scalar(text, false, entries)
            }
            Event::Null => {
                state.next();
                Ok(())
            }
        }
    }

    /// The mapping is whole: puts what depends on several of its keys, and is ready for another.
    ///
    /// # Errors
    /// Of `entries`.
    #[inline(never)]
    pub fn finish(&mut self, entries: &mut dyn Entries) -> Result<Learned> {
        let learned = self.state.finish(entries);
        self.reset();
        learned
    }
}

impl State {
    const fn new() -> Self {
        Self {
            frames: heapless::Vec::new(),
            key: None,
            is_long: false,
            is_whole: false,
            learned: Learned { known: 0, unknown: 0, refused: 0, fault: None, left: 0 },
            hostname: heapless::String::new(),
            fqdn: heapless::String::new(),
            prefers_fqdn: false,
            manages_resolv_conf: false,
            is_ntp_off: false,
            files: 0,
            file: File { has_path: false, has_content: false, has_source: false, is_compressed: false },
            accounts: Accounts::new(),
        }
    }

    fn finish(&mut self, entries: &mut dyn Entries) -> Result<Learned> {
        self.put_names(entries)?;
        if !self.manages_resolv_conf {
            entries.forget(rows::RESOLV_CONF)?;
        }
        if self.is_ntp_off {
            entries.forget(rows::NTP)?;
        }
        self.accounts.finish(&mut self.learned, entries)?;
        Ok(self.learned)
    }

    fn put_names(&mut self, entries: &mut dyn Entries) -> Result<()> {
        let (host, fqdn) = hosts::names(&self.hostname, &self.fqdn, "");
        let host = if self.prefers_fqdn { fqdn } else { host };
        if host.is_empty() {
            return Ok(());
        }
        match hostname_of(host) {
            Ok(Some(name)) => entries.put("hostname", name.as_str().as_bytes())?,
            Ok(None) => {}
            Err(error) => self.learned.refuse(error),
        }
        if fqdn != host {
            entries.put(rows::FQDN, fqdn.as_bytes())?;
        }
        Ok(())
    }

    /// What the value that begins is; nothing known follows it in an object.
    fn next(&mut self) -> Row {
        let Some(frame) = self.frames.last_mut() else { return Row { place: Place::Top, ..Row::OTHER } };
        if frame.is_array { frame.next } else { core::mem::replace(&mut frame.next, Row::OTHER) }
    }

    fn open(&mut self, is_array: bool) -> Result<()> {
        let mut row = self.next();
        if !is_array {
            row.place = self.begin(row.place);
        } else if row.place == Place::User {
            self.accounts.begin_list();
        }
        self.key = Some(heapless::Vec::new());
        let next = if is_array { row } else { Row::OTHER };
        let frame = Frame { is_array, place: row.place, next };
        // The tokenizer is bounded by the same depth.
        self.frames.push(frame).map_err(|_| too_many!("JSON nesting", DEPTH))
    }

    /// An object begins; what it counts as.
    fn begin(&mut self, place: Place) -> Place {
        match place {
            Place::File if self.files >= limits::FILES => {
                self.learned.refuse(too_many!("write_files", limits::FILES));
                return Place::Other;
            }
            Place::File => self.file = File::default(),
            Place::Source => self.file.has_source = true,
            Place::User | Place::ChpasswdUser => self.accounts.begin(),
            _ => {}
        }
        place
    }

    fn close(&mut self, entries: &mut dyn Entries) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        self.is_whole = self.frames.is_empty();
        match frame.place {
            _ if frame.is_array => Ok(()),
            Place::File => self.finish_file(entries),
            Place::User => self.accounts.finish_user(&mut self.learned, entries),
            Place::ChpasswdUser => self.accounts.finish_chpasswd_user(&mut self.learned, entries),
            _ => Ok(()),
        }
    }

    /// An entry of `write_files` is whole; one that cannot be used makes room for the next.
    fn finish_file(&mut self, entries: &mut dyn Entries) -> Result<()> {
        let n = self.files;
        let at = n as u64;
        let fault = if !self.file.has_path {
            malformed!(WHAT, "a file without a path", at.saturating_add(1))
        } else if self.file.is_compressed {
            unsupported!(rule WHAT, "a compressed file").at(at.saturating_add(1))
        } else if self.file.has_source && !self.file.has_content {
            unsupported!(rule WHAT, "a file from the network").at(at.saturating_add(1))
        } else {
            self.files = n.saturating_add(1);
            return Ok(());
        };
        self.learned.refuse(fault);
        forget_file(n, entries)
    }

    fn key_part(&mut self, part: &[u8]) {
        if self.key.as_mut().is_some_and(|key| key.extend_from_slice(part).is_err()) {
            self.key = None;
        }
    }

    fn finish_key(&mut self) {
        let place = self.frames.last().map_or(Place::Other, |frame| frame.place);
        let row = self.key.as_ref().and_then(|key| find(place, key)).unwrap_or(Row::OTHER);
        match row.act {
            _ if place == Place::Other || place == Place::Source => {}
            Act::Left(n) => self.learned.left |= 1u32.wrapping_shl(n),
            Act::None if row.place == Place::Other => {
                self.learned.unknown = self.learned.unknown.saturating_add(1);
            }
            _ if place == Place::Top => self.learned.known = self.learned.known.saturating_add(1),
            _ => {}
        }
        // An option of resolv.conf needs its name for the line.
        if row.act != Act::ResolvOption {
            self.key = Some(heapless::Vec::new());
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.next = row;
        }
    }

    /// A piece of a scalar.
    fn part(&mut self, part: &[u8], text: &mut Text, entries: &mut dyn Entries) -> Result<()> {
        match self.frames.last().map_or(Act::None, |frame| frame.next.act) {
            Act::None | Act::Left(_) => Ok(()),
            Act::Content => self.content(part, entries),
            Act::PasswordList => self.accounts.list_part(part, &mut self.learned, entries),
            _ => {
                self.is_long |= text.extend_from_slice(part).is_err();
                Ok(())
            }
        }
    }

    /// A scalar is whole.
    fn scalar(&mut self, text: &mut Text, is_string: bool, entries: &mut dyn Entries) -> Result<()> {
        let act = self.next().act;
        // The tokenizer lets only UTF-8 through.
        let value = core::str::from_utf8(text).unwrap_or_default();
        let outcome = if core::mem::take(&mut self.is_long) {
            self.learned.refuse(too_many!(WHAT, limits::SSH_KEY));
            Ok(())
        } else {
            self.value(act, value, is_string, entries)
        };
        self.key = Some(heapless::Vec::new());
        // It may have been a password.
        text.as_mut_slice().zeroize();
        text.clear();
        outcome
    }

    fn content(&mut self, part: &[u8], entries: &mut dyn Entries) -> Result<()> {
        self.file.has_content = true;
        entries.put(&file_part(self.files, "content")?, part)
    }

    fn value(&mut self, act: Act, value: &str, is_string: bool, entries: &mut dyn Entries) -> Result<()> {
        let bad = || malformed!(WHAT, "a value that cannot be used", 0);
        let is_line = !value.is_empty() && !value.bytes().any(|byte| byte.is_ascii_control());
        match act {
            Act::None | Act::Left(_) => return Ok(()),
            Act::PasswordList => return self.accounts.list_end(&mut self.learned, entries),
            // An empty one is a file, too.
            Act::Content => return self.content(b"", entries),
            Act::Password | Act::PlainPassword | Act::ChpasswdPassword => {
                return self.accounts.password(act, value, &mut self.learned, entries);
            }
            _ if !is_line => self.learned.refuse(bad()),
            Act::Hostname => set(&mut self.hostname, value),
            Act::Fqdn => set(&mut self.fqdn, value),
            Act::Text(entry) => {
                entries.forget(entry)?;
                return entries.put(entry, value.as_bytes());
            }
            Act::Line(entry, word) => return put_line(entry, &[word, " ", value, "\n"], entries),
            Act::Nameserver => {
                self.manages_resolv_conf = true;
                return put_line(rows::RESOLV_CONF, &["nameserver ", value, "\n"], entries);
            }
            Act::ResolvOption => return self.resolv_option(value, entries),
            Act::Truth(entry) => match truth(value) {
                Some(is_true) => {
                    entries.forget(entry)?;
                    return entries.put(entry, if is_true { b"true" } else { b"false" });
                }
                // "unchanged" is a word of ssh_pwauth.
                None if value == "unchanged" => {}
                None => self.learned.refuse(bad()),
            },
            Act::ManageHosts => {
                let mode = match truth(value) {
                    Some(true) => "true",
                    Some(false) => "false",
                    None => value,
                };
                match hosts::Managing::of_word(mode) {
                    Some(_) => {
                        entries.forget(rows::HOSTS)?;
                        return entries.put(rows::HOSTS, mode.as_bytes());
                    }
                    None => self.learned.refuse(bad()),
                }
            }
            Act::PreferFqdn => self.prefers_fqdn = truth(value) == Some(true),
            Act::ManageResolvConf => self.manages_resolv_conf = truth(value) == Some(true),
            Act::NtpEnabled => self.is_ntp_off = truth(value) == Some(false),
            Act::FilePart(part) => return self.file_part(part, value, is_string, entries),
            _ => return self.accounts.value(act, value, &mut self.learned, entries),
        }
        Ok(())
    }

    /// `true` is a bare flag, `false` none.
    fn resolv_option(&mut self, value: &str, entries: &mut dyn Entries) -> Result<()> {
        let key = self.key.take().unwrap_or_default();
        let key = core::str::from_utf8(&key).unwrap_or_default();
        match value {
            _ if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                self.learned.refuse(malformed!(WHAT, "an option of resolv.conf", 0));
                Ok(())
            }
            "false" => Ok(()),
            "true" => put_line(rows::RESOLV_CONF, &["option ", key, "\n"], entries),
            _ => put_line(rows::RESOLV_CONF, &["option ", key, ":", value, "\n"], entries),
        }
    }

    #[inline(never)]
    fn file_part(
        &mut self,
        part: &'static str,
        value: &str,
        is_string: bool,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        let entry = file_part(self.files, part)?;
        let mut room = [0; 6];
        let value = match part {
            "path" => {
                self.file.has_path = true;
                value
            }
            "mode" => match mode(value, is_string) {
                Some(mode) => octal(mode, &mut room),
                None => {
                    self.learned.refuse(malformed!(WHAT, "permissions of a file", self.files as u64));
                    return Ok(());
                }
            },
            "encoding" => {
                let (is_known, is_base64, is_compressed) = encoding(value);
                self.file.is_compressed = is_compressed;
                if !is_known {
                    self.learned.refuse(unsupported!(rule WHAT, "encoding of a file").at(self.files as u64));
                }
                if !is_base64 {
                    return Ok(());
                }
                "base64"
            }
            "append" | "defer" if truth(value) != Some(true) => return Ok(()),
            "append" | "defer" => "true",
            _ => value,
        };
        entries.forget(&entry)?;
        entries.put(&entry, value.as_bytes())
    }
}

fn set(text: &mut heapless::String<NAME>, value: &str) {
    text.clear();
    // What is longer is no name, and is refused as one.
    let _ = value.trim_ascii().chars().try_for_each(|c| text.push(c));
}

/// Parts of a line, together.
fn put_line(entry: &str, parts: &[&str], entries: &mut dyn Entries) -> Result<()> {
    parts.iter().try_for_each(|part| entries.put(entry, part.as_bytes()))
}

/// `files/N/PART`.
#[inline(never)]
fn file_part(n: usize, part: &str) -> Result<super::text::PathText> {
    join(&["files/", digits(n as u64, &mut [0; 20]), "/", part])
}

fn forget_file(n: usize, entries: &mut dyn Entries) -> Result<()> {
    FILE_PARTS.iter().try_for_each(|part| entries.forget(&file_part(n, part)?))
}

/// cloud-init's words for yes and no (util.py `is_true`, `is_false`).
#[must_use]
pub fn truth(text: &str) -> Option<bool> {
    let is_one_of = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(&["true", "1", "on", "yes"]) {
        return Some(true);
    }
    is_one_of(&["false", "0", "off", "no"]).then_some(false)
}

/// Permission bits: a string is octal, `0o` or not; a number is taken as it is, YAML has read its octal digits.
#[must_use]
pub fn mode(text: &str, is_string: bool) -> Option<u32> {
    let mode = if is_string {
        let text = text.trim_ascii();
        let digits = text.strip_prefix("0o").or(text.strip_prefix("0O")).unwrap_or(text);
        u32::from_str_radix(digits, 8).ok()?
    } else {
        super::text::split_once(text, ".").map_or(text, |(whole, _)| whole).parse().ok()?
    };
    (mode <= 0o7777).then_some(mode)
}

/// Four octal digits.
fn octal(mode: u32, room: &mut [u8; 6]) -> &str {
    for (place, shift) in room.iter_mut().zip([9, 6, 3, 0]) {
        *place = b'0'.saturating_add((mode >> shift & 7) as u8);
    }
    core::str::from_utf8(room.get(..4).unwrap_or_default()).unwrap_or_default()
}

/// Known, base64, compressed (cc_write_files.py `canonicalize_extraction`). What is unknown counts as text.
fn encoding(text: &str) -> (bool, bool, bool) {
    let is = |word: &str| text.trim_ascii().eq_ignore_ascii_case(word);
    let is_base64 = is("b64") || is("base64");
    let is_compressed =
        ["gz", "gzip", "gz+b64", "gzip+b64", "gz+base64", "gzip+base64"].iter().any(|word| is(word));
    (is_base64 || is_compressed || is("text/plain"), is_base64, is_compressed)
}

#[cfg(test)]
mod tests;
