//! Passwords and salts of any kind give a line that /etc/shadow can hold, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::sha512_crypt::{salt, sha512_crypt};

fuzz_target!(|data: ([u8; 12], &str, &[u8])| {
    let (random, text, password) = data;
    let password = password.get(..288).unwrap_or(password);
    let hash = sha512_crypt(password, &salt(random), Some(1000)).unwrap_or_else(|_| panic!("our own salt"));
    assert!(hash.as_str().starts_with("$6$rounds=1000$") && !hash.as_str().contains([':', '\n']));
    if let Ok(hash) = sha512_crypt(password, text, Some(1000)) {
        assert!(!hash.as_str().contains([':', '\n']));
    }
});
