//! Superblocks of file systems and containers: any bytes at the start of a device.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::superblock::Contents;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (start, btrfs) = input;
    if let Some(found) = Contents::parse(start, btrfs).file_system() {
        assert!((512..=65536).contains(&found.block_bytes) && found.block_bytes.is_power_of_two());
        assert!(found.label.len() <= 256 && !found.label.contains(&0));
    }
});
