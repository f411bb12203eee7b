//! The real kernel. The only place that names rustix, linux_raw_sys or unsafe.

mod clock;
mod console;
mod dir;
mod disks;
mod kvp;
mod link;
mod mount;
mod netlink;
mod process;
mod raw;
mod scratch;
mod signal;
mod stream;
mod system;
mod talk;
mod terminal;
mod world;

pub use clock::{LinuxClock, monotonic_us, sleep_ms};
pub use console::Console;
pub use console::panicked;
pub use dir::{LinuxDir, open_or_make};
pub use disks::{LinuxDisks, Node, node};
pub use link::LinuxLinks;
pub use process::{Child, Ended, Stderr, Stdout, fork, fork_stage, outlive_parent, print};
pub use raw::exit;
pub use scratch::{Scratch, take as take_scratch};
pub use signal::StopSignal;
pub use system::LinuxSystem;
pub use terminal::{answer, has_terminal};
pub use world::Linux;

use crate::error::{Errno, Error, Rule};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// Opens a path that is no [`LinuxDir`]'s. One copy of it: rustix makes a C string at each call.
#[inline(never)]
fn open_path(path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, flags, Mode::empty())
}

/// The kernel's answer to what `rule` names. Not inlined: it has 60 callers.
#[inline(never)]
fn refused(rule: &'static Rule, code: rustix::io::Errno) -> Error {
    rule.refused(errno(code))
}

fn errno(code: rustix::io::Errno) -> Errno {
    Errno(u16::try_from(code.raw_os_error()).unwrap_or(u16::MAX))
}
