//! The real kernel. The only place that names rustix, linux_raw_sys or unsafe.

mod process;
mod raw;
mod system;

pub use process::{Child, Ended, fork, fork_stage, print};
pub use raw::{exit, panicked};
pub use system::LinuxSystem;
