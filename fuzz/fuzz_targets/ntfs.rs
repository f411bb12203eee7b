//! A hostile NTFS volume. Input is the text of tests/fixtures/media/ntfs-*.hex; its sectors are never torn, or
//! nothing behind the update sequences would ever be reached.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::ntfs::{Found, SCRATCH_BYTES, examine};

fuzz_target!(|data: &[u8]| {
    let mut image = medium::unfold(data);
    // The volume ends where the image does; what counts of the fixtures lies far before.
    let sectors = image.len() as u64 / 512;
    if let Some(field) = image.get_mut(0x28..0x30) {
        field.copy_from_slice(&sectors.to_le_bytes());
    }
    let mark = [1, 0];
    for at in (0..image.len().saturating_sub(4096)).step_by(512) {
        let sectors = match &image[at..at + 4] {
            b"FILE" => 2,
            b"INDX" => 8,
            _ => continue,
        };
        image[at + 4..at + 8].copy_from_slice(&[0x30, 0, sectors as u8 + 1, 0]);
        image[at + 0x30..at + 0x32].copy_from_slice(&mark);
        for end in (1..=sectors).map(|n| at + n * 512) {
            image[end - 2..end].copy_from_slice(&mark);
        }
    }
    let known = ["DATALOSS_WARNING_README.txt", "System Volume Information", "$RECYCLE.BIN"];
    let look = |label: &str, known: &[&str]| {
        examine(&mut medium::Memory::new(&image), label, known, &mut [0; SCRATCH_BYTES])
    };
    let found = look("Temporary Storage", &known);
    // Fewer known names never prove more.
    if look("Temporary Storage", &[]) == Ok(Found::Untouched) {
        assert_eq!(found, Ok(Found::Untouched));
    }
});
