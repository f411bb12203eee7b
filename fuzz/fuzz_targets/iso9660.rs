//! A hostile ISO 9660 or bridge medium, and whatever claims to be one. Input is the text of
//! tests/fixtures/media/*.hex. Reaches format::bytes and format::file through the readers.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::{iso9660, volume};

fuzz_target!(|data: &[u8]| {
    let image = medium::unfold(data);
    let mut device = medium::Memory(&image);
    let mut scratch = [0; volume::SCRATCH_BYTES];
    if let Ok(volume) = iso9660::Volume::open(&mut device, &mut scratch)
        && let Ok(file) = volume.find(&mut device, "ovf-env.xml", &mut scratch)
    {
        let _ = file.read(&mut device, file.size_bytes() / 2, &mut scratch);
    }
    let _ = volume::find_file(&mut device, "a/b", &mut scratch);
});
