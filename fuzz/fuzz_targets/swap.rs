//! Sizes of swap: any text, any machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::swap::{size_bytes, suggested_bytes};

fuzz_target!(|input: (&str, u64, u64)| {
    let (text, memory, free) = input;
    let most = size_bytes(text);
    assert!(suggested_bytes(memory, Some(free), most) <= most.unwrap_or(free).min(free));
});
