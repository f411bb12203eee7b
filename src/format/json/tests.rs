//! One table of documents, and: no cut changes anything.

use super::{Event, Sink, Tokenizer};
use crate::error::Result;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

/// Writes the document again: keys and strings in `<>`, so that every event can be seen.
#[derive(Default)]
struct Recorder {
    said: Vec<u8>,
    is_open: bool,
}

impl Recorder {
    fn part(&mut self, part: &[u8]) {
        assert!(!part.is_empty());
        if !self.is_open {
            self.said.push(b'<');
        }
        self.is_open = true;
        self.said.extend(part);
    }

    fn end(&mut self, mark: u8) {
        if !self.is_open {
            self.said.push(b'<');
        }
        self.is_open = false;
        self.said.extend([b'>', mark]);
    }
}

impl Sink for Recorder {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::KeyPart(part) | Event::StringPart(part) | Event::NumberPart(part) => self.part(part),
            Event::Key => self.end(b':'),
            Event::String => self.end(b's'),
            Event::Number => self.end(b'n'),
            Event::ObjectStart => self.said.push(b'{'),
            Event::ObjectEnd => self.said.push(b'}'),
            Event::ArrayStart => self.said.push(b'['),
            Event::ArrayEnd => self.said.push(b']'),
            Event::Bool(value) => self.said.extend(value.to_string().bytes()),
            Event::Null => self.said.extend(b"null"),
        }
        Ok(())
    }
}

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<()>) {
    let (mut tokenizer, mut recorder) = (Tokenizer::new(), Recorder::default());
    for chunk in chunks {
        if let Err(error) = tokenizer.push(chunk, &mut recorder) {
            return (recorder.said, Err(error));
        }
    }
    let result = tokenizer.finish(&mut recorder);
    (recorder.said, result)
}

fn whole(document: &[u8]) -> (Vec<u8>, Result<()>) {
    read([document].into_iter())
}

#[test]
fn values_come_out_as_they_were_meant() {
    for (document, said) in [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        ("\u{feff}{\"a\":1}", "{<a>:<1>n}"),
        ("{\"a\":{\"b\":[1,-0.5e+3,\"x\"]},\"c\":null}", "{<a>:{<b>:[<1>n<-0.5e+3>n<x>s]}<c>:null}"),
        ("[true,false,null]", "[truefalsenull]"),
        ("0", "<0>n"),
        ("[0,10,1E9]", "[<0>n<10>n<1E9>n]"),
        ("\"\"", "<>s"),
        ("{\"\":\"\"}", "{<>:<>s}"),
        (r#""\"\\\/\n\t\r""#, "<\"\\/\n\t\r>s"),
        (r#""\u0041\u00e9\u20ac""#, "<Aé€>s"),
        (r#""\ud83d\ude00 é😀""#, "<😀 é😀>s"),
        (r#""\ud83d""#, "<\u{fffd}>s"),
        (r#""\ud83dx""#, "<\u{fffd}x>s"),
        (r#""\ud83d\n""#, "<\u{fffd}\n>s"),
        (r#""\ud83d\u0041""#, "<\u{fffd}A>s"),
        (r#""\ud83d\ud83d\ude00""#, "<\u{fffd}😀>s"),
        (r#""\ude00""#, "<\u{fffd}>s"),
        (r#"{"\u0061":1}"#, "{<a>:<1>n}"),
    ] {
        assert_eq!(whole(document.as_bytes()), (said.into(), Ok(())), "{document}");
    }
}

#[test]
fn what_is_not_json_is_refused_by_its_rule() {
    for (document, rule) in [
        ("", "document ends early"),
        ("{", "document ends early"),
        ("[1", "document ends early"),
        ("-", "document ends early"),
        ("\"a", "document ends early"),
        ("tru", "document ends early"),
        ("{\"a\":1", "document ends early"),
        ("{} {}", "bytes behind the document"),
        ("1 2", "bytes behind the document"),
        ("{}\0", "bytes behind the document"),
        ("[1,]", "not a value"),
        ("[,1]", "not a value"),
        ("]", "not a value"),
        ("True", "not a value"),
        ("nul!", "not a value"),
        ("'a'", "not a value"),
        (" \u{feff}{}", "not a value"),
        ("<html>", "not a value"),
        ("+1", "not a value"),
        (".5", "not a value"),
        ("{a:1}", "not a key"),
        ("{\"a\":1,}", "not a key"),
        ("{,}", "not a key"),
        ("{\"a\" 1}", "no colon behind a key"),
        ("[1 2]", "neither a comma nor the end behind a value"),
        ("[1}", "neither a comma nor the end behind a value"),
        ("{\"a\":1]", "neither a comma nor the end behind a value"),
        ("[01]", "neither a comma nor the end behind a value"),
        ("[1.]", "malformed number"),
        ("[1e]", "malformed number"),
        ("[-a]", "malformed number"),
        ("[--1]", "malformed number"),
        ("\"\n\"", "control character"),
        ("\"\\x\"", "unknown escape"),
        ("\"\\u00g0\"", "unknown escape"),
    ] {
        let error = whole(document.as_bytes()).1.expect_err(document);
        assert_eq!(error.reason(), rule, "{document}");
    }
    assert_eq!(whole(b"\"\xff\"").1, Err(malformed!("JSON", "not UTF-8", 1)));
    assert_eq!(whole(b"\"\xc3\"").1, Err(malformed!("JSON", "not UTF-8", 2)));
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(whole(deep(32).as_bytes()).1.is_ok());
    assert_eq!(whole(deep(33).as_bytes()).1, Err(too_many!("JSON nesting", 32)));
}

/// Documents that look like JSON, most of them broken somewhere.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "{", "}", "[", "]", ",", ":", "\"", "\"a\":", "\"b\"", "1", "-0.5e3", "0", ".", "e", "true", "null",
        " ", "\\", "\\n", "\\u00e9", "\\ud83d", "\\ude00", "é😀", "x", "\u{feff}", "\u{1}",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ];
    let text = |inner: Vec<Vec<u8>>| [b"[\"".to_vec(), inner.concat(), b"\"]".to_vec()].concat();
    prop_oneof![
        prop::collection::vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(piece, 0..12).prop_map(text),
    ]
}

proptest! {
    #[test]
    fn no_cut_changes_the_outcome(document in document(), cuts in prop::collection::vec(1_usize..9, 1..40)) {
        let mut sizes = cuts.iter().cycle();
        let mut rest = &document[..];
        let mut chunks = vec![];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        prop_assert_eq!(read(chunks.into_iter()), whole(&document));
        prop_assert_eq!(read(document.chunks(1)), whole(&document));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let _ = whole(&bytes);
    }

    #[test]
    fn any_text_comes_back_from_utf_16_escapes(text in any::<String>()) {
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(whole(format!("\"{escaped}\"").as_bytes()), (format!("<{text}>s").into_bytes(), Ok(())));
    }
}
