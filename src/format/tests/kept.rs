//! What a mapping with cloud-config's keys puts into the seed, kept in memory.

use crate::error::Result;
use crate::format::cloud_config::{Entries, Mapping};
use crate::format::json::{Event, Sink};
use crate::format::sha512_crypt::RANDOM;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

/// The entries by their names.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) entries: BTreeMap<String, Vec<u8>>,
    /// As where the kernel has no random bytes in time.
    pub(crate) has_no_random: bool,
}

impl Entries for Kept {
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()> {
        self.entries.entry(entry.into()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn forget(&mut self, entry: &str) -> Result<()> {
        self.entries.remove(entry);
        Ok(())
    }

    fn random(&mut self) -> Option<[u8; RANDOM]> {
        (!self.has_no_random).then_some([7; RANDOM])
    }
}

/// A mapping that reads a document into it.
pub(crate) struct Reader<'r>(pub(crate) &'r mut Mapping, pub(crate) &'r mut Kept);

impl Sink for Reader<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        self.0.event(event, self.1)
    }
}
