//! Is a person at the terminal, and what do they answer?
#![expect(unsafe_code, reason = "borrowing descriptors 0 and 1, and an ioctl")]

use linux_raw_sys::ioctl::TCGETS;
use rustix::fd::BorrowedFd;
use rustix::ioctl::{Getter, ioctl};

/// True when somebody reads standard output as it comes.
#[must_use]
pub fn has_terminal() -> bool {
    // SAFETY: descriptor 1 is never closed by us; if the caller closed it, the call below fails.
    is_terminal(unsafe { rustix::stdio::stdout() })
}

fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: TCGETS writes a `struct termios`, 36 bytes.
    unsafe { ioctl(fd, Getter::<{ TCGETS }, [u32; 16]>::new()) }.is_ok()
}

/// Waits for a line on standard input; true when it begins with `y`, as waagent takes it. `None` where nobody can
/// answer: standard input is no terminal.
#[must_use]
pub fn answer() -> Option<bool> {
    // SAFETY: descriptor 0 is never closed by us; if the caller closed it, the calls below fail.
    let stdin: BorrowedFd<'static> = unsafe { rustix::stdio::stdin() };
    is_terminal(stdin).then_some(())?;
    let mut line = [0; 256];
    let length = rustix::io::read(stdin, &mut line).ok()?;
    Some(matches!(line.get(..length)?.first(), Some(b'y' | b'Y')))
}
