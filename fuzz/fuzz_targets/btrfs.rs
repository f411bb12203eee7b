//! A superblock of btrfs, right but for any of its fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::superblock::{BTRFS_BYTES, Contents, FileSystem};

fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

fuzz_target!(|input: &[u8]| {
    let mut raw = vec![0; BTRFS_BYTES];
    fill(&mut raw, input);
    raw[0x40..0x48].copy_from_slice(b"_BHRfS_M");
    let contents = Contents::parse(&[], &raw);
    let Some(found) = contents.file_system() else { return };
    if found.file_system != FileSystem::Btrfs {
        return;
    }
    assert!((512..=65536).contains(&found.block_bytes) && found.block_bytes.is_power_of_two());
    assert!(found.label.len() <= 256 && !found.label.contains(&0));
});
