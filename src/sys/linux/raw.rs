//! System calls that rustix keeps private or lacks.
#![expect(unsafe_code, reason = "raw system calls")]

use crate::error::Errno;
use linux_raw_sys::general as nr;

/// Raw system call.
///
/// # Safety
/// As unsafe as the call itself.
pub(super) unsafe fn syscall(number: u32, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the Linux x86-64 convention; rcx and r11 are the only other registers the kernel changes.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as usize => result, in("rdi") arguments[0],
            in("rsi") arguments[1], in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A clock of the kernel, in seconds and nanoseconds. By system call: finding the vDSO costs 3 KB, and we look at
/// the clock a few hundred times.
fn clock(id: u32) -> (i64, u64) {
    let mut now = nr::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec.
    unsafe { syscall(nr::__NR_clock_gettime, [id as usize, (&raw mut now) as usize, 0, 0, 0]) };
    (now.tv_sec, u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// Nanoseconds since the kernel started, sleep not counted.
pub(super) fn monotonic_ns() -> u64 {
    let (seconds, ns) = clock(nr::CLOCK_MONOTONIC);
    u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000_000_000).saturating_add(ns)
}

/// Seconds since 1970.
pub(super) fn wall_s() -> i64 {
    clock(nr::CLOCK_REALTIME).0
}

/// An exclusive lock on all of a file, for as long as the descriptor is open; does not wait.
pub(super) fn lock_all(fd: &rustix::fd::OwnedFd) -> core::result::Result<(), Errno> {
    use rustix::fd::AsRawFd;
    let all = nr::flock {
        l_type: i16::try_from(nr::F_WRLCK).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let fd = usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX);
    // SAFETY: fcntl reads one struct flock, which outlives the call; the descriptor is open.
    let result =
        unsafe { syscall(nr::__NR_fcntl, [fd, nr::F_OFD_SETLK as usize, (&raw const all) as usize, 0, 0]) };
    checked(result).map(|_| ())
}

/// SIGALRM, which ends this process, in so long; never if it asks again before.
pub(super) fn alarm(ms: u64) {
    // struct itimerval: not repeated; seconds and microseconds.
    let once = [0, 0, ms / 1000, ms % 1000 * 1000];
    // SAFETY: setitimer reads 32 bytes, which outlive the call, and writes nothing.
    unsafe { syscall(nr::__NR_setitimer, [nr::ITIMER_REAL as usize, once.as_ptr() as usize, 0, 0, 0]) };
}

/// A raw result as `Result`.
pub(super) fn checked(result: isize) -> core::result::Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(u16::try_from(result.unsigned_abs()).unwrap_or(u16::MAX)))
}

/// Ends the process (rustix keeps exit_group in its unstable `runtime` module).
pub fn exit(code: u8) -> ! {
    loop {
        // SAFETY: exit_group takes an integer and does not return.
        unsafe { syscall(nr::__NR_exit_group, [usize::from(code), 0, 0, 0, 0]) };
    }
}
