//! How is a file of a medium read, wherever the medium's tree is: on a device, or in a directory?

use crate::error::{Errno, Result, Rule};
use crate::format::ReadAt;
use crate::format::file::File;
use crate::format::text::{PathText, join};
use crate::format::volume::{SCRATCH_BYTES, Volume};
use crate::sys::Dir;
use zeroize::Zeroize as _;

/// Files by their path from the root (`a/b`), one at a time.
pub trait Tree {
    /// The file that is read from now on; returns its length in bytes.
    ///
    /// # Errors
    /// `Os(NOENT)` when there is none; what is wrong with the medium.
    fn open(&mut self, path: &str) -> Result<u64>;
    /// Reads from `offset`; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// `Os`.
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize>;
}

/// A file system on a device.
pub struct VolumeTree<'d> {
    device: &'d mut dyn ReadAt,
    volume: &'d Volume,
    file: File,
}

impl<'d> VolumeTree<'d> {
    /// Of a volume that was recognised on this device.
    pub fn new(device: &'d mut dyn ReadAt, volume: &'d Volume) -> Self {
        Self { device, volume, file: File::new() }
    }
}

impl Tree for VolumeTree<'_> {
    #[inline(never)]
    fn open(&mut self, path: &str) -> Result<u64> {
        self.file = self.volume.find(self.device, path, &mut [0; SCRATCH_BYTES])?;
        Ok(self.file.size_bytes())
    }
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.file.read(self.device, offset, buf)
    }
}

/// A directory and what lies below it.
pub struct DirTree<'d> {
    dir: &'d mut dyn Dir,
    base: &'d str,
    path: PathText,
}

impl<'d> DirTree<'d> {
    /// Of `base` below `dir`, without a `/` at either end; "" is all of `dir`.
    pub fn new(dir: &'d mut dyn Dir, base: &'d str) -> Self {
        Self { dir, base, path: PathText::new() }
    }
}

impl Tree for DirTree<'_> {
    fn open(&mut self, path: &str) -> Result<u64> {
        self.path = join(&[self.base, if self.base.is_empty() { "" } else { "/" }, path])?;
        let stat = self.dir.stat(&self.path)?;
        match stat.file_type {
            crate::sys::FileType::File => Ok(stat.size),
            // As on a medium: a link or directory is no file of it.
            _ => Err(os!("find file", Errno::NOENT)),
        }
    }
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.dir.read_at(&self.path, offset, buf)
    }
}

/// Takes the next bytes of a file.
pub type Receive<'r> = &'r mut dyn FnMut(&[u8]) -> Result<()>;

/// Hands a file over in pieces as large as `window`, which is overwritten at the end; returns its length, `None` where
/// there is none. More than `limit` bytes break the rule `full`.
///
/// # Errors
/// As [`Tree`]; what `each` returns.
#[inline(never)]
pub fn stream(
    tree: &mut dyn Tree,
    path: &str,
    (full, limit): (&'static Rule, u64),
    window: &mut [u8],
    each: Receive<'_>,
) -> Result<Option<u64>> {
    let size = match tree.open(path) {
        Ok(size) if size > limit => return Err(full.at(limit)),
        Ok(size) => size,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut offset = 0_u64;
    let outcome = loop {
        let length = match tree.read(offset, window) {
            Ok(0) => break Ok(Some(offset)),
            Ok(length) => length,
            Err(error) => break Err(error),
        };
        // A file that grows while it is read is another one.
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let piece = window.get(..length.min(rest)).unwrap_or_default();
        if piece.is_empty() {
            break Ok(Some(offset));
        }
        if let Err(error) = each(piece) {
            break Err(error);
        }
        offset = offset.saturating_add(piece.len() as u64);
    };
    // Some of what is read is secret.
    window.zeroize();
    outcome
}

#[cfg(test)]
mod tests {
    use super::{DirTree, stream};
    use crate::sys::fake::FakeDir;

    #[test]
    fn a_file_comes_whole_and_a_large_one_not_at_all() {
        let mut dir = FakeDir::default();
        dir.put("medium/a/b", "0123456789").put_dir("medium/c").put_symlink("medium/d", "a/b");
        let mut tree = DirTree::new(&mut dir, "medium");
        let mut got = std::vec::Vec::new();
        let mut window = [7; 3];
        let mut read = |path: &str, limit| {
            got.clear();
            let full = too_many!("test");
            let length = stream(&mut tree, path, (full, limit), &mut window, &mut |bytes| {
                got.extend(bytes);
                Ok(())
            });
            (length.map_err(|error| error.number()), got.clone())
        };
        assert_eq!(read("a/b", 10), (Ok(Some(10)), b"0123456789".to_vec()));
        assert_eq!(read("a/b", 9), (Err(9), std::vec::Vec::new()));
        for missing in ["a/c", "c", "d", "a/b/c"] {
            assert_eq!(read(missing, 9).0, Ok(None), "{missing}");
        }
        assert_eq!(window, [0; 3]);
    }
}
