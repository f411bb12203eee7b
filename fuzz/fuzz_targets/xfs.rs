//! A superblock of xfs, right but for any of its fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::superblock::{Contents, FileSystem, START_BYTES};

fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

fuzz_target!(|input: &[u8]| {
    let mut start = vec![0; START_BYTES];
    fill(&mut start, input);
    start[..4].copy_from_slice(b"XFSB");
    let contents = Contents::parse(&start, &[]);
    let Some(found) = contents.file_system() else { return };
    if found.file_system != FileSystem::Xfs {
        return;
    }
    assert!((512..=65536).contains(&found.block_bytes) && found.block_bytes.is_power_of_two());
    assert!(found.label.len() <= 256 && !found.label.contains(&0));
});
