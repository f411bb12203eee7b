//! What does the host learn through Hyper-V's data exchange, and who answers it when?
//!
//! The host pulls: told is what it can read. In the initrd the records are in memory, and [`serve`] answers for them as
//! soon as there are any; a boot in which nothing goes wrong does not touch the device. [`hand_over`] ends that before
//! switch-root and moves the records to where the distribution's hv_kvp_daemon looks.

mod serve;

pub(super) use serve::run;

use super::beside;
use super::identity;
use super::timeline::each_entry;
use crate::cli::{Command, Verb};
use crate::error::{Errno, Result};
use crate::event::{Level, Value};
use crate::facts::InstanceId;
use crate::format::kvp::{GUEST, POOLS, VALUE_LIMIT};
use crate::format::text::{digits, join};
use crate::limits;
use crate::machine::Platform;
use crate::report::kvp::{self, KEY};
use crate::report::pool::Pools;
use crate::sys::{Dir, Kernel, Owner};
use core::fmt::Write;

/// Below /run/preroot: whoever answers the host in the initrd shall end.
const STOP: &str = "kvp.stop";
/// Below /run/preroot: somebody in the initrd answers the host, or is about to.
const OPEN: &str = "kvp.open";
/// What happened, cut into values; more of them than these hold only warnings.
const SLICES: u8 = 8;
/// Below /run/preroot: what an earlier boot left in the root's pool is gone.
const FORGOTTEN: &str = "kvp.forgotten";
/// The host waits meanwhile.
const STOP_POLL_MS: u64 = 2;

/// Where records go.
pub(super) struct To<'t> {
    /// Memory: the initrd's records and the timeline.
    pub run: &'t mut dyn Dir,
    /// The root, where the distribution's daemon finds them; `None` in the initrd.
    pub root: Option<&'t mut dyn Dir>,
}

impl To<'_> {
    fn pools(&mut self) -> Pools<'_> {
        match &mut self.root {
            Some(root) => Pools::of_root(*root),
            None => Pools::in_memory(self.run),
        }
    }

    /// Has the host read how provisioning went, and what happened before. `window` is for reading that.
    ///
    /// # Errors
    /// `Os`, `Deadline` (a lock), `TooMany`.
    pub(super) fn tell(&mut self, report: &str, id: Option<&InstanceId>, window: &mut [u8]) -> Result<()> {
        kvp::publish(&mut self.pools(), KEY, report)?;
        self.tell_events(id, window)
    }

    /// Has the host read what happened so far: `MILLISECONDS LEVEL STAGE: TEXT` lines.
    ///
    /// # Errors
    /// As [`Self::tell`].
    pub(super) fn tell_events(&mut self, id: Option<&InstanceId>, window: &mut [u8]) -> Result<()> {
        let mut text = kvp::Value::new();
        let levels = [Level::Info, Level::Warning];
        let fits = |level: &Level| slice(self.run, window, *level, u8::MAX, &mut text) <= SLICES;
        let level = levels.into_iter().find(fits).unwrap_or(Level::Error);
        for number in 0..SLICES {
            text.clear();
            slice(self.run, window, level, number, &mut text);
            let id = id.map_or("", InstanceId::as_str);
            let key = join(&[kvp::EVENTS, "|", id, "|timeline|", digits(number.into(), &mut [0; 20])])?;
            let mut pools = self.pools();
            match text.is_empty() {
                true => _ = pools.delete(GUEST, key.as_bytes())?,
                false => kvp::publish(&mut pools, &key, &text)?,
            }
        }
        Ok(())
    }
}

/// A stage of the initrd did not do what it was to: the host may read so, whatever comes of it.
pub(super) fn tell_trouble(kernel: &mut Kernel<'_>, bytes: &mut [u8], command: &Command) {
    let is_initrds = matches!(
        command.verb,
        Verb::Modules | Verb::FetchOffline | Verb::FetchOnline | Verb::Grow | Verb::Persist | Verb::Kvp
    );
    let machine = identity::observe(kernel);
    if !is_initrds || command.dry_run || !machine.platform.is_some_and(Platform::wants_report) {
        return;
    }
    let mut to = To { run: kernel.run, root: None };
    if let Err(error) = to.tell_events(machine.vm_id.as_ref(), bytes) {
        kernel.say(Level::Warning, "no KVP record for the host: {}", &[Value::Why(error)]);
    }
}

/// Lines of the timeline down to `level`, packed into values: number `wanted` of them into `text`; says how many there
/// are.
fn slice(run: &mut dyn Dir, window: &mut [u8], level: Level, wanted: u8, text: &mut kvp::Value) -> u8 {
    let (mut number, mut used) = (0u8, 0);
    // No timeline: nothing happened.
    let _ = each_entry(run, window, &mut |entry| {
        let mut line = heapless::String::<{ VALUE_LIMIT / 2 }>::new();
        let said = writeln!(line, "{} {} {}: {}", entry.us / 1000, entry.level, entry.stage, entry.text);
        if entry.level > level as u8 || said.is_err() {
            return;
        }
        if used + line.len() > VALUE_LIMIT {
            (number, used) = (number.saturating_add(1), 0);
        }
        used += line.len();
        if number == wanted {
            let _ = text.push_str(&line);
        }
    });
    number.saturating_add(1)
}

/// Ends the answering in the initrd: afterwards nobody there has the device, and no record changes any more.
pub(super) fn stop(kernel: &mut Kernel<'_>) {
    let _ = kernel.run.create_unsynced(STOP, Owner::root(0o644), b"");
    if has_ended(kernel) || beside::end(kernel, beside::KVP) && has_ended(kernel) {
        return;
    }
    kernel.say(
        Level::Warning,
        "the data exchange of the initrd has not ended after {}",
        &[Value::Millis(limits::STOP_MS)],
    );
}

fn has_ended(kernel: &mut Kernel<'_>) -> bool {
    for _ in 0..limits::STOP_MS / STOP_POLL_MS {
        if kernel.run.stat(OPEN).is_err() || kernel.clock.is_cancelled() {
            return true;
        }
        kernel.clock.sleep_ms(STOP_POLL_MS);
    }
    false
}

/// Whoever answered the host in the initrd is dead.
pub(super) fn note_lost(kernel: &mut Kernel<'_>) {
    let _ = kernel.run.remove(OPEN);
}

/// The same from the real root, where an initrd without systemd may have left it behind: nothing but `persist` ends it there,
/// and that may have died, or never been run (a root by network).
pub(super) fn end_early(kernel: &mut Kernel<'_>) {
    if kernel.run.stat(STOP).is_err() {
        stop(kernel);
    }
}

/// True while memory has records that the root has not.
pub(super) fn has_records(run: &mut dyn Dir) -> bool {
    (0..POOLS).any(|pool| Pools::in_memory(run).has(pool))
}

/// Moves what the initrd's memory has to the root, where a pool from before this boot is started anew.
///
/// # Errors
/// `Os`, `Deadline` (a lock), `TooMany`.
pub(super) fn hand_over(kernel: &mut Kernel<'_>) -> Result<()> {
    forget_old(kernel)?;
    Pools::of_root(kernel.root).take_over(&mut Pools::in_memory(kernel.run))
}

/// Drops the guest's records of an earlier boot.
///
/// # Errors
/// As [`hand_over`].
fn forget_old(kernel: &mut Kernel<'_>) -> Result<()> {
    // Once: the clock may be set meanwhile, and what is there by then is of this boot.
    match kernel.run.create_unsynced(FORGOTTEN, Owner::root(0o644), b"") {
        Err(error) if error.errno() == Some(Errno::EXIST) => return Ok(()),
        _ => {}
    }
    let since_boot_s = i64::try_from(kernel.clock.now_us() / 1_000_000).unwrap_or_default();
    let boot_s = kernel.clock.wall_s().saturating_sub(since_boot_s);
    Pools::of_root(kernel.root).forget_before(GUEST, boot_s)
}

#[cfg(test)]
pub(super) mod tests;
