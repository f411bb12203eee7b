//! Announcements of interfaces: any bytes end, and no more changes come out than headers fit in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::rtnetlink::read;

fuzz_target!(|data: &[u8]| {
    let mut changes = 0;
    read(data, &mut |_| changes += 1);
    assert!(changes <= data.len() / 32);
});
