//! login.defs: any text is read, and a home's mode has permission bits only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::login_defs::LoginDefsRepr;

fuzz_target!(|text: &[u8]| {
    assert!(LoginDefsRepr::parse(text).home_mode <= 0o777);
});
