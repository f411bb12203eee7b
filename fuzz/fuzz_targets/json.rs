//! JSON of any kind: the outcome does not depend on where the document is cut, and all text is UTF-8.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::format::json::{Event, Sink, Tokenizer};

#[derive(Default, PartialEq, Debug)]
struct Recorder {
    said: Vec<u8>,
    depth: usize,
}

impl Sink for Recorder {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::ObjectStart | Event::ArrayStart => self.depth += 1,
            Event::ObjectEnd | Event::ArrayEnd => self.depth = self.depth.checked_sub(1).unwrap(),
            Event::KeyPart(part) | Event::StringPart(part) | Event::NumberPart(part) => {
                assert!(!part.is_empty());
                self.said.extend(part);
                return Ok(());
            }
            _ => {}
        }
        self.said.extend(format!("{event:?}").bytes());
        Ok(())
    }
}

fn read(document: &[u8], step: usize) -> (Recorder, Result<()>) {
    let (mut tokenizer, mut recorder) = (Tokenizer::new(), Recorder::default());
    let result = document.chunks(step).try_for_each(|chunk| tokenizer.push(chunk, &mut recorder));
    let result = result.and_then(|()| tokenizer.finish(&mut recorder));
    (recorder, result)
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    assert_eq!(whole, read(data, 7));
    if whole.1.is_ok() {
        assert_eq!(whole.0.depth, 0);
        assert!(std::str::from_utf8(&whole.0.said).is_ok());
    }
});
