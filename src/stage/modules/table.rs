//! Which modules are wanted, and how far is each? Records in a lent buffer.

use crate::error::Result;
use crate::format::modules::is_same_name;

/// Modules looked at, dependencies included. A generic kernel on an emulator with everything needs 40.
const MODULES: usize = 160;
/// Room for their names. Names have at most 56 bytes (MODULE_NAME_LEN less a pointer), 9 is usual.
pub(super) const NAME_BYTES: usize = MODULES * 24;

/// How far a module is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nothing looked up yet.
    Unknown,
    /// It has a line in modules.dep.
    Found,
    /// It was loaded before we came.
    Present,
    /// It is in the kernel.
    BuiltIn,
    /// The name is an alias; the modules behind it have their own records.
    Alias,
    /// Being loaded: met again only in a circle.
    Loading,
    /// We loaded it.
    Loaded,
    /// The driver found no hardware.
    NoHardware,
    /// Not tried, because something it needs is not there.
    Skipped,
    /// Neither file nor built in.
    Missing,
    /// The kernel refused it.
    Failed,
}

impl State {
    /// Its functions can be called.
    pub(super) const fn is_there(self) -> bool {
        matches!(self, Self::Present | Self::BuiltIn | Self::Loaded)
    }
}

/// Who asked for a module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Why {
    /// Another module needs it.
    Needed,
    /// Useful if it is here.
    Wanted,
    /// This machine cannot be provisioned without it: absence is worth a warning.
    Required,
}

/// One module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    name_at: u16,
    name_length: u8,
    /// How far it is.
    pub(super) state: State,
    /// Who asked.
    pub(super) why: Why,
    /// The record of the alias that stands for it.
    pub(super) via: Option<u8>,
    /// Where its line in modules.dep begins.
    pub(super) line_at: u64,
}

/// The modules, in the order they were asked for. They are counted from 0 and never removed.
pub(super) struct Table<'s> {
    names: &'s mut [u8],
    used: usize,
    records: heapless::Vec<Record, MODULES>,
}

impl<'s> Table<'s> {
    /// Empty; `names` has room for the names.
    pub(super) const fn new(names: &'s mut [u8]) -> Self {
        Self { names, used: 0, records: heapless::Vec::new() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Adds a name once, returns its number. The stronger reason stays.
    pub(super) fn insert(&mut self, name: &str, why: Why) -> Result<usize> {
        if let Some(at) = self.position(name) {
            if let Some(record) = self.records.get_mut(at) {
                record.why = record.why.max(why);
            }
            return Ok(at);
        }
        let full = too_many!("kernel modules", MODULES);
        let at = self.records.len();
        let (name_at, name_length) = self.write_name(name).ok_or(full)?;
        let record = Record { name_at, name_length, state: State::Unknown, why, via: None, line_at: 0 };
        self.records.push(record).map_err(|_| full)?;
        Ok(at)
    }

    fn write_name(&mut self, name: &str) -> Option<(u16, u8)> {
        let (start, length) = (self.used, u8::try_from(name.len()).ok()?);
        let place = self.names.get_mut(start..)?.get_mut(..name.len())?;
        // sysfs spells every name with `_`.
        let folded = name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte });
        place.iter_mut().zip(folded).for_each(|(to, from)| *to = from);
        self.used += name.len();
        Some((u16::try_from(start).ok()?, length))
    }

    /// The number of a name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        (0..self.len()).find(|at| is_same_name(self.name(*at), name))
    }

    /// Its name, with `_`.
    pub(super) fn name(&self, at: usize) -> &str {
        let Some(record) = self.records.get(at) else { return "" };
        let start = usize::from(record.name_at);
        let text = self.names.get(start..start + usize::from(record.name_length)).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }

    /// What is known of it.
    pub(super) fn get(&self, at: usize) -> Option<&Record> {
        self.records.get(at)
    }

    /// What is known of it, to change.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Record> {
        self.records.get_mut(at)
    }

    /// How far it is.
    pub(super) fn state(&self, at: usize) -> State {
        self.records.get(at).map_or(State::Missing, |record| record.state)
    }

    /// Notes how far it is.
    pub(super) fn set(&mut self, at: usize, state: State) {
        if let Some(record) = self.records.get_mut(at) {
            record.state = state;
        }
    }

    /// The next one from `from` on that nothing is known of.
    pub(super) fn next_unknown(&self, from: usize) -> Option<usize> {
        (from..self.len()).find(|at| self.state(*at) == State::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::{State, Table, Why};

    #[test]
    fn a_module_is_one_whatever_its_spelling() {
        let mut names = [0; 64];
        let mut table = Table::new(&mut names);
        let at = table.insert("pci-hyperv", Why::Needed).unwrap();
        assert_eq!(table.insert("pci_hyperv", Why::Required).unwrap(), at);
        assert_eq!(
            (table.len(), table.name(at), table.get(at).unwrap().why),
            (1, "pci_hyperv", Why::Required)
        );
        table.set(at, State::Present);
        assert_eq!(table.next_unknown(0), None);
    }

    #[test]
    fn a_full_table_says_so() {
        let mut names = [0; 4];
        let mut table = Table::new(&mut names);
        table.insert("abcd", Why::Wanted).unwrap();
        assert!(table.insert("e", Why::Wanted).is_err());
        assert_eq!(table.name(7), "");
    }
}
