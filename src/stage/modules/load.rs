//! In which order do modules go into the kernel, and what did it answer?

use super::Loader;
use super::table::{State, Why};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::format::cmdline;
use crate::format::modules::{
    Dependencies, SoftDependencies, SoftTime, is_compressed, is_same_name, name_of, plain_path,
};
use crate::format::text::join;
use crate::limits;
use crate::sys::Loaded;
use core::fmt::Write;

/// Soft dependencies of soft dependencies ... modules.dep itself is flat.
const DEPTH: u8 = 8;
/// Names on one line of modules.dep or modules.softdep; a line of a generic kernel has up to 30.
const NEEDS: usize = 64;

/// Numbers of records.
type Numbers = heapless::Vec<u8, NEEDS>;

impl Loader<'_, '_, '_> {
    /// Loads what was asked for and found. Returns how many modules are new.
    pub(super) fn load_all(&mut self) -> u64 {
        let before = self.count(|state, _| state == State::Loaded);
        for at in 0..self.table.len() {
            let why = self.table.get(at).map_or(Why::Needed, |record| record.why);
            if why == Why::Needed {
                continue;
            }
            if self.load(at, DEPTH) == State::Missing && why == Why::Required {
                self.say(Level::Warning, "driver {} is neither here nor built in", at);
                self.forget(at);
            }
        }
        self.count(|state, _| state == State::Loaded).saturating_sub(before)
    }

    /// How many records are like this.
    pub(super) fn count(&self, is_counted: impl Fn(State, Why) -> bool) -> u64 {
        let records = (0..self.table.len()).filter_map(|at| self.table.get(at));
        records.filter(|record| is_counted(record.state, record.why)).count() as u64
    }

    /// It was said once.
    fn forget(&mut self, at: usize) {
        if let Some(record) = self.table.get_mut(at) {
            record.why = Why::Needed;
        }
    }

    fn load(&mut self, at: usize, depth: u8) -> State {
        let known = self.table.state(at);
        let Some(deeper) = depth.checked_sub(1) else { return known };
        match known {
            State::Found => {}
            State::Alias => return self.load_behind(at, deeper),
            _ => return known,
        }
        self.table.set(at, State::Loading);
        let soft = self.soft_dependencies(at).unwrap_or_default();
        for first in &soft.before {
            self.load(usize::from(*first), deeper);
        }
        let state = match self.has_needs(at, deeper) {
            Ok(true) => self.insert(at),
            Ok(false) => State::Skipped,
            Err(error) => self.refused(at, error),
        };
        self.table.set(at, state);
        for last in soft.after.iter().filter(|_| state.is_there()) {
            self.load(usize::from(*last), deeper);
        }
        state
    }

    fn load_behind(&mut self, alias: usize, depth: u8) -> State {
        for at in 0..self.table.len() {
            if self.table.get(at).and_then(|record| record.via).map(usize::from) == Some(alias) {
                self.load(at, depth);
            }
        }
        State::Alias
    }

    /// Loads what a module needs. False when some of it is not there afterwards: then the module is not
    /// tried, because each of its symbols would make a line on the console (hv_netvsc without hv_vmbus: 17).
    fn has_needs(&mut self, at: usize, depth: u8) -> Result<bool> {
        if self.is_blacklisted(at) {
            self.say(Level::Info, "driver {} is blacklisted on the kernel command line", at);
            return Ok(false);
        }
        for need in &self.needs(at)? {
            let need = usize::from(*need);
            let state = self.load(need, depth);
            if !state.is_there() {
                let names = [Value::Name(self.table.name(at)), Value::Name(self.table.name(need))];
                self.kernel.say(Level::Debug, "{} is not tried without {}", &names);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn insert(&mut self, at: usize) -> State {
        let begin_us = self.kernel.clock.now_us();
        match self.insert_file(at) {
            Ok(Loaded::Now) => {
                let took_ms = self.kernel.clock.now_us().saturating_sub(begin_us) / 1000;
                let values = [Value::Name(self.table.name(at)), Value::Millis(took_ms)];
                self.kernel.say(Level::Debug, "{} loaded in {}", &values);
                State::Loaded
            }
            Ok(Loaded::Before) => State::Present,
            Ok(Loaded::NoHardware) => {
                self.say(Level::Debug, "{} finds no hardware", at);
                State::NoHardware
            }
            Err(error) => self.refused(at, error),
        }
    }

    #[inline(never)]
    fn insert_file(&mut self, at: usize) -> Result<Loaded> {
        let base = self.base;
        let line = self.line(at)?;
        let found = Dependencies::parse(line).ok_or(changed())?;
        let path = match found.path.starts_with('/') {
            true => join(&[found.path]),
            false => join(&["/", base, "/", found.path]),
        }?;
        let parameters = parameters(self.cmdline, self.table.name(at))?;
        let outcome = self.kernel.system.load_module(&path, &parameters, is_compressed(&path));
        match (outcome, plain_path(&path)) {
            // Our build hooks put a plain copy beside it where the kernel cannot decompress.
            (Err(error), Some(plain)) => {
                self.kernel.system.load_module(plain, &parameters, false).map_err(|_| error)
            }
            (outcome, _) => outcome,
        }
    }

    /// Records what a module needs, in the order of loading.
    fn needs(&mut self, at: usize) -> Result<Numbers> {
        let mut numbers = Numbers::new();
        let path = super::join(self.base, "modules.dep");
        let line_at = self.table.get(at).map_or(0, |record| record.line_at);
        let line = line_of(self.kernel.host, &path, line_at, self.window)?;
        for name in Dependencies::parse(line).ok_or(changed())?.in_load_order().filter_map(name_of) {
            push(&mut numbers, self.table.position(name))?;
        }
        Ok(numbers)
    }

    fn line(&mut self, at: usize) -> Result<&str> {
        let path = super::join(self.base, "modules.dep");
        let line_at = self.table.get(at).map_or(0, |record| record.line_at);
        line_of(self.kernel.host, &path, line_at, self.window)
    }

    fn soft_dependencies(&mut self, at: usize) -> Result<Soft> {
        let mut soft = Soft::default();
        self.table_lines("modules.softdep", b'\n', &mut |table, _, line| {
            let Some(found) = SoftDependencies::parse(line) else { return Ok(()) };
            if is_same_name(found.module, table.name(at)) {
                for name in found.wanted(SoftTime::Pre) {
                    push(&mut soft.before, table.position(name))?;
                }
                for name in found.wanted(SoftTime::Post) {
                    push(&mut soft.after, table.position(name))?;
                }
            }
            Ok(())
        })?;
        Ok(soft)
    }

    fn is_blacklisted(&self, at: usize) -> bool {
        let name = self.table.name(at);
        cmdline::arguments(self.cmdline)
            .filter(|a| ["modprobe.blacklist", "rd.driver.blacklist", "module_blacklist"].contains(&a.name))
            .flat_map(|argument| argument.value.unwrap_or_default().split(','))
            .any(|listed| is_same_name(listed, name))
    }

    fn refused(&mut self, at: usize, error: Error) -> State {
        let values = [Value::Name(self.table.name(at)), Value::Why(error)];
        self.kernel.say(Level::Warning, "driver {} does not load: {}", &values);
        self.first_error.get_or_insert(error);
        State::Failed
    }

    fn say(&mut self, level: Level, text: &'static str, at: usize) {
        self.kernel.say(level, text, &[Value::Name(self.table.name(at))]);
    }
}

/// Records around a module.
#[derive(Default)]
struct Soft {
    before: Numbers,
    after: Numbers,
}

fn push(numbers: &mut Numbers, position: Option<usize>) -> Result<()> {
    let full = too_many!("dependencies of a kernel module", NEEDS);
    match position.and_then(|at| u8::try_from(at).ok()) {
        Some(at) => numbers.push(at).map_err(|_| full),
        None => Ok(()),
    }
}

fn changed() -> Error {
    malformed!("modules.dep", "changed while it was read", 0)
}

/// The line that begins at `offset`.
fn line_of<'w>(
    host: &mut dyn crate::sys::Dir,
    path: &str,
    offset: u64,
    window: &'w mut [u8],
) -> Result<&'w str> {
    let length = host.read_at(path, offset, window)?;
    let text = window.get(..length).unwrap_or_default();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    core::str::from_utf8(line).map_err(|_| changed())
}

/// `nvme_core.io_timeout=240` of the kernel command line as `io_timeout=240`: the kernel hands such words
/// only to built-in code; for a module the loader must (kmod does too).
fn parameters(line: &str, module: &str) -> Result<heapless::String<{ limits::MODULE_PARAMETERS }>> {
    let full = too_many!("module parameters", limits::MODULE_PARAMETERS);
    let mut text = heapless::String::new();
    for argument in cmdline::arguments(line) {
        let Some((owner, name)) = argument.name.split_once('.') else { continue };
        if !is_same_name(owner, module) {
            continue;
        }
        let blank = if text.is_empty() { "" } else { " " };
        let outcome = match argument.value {
            None => write!(text, "{blank}{name}"),
            Some(value) if value.contains(' ') => write!(text, "{blank}{name}=\"{value}\""),
            Some(value) => write!(text, "{blank}{name}={value}"),
        };
        outcome.map_err(|_| full)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn a_module_gets_its_own_words_of_the_command_line() {
        let line = "ro nvme_core.io_timeout=240 nvme-core.x \"nvme_core.y=a b\" nvme.z=1 nvme_core=5";
        assert_eq!(parameters(line, "nvme_core").unwrap(), "io_timeout=240 x y=\"a b\"");
        assert_eq!(parameters(line, "hv_storvsc").unwrap(), "");
    }
}
