//! Where does each wanted module come from: loaded already, built in, a file, an alias, nowhere?

use super::Loader;
use super::list::List;
use super::table::{State, Table, Why};
use crate::error::Result;
use crate::format::modules::{
    Dependencies, SoftDependencies, SoftTime, is_match, name_of, parse_alias, parse_builtin_alias,
};
use crate::stage::lines::each_line;

impl Loader<'_, '_, '_> {
    /// Adds the drivers of the modaliases that came into `devices` after `mark`.
    pub(super) fn want_drivers(&mut self, devices: &List<'_>, mark: usize) -> Result<()> {
        if devices.since(mark).next().is_none() {
            return Ok(());
        }
        self.table_lines("modules.alias", b'\n', &mut |table, _, line| {
            if let Some((pattern, module)) = parse_alias(line)
                && devices.since(mark).any(|modalias| is_match(pattern, modalias))
            {
                table.insert(module, Why::Wanted)?;
            }
            Ok(())
        })
    }

    /// Finds every module that nothing is known of yet, and all that those need.
    pub(super) fn look_up(&mut self) -> Result<()> {
        while let Some(first) = self.table.next_unknown(0) {
            let end = self.table.len();
            self.note_present(first..end);
            self.note_built_in(end)?;
            self.note_files(end)?;
            self.note_soft_dependencies()?;
            self.note_aliases(first..end)?;
            for at in first..end {
                if self.table.state(at) == State::Unknown {
                    self.table.set(at, State::Missing);
                }
            }
        }
        Ok(())
    }

    fn note_present(&mut self, range: core::ops::Range<usize>) {
        for at in range {
            if self.table.state(at) == State::Unknown {
                let path = super::join("sys/module", self.table.name(at));
                if self.kernel.host.stat(&path).is_ok() {
                    self.table.set(at, State::Present);
                }
            }
        }
    }

    fn note_built_in(&mut self, end: usize) -> Result<()> {
        self.unknown_lines("modules.builtin", b'\n', end, &mut |table, _, line| {
            if let Some(at) = name_of(line).and_then(|name| table.position(name))
                && table.state(at) == State::Unknown
            {
                table.set(at, State::BuiltIn);
            }
            Ok(())
        })
    }

    /// What a file needs is added behind `end`, for the next round.
    fn note_files(&mut self, end: usize) -> Result<()> {
        self.unknown_lines("modules.dep", b'\n', end, &mut |table, line_at, line| {
            let Some(found) = Dependencies::parse(line) else { return Ok(()) };
            let position = name_of(found.path).and_then(|name| table.position(name)).filter(|at| *at < end);
            let Some(at) = position.filter(|at| table.state(*at) == State::Unknown) else { return Ok(()) };
            table.set(at, State::Found);
            if let Some(record) = table.get_mut(at) {
                record.line_at = line_at;
            }
            for name in found.in_load_order().filter_map(name_of) {
                table.insert(name, Why::Needed)?;
            }
            Ok(())
        })
    }

    fn note_soft_dependencies(&mut self) -> Result<()> {
        self.table_lines("modules.softdep", b'\n', &mut |table, _, line| {
            let Some(soft) = SoftDependencies::parse(line) else { return Ok(()) };
            if table.position(soft.module).is_none_or(|at| table.state(at) != State::Found) {
                return Ok(());
            }
            for name in soft.wanted(SoftTime::Pre).chain(soft.wanted(SoftTime::Post)) {
                table.insert(name, Why::Needed)?;
            }
            Ok(())
        })
    }

    /// A soft dependency may name an alias (`crypto-crc32c`), of a module or of something built in.
    fn note_aliases(&mut self, range: core::ops::Range<usize>) -> Result<()> {
        self.unknown_lines("modules.alias", b'\n', range.end, &mut |table, _, line| {
            let Some((pattern, module)) = parse_alias(line) else { return Ok(()) };
            for at in range.clone() {
                let is_open = matches!(table.state(at), State::Unknown | State::Alias);
                if is_open && is_match(pattern, table.name(at)) {
                    let behind = table.insert(module, Why::Needed)?;
                    link(table, at, behind);
                }
            }
            Ok(())
        })?;
        self.unknown_lines("modules.builtin.modinfo", 0, range.end, &mut |table, _, entry| {
            let Some((pattern, _)) = parse_builtin_alias(entry) else { return Ok(()) };
            for at in range.clone() {
                if table.state(at) == State::Unknown && is_match(pattern, table.name(at)) {
                    table.set(at, State::BuiltIn);
                }
            }
            Ok(())
        })
    }

    /// The lines of a table, if a record below `end` still needs one.
    fn unknown_lines(
        &mut self,
        file: &str,
        line_end: u8,
        end: usize,
        each: &mut dyn FnMut(&mut Table<'_>, u64, &str) -> Result<()>,
    ) -> Result<()> {
        match self.table.next_unknown(0) {
            Some(at) if at < end => self.table_lines(file, line_end, each),
            _ => Ok(()),
        }
    }

    /// The lines of a table. A table that is not there has none.
    pub(super) fn table_lines(
        &mut self,
        file: &str,
        line_end: u8,
        each: &mut dyn FnMut(&mut Table<'_>, u64, &str) -> Result<()>,
    ) -> Result<()> {
        let path = super::join(self.base, file);
        let Self { kernel, table, window, .. } = self;
        match each_line(kernel.host, &path, window, line_end, &mut |at, line| each(table, at, line)) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        }
    }
}

/// Notes that the name `alias` stands for the module `behind`.
fn link(table: &mut Table<'_>, alias: usize, behind: usize) {
    if alias == behind {
        return;
    }
    table.set(alias, State::Alias);
    if let Some(record) = table.get_mut(behind) {
        record.via = record.via.or(u8::try_from(alias).ok());
    }
}
