//! Whether a frame is a router's: any bytes end, and none shorter than one that a router may send is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::router_discovery::is_advertisement;

fuzz_target!(|data: &[u8]| {
    assert!(!is_advertisement(data) || data.len() >= 70);
});
