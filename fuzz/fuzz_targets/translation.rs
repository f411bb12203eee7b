//! Frames of the translator: any pieces say the same, and nothing counts without its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::format::translation::{Note, Reader, Sink, Wanted, is_url};

#[derive(Default, PartialEq, Debug)]
struct Kept(Vec<u8>, Vec<Note>);

impl Sink for Kept {
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        assert!(name.len() < 96);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn note(&mut self, note: Note) {
        assert!(!note.rule.text().is_empty());
        self.1.push(note);
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut whole, mut parts) = (Kept::default(), Kept::default());
    if let Some(wanted) = Wanted::parse(data) {
        assert!(is_url(wanted.url.as_bytes()) && data.ends_with(wanted.url.as_bytes()));
    }
    let mut first = Reader::default();
    let outcome = first.push(data, &mut whole).is_ok();
    let mut second = Reader::default();
    let step = usize::from(data.first().copied().unwrap_or_default()) % 7 + 1;
    let stepped = data.chunks(step).try_for_each(|piece| second.push(piece, &mut parts)).is_ok();
    assert_eq!((outcome, &whole), (stepped, &parts));
    assert!(!outcome || first.is_whole() == second.is_whole());
});
