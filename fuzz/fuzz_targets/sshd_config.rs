//! sshd_config: a value that was set decides.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::sshd_config::{Deciding, KeysFile, deciding, keys_file, set};
use preroot::format::text::Out;

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|text: &[u8]| {
    let keyword = "PasswordAuthentication";
    if let KeysFile::At(path) = keys_file(text, "ops", "/home/ops") {
        assert!(path.split('/').all(|name| !name.is_empty() && name != ".."));
    }
    let before = deciding(text, keyword);
    let mut buf = vec![0; text.len() + 64];
    let mut out = Out::new(&FULL, &mut buf);
    set(text, keyword, "no", &mut out).unwrap();
    if before != Deciding::DropIn {
        assert_eq!(deciding(out.as_bytes(), keyword), Deciding::Here(b"no"));
    }
});
