//! An in-memory world for tests: it can fail or lose power at operation n.

use super::Log;
use crate::event::Event;
use std::string::String;
use std::vec::Vec;

/// Keeps what was said.
#[derive(Default)]
pub struct FakeLog {
    /// One line per event: `grow: text`.
    pub lines: Vec<String>,
}

impl Log for FakeLog {
    fn event(&mut self, event: &Event<'_>) {
        self.lines.push(std::format!("{}: {}", event.stage, event));
    }
}
