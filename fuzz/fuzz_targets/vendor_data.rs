//! vendor_data.json: shape, texts and mapping do not depend on where it is cut; a mapping begins and ends once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::format::json::Event;
use preroot::format::vendor_data::{Classifier, Parts, Router, Shape};

#[derive(Default, PartialEq, Debug)]
struct Got {
    texts: Vec<Vec<u8>>,
    depth: i64,
    mappings: usize,
    bytes: Vec<u8>,
}

impl Parts for Got {
    fn text(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        assert!(number <= self.texts.len());
        self.texts.resize(self.texts.len().max(number + 1), Vec::new());
        self.texts[number].extend(bytes);
        Ok(())
    }

    fn mapping(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::ObjectStart | Event::ArrayStart => self.depth += 1,
            Event::ObjectEnd | Event::ArrayEnd => {
                self.depth -= 1;
                self.mappings += usize::from(self.depth == 0);
            }
            Event::KeyPart(bytes) | Event::StringPart(bytes) | Event::NumberPart(bytes) => {
                self.bytes.extend(bytes)
            }
            _ => {}
        }
        assert!(self.depth >= 0);
        Ok(())
    }
}

fn read(document: &[u8], step: usize) -> Option<(Shape, Got)> {
    let mut classifier = Classifier::default();
    document.chunks(step).try_for_each(|chunk| classifier.push(chunk)).ok()?;
    let shape = classifier.finish().ok()?;
    let (mut router, mut got) = (Router::new(shape), Got::default());
    document.chunks(step).try_for_each(|chunk| router.push(chunk, &mut got)).unwrap();
    assert_eq!(router.finish(&mut got).unwrap(), got.texts.len());
    Some((shape, got))
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    let Some((shape, got)) = whole else { return };
    let is_mapping = matches!(shape, Shape::Mapping | Shape::MappingOfKey);
    assert_eq!(got.depth, 0);
    assert!(if is_mapping { got.mappings >= 1 && got.texts.is_empty() } else { got.mappings == 0 });
});
