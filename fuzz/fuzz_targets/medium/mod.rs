//! Media from text, for the targets that read them.
use core::ops::ControlFlow;
use preroot::error::Result;
use preroot::format::ReadAt;
use preroot::format::volume::{self, Kind, Volume};

/// The largest image made.
const SIZE: usize = 1 << 20;
/// A directory of 1 MiB holds 32,768 names, each read some times.
const MOST_READS: u32 = 400_000;

/// `offset bytes` in hexadecimal, the last line is the size; what is no such line is skipped.
pub fn unfold(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let size = text.lines().next_back().and_then(number).unwrap_or(SIZE).min(SIZE);
    let mut image = vec![0; size];
    for (at, bytes) in text.lines().filter_map(|line| line.split_once(' ')) {
        let Some(at) = number(at).filter(|at| *at < SIZE) else { continue };
        for (i, pair) in bytes.as_bytes().chunks(2).enumerate() {
            let value = core::str::from_utf8(pair).ok().and_then(number);
            if let (Some(byte), Some(value)) = (image.get_mut(at + i), value) {
                *byte = value as u8;
            }
        }
    }
    image
}

/// A medium in memory. A reader that does not come to an end is a finding.
pub struct Memory<'i> {
    bytes: &'i [u8],
    reads: u32,
}

impl<'i> Memory<'i> {
    pub fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, reads: 0 }
    }
}

impl ReadAt for Memory<'_> {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads += 1;
        assert!(self.reads < MOST_READS, "the reader does not end");
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = self.bytes.get(start..).and_then(|bytes| bytes.get(..buf.len()));
        buf.copy_from_slice(from.expect("reads stay on the medium"));
        Ok(())
    }
}

/// Opens, lists the root and each directory in it, and reads files at both ends.
pub fn explore(image: &[u8], kind: Kind) {
    let mut device = Memory::new(image);
    let mut scratch = [0; volume::SCRATCH_BYTES];
    let Ok(Some(volume)) = Volume::open_as(kind, &mut device, &mut scratch) else { return };
    let _ = (volume.label().len(), volume.boot_label().len());
    let mut names = list(&volume, &mut device, "");
    for directory in names.clone().iter().take(2) {
        names.extend(list(&volume, &mut device, directory));
    }
    for name in names.iter().take(6) {
        device.reads = 0;
        let _ = volume.stat(&mut device, name, &mut scratch);
        if let Ok(mut file) = volume.find(&mut device, name, &mut scratch) {
            let size = file.size_bytes();
            for offset in [size.saturating_sub(9), size / 2, 0, size] {
                device.reads = 0;
                let _ = file.read(&mut device, offset, &mut scratch);
            }
        }
    }
}

fn list(volume: &Volume, device: &mut Memory<'_>, path: &str) -> Vec<String> {
    let (mut names, mut scratch) = (vec![], [0; volume::SCRATCH_BYTES]);
    device.reads = 0;
    let _ = volume.list(device, path, &mut scratch, &mut |entry| {
        assert!(!entry.name.contains(['/', '\0']) && !matches!(entry.name, "" | "." | ".."));
        names.push(format!("{path}/{}", entry.name));
        Ok(if names.len() < 1000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    names
}
