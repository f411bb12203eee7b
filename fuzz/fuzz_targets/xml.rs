//! XML of any kind: the outcome does not depend on where the document is cut, and elements close as they opened.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::format::xml::{Name, Namespace, Sink, Tokenizer};

const KNOWN: &[&str] =
    &["http://schemas.dmtf.org/ovf/environment/1", "http://schemas.microsoft.com/windowsazure"];

#[derive(Default, PartialEq, Debug)]
struct Recorder {
    said: Vec<u8>,
    depth: usize,
}

impl Sink for Recorder {
    fn open(&mut self, name: Name<'_>) -> Result<()> {
        self.depth += 1;
        self.said.push(b'<');
        if let Namespace::Known(uri) = name.namespace {
            self.said.extend(uri.bytes());
        }
        self.said.extend(name.local);
        Ok(())
    }
    fn text(&mut self, chunk: &[u8]) -> Result<()> {
        assert!(self.depth > 0 && !chunk.is_empty());
        self.said.extend(chunk);
        Ok(())
    }
    fn close(&mut self) -> Result<()> {
        self.depth = self.depth.checked_sub(1).unwrap();
        self.said.push(b'>');
        Ok(())
    }
}

fn read(document: &[u8], step: usize) -> (Recorder, Result<()>) {
    let (mut tokenizer, mut recorder) = (Tokenizer::new(KNOWN), Recorder::default());
    let result = document.chunks(step).try_for_each(|chunk| tokenizer.push(chunk, &mut recorder));
    let result = result.and_then(|()| tokenizer.finish());
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
