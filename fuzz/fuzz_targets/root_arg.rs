//! root= on the kernel command line: a device name that comes out cannot leave /sys/class/block.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::root_arg::{RootArg, is_device_name, parse};

fuzz_target!(|line: &str| {
    if let Ok(Some(RootArg::Device(name))) = parse(line) {
        assert!(is_device_name(&name) && !name.contains('/') && name != "..");
    }
});
