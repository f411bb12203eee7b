//! A hostile FAT medium. Input is the text of tests/fixtures/media/*.hex; the sector's signature is made right.
//! Reaches format::fat through format::volume.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::volume::Kind;

fuzz_target!(|data: &[u8]| {
    let mut image = medium::unfold(data);
    if let Some(signature) = image.get_mut(510..512) {
        signature.copy_from_slice(&[0x55, 0xAA]);
    }
    medium::explore(&image, Kind::Fat);
});
