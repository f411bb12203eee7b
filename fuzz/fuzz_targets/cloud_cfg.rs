//! cloud.cfg of an image: any file is read, and what it says are pieces of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::cloud_cfg::{Item, read};
use preroot::format::config::{Config, KEYS};

fuzz_target!(|data: &[u8]| {
    read(data, &mut |line, item| {
        assert!(line > 0);
        if let Item::DefaultUser(name) | Item::Module(_, name) = item {
            assert!(!name.contains('\n'));
        }
    });
    let mut config = Config::new(false);
    config.read_cloud(0x8000, data);
    for (n, _) in KEYS.iter().enumerate() {
        assert!(!config.setting(n).value.contains(char::is_control));
    }
    let _ = (config.cloud_lacks("ntp"), config.cloud_lacks("none"));
});
