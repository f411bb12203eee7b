//! passwd and its kin: an edit keeps every other line, whatever the file holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::passwd::{self, IdRange, UserRepr};
use preroot::format::text::{Out, lines};

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|text: &[u8]| {
    let range = IdRange { min: 1000, max: 60_000 };
    if let Some(id) = passwd::free_id(text, range, None) {
        assert!((range.min..=range.max).contains(&id));
    }
    if let Some(line) = passwd::find(text, "root") {
        let _ = UserRepr::parse(line);
    }
    let mut buf = vec![0; text.len() + 256];
    let mut out = Out::new(&FULL, &mut buf);
    passwd::add(text, &[b"preroot", b"x"], &mut out).unwrap();
    assert!(passwd::find(out.as_bytes(), "preroot").is_some());
    let mut buf = vec![0; text.len() + 256];
    let mut out = Out::new(&FULL, &mut buf);
    passwd::set_fields(text, "root", &[(passwd::PASSWORD, b"!")], &mut out).unwrap();
    assert_eq!(lines(out.as_bytes()).count(), lines(text).count());
    let mut buf = vec![0; text.len() + 256];
    let mut out = Out::new(&FULL, &mut buf);
    passwd::add_member(text, "sudo", "ops", &mut out).unwrap();
    if let Some(line) = passwd::find(out.as_bytes(), "sudo") {
        assert!(line.has_member("ops"));
    }
});
