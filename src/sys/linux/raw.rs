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
