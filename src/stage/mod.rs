//! The stories. The only layer that prints or picks exit codes.

pub mod modules;
pub mod online;
pub mod report;

use crate::cli::{Command, Usage};

/// Runs a command; returns the exit code.
#[must_use]
pub fn run(_command: &Command) -> u8 {
    0
}

/// Explains a usage error; returns exit code 2.
#[must_use]
pub fn usage(_error: Usage) -> u8 {
    2
}
