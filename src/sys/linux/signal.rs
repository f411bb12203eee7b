//! Was this process asked to stop? SIGTERM is blocked and read from a descriptor, so that every wait of
//! ours ends early and what was raised is lowered again.
#![expect(unsafe_code, reason = "signal masks and signalfd have no safe form without libc")]

use super::raw::{checked, syscall};
use crate::error::Result;
use linux_raw_sys::general as nr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bit of SIGTERM in the kernel's signal set.
const TERM: u64 = 1 << (nr::SIGTERM - 1);

/// Becomes readable when SIGTERM came, and stays so: nobody takes the signal off. Any number may exist.
pub struct StopSignal(OwnedFd);

impl StopSignal {
    /// From now on SIGTERM is noticed here instead of ending the process.
    ///
    /// # Errors
    /// `Os`; SIGTERM ends the process then, as ever.
    pub fn new() -> Result<Self> {
        let set = TERM;
        let set = core::ptr::from_ref(&set) as usize;
        let flags = (nr::O_CLOEXEC | nr::O_NONBLOCK) as usize;
        // SAFETY: both calls read eight bytes at `set`, which outlives them; -1 asks for a new descriptor.
        let descriptor = unsafe {
            let descriptor = checked(syscall(nr::__NR_signalfd4, [usize::MAX, set, 8, flags, 0]));
            if descriptor.is_ok() {
                syscall(nr::__NR_rt_sigprocmask, [nr::SIG_BLOCK as usize, set, 0, 8, 0]);
            }
            descriptor
        };
        let failed = |errno| os!("signal descriptor", errno);
        let descriptor = i32::try_from(descriptor.map_err(failed)?).unwrap_or(-1);
        // SAFETY: the kernel made this descriptor for us and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// True once SIGTERM came.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.waits_for(0)
    }

    /// Sleeps for `us` microseconds or until SIGTERM; true when it came.
    #[must_use]
    pub fn waits_for(&self, us: u64) -> bool {
        let mut wanted = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(poll(&mut wanted, Some(&timespec(us))), Ok(1..))
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Microseconds as the kernel wants them.
pub(super) fn timespec(us: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(us % 1_000_000 * 1000).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::StopSignal;
    use crate::sys::linux::process::{Ended, fork_stage};

    #[test]
    fn sigterm_is_noticed_by_every_listener_and_ends_no_process() {
        let code = fork_stage(10_000, &mut || {
            let (Ok(a), Ok(b)) = (StopSignal::new(), StopSignal::new()) else { return 1 };
            if a.is_set() || b.is_set() {
                return 2;
            }
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
            u8::from(!(a.is_set() && b.is_set() && a.waits_for(1_000_000)))
        });
        assert_eq!(code.unwrap(), Ended::Exit(0));
    }
}
