//! What is there to be told about user data, and where in it?

use crate::limits;
use preroot::format::translation::Rule;
use std::fmt;

/// Who brought a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Source {
    /// User data.
    #[default]
    User,
    /// Text N of vendor data, from 0.
    Vendor(u32),
}

impl Source {
    /// As preroot counts: user data are 0.
    pub fn number(self) -> u32 {
        match self {
            Self::User => 0,
            Self::Vendor(n) => n + 1,
        }
    }
}

/// A place in user data: a part, and a line of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Whose.
    pub source: Source,
    /// From 1; 0 for the whole.
    pub part: u32,
}

/// One thing to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What.
    pub rule: Rule,
    /// Where.
    pub origin: Origin,
    /// From 1; 0 for none.
    pub line: u32,
    /// The key at the top that it is about.
    pub key: String,
    /// For a person at `check`: may quote the document, and stays in this process otherwise.
    pub detail: String,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.source {
            Source::User => {}
            Source::Vendor(n) => write!(out, "vendor data {}, ", n + 1)?,
        }
        if self.origin.part > 1 {
            write!(out, "part {}, ", self.origin.part)?;
        }
        if self.line > 0 {
            write!(out, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(self.rule.text())?;
        if self.detail.is_empty() { Ok(()) } else { write!(out, ": {}", self.detail) }
    }
}

/// All that was noted so far.
#[derive(Default, Debug)]
pub struct Notes(pub Vec<Note>);

impl Notes {
    /// Notes something.
    pub fn add(&mut self, rule: Rule, origin: Origin, line: u32, detail: impl Into<String>) {
        self.push(Note { rule, origin, line, key: String::new(), detail: detail.into() });
    }

    /// A note; what comes behind too many is not worth the memory.
    pub fn push(&mut self, note: Note) {
        if self.0.len() < limits::NOTES {
            self.0.push(note);
        }
    }

    /// Something was asked for that is not done.
    pub fn has_fault(&self) -> bool {
        self.0.iter().any(|note| note.rule.is_fault())
    }
}
