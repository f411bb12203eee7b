//! What is inside of gzip (RFC 1952)? All members, one behind the other, as Python's gzip reads them.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Why there is nothing to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not gzip, or broken.
    Broken,
    /// More than the limit.
    TooMuch,
}

/// True where the magic is.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Decompresses, to `limit` bytes at most.
///
/// # Errors
/// [`Fault`].
pub fn decompress_all(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Output { bytes: Vec::new(), made: 0, limit, state: Box::default() };
    let mut rest = bytes;
    loop {
        rest = out.member(rest)?;
        // Zeros may fill up a block.
        while let Some(after) = rest.strip_prefix(&[0]) {
            rest = after;
        }
        if rest.is_empty() {
            out.bytes.truncate(out.made);
            return Ok(out.bytes);
        }
    }
}

/// What came out so far, with room behind it: members may be many and small.
struct Output {
    bytes: Vec<u8>,
    made: usize,
    limit: usize,
    state: Box<DecompressorOxide>,
}

impl Output {
    fn member<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        let body = header(bytes).ok_or(Fault::Broken)?;
        let begin = self.made;
        let rest = self.inflate(body)?;
        let (trailer, rest) = rest.split_at_checked(8).ok_or(Fault::Broken)?;
        let (sum, length) = trailer.split_at(4);
        let is_whole = crc32(&self.bytes[begin..self.made]).to_le_bytes() == sum
            && u32::try_from((self.made - begin) & 0xffff_ffff).is_ok_and(|n| n.to_le_bytes() == length);
        if is_whole { Ok(rest) } else { Err(Fault::Broken) }
    }

    fn inflate<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Fault> {
        self.state.init();
        let (begin, mut taken) = (self.made, 0);
        loop {
            if self.bytes.len() == self.made {
                // One more than the limit, to see that there is more.
                self.bytes.resize((self.made * 2).clamp(4096, (self.limit + 1).max(4096)), 0);
            }
            let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let (out, at) = (&mut self.bytes[begin..], self.made - begin);
            let (status, consumed, written) = decompress(&mut self.state, &bytes[taken..], out, at, flags);
            (taken, self.made) = (taken + consumed, self.made + written);
            match status {
                _ if self.made > self.limit => return Err(Fault::TooMuch),
                TINFLStatus::Done => return Ok(&bytes[taken..]),
                TINFLStatus::HasMoreOutput => {}
                _ => return Err(Fault::Broken),
            }
        }
    }
}

fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = bytes.split_at_checked(10)?;
    let flags = head[3];
    if !is_gzip(head) || head[2] != 8 || flags & 0xe0 != 0 {
        return None;
    }
    if flags & 4 != 0 {
        let (length, after) = rest.split_at_checked(2)?;
        rest = after.get(usize::from(u16::from_le_bytes([length[0], length[1]]))..)?;
    }
    for bit in [8, 16] {
        if flags & bit != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// Of each byte.
const SUMS: [u32; 256] = {
    let mut sums = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        sums[byte] = sum;
        byte += 1;
    }
    sums
};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| sum >> 8 ^ SUMS[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::{Fault, decompress_all};

    /// `printf 'hi\n' | gzip -n`.
    const HI: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xc8\xe4\x02\0\x7a\x7a\x6f\xed\x03\0\0\0";

    #[test]
    fn members_are_read_one_behind_the_other() {
        assert_eq!(decompress_all(HI, 100).unwrap(), b"hi\n");
        assert_eq!(decompress_all(&[HI, HI, &[0, 0]].concat(), 100).unwrap(), b"hi\nhi\n");
    }

    #[test]
    fn what_is_cut_or_too_much_is_refused() {
        for cut in 0..HI.len() {
            assert_eq!(decompress_all(&HI[..cut], 100), Err(Fault::Broken), "{cut}");
        }
        assert_eq!(decompress_all(HI, 2), Err(Fault::TooMuch));
        let mut other = HI.to_vec();
        other[17] ^= 1;
        assert_eq!(decompress_all(&other, 100), Err(Fault::Broken));
    }
}
