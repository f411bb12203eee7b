//! The real kernel. The only place that names rustix, linux_raw_sys or unsafe.

mod raw;

pub use raw::{exit, panicked};
