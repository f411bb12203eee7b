//! hosts: after the edit our name resolves and every old line is still there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::hosts::{add_own_name, resolves};
use preroot::format::text::{Out, bare, lines};

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|text: &[u8]| {
    let mut buf = vec![0; text.len() + 256];
    let mut out = Out::new(&FULL, &mut buf);
    add_own_name(text, "vm1.example", "vm1", &mut out).unwrap();
    assert!(resolves(out.as_bytes(), "vm1.example", "vm1"));
    assert!(lines(text).count() < lines(out.as_bytes()).count());
    assert_eq!(lines(text).next().map(bare).is_some(), !text.is_empty());
});
