//! A mapping with cloud-config's keys: the entries do not depend on where it is cut, and users among them can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::facts::UserName;
use preroot::format::cloud_config::{Entries, Learned, Mapping};
use preroot::format::json::{Event, Sink, Tokenizer};
use preroot::format::person::Person;
use std::collections::BTreeMap;

#[derive(Default, PartialEq, Debug)]
struct Seed(BTreeMap<String, Vec<u8>>);

impl Entries for Seed {
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()> {
        self.0.entry(entry.into()).or_default().extend(bytes);
        Ok(())
    }

    fn forget(&mut self, entry: &str) -> Result<()> {
        self.0.remove(entry);
        Ok(())
    }

    // Hashing is slow, and has a target of its own.
    fn random(&mut self) -> Option<[u8; 12]> {
        None
    }
}

struct Driver<'d>(&'d mut Mapping, &'d mut Seed);

impl Sink for Driver<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        self.0.event(event, self.1)
    }
}

fn read(document: &[u8], step: usize) -> (Seed, Learned) {
    let (mut mapping, mut seed, mut tokenizer) =
        (Box::new(Mapping::new()), Seed::default(), Tokenizer::new());
    let mut driver = Driver(&mut mapping, &mut seed);
    let _ = document.chunks(step).try_for_each(|chunk| tokenizer.push(chunk, &mut driver));
    let learned = mapping.finish(&mut seed).unwrap();
    (seed, learned)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    let default = UserName::parse("root").unwrap();
    for (_, text) in whole.0.0.iter().filter(|(entry, _)| entry.starts_with("users/")) {
        assert!(Person::parse(std::str::from_utf8(text).unwrap(), &default).is_ok());
    }
});
