//! The kernel command line: any text has arguments, and quotes never leak out of a value's ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::cmdline::{arguments, switch, value};

fuzz_target!(|line: &str| {
    for argument in arguments(line) {
        assert!(argument.name.len() + argument.value.unwrap_or_default().len() <= line.len());
    }
    let _ = value(line, "root");
    let _ = switch(line, "rd.preroot");
});
