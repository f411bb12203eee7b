//! Where on a device are the bytes of a file?

use crate::error::Result;
use crate::format::ReadAt;
use crate::format::fat::chain::{Chain, Window};
use crate::limits;

/// A run of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Byte offset on the device; `None` is a hole, which reads as zeros.
    pub start: Option<u64>,
    /// Length in bytes, never 0.
    pub length_bytes: u64,
}

/// A file (or directory) as extents that all lie on the device. Of a file in the clusters of FAT only some are
/// known at a time: the chain is walked as it is read.
#[derive(Clone, Debug, Default)]
pub struct File {
    size_bytes: u64,
    /// Bytes before the first of `extents`.
    passed_bytes: u64,
    extents: heapless::Vec<Extent, { limits::FILE_EXTENTS }>,
    chain: Option<Chain>,
}

impl PartialEq for File {
    /// The same bytes of the device, wherever it has been read.
    fn eq(&self, other: &Self) -> bool {
        let first = |file: &Self| file.chain.map(|chain| chain.first_cluster());
        let has_same_place = match (first(self), first(other)) {
            (None, None) => self.extents == other.extents,
            (mine, theirs) => mine == theirs,
        };
        self.size_bytes == other.size_bytes && has_same_place
    }
}

impl Eq for File {}

impl File {
    /// A file without bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { size_bytes: 0, passed_bytes: 0, extents: heapless::Vec::new(), chain: None }
    }

    /// A file of `size_bytes` in a chain of clusters; as much of it as there is room for is checked now.
    ///
    /// # Errors
    /// `Malformed` when the chain is not one of that length; `Os`.
    pub(crate) fn in_chain(size_bytes: u64, chain: Chain, device: &mut dyn ReadAt) -> Result<Self> {
        let mut file = Self { size_bytes, chain: Some(chain), ..Self::new() };
        file.fill(device)?;
        Ok(file)
    }

    /// Length in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Appends a run of `length_bytes`; one that continues the last is joined to it.
    ///
    /// # Errors
    /// `Malformed` when it does not lie on a device of `device_bytes`, `TooMany` extents.
    pub fn push(&mut self, start: Option<u64>, length_bytes: u64, device_bytes: u64) -> Result<()> {
        if length_bytes == 0 {
            return Ok(());
        }
        let outside = malformed!("file", "extent past the end of the medium", start.unwrap_or(0));
        let size_bytes = self.size_bytes.checked_add(length_bytes).ok_or(outside)?;
        if !self.append(Extent { start, length_bytes }, device_bytes)? {
            return Err(too_many!("extents of a file", limits::FILE_EXTENTS));
        }
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Adds to the extents; false: there is no room.
    fn append(&mut self, extent: Extent, device_bytes: u64) -> Result<bool> {
        let Extent { start, length_bytes } = extent;
        let outside = malformed!("file", "extent past the end of the medium", start.unwrap_or(0));
        if start.is_some_and(|start| start.checked_add(length_bytes).is_none_or(|end| end > device_bytes)) {
            return Err(outside);
        }
        if let Some(last) = self.extents.last_mut() {
            let end = last.start.and_then(|s| s.checked_add(last.length_bytes));
            if end == start && last.start.is_some() == start.is_some() {
                last.length_bytes = last.length_bytes.checked_add(length_bytes).ok_or(outside)?;
                return Ok(true);
            }
        }
        Ok(self.extents.push(extent).is_ok())
    }

    /// Walks the chain as far as there is room for. After an error it begins anew.
    fn fill(&mut self, device: &mut dyn ReadAt) -> Result<()> {
        let filled = self.try_fill(device);
        if filled.is_err() {
            self.rewind();
        }
        filled
    }

    fn rewind(&mut self) {
        self.passed_bytes = 0;
        self.extents.clear();
        self.chain = self.chain.map(Chain::rewound);
    }

    #[inline(never)]
    fn try_fill(&mut self, device: &mut dyn ReadAt) -> Result<()> {
        let Some(mut chain) = self.chain else { return Ok(()) };
        let mut missing =
            self.size_bytes.saturating_sub(self.passed_bytes).saturating_sub(self.known_bytes());
        let mut window = Window::new();
        while missing > 0 {
            let (start, cluster_bytes) = chain.run()?;
            let length_bytes = cluster_bytes.min(missing);
            if !self.append(Extent { start: Some(start), length_bytes }, device.size_bytes())? {
                break;
            }
            missing = missing.saturating_sub(length_bytes);
            if missing > 0 && !chain.advance(device, &mut window)? {
                return Err(malformed!("FAT medium", "file longer than its clusters", start));
            }
        }
        self.chain = Some(chain);
        Ok(())
    }

    fn known_bytes(&self) -> u64 {
        self.extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length_bytes))
    }

    /// Makes the extents known in which `offset` lies; false: there are none.
    fn seek(&mut self, device: &mut dyn ReadAt, offset: u64) -> Result<bool> {
        if offset < self.passed_bytes {
            self.rewind();
            self.fill(device)?;
        }
        // Each turn goes on by one cluster at least: the chain is no ring, and not longer than the file.
        while self.locate(offset).is_none() {
            if offset >= self.size_bytes || self.chain.is_none() {
                return Ok(false);
            }
            self.passed_bytes = self.passed_bytes.saturating_add(self.known_bytes());
            self.extents.clear();
            self.fill(device)?;
        }
        Ok(true)
    }

    /// The device bytes behind `offset`: the rest of the extent it falls into; `None` where that is not known.
    #[must_use]
    pub fn locate(&self, offset: u64) -> Option<Extent> {
        let mut skip = offset.checked_sub(self.passed_bytes)?;
        for extent in &self.extents {
            if let Some(rest) = extent.length_bytes.checked_sub(skip).filter(|rest| *rest > 0) {
                let start = match extent.start {
                    Some(start) => Some(start.checked_add(skip)?),
                    None => None,
                };
                return Some(Extent { start, length_bytes: rest });
            }
            skip = skip.checked_sub(extent.length_bytes)?;
        }
        None
    }

    /// Reads from `offset` into `buf`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// `Os` as the device says; `Malformed` for a chain that ends before the file.
    pub fn read(&mut self, device: &mut dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(at) = offset.checked_add(done as u64) else { break };
            if !self.seek(device, at)? {
                break;
            }
            let Some(from) = self.locate(at) else { break };
            let length = usize::try_from(from.length_bytes).unwrap_or(usize::MAX).min(rest.len());
            let Some(part) = rest.get_mut(..length) else { break };
            match from.start {
                Some(start) => device.read_at(start, part)?,
                None => part.fill(0),
            }
            done = done.saturating_add(length);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, File};
    use crate::error::Kind;
    use crate::limits;
    use crate::sys::fake::FakeDisk;

    #[test]
    fn a_read_crosses_extents_and_holes_and_ends_at_the_end() {
        let mut disk = FakeDisk::new((0..=255).collect());
        let mut file = File::new();
        for (start, length) in [(Some(10), 3), (None, 2), (Some(100), 1), (Some(101), 2)] {
            file.push(start, length, 256).unwrap();
        }
        assert_eq!(file.extents.len(), 3, "neighbours are joined");
        let mut buf = [9; 16];
        assert_eq!(file.read(&mut disk, 0, &mut buf), Ok(8));
        assert_eq!(buf[..9], [10, 11, 12, 0, 0, 100, 101, 102, 9]);
        assert_eq!(file.read(&mut disk, 6, &mut buf[..1]), Ok(1));
        assert_eq!(buf[0], 101);
        for past in [8, 9, u64::MAX] {
            assert_eq!(file.read(&mut disk, past, &mut buf), Ok(0));
        }
        assert_eq!(file.locate(11), None);
        assert_eq!(file.locate(4), Some(Extent { start: None, length_bytes: 1 }));
    }

    #[test]
    fn no_extent_lies_outside_the_device() {
        for (start, length) in [(256, 1), (255, 2), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(File::new().push(Some(start), length, 256).is_err(), "{start} {length}");
        }
        let mut file = File::new();
        file.push(None, u64::MAX, 256).unwrap();
        assert!(file.push(None, 1, 256).is_err(), "the size does not wrap");
    }

    #[test]
    fn one_extent_too_many_is_an_error() {
        let mut file = File::new();
        for i in 0..limits::FILE_EXTENTS as u64 {
            file.push(Some(2 * i), 1, 256).unwrap();
        }
        assert!(matches!(file.push(Some(200), 1, 256), Err(error) if error.is(Kind::TooMany)));
    }
}
