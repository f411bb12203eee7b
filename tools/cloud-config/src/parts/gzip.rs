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
    let mut out = Vec::new();
    let mut rest = bytes;
    loop {
        rest = member(rest, limit, &mut out)?;
        // Zeros may fill up a block.
        while let Some(after) = rest.strip_prefix(&[0]) {
            rest = after;
        }
        if rest.is_empty() {
            return Ok(out);
        }
    }
}

fn member<'b>(bytes: &'b [u8], limit: usize, out: &mut Vec<u8>) -> Result<&'b [u8], Fault> {
    let body = header(bytes).ok_or(Fault::Broken)?;
    let begin = out.len();
    let rest = inflate(body, limit, out)?;
    let (trailer, rest) = rest.split_at_checked(8).ok_or(Fault::Broken)?;
    let (sum, length) = trailer.split_at(4);
    let is_whole = crc32(&out[begin..]).to_le_bytes() == sum
        && u32::try_from((out.len() - begin) & 0xffff_ffff).is_ok_and(|n| n.to_le_bytes() == length);
    if is_whole { Ok(rest) } else { Err(Fault::Broken) }
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

fn inflate<'b>(bytes: &'b [u8], limit: usize, out: &mut Vec<u8>) -> Result<&'b [u8], Fault> {
    let mut state = Box::<DecompressorOxide>::default();
    let begin = out.len();
    let mut room = (bytes.len() * 4).clamp(4096, 1 << 20).min(limit + 1);
    let (mut taken, mut made) = (0, 0);
    loop {
        out.resize(begin + room, 0);
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, consumed, written) =
            decompress(&mut state, &bytes[taken..], &mut out[begin..], made, flags);
        (taken, made) = (taken + consumed, made + written);
        match status {
            _ if begin + made > limit => return Err(Fault::TooMuch),
            TINFLStatus::Done => {
                out.truncate(begin + made);
                return Ok(&bytes[taken..]);
            }
            TINFLStatus::HasMoreOutput => room *= 2,
            _ => return Err(Fault::Broken),
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
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
