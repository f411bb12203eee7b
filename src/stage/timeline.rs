//! `preroot timeline`: what happened when, and how long did each stage take?
//!
//! The log appends `MICROSECONDS LEVEL STAGE: TEXT` lines to the file `timeline`, microseconds since the
//! kernel's start.

use super::lines::each_line;
use super::outcomes::{Outcomes, Word};
use crate::error::Result;
use crate::format::text::split_once;
use crate::sys::{Dir, Kernel};
use core::fmt::{self, Write};

/// Below /run/preroot.
const FILE: &str = "timeline";
/// Stages told apart.
const STAGES: usize = 16;

/// One line of the file.
pub(super) struct Entry<'a> {
    pub(super) us: u64,
    /// As syslog counts.
    pub(super) level: u8,
    pub(super) stage: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (us, rest) = line.split_once(' ')?;
        let (level, rest) = rest.split_once(' ')?;
        let (stage, text) = split_once(rest, ": ")?;
        Some(Self { us: us.parse().ok()?, level: level.parse().ok()?, stage, text })
    }
}

/// When a stage spoke.
struct Span {
    stage: Word,
    first_us: u64,
    last_us: u64,
}

/// Prints the stages as a table, then every event, the kernel's start first: it is where the clock starts.
///
/// # Errors
/// `NotApplicable` when nothing was recorded in this boot; `Os`.
pub(super) fn run(kernel: &mut Kernel<'_>, window: &mut [u8], out: &mut dyn Write) -> Result<()> {
    let mut spans = heapless::Vec::<Span, STAGES>::new();
    each_entry(kernel.run, window, &mut |entry| note(&mut spans, entry))?;
    let outcomes = Outcomes::read(kernel.run, window)?;
    // Standard output that takes nothing is not our fault.
    let _ = print_table(out, &spans, &outcomes);
    let _ = out.write_str("\n");
    let _ = print_entry(out, &Entry { us: 0, level: 6, stage: "kernel", text: "starts" });
    each_entry(kernel.run, window, &mut |entry| {
        let _ = print_entry(out, entry);
    })
}

/// Calls `each` with every event of this boot so far.
///
/// # Errors
/// `NotApplicable` when there is none; `Os`.
pub(super) fn each_entry(
    run: &mut dyn Dir,
    window: &mut [u8],
    each: &mut dyn FnMut(&Entry<'_>),
) -> Result<()> {
    let outcome = each_line(run, FILE, window, b'\n', &mut |_, line| {
        if let Some(entry) = Entry::parse(line) {
            each(&entry);
        }
        Ok(())
    });
    match outcome {
        Err(error) if error.is_not_found() => Err(not_applicable!("preroot recorded nothing in this boot")),
        outcome => outcome,
    }
}

fn note(spans: &mut heapless::Vec<Span, STAGES>, entry: &Entry<'_>) {
    if let Some(span) = spans.iter_mut().find(|span| span.stage == entry.stage) {
        span.last_us = entry.us;
    } else if let Ok(stage) = Word::try_from(entry.stage) {
        // A stage too many loses its row of the table, not its events.
        let _ = spans.push(Span { stage, first_us: entry.us, last_us: entry.us });
    }
}

/// The file has a stage's words, `status` how long it ran and how it ended; a stage may have only one of them.
fn print_table(out: &mut dyn Write, spans: &[Span], outcomes: &Outcomes) -> fmt::Result {
    writeln!(out, "{:<14} {:>12} {:>12} {:>10}  ended", "stage", "first word", "last word", "took")?;
    for span in spans {
        let known = outcomes.iter().find(|outcome| outcome.stage == span.stage);
        write!(out, "{:<14} {} {}", Shown(&span.stage), Since(span.first_us), Since(span.last_us))?;
        match known {
            Some(outcome) => writeln!(out, " {:>7} ms  {}", outcome.took_ms, outcome.word)?,
            None => writeln!(out, " {:>10}  running, or stopped", "-")?,
        }
    }
    for outcome in outcomes.iter().filter(|outcome| spans.iter().all(|span| span.stage != outcome.stage)) {
        let (stage, took, word) = (&outcome.stage, outcome.took_ms, &outcome.word);
        writeln!(out, "{stage:<14} {:>12} {:>12} {took:>7} ms  {word}", "-", "-")?;
    }
    Ok(())
}

fn print_entry(out: &mut dyn Write, entry: &Entry<'_>) -> fmt::Result {
    let mark = match entry.level {
        0..=3 => "ERROR ",
        4 => "warning ",
        _ => "",
    };
    writeln!(out, "{}  {:<10} {mark}{}", Since(entry.us), Shown(entry.stage), Shown(entry.text))
}

/// Microseconds since the kernel's start, as dmesg prints them, in twelve columns.
struct Since(u64);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:03} s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

/// Text of the file without control characters: it goes to a terminal.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            f.write_char(if c.is_control() { '?' } else { c })?;
        }
        let width = f.width().unwrap_or_default();
        (self.0.chars().count()..width).try_for_each(|_| f.write_char(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Since, run};
    use crate::sys::fake::World;
    use proptest::prelude::{prop_assert, proptest};
    use std::string::{String, ToString};

    #[test]
    fn stages_and_events_are_readable() {
        let mut world = World::new();
        world.run.put("timeline", "1302045 6 modules: 5 modules loaded in 43 ms\n1400000 6 fetch: lease\nnoise\n2000000 4 fetch: no \x1b[2J\n");
        world.run.put("status", "modules=done 43\ngrow=not-applicable 2\n");
        let mut out = String::new();
        run(&mut world.kernel(), &mut [0; 128], &mut out).unwrap();
        let expected = "\
stage            first word    last word       took  ended
modules             1.302 s      1.302 s      43 ms  done
fetch               1.400 s      2.000 s          -  running, or stopped
grow                      -            -       2 ms  not-applicable

     0.000 s  kernel     starts
     1.302 s  modules    5 modules loaded in 43 ms
     1.400 s  fetch      lease
     2.000 s  fetch      warning no ?[2J
";
        assert_eq!(out, expected);
    }

    #[test]
    fn no_record_is_not_applicable() {
        let error = run(&mut World::new().kernel(), &mut [0; 128], &mut String::new()).unwrap_err();
        assert_eq!(error.exit_code(), 76);
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(Since(0).to_string(), "     0.000 s");
        assert_eq!(Since(61_000_999).to_string(), "    61.000 s");
    }

    proptest! {
        #[test]
        fn any_line_is_an_entry_or_not(line in ".*") {
            prop_assert!(Entry::parse(&line).is_none_or(|entry| entry.text.len() <= line.len()));
        }
    }
}
