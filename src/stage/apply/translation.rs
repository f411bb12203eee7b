//! What do user data ask for? Asks the translator, which is a program of its own, and puts what it says into the seed; it
//! is trusted as little as a medium (docs/cloud-config.md).

use super::Story;
use crate::apply::include::Stage;
use crate::apply::{SeedPlace, deferred, hostname, hosts, include};
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::{Fact, Facts, Hostname, Provenance};
use crate::format::text::{PathText, digits, join};
use crate::format::translation::{Note, Reader, Sink};
use crate::limits;
use crate::machine::Platform;
use crate::seed;
use crate::source::cloud_config::Said;
use crate::sys::{Dir, FileType, Log, Talk};

/// The first that the image has.
pub(super) const PROGRAMS: &[&str] = &["usr/libexec/preroot/cloud-config", "usr/bin/preroot-cloud-config"];
const WHAT: &str = "cloud-config";
const FOREIGN: Error = unsupported!(WHAT, "an entry that no translator may put");
/// For the seed, beside what is good in it.
const FAILED: &str = "user data were not translated";
const PARTLY: &str = "not all of the user data can be done";

impl Story<'_, '_> {
    /// Translates user data, once for a seed. Whatever becomes of that, the rest of the seed is applied: from the place
    /// that this returns.
    #[inline(never)]
    pub(super) fn translate<'p>(&mut self, place: SeedPlace<'p>) -> SeedPlace<'p> {
        if !self.has_user_data(place) {
            return place;
        }
        let Some(program) = self.program(PROGRAMS) else {
            let text = "user data are kept, and not acted upon: the image has no preroot-cloud-config";
            self.say(Level::Warning, text, &[]);
            return place;
        };
        if self.dry_run {
            self.say(Level::Info, "user data would be translated", &[]);
            return place;
        }
        let outcome = self.translate_by(place, program);
        let outcome = outcome.or_else(|error| {
            self.say(Level::Error, "user data were not translated: {}", &[Value::Why(error)]);
            // For the report.
            self.begin_anew(place).and_then(|()| self.publish(place, "failed\n", FAILED))
        });
        match outcome {
            Ok(()) => SeedPlace::Run(seed::SEED),
            Err(error) => {
                self.say(Level::Error, "the seed cannot be written: {}", &[Value::Why(error)]);
                let _ = seed::abandon(self.kernel.run);
                place
            }
        }
    }

    /// The first of these that the image has, and that may be run.
    #[inline(never)]
    pub(super) fn program(&mut self, paths: &[&'static str]) -> Option<&'static str> {
        let (root, log) = (&mut *self.kernel.root, &mut *self.kernel.log);
        let mut is_it = |path: &'static str| match is_program(root, path) {
            Ok(is_there) => is_there,
            Err(error) => {
                let values = [Value::Text(path), Value::Why(error)];
                log.say(Level::Warning, "/{}: not run: {}", &values);
                false
            }
        };
        paths.iter().copied().find(|path| is_it(path))
    }

    /// As often as may help; what it says is published.
    #[inline(never)]
    pub(super) fn translate_by(&mut self, place: SeedPlace<'_>, program: &str) -> Result<()> {
        self.try_translate(place, program, limits::TRANSLATOR_MS, true).or_else(|error| {
            // By now it is in memory, and a host that was busy may not be any more.
            let most_ms = limits::TRANSLATOR_MS * if error.is(Kind::Deadline) { 2 } else { 1 };
            // What a platform says is not to cost the user's words anything.
            let (has_vendor_data, why) = (self.has_vendor_data(place), [Value::Why(error)]);
            match has_vendor_data {
                true => self.say(Level::Error, "once more, without vendor data: {}", &why),
                false if error.is(Kind::Deadline) => {
                    self.say(Level::Warning, "once more, with more time: {}", &why)
                }
                false => return Err(error),
            }
            self.try_translate(place, program, most_ms, !has_vendor_data)
        })
    }

    pub(super) fn seed_dir<'p>(&mut self, place: SeedPlace<'p>) -> (&mut dyn Dir, &'p str) {
        match place {
            SeedPlace::Run(base) => (&mut *self.kernel.run, base),
            SeedPlace::Root(base) => (&mut *self.kernel.root, base),
        }
    }

    /// customData are user data where waagent's rules do not say what becomes of them.
    fn user_data(&self) -> &'static str {
        let is_azures = self.facts.custom_data.is_some() && !self.config.execute_custom_data();
        if is_azures { seed::CUSTOM_DATA } else { seed::USER_DATA }
    }

    fn has(&mut self, place: SeedPlace<'_>, name: &str) -> bool {
        let (dir, base) = self.seed_dir(place);
        join(&[base, "/", name]).is_ok_and(|path| dir.stat(&path).is_ok())
    }

    /// True where somebody has something to say, and nobody has translated it yet. A mapping alone became entries already.
    fn has_user_data(&mut self, place: SeedPlace<'_>) -> bool {
        let user_data = self.user_data();
        !self.has(place, seed::TRANSLATED)
            && (self.has(place, user_data) || seed::VENDOR_DATA.iter().any(|name| self.has(place, name)))
    }

    fn has_vendor_data(&mut self, place: SeedPlace<'_>) -> bool {
        seed::VENDOR_DATA.iter().chain(&[seed::VENDOR_MAPPING]).any(|name| self.has(place, name))
    }

    #[inline(never)]
    fn begin_anew(&mut self, place: SeedPlace<'_>) -> Result<()> {
        match place {
            SeedPlace::Run(base) => seed::rebegin(self.kernel.run, None, base),
            SeedPlace::Root(base) => seed::rebegin(self.kernel.run, Some(&mut *self.kernel.root), base),
        }
    }

    /// The seed that was begun anew takes the place of the one that was there; `fault` "" is none.
    fn publish(&mut self, place: SeedPlace<'_>, word: &str, fault: &str) -> Result<()> {
        let (dir, base) = self.seed_dir(place);
        let mut context = seed::load_context(dir, base)?;
        if !fault.is_empty() && context.failure.is_none() {
            context.failure = seed::failure(fault);
        }
        seed::spool(self.kernel.run, seed::TRANSLATED, word.as_bytes())?;
        seed::publish_in_root(self.kernel.run, self.facts, &context)
    }

    #[inline(never)]
    fn try_translate(
        &mut self,
        place: SeedPlace<'_>,
        program: &str,
        most_ms: u64,
        has_vendor_data: bool,
    ) -> Result<()> {
        let (dir, base) = self.seed_dir(place);
        let platform = seed::load_context(dir, base)?.platform;
        self.begin_anew(place)?;
        let mut distribution = [0; 4096];
        let distribution = hosts::distribution(self.kernel.root, &mut distribution);
        // Then there are two of the seed, and this; others need some of the memory, too.
        let most = self.kernel.run.free_bytes() / 3;
        let (begin_us, user_data) = (self.kernel.clock.now_us(), self.user_data());
        let kernel = &mut *self.kernel;
        let mut talk = Conversation {
            ears: Ears {
                may_include: self.rounds.is_some(),
                ..Ears::new(kernel.run, kernel.log, usize::try_from(most).unwrap_or(usize::MAX))
            },
            root: kernel.root,
            rounds: self.rounds,
            is_including: place == SeedPlace::Root(include::PLACE),
            facts: self.facts,
            platform,
            distribution,
            user_data,
            has_vendor_data,
            item: 0,
            at: Phrase::Head,
        };
        let program = join(&["/", program])?;
        let argv = [&*program, "translate"];
        let outcome = kernel.system.run_talking(self.root_path, &argv, most_ms, self.bytes, &mut talk);
        let Ears { said, vendor_said, replaces_vendor, reader, faults, notes, .. } = talk.ears;
        match outcome? {
            0 if reader.is_whole() => {}
            0 => return Err(malformed!(WHAT, "the translator ended early", 0)),
            code => {
                let code = u64::try_from(code).unwrap_or_default();
                return Err(malformed!(WHAT, "the translator failed, with this exit status", code));
            }
        }
        if replaces_vendor {
            self.forget_vendor_facts();
        }
        vendor_said.merge(self.facts, Provenance::VendorData);
        said.merge(self.facts, Provenance::UserData);
        let is_whole = faults == 0 && has_vendor_data;
        self.publish(place, "true\n", if is_whole { "" } else { PARTLY })?;
        let took = Value::Millis(self.kernel.clock.now_us().saturating_sub(begin_us) / 1000);
        let values = [took, Value::Number(notes.into())];
        self.say(Level::Info, "user data translated in {}, {} notes", &values);
        Ok(())
    }
}

impl Story<'_, '_> {
    /// What vendor data became in the initrd does not count any more; the medium's own host name is there again.
    #[inline(never)]
    fn forget_vendor_facts(&mut self) {
        let Facts { hostname, password_login, .. } = &mut *self.facts;
        password_login.take_if(|fact| fact.from == Provenance::VendorData);
        if hostname.take_if(|fact| fact.from == Provenance::VendorData).is_none() {
            return;
        }
        let mut text = [0; limits::HOSTNAME];
        let n = seed::read_spooled(self.kernel.run, seed::MEDIUM_HOST_NAME, 0, &mut text).unwrap_or_default();
        let name = core::str::from_utf8(text.get(..n).unwrap_or_default()).unwrap_or_default();
        *hostname = Hostname::parse(name).ok().map(|value| Fact { value, from: Provenance::ConfigDrive });
    }
}

/// A program that nobody but root could have put there, and anybody may run; false when there is none.
fn is_program(root: &mut dyn Dir, path: &str) -> Result<bool> {
    let stat = match root.stat(path) {
        Err(error) if error.is_not_found() => return Ok(false),
        outcome => outcome?,
    };
    match stat.file_type {
        FileType::File if stat.uid != 0 || stat.mode & 0o022 != 0 => {
            Err(unsupported!(WHAT, "others than root may change it"))
        }
        // It runs as a user who has no rights at all.
        FileType::File if stat.mode & 0o001 == 0 => Err(unsupported!(WHAT, "not executable for everybody")),
        FileType::File => Ok(true),
        _ => Err(unsupported!(WHAT, "no regular file")),
    }
}

/// Hears the translator.
struct Ears<'c> {
    /// With the seed that was begun anew.
    run: &'c mut dyn Dir,
    log: &'c mut dyn Log,
    reader: Reader,
    said: Said,
    /// The same of what only vendor data say: other sources know it better.
    vendor_said: Said,
    /// What vendor data became in the initrd was forgotten.
    replaces_vendor: bool,
    /// Documents may be asked for.
    may_include: bool,
    /// The entry that is being put.
    last: PathText,
    bytes: usize,
    most: usize,
    notes: u32,
    faults: u32,
}

impl<'c> Ears<'c> {
    fn new(run: &'c mut dyn Dir, log: &'c mut dyn Log, most: usize) -> Self {
        let (reader, said, vendor_said) = (Reader::default(), Said::default(), Said::default());
        let last = PathText::new();
        Self {
            run,
            log,
            reader,
            said,
            vendor_said,
            replaces_vendor: false,
            may_include: false,
            last,
            bytes: 0,
            most: most.min(limits::TRANSLATION),
            notes: 0,
            faults: 0,
        }
    }
}

impl Sink for Ears<'_> {
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if name == "vendor" && self.last.is_empty() {
            // It comes before all others, or would take them along.
            self.replaces_vendor |= seed::forget_vendor_data(self.run)?;
            return Ok(());
        }
        let (entry, said) = match name.strip_prefix("vendor/") {
            Some(fact) => (fact, &mut self.vendor_said),
            None => (name, &mut self.said),
        };
        let is_include = self.may_include && name == seed::INCLUDE;
        if !is_include && !seed::is_translation(entry) {
            return Err(FOREIGN);
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > self.most {
            return Err(too_many!("bytes of the translator", self.most));
        }
        // User data take the place of what vendor data said.
        if self.last != name {
            self.last = join(&[name])?;
            match said.forget(entry) {
                true => {}
                false if entry == name => seed::forget_spooled(self.run, name)?,
                false => return Err(FOREIGN),
            }
        }
        if said.take(entry, bytes) { Ok(()) } else { seed::spool(self.run, name, bytes) }
    }

    fn note(&mut self, note: Note) {
        let level = if note.rule.is_fault() { Level::Warning } else { Level::Info };
        self.faults = self.faults.saturating_add(u32::from(note.rule.is_fault()));
        self.notes = self.notes.saturating_add(1);
        if self.notes > limits::TRANSLATION_NOTES {
            return;
        }
        let source = Value::Text(if note.source == 0 { "user data" } else { "vendor data" });
        let (part, line) = (Value::Number(note.part.into()), Value::Number(note.line.into()));
        let separator = Value::Text(if note.key.is_empty() { "" } else { ": " });
        let (key, rule) = (Value::Text(note.key), Value::Text(note.rule.text()));
        match note.line {
            0 => self.log.say(level, "{}, part {}: {}{}{}", &[source, part, key, separator, rule]),
            _ => {
                self.log.say(
                    level,
                    "{}, part {}, line {}: {}{}{}",
                    &[source, part, line, key, separator, rule],
                );
            }
        }
    }
}

/// Which bytes of an input come next.
#[derive(Clone, Copy)]
enum Phrase {
    Head,
    /// From here, and all in all so many.
    Body(u64, u64),
    Done,
}

/// One input.
enum Item<'i> {
    /// A value of the seed.
    Entry(&'static str, &'static str, u64),
    /// A document that was fetched.
    Page(&'i str, (Stage, usize), u64),
    /// A text of ours.
    Text(&'static str, &'i str),
    /// Nothing, in this place.
    None,
    End,
}

struct Conversation<'c> {
    ears: Ears<'c>,
    /// With documents that were fetched.
    root: &'c mut dyn Dir,
    /// How often others may still be; `None` where none is.
    rounds: Option<u32>,
    is_including: bool,
    facts: &'c Facts,
    platform: Platform,
    distribution: &'c str,
    user_data: &'static str,
    has_vendor_data: bool,
    item: usize,
    at: Phrase,
}

/// Vendor data follow user data, the mapping first; then come facts, and what the seed has already.
const VENDOR: usize = 1;
const FACTS: usize = VENDOR + 1 + limits::VENDOR_PARTS;
const HOST_NAME: usize = FACTS + 1;
const PLATFORM: usize = FACTS + 2;
const DISTRIBUTION: usize = FACTS + 3;
const LAUNCH_INDEX: usize = FACTS + 4;
const INCLUDE: usize = FACTS + 5;
/// Documents, those first that were fetched now.
const PAGES: usize = INCLUDE + 1;
const USERS: usize = PAGES + 2 * limits::INCLUDES;
const FILES: usize = USERS + limits::USERS;
const END: usize = FILES + limits::FILES;

impl Conversation<'_> {
    fn item<'i>(&'i mut self, name: &'i mut PathText) -> Result<Item<'i>> {
        let n = self.item;
        let mut entry = |input, entry| match seed::spooled(self.ears.run, entry) {
            Some(size) => Item::Entry(input, entry, size),
            None => Item::None,
        };
        let text = |name, value: Option<&'i str>| value.map_or(Item::None, |value| Item::Text(name, value));
        let number = |from| digits_of(n.saturating_sub(from));
        Ok(match n {
            0 => entry("user-data", self.user_data),
            FACTS => text("instance-id", self.facts.instance_id.as_ref().map(|fact| fact.value.as_str())),
            HOST_NAME => text("hostname", self.facts.hostname.as_ref().map(hostname::written)),
            PLATFORM => text("platform", Some(self.platform.word())),
            DISTRIBUTION => text("distribution", Some(self.distribution).filter(|id| !id.is_empty())),
            LAUNCH_INDEX => entry(seed::LAUNCH_INDEX, seed::LAUNCH_INDEX),
            INCLUDE => match self.rounds {
                Some(rounds) => {
                    *name = join(&[&digits_of(usize::try_from(rounds).unwrap_or_default())])?;
                    Item::Text("include", name)
                }
                None => Item::None,
            },
            PAGES..USERS if !self.is_including => Item::None,
            PAGES..USERS => {
                let n = n.saturating_sub(PAGES);
                let (stage, word, n) = match n.checked_sub(limits::INCLUDES) {
                    Some(n) => (Stage::Old, "included-before/", n),
                    None => (Stage::New, "included/", n),
                };
                *name = join(&[word, &digits_of(n)])?;
                let file = self.root.stat(&stage.file(n)?);
                file.map_or(Item::None, |file| Item::Page(name, (stage, n), file.size))
            }
            USERS.. if n < END => {
                *name = match n {
                    FILES.. => join(&["files/", &number(FILES), "/path"])?,
                    _ => join(&["users/", &number(USERS)])?,
                };
                // What waits for packages has its number, too.
                let is_there = seed::spooled(self.ears.run, name).is_some()
                    || (self.is_including && self.root.stat(&join(&[deferred::PLACE, "/", name])?).is_ok());
                let bare = name.strip_suffix("/path").unwrap_or(name);
                if is_there { Item::Text("taken", bare) } else { Item::None }
            }
            END.. => Item::End,
            _ if n < FACTS && !self.has_vendor_data => Item::None,
            VENDOR => entry(seed::VENDOR_MAPPING, seed::VENDOR_MAPPING),
            _ => match seed::VENDOR_DATA.get(n.saturating_sub(VENDOR + 1)) {
                Some(name) => entry(name, name),
                None => Item::None,
            },
        })
    }

    /// The next piece; `None` where an item says nothing.
    fn piece(&mut self, room: &mut [u8]) -> Result<Option<usize>> {
        let mut name = PathText::new();
        let at = self.at;
        match (at, self.item(&mut name)?) {
            (_, Item::None) => {
                self.item = self.item.saturating_add(1);
                Ok(None)
            }
            (Phrase::Done, _) => Ok(Some(0)),
            (_, Item::End) => {
                self.at = Phrase::Done;
                put(room, &["end - 0\n\n"]).map(Some)
            }
            (_, Item::Text(input, text)) => {
                let length = digits_of(text.len());
                let n = put(room, &["input ", input, " ", &length, "\n", text, "\n"])?;
                self.item = self.item.saturating_add(1);
                Ok(Some(n))
            }
            (Phrase::Head, Item::Entry(input, _, size) | Item::Page(input, _, size)) => {
                let length = digits_of(usize::try_from(size).unwrap_or(usize::MAX));
                let n = put(room, &["input ", input, " ", &length, "\n"])?;
                self.at = Phrase::Body(0, size);
                Ok(Some(n))
            }
            (Phrase::Body(from, size), item @ (Item::Entry(..) | Item::Page(..))) if from < size => {
                let n = match item {
                    Item::Page(_, (stage, n), _) => self.root.read_at(&stage.file(n)?, from, room)?,
                    Item::Entry(_, entry, _) => seed::read_spooled(self.ears.run, entry, from, room)?,
                    _ => 0,
                };
                if n == 0 {
                    return Err(malformed!(WHAT, "user data became shorter", 0));
                }
                self.at = Phrase::Body(from.saturating_add(n as u64), size);
                Ok(Some(n))
            }
            (Phrase::Body(..), Item::Entry(..) | Item::Page(..)) => {
                (self.item, self.at) = (self.item.saturating_add(1), Phrase::Head);
                put(room, &["\n"]).map(Some)
            }
        }
    }
}

impl Talk for Conversation<'_> {
    fn feed(&mut self, room: &mut [u8]) -> Result<usize> {
        loop {
            if let Some(n) = self.piece(room)? {
                return Ok(n);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = core::mem::take(&mut self.ears.reader);
        let outcome = reader.push(bytes, &mut self.ears);
        self.ears.reader = reader;
        outcome
    }
}

fn digits_of(number: usize) -> heapless::String<20> {
    let mut text = heapless::String::new();
    // Twenty digits hold any number of 64 bits.
    let _ = text.push_str(digits(number as u64, &mut [0; 20]));
    text
}

pub(super) fn put(room: &mut [u8], parts: &[&str]) -> Result<usize> {
    let mut n: usize = 0;
    for part in parts {
        let end = n.saturating_add(part.len());
        let place = room.get_mut(n..end).ok_or(too_many!("bytes for the translator", 0))?;
        place.copy_from_slice(part.as_bytes());
        n = end;
    }
    Ok(n)
}

#[cfg(test)]
mod tests;
