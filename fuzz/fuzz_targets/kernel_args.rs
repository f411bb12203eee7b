//! Boot loader files: any bytes; what was edited once stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::kernel_args::{Grammar, edit};
use preroot::format::text::Out;

const FULL: Rule = Rule::new(b"mout\0full");

fuzz_target!(|input: (&[u8], u8, bool)| {
    let (text, grammar, waits) = input;
    let grammars = [Grammar::Grub, Grammar::GrubLater, Grammar::Options, Grammar::Append, Grammar::Whole];
    let grammar = grammars[usize::from(grammar) % grammars.len()];
    let (mut once, mut twice) = (vec![0; text.len() * 64 + 4096], vec![0; text.len() * 64 + 4096]);
    let mut out = Out::new(&FULL, &mut once);
    if edit(text, grammar, waits, &mut out).is_ok() {
        let mut again = Out::new(&FULL, &mut twice);
        edit(out.as_bytes(), grammar, waits, &mut again).expect("what we wrote is read");
        assert_eq!(out.as_bytes(), again.as_bytes());
    }
});
