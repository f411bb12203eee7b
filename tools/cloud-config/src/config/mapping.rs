//! How does a tree become entries of the seed? As events for preroot's own reader of cloud-config, one by one, so that
//! what it refuses has its line.

use super::{Entries, Reading};
use crate::yaml::{Node, Value};
use preroot::error::{Kind, Result};
use preroot::format::cloud_config::{self, Learned, Mapping};
use preroot::format::json::{DEPTH, Event};
use preroot::format::sha512_crypt::RANDOM;
use preroot::format::translation::Rule;
use std::cell::RefCell;

/// What is odd in cloud-config, and not in JSON from a platform.
pub(super) fn prepared(key: &str, value: &Node) -> Node {
    match (key, &value.value) {
        // `false` leaves it alone; `null` was dropped already.
        ("locale", Value::Bool(_)) => value.with(Value::Null),
        // cloud-init joins the paths, which makes a whole one a zone, too.
        ("timezone", Value::Text(text)) => value.text(text.trim().trim_start_matches("/usr/share/zoneinfo/")),
        // Old spellings: one text, or a mapping of names.
        ("ssh_authorized_keys", _) => super::users::key_list(value),
        _ => value.clone(),
    }
}

/// False for a name that apply would refuse: here it has a line.
pub(super) fn is_usable(key: &str, value: &Node) -> bool {
    let (Some(text), "timezone" | "locale") = (value.as_str(), key) else { return true };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/.@".contains(&byte);
    text.bytes().all(is_plain) && !text.split('/').any(|name| matches!(name, "." | ".."))
}

/// Collects what is put.
struct Store<'s>(&'s mut Entries);

impl cloud_config::Entries for Store<'_> {
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()> {
        self.0.entry(entry.to_owned()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn forget(&mut self, entry: &str) -> Result<()> {
        self.0.remove(entry);
        Ok(())
    }

    fn random(&mut self) -> Option<[u8; RANDOM]> {
        SALTS.with_borrow_mut(|(used, salts)| {
            if *used == salts.len() {
                let mut bytes = [0; RANDOM];
                let flags = rustix::rand::GetRandomFlags::NONBLOCK;
                salts.extend((rustix::rand::getrandom(&mut bytes, flags) == Ok(RANDOM)).then_some(bytes));
            }
            *used += 1;
            salts.get(*used - 1).copied()
        })
    }
}

thread_local! {
    /// How many were used, and all that there were.
    static SALTS: RefCell<(usize, Vec<[u8; RANDOM]>)> = const { RefCell::new((0, Vec::new())) };
}

/// The same salts once more, in their order: two translations of one text are to be the same.
pub(crate) fn begin_salts() {
    SALTS.with_borrow_mut(|(used, _)| *used = 0);
}

/// Reads a mapping of keys that it knows.
pub(super) fn read(reading: &mut Reading<'_>, config: &Node) {
    let mut entries = std::mem::take(&mut reading.entries);
    let mut feeder = Feeder { mapping: Box::new(Mapping::new()), store: Store(&mut entries), reading };
    feeder.node(config, 0);
    // Its store refuses nothing.
    let learned = feeder.mapping.finish(&mut feeder.store).unwrap_or_default();
    feeder.tell(learned, config);
    reading.entries = entries;
}

struct Feeder<'f, 'r> {
    mapping: Box<Mapping>,
    store: Store<'f>,
    reading: &'f mut Reading<'r>,
}

impl Feeder<'_, '_> {
    fn event(&mut self, event: Event<'_>, at: &Node) {
        if let Err(error) = self.mapping.event(event, &mut self.store) {
            self.reading.note(Rule::BadValue, at, error.reason());
        }
        let learned = self.mapping.take_learned();
        self.tell(learned, at);
    }

    /// What it did not like about the last event.
    fn tell(&mut self, learned: Learned, at: &Node) {
        if learned.unknown > 0 {
            self.reading.note(Rule::UnsupportedValue, at, "");
        }
        if let Some(fault) = learned.fault {
            let rule = match self.reading.key() {
                _ if fault.is(Kind::TooMany) => Rule::BadValue,
                "write_files" => Rule::File,
                "users" => Rule::User,
                "chpasswd" | "password" => Rule::Password,
                _ => Rule::BadValue,
            };
            self.reading.note(rule, at, fault.reason());
        }
    }

    /// What is nested deeper than the reader counts would end collections that it never saw begin.
    fn node(&mut self, node: &Node, depth: usize) {
        match &node.value {
            Value::Map(_) | Value::List(_) if depth >= DEPTH => {
                self.reading.note(Rule::BadValue, node, "nested too deep");
                self.event(Event::Null, node);
            }
            Value::Map(entries) => {
                self.event(Event::ObjectStart, node);
                for (key, value) in entries {
                    let name = key.python_text().unwrap_or_default();
                    if depth == 0 {
                        self.reading.set_key(&name);
                    }
                    self.event(Event::KeyPart(name.as_bytes()), key);
                    self.event(Event::Key, key);
                    self.node(value, depth + 1);
                }
                self.event(Event::ObjectEnd, node);
            }
            Value::List(items) => {
                self.event(Event::ArrayStart, node);
                items.iter().for_each(|item| self.node(item, depth + 1));
                self.event(Event::ArrayEnd, node);
            }
            Value::Null => self.event(Event::Null, node),
            Value::Bool(truth) => self.event(Event::Bool(*truth), node),
            Value::Int(_) | Value::Float(_) => {
                self.event(Event::NumberPart(node.python_text().unwrap_or_default().as_bytes()), node);
                self.event(Event::Number, node);
            }
            Value::Text(text) | Value::Date(text) => self.text(text.as_bytes(), node),
            Value::Bytes(bytes) => self.text(bytes, node),
        }
    }

    fn text(&mut self, bytes: &[u8], node: &Node) {
        self.event(Event::StringPart(bytes), node);
        self.event(Event::String, node);
    }
}
