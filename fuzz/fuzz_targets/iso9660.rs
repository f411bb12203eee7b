//! A hostile ISO 9660 medium. Input is the text of tests/fixtures/media/*.hex.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::iso9660::Volume;

fuzz_target!(|data: &[u8]| {
    let image = medium::unfold(data);
    let mut device = medium::Memory(&image);
    let mut scratch = [0; 4096];
    if let Ok(volume) = Volume::open(&mut device, &mut scratch)
        && let Ok(file) = volume.find(&mut device, "ovf-env.xml", &mut scratch)
    {
        let _ = file.read(&mut device, file.size_bytes() / 2, &mut scratch);
    }
});
