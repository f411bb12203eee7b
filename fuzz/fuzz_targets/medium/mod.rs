//! Media from text, for the targets that read them.
use preroot::error::{Errno, Result, Rule};
use preroot::format::ReadAt;

const READ: &Rule = &Rule::new(b"oread medium\0");

/// The largest image made.
const SIZE: usize = 1 << 20;

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

/// A medium in memory.
pub struct Memory<'i>(pub &'i [u8]);

impl ReadAt for Memory<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = self.0.get(start..).and_then(|bytes| bytes.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(READ.refused(Errno::IO))?);
        Ok(())
    }
}
