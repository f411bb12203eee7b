//! Time and the wish to stop.

use super::raw;
use super::signal::{StopSignal, timespec};
use crate::limits;
use crate::sys::Clock;
use rustix::fs::{AtFlags, CWD};

/// The kernel's clocks. Cancelled by a file, which works in every initrd, or by SIGTERM.
pub struct LinuxClock {
    cancel: heapless::String<{ limits::PATH }>,
    stop: Option<StopSignal>,
}

impl LinuxClock {
    /// SIGTERM asks this process to stop from now on, and no longer ends it by itself.
    #[must_use]
    pub fn new() -> Self {
        Self { cancel: heapless::String::new(), stop: StopSignal::new().ok() }
    }

    /// The existence of this absolute path asks the same.
    pub fn obey(&mut self, cancel: &str) {
        self.cancel = heapless::String::try_from(cancel).unwrap_or_default();
    }
}

impl Default for LinuxClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Microseconds since boot, for a supervisor, which has no clock of its own: a [`LinuxClock`] would take
/// SIGTERM away from it.
#[must_use]
pub fn monotonic_us() -> u64 {
    raw::monotonic_ns() / 1000
}

/// Pauses a supervisor, which SIGTERM ends meanwhile.
pub fn sleep_ms(ms: u64) {
    let _ = rustix::thread::nanosleep(&timespec(ms.saturating_mul(1000)));
}

impl Clock for LinuxClock {
    fn now_us(&mut self) -> u64 {
        monotonic_us()
    }

    fn wall_s(&mut self) -> i64 {
        raw::wall_s()
    }

    fn sleep_ms(&mut self, ms: u64) {
        let us = ms.saturating_mul(1000);
        match &self.stop {
            Some(stop) => _ = stop.waits_for(us),
            None => _ = rustix::thread::nanosleep(&timespec(us)),
        }
    }

    fn watch(&mut self, ms: u64) {
        raw::alarm(ms);
    }

    fn is_cancelled(&mut self) -> bool {
        if self.stop.as_ref().is_some_and(StopSignal::is_set) {
            return true;
        }
        !self.cancel.is_empty() && rustix::fs::statat(CWD, self.cancel.as_str(), AtFlags::empty()).is_ok()
    }
}
