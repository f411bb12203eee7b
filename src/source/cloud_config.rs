//! Where do the entries of a cloud-config mapping go? Into the seed that is being written; host name and password login,
//! which every source may say, into the facts.

use super::prefer;
use crate::error::Result;
use crate::facts::{Facts, Hostname, Provenance};
use crate::format::cloud_config::Entries;
use crate::format::sha512_crypt::RANDOM;
use crate::limits;
use crate::seed;
use crate::sys::Dir;

/// Lent to a [`Mapping`](crate::format::cloud_config::Mapping) for each event and for its end; then
/// [`SeedEntries::learn`].
pub struct SeedEntries<'s> {
    /// `/run/preroot`, with a seed begun.
    pub run: &'s mut dyn Dir,
    /// Random bytes for a salt.
    pub random: &'s mut dyn FnMut() -> Option<[u8; RANDOM]>,
    /// What is kept for the facts.
    pub said: &'s mut Said,
}

/// What a mapping says that is a fact; it outlives the pieces in which a document comes.
#[derive(Default)]
pub struct Said {
    hostname: heapless::String<{ limits::HOSTNAME }>,
    password_login: heapless::String<8>,
}

impl Said {
    /// Takes what is a fact; false for any other entry.
    pub fn take(&mut self, entry: &str, bytes: &[u8]) -> bool {
        let text = core::str::from_utf8(bytes).unwrap_or_default();
        // Both were read already: they fit.
        let _ = match entry {
            "hostname" => self.hostname.push_str(text),
            "user/password-login" => self.password_login.push_str(text),
            _ => return false,
        };
        true
    }

    /// Forgets what is a fact; false for any other entry.
    pub fn forget(&mut self, entry: &str) -> bool {
        match entry {
            "hostname" => self.hostname.clear(),
            "user/password-login" => self.password_login.clear(),
            _ => return false,
        }
        true
    }

    /// What it said becomes facts.
    pub fn merge(&self, facts: &mut Facts, from: Provenance) {
        prefer(&mut facts.hostname, Hostname::parse(&self.hostname).ok(), from);
        let login = match &*self.password_login {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        prefer(&mut facts.password_login, login, from);
    }
}

impl Entries for SeedEntries<'_> {
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()> {
        if self.said.take(entry, bytes) { Ok(()) } else { seed::spool(self.run, entry, bytes) }
    }

    fn forget(&mut self, entry: &str) -> Result<()> {
        if self.said.forget(entry) { Ok(()) } else { seed::forget_spooled(self.run, entry) }
    }

    fn random(&mut self) -> Option<[u8; RANDOM]> {
        (self.random)()
    }
}

impl SeedEntries<'_> {
    /// After [`Mapping::finish`](crate::format::cloud_config::Mapping::finish): merges what it said into the facts, and
    /// notes in the seed that somebody but the platform asked for its entries.
    ///
    /// # Errors
    /// `Os`.
    pub fn learn(&mut self, facts: &mut Facts, from: Provenance) -> Result<()> {
        self.said.merge(facts, from);
        seed::forget_spooled(self.run, seed::ASKED_BY)?;
        seed::spool(self.run, seed::ASKED_BY, from.word().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{Said, SeedEntries};
    use crate::error::Result;
    use crate::facts::{Facts, Provenance};
    use crate::format::cloud_config::Mapping;
    use crate::format::json::{Event, Sink, Tokenizer};
    use crate::seed::{self, Context, begin, publish};
    use crate::sys::fake::FakeDir;
    use std::boxed::Box;

    struct Driver<'d>(&'d mut Mapping, SeedEntries<'d>);

    impl Sink for Driver<'_> {
        fn event(&mut self, event: Event<'_>) -> Result<()> {
            self.0.event(event, &mut self.1)
        }
    }

    #[test]
    fn a_mapping_becomes_a_seed_that_a_second_publish_keeps() {
        let mut run = FakeDir::default();
        run.in_memory = true;
        begin(&mut run).unwrap();
        let (mut mapping, mut facts, mut said) =
            (Box::new(Mapping::new()), Box::new(Facts::new()), Said::default());
        let entries = SeedEntries { run: &mut run, random: &mut || Some([7; 12]), said: &mut said };
        let mut driver = Driver(&mut mapping, entries);
        let document =
            br#"{"hostname": "vm1", "ssh_pwauth": false, "password": "canary", "ntp_servers": ["a"],
            "write_files": [{"path": "/a", "content": "x"}, {"path": "/b"}]}"#;
        Tokenizer::new().push(document, &mut driver).unwrap();
        let Driver(mapping, mut entries) = driver;
        mapping.finish(&mut entries).unwrap();
        entries.learn(&mut facts, Provenance::OvfMedium).unwrap();
        publish(&mut run, &facts, &Context::default()).unwrap();
        let first = run.dump();
        begin(&mut run).unwrap();
        publish(&mut run, &facts, &Context::default()).unwrap();
        assert_eq!(run.dump(), first);
        assert_eq!(run.text("seed/files/0/content").unwrap(), "x");
        assert_eq!(run.text("seed/ntp").unwrap(), "server a\n");
        assert_eq!(run.text("seed/hostname").unwrap(), "vm1\n");
        assert_eq!(run.text("seed/user/password-login").unwrap(), "false\n");
        assert!(
            run.text("seed/users/63")
                .unwrap()
                .starts_with("default true\nlock_passwd false\nhashed_passwd $6$")
        );
        seed::remove(&mut run, seed::SEED).unwrap();
        assert!(run.dump().is_empty(), "{:?}", run.dump().keys());
    }
}
