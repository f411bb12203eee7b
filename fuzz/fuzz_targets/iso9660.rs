//! A hostile ISO 9660 or bridge medium, and whatever claims to be one. Input is the text of
//! tests/fixtures/media/*.hex. Reaches format::iso9660, format::bytes and format::file through format::volume.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::volume::{self, Kind};

fuzz_target!(|data: &[u8]| {
    let image = medium::unfold(data);
    medium::explore(&image, Kind::Iso9660);
    let mut scratch = [0; volume::SCRATCH_BYTES];
    let _ = volume::find_file(&mut medium::Memory::new(&image), "a/b", &mut scratch);
});
