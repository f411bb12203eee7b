//! preroot.conf and waagent.conf: any bytes are read, and every setting stays a value of its key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::config::Config;

fuzz_target!(|text: &[u8]| {
    for is_waagents in [false, true] {
        let mut config = Config::new(is_waagents);
        let mut faults = 0;
        config.read(1, text, &mut |place, _| {
            assert!(place.line > 0);
            faults += 1;
        });
        assert!(!is_waagents || faults == 0);
        assert!(config.resource_disk_mount_point().starts_with('/'));
    }
});
