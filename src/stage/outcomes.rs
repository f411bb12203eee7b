//! How did each stage end? The file `status` below /run/preroot: one line per run, `NAME=OUTCOME MILLISECONDS`.

use super::lines::each_line;
use crate::error::Result;
use crate::sys::Dir;

/// Stages told apart; we have ten.
const STAGES: usize = 16;

/// Short words of ours; the file is root's, but what is printed is checked.
pub(super) type Word = heapless::String<16>;

/// The last run of a stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// The stage.
    pub(super) stage: Word,
    /// `done`, `failed`, `stopped`, `needs-network` or `not-applicable`.
    pub(super) word: Word,
    /// How long it took, milliseconds.
    pub(super) took_ms: u64,
}

/// The last run of each stage, in the order of their first.
#[derive(Default)]
pub(super) struct Outcomes(heapless::Vec<Outcome, STAGES>);

impl Outcomes {
    /// Reads them; none where there is no file. Lines of another shape are skipped.
    ///
    /// # Errors
    /// `Os`.
    pub(super) fn read(run: &mut dyn Dir, window: &mut [u8]) -> Result<Self> {
        let mut all = Self::default();
        let outcome = each_line(run, super::STATUS, window, b'\n', &mut |_, line| {
            if let Some(outcome) = parse(line) {
                all.note(outcome);
            }
            Ok(())
        });
        match outcome {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(all),
        }
    }

    fn note(&mut self, outcome: Outcome) {
        match self.0.iter_mut().find(|known| known.stage == outcome.stage) {
            // A run that had nothing to do does not hide one that did it.
            Some(_) if outcome.word == "not-applicable" => {}
            Some(known) => *known = outcome,
            // A seventeenth stage would be a word that is not ours.
            None => _ = self.0.push(outcome),
        }
    }

    /// Whether the last run of `stage` ended with `word`.
    pub(super) fn ended(&self, stage: &str, word: &str) -> bool {
        self.iter().any(|outcome| outcome.stage == stage && outcome.word == word)
    }

    /// Whether `stage` has ended, however.
    pub(super) fn has_ended(&self, stage: &str) -> bool {
        self.iter().any(|outcome| outcome.stage == stage)
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Outcome> {
        self.0.iter()
    }
}

fn parse(line: &str) -> Option<Outcome> {
    let (stage, rest) = line.split_once('=')?;
    let (word, took_ms) = rest.split_once(' ')?;
    Some(Outcome { stage: plain(stage)?, word: plain(word)?, took_ms: took_ms.parse().ok()? })
}

fn plain(text: &str) -> Option<Word> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_plain.then(|| Word::try_from(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::Outcomes;
    use crate::sys::fake::World;

    #[test]
    fn the_last_run_that_did_something_counts() {
        let mut world = World::new();
        let text = "fetch=failed 10\nreport=not-applicable 1\nreport=done 7\nreport=not-applicable 2\nbad line\n\x1b=done 1\n";
        world.run.put("status", text);
        let all = Outcomes::read(&mut world.run, &mut [0; 64]).unwrap();
        assert!(all.ended("report", "done") && !all.ended("report", "not-applicable"));
        assert_eq!(all.iter().count(), 2);
        assert_eq!(Outcomes::read(&mut World::new().run, &mut [0; 64]).unwrap().iter().count(), 0);
    }
}
