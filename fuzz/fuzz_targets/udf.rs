//! A hostile UDF medium. Input is the text of tests/fixtures/media/*.hex; checksums and CRCs are made right, or
//! nothing behind them would ever be reached. Reaches format::udf through format::volume.
#![no_main]

#[path = "medium/mod.rs"]
mod medium;

use libfuzzer_sys::fuzz_target;
use preroot::format::volume::Kind;

fuzz_target!(|data: &[u8]| {
    let mut image = medium::unfold(data);
    // Most of a medium is zeros, in which no descriptor begins.
    let used = image.chunks(512).enumerate().filter(|(_, part)| **part != [0; 512][..part.len()]);
    let places: Vec<usize> = used.flat_map(|(i, _)| (i * 512..(i + 1) * 512).step_by(4)).collect();
    let end = image.len().saturating_sub(40);
    for at in places.into_iter().filter(|at| *at < end) {
        let is_tag =
            matches!(image[at], 0..=10) && matches!(image[at + 1], 0 | 1) && matches!(image[at + 2], 2 | 3);
        if is_tag && image[at + 3] == 0 {
            seal(&mut image[at..]);
        }
    }
    medium::explore(&image, Kind::Udf);
});

/// Makes CRC and checksum of the descriptor tag at the start of `bytes` right.
fn seal(bytes: &mut [u8]) {
    let covered = usize::from(u16::from_le_bytes([bytes[10], bytes[11]])).min(bytes.len() - 16);
    bytes[10..12].copy_from_slice(&(covered as u16).to_le_bytes());
    let crc = bytes[16..16 + covered].iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc >> 15 == 1 { crc << 1 ^ 0x1021 } else { crc << 1 },
        )
    });
    bytes[8..10].copy_from_slice(&crc.to_le_bytes());
    bytes[4] = 0;
    bytes[4] = bytes[..16].iter().fold(0, |sum, b| sum.wrapping_add(*b));
}
