//! authorized_keys: a merge adds what is missing, once, and touches nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::authorized_keys::{KeyLine, fingerprint, has_key, merge};
use preroot::format::sha256::Sha256;
use preroot::format::text::Out;

const FULL: Rule = Rule::new(b"tfuzz\0");

const KEY: &str = "ssh-ed25519 AAAAC3Nz ops";

fuzz_target!(|text: &[u8]| {
    let _ = KeyLine::parse(text).and_then(|key| fingerprint(&key));
    let mut sha = Sha256::new();
    sha.push(text);
    let _ = sha.finish();
    let mut buf = vec![0; text.len() + 64];
    let mut once = Out::new(&FULL, &mut buf);
    merge(text, [KEY].into_iter(), &mut once).unwrap();
    assert!(once.as_bytes().starts_with(text) && has_key(once.as_bytes(), KEY));
    let mut buf = vec![0; text.len() + 64];
    let mut twice = Out::new(&FULL, &mut buf);
    merge(once.as_bytes(), [KEY].into_iter(), &mut twice).unwrap();
    assert_eq!(once.as_bytes(), twice.as_bytes());
});
