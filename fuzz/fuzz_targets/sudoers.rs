//! sudoers: after the edit sudoers.d is read; a rule is one line for one user.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::facts::UserName;
use preroot::format::sudoers::{emit, file_name, include_directory, includes_directory};
use preroot::format::text::{Out, lines};

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|text: &[u8]| {
    let mut buf = vec![0; text.len() + 64];
    let mut out = Out::new(&FULL, &mut buf);
    include_directory(text, &mut out).unwrap();
    assert!(includes_directory(out.as_bytes()));
    let Some(user) = core::str::from_utf8(text).ok().and_then(|name| UserName::parse(name).ok()) else {
        return;
    };
    let mut buf = [0; 256];
    let mut out = Out::new(&FULL, &mut buf);
    emit(&user, 1000, false, &mut out).unwrap();
    assert_eq!(lines(out.as_bytes()).count(), 2);
    assert!(!out.as_bytes().windows(5).any(|w| w == b"\nALL "));
    assert!(!file_name(&user).contains('.'));
});
