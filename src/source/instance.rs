//! What do the documents of a labelled medium say, read one after another?
//!
//! [`config_drive`](super::config_drive) and [`nocloud`](super::nocloud) know which documents there are; what is common to
//! both is here: what was read, what was left out, and how it becomes facts.

use super::tree::{Tree, stream};
use super::{AdminPass, merge_meta_data};
use crate::error::{Error, Result, Rule};
use crate::facts::{Facts, InstanceId, Provenance};
use crate::format::cloud_config::{self, Entries, Mapping};
use crate::format::fields::Fields;
use crate::format::network_data::NetworkDataReader;
use crate::format::openstack::MetaData;
use crate::format::sha512_crypt::RANDOM;
use crate::format::volume::is_of_device;
use crate::limits;

/// Faults that are remembered.
const FAULTS: usize = 8;

/// What a stage may want to say about a medium; the rest is in the facts and the seed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learned {
    /// Lines of public keys that are no OpenSSH keys.
    pub refused_keys: u32,
    /// Public keys there is no room for.
    pub lost_keys: u32,
    /// What became of a password.
    pub admin_pass: AdminPass,
    /// Documents that are left out, or what of them is, and why: the first of them.
    pub faults: heapless::Vec<Error, FAULTS>,
    /// What a mapping in vendor data asked for.
    pub mapping: Option<cloud_config::Learned>,
    /// Texts of vendor data that wait in the seed.
    pub vendor_texts: u32,
    /// Bytes of user data; `None`: the medium has no such file.
    pub user_data_bytes: Option<u64>,
    /// The medium's network-config waits in the seed.
    pub has_network_config: bool,
}

/// Reads one medium after another. 50 KiB: a static, not a local.
pub struct InstanceReader {
    /// Of meta_data.json.
    pub(super) fields: Fields,
    /// What the metadata says.
    pub meta: MetaData,
    /// Of network_data.json.
    pub(super) network_data: NetworkDataReader,
    /// Of vendor data that is a cloud-config itself.
    pub(super) mapping: Mapping,
    /// A medium of any other machine is refused; set before each.
    pub only: Option<InstanceId>,
    pub(super) learned: Learned,
}

impl InstanceReader {
    /// Ready for a medium.
    #[must_use]
    pub const fn new() -> Self {
        let learned = Learned {
            refused_keys: 0,
            lost_keys: 0,
            admin_pass: AdminPass::Nothing,
            faults: heapless::Vec::new(),
            mapping: None,
            vendor_texts: 0,
            user_data_bytes: None,
            has_network_config: false,
        };
        Self {
            fields: Fields::new(),
            meta: MetaData::new(),
            network_data: NetworkDataReader::new(),
            mapping: Mapping::new(),
            only: None,
            learned,
        }
    }

    /// Forgets what was read.
    pub fn reset(&mut self) {
        self.fields.reset();
        self.meta.reset();
        self.network_data = NetworkDataReader::new();
        self.mapping.reset();
        self.learned = Learned::default();
    }

    /// A fault of one document costs that document; one of the device all of them.
    pub(super) fn note(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if is_of_device(error) => Err(error),
            Err(error) => {
                // More than that are too many for a person.
                let _ = self.learned.faults.push(error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// A document for the seed, as it is; what is too large is left out alone.
    #[inline(never)]
    pub(super) fn keep(
        &mut self,
        tree: &mut dyn Tree,
        path: &str,
        (full, entry): (&'static Rule, &'static str),
        window: &mut [u8],
        entries: &mut dyn Entries,
    ) -> Result<Option<u64>> {
        let limit = (full, limits::USER_DATA);
        match stream(tree, path, limit, window, &mut |bytes| entries.put(entry, bytes)) {
            Ok(length) => Ok(length),
            Err(error) => {
                entries.forget(entry)?;
                self.note(Err(error)).map(|()| None)
            }
        }
    }

    /// True when vendor data was a cloud-config, so that its entries are to be merged.
    #[must_use]
    pub fn has_mapping(&self) -> bool {
        self.learned.mapping.is_some()
    }

    /// True when there is a password to be hashed, so that [`finish`](Self::finish) wants a salt.
    #[must_use]
    pub fn needs_salt(&self) -> bool {
        !self.meta.password.is_empty() && !self.meta.has_any_key()
    }

    /// What the medium says becomes facts. The password is hashed with a salt made of `random`, and overwritten; the
    /// reader is ready for another medium.
    ///
    /// # Errors
    /// None of a medium that was read.
    pub fn finish(
        &mut self,
        facts: &mut Facts,
        from: Provenance,
        random: Option<[u8; RANDOM]>,
    ) -> Result<Learned> {
        let mut learned = core::mem::take(&mut self.learned);
        (learned.refused_keys, learned.lost_keys) = (self.meta.refused_keys, self.meta.lost_keys);
        for fault in &self.meta.faults {
            let _ = learned.faults.push(*fault);
        }
        facts.network_from = Some(from).filter(|_| !facts.network.is_empty());
        let merged = merge_meta_data(&mut self.meta, facts, from, random);
        self.reset();
        learned.admin_pass = merged?;
        Ok(learned)
    }
}

impl Default for InstanceReader {
    fn default() -> Self {
        Self::new()
    }
}
