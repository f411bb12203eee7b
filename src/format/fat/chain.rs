//! Which cluster follows which?

use super::MEDIUM;
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};

/// Clusters are counted from here (fatgen103, "FAT Type Determination").
const FIRST: u32 = 2;

/// How wide an entry of the table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// The file allocation table and what it allocates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(super) width: Width,
    /// First byte of the table.
    pub(super) start_bytes: u64,
    /// First byte of cluster 2.
    pub(super) data_bytes: u64,
    pub(super) cluster_bytes: u32,
    /// How many there are.
    pub(super) clusters: u32,
}

/// A part of the table, read at once.
pub(crate) struct Window {
    at: u64,
    length: usize,
    bytes: [u8; Self::BYTES],
}

impl Window {
    /// A sector, and the rest of an entry that crosses into the next.
    const BYTES: usize = 516;

    pub(crate) const fn new() -> Self {
        Self { at: 0, length: 0, bytes: [0; Self::BYTES] }
    }

    /// The bytes from `at` on.
    fn load(&mut self, device: &mut dyn ReadAt, at: u64) -> Result<&[u8]> {
        let outside = malformed!(MEDIUM, "allocation table past the end of the medium", at);
        let from = at & !511;
        if self.length == 0 || self.at != from {
            let room = device.size_bytes().checked_sub(from).filter(|room| *room > 0).ok_or(outside)?;
            self.length = usize::try_from(room).unwrap_or(usize::MAX).min(Self::BYTES);
            let part = self.bytes.get_mut(..self.length).ok_or(outside)?;
            device.read_at(from, part).inspect_err(|_| self.length = 0)?;
            self.at = from;
        }
        let skip = usize::try_from(at.saturating_sub(from)).ok();
        skip.and_then(|skip| self.bytes.get(skip..self.length)).ok_or(outside)
    }
}

/// A place in a chain of clusters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    table: Table,
    first: u32,
    current: u32,
    /// Brent's: a cluster that was passed some steps ago, moved on at each power of two. Met again, it is a ring.
    mark: u32,
    steps: u32,
    next_mark: u32,
}

impl Chain {
    pub(super) const fn new(table: Table, first: u32) -> Self {
        Self { table, first, current: first, mark: first, steps: 0, next_mark: 1 }
    }

    pub(crate) const fn first_cluster(&self) -> u32 {
        self.first
    }

    /// The same at its start.
    pub(crate) const fn rewound(self) -> Self {
        Self::new(self.table, self.first)
    }

    /// Where on the device the cluster lies, and how long it is.
    pub(crate) fn run(&self) -> Result<(u64, u64)> {
        let outside = malformed!(MEDIUM, "no such cluster", u64::from(self.current));
        let index = self.current.checked_sub(FIRST).filter(|index| *index < self.table.clusters);
        let bytes = u64::from(self.table.cluster_bytes);
        let skip = u64::from(index.ok_or(outside)?).saturating_mul(bytes);
        Ok((self.table.data_bytes.checked_add(skip).ok_or(outside)?, bytes))
    }

    /// Goes on by one cluster; false: that was the last.
    pub(crate) fn advance(&mut self, device: &mut dyn ReadAt, window: &mut Window) -> Result<bool> {
        self.run()?;
        let (next, end) = self.entry(device, window)?;
        if next >= end {
            return Ok(false);
        }
        if next == self.mark {
            return Err(malformed!(MEDIUM, "clusters are a ring", u64::from(next)));
        }
        self.current = next;
        self.steps = self.steps.saturating_add(1);
        if self.steps == self.next_mark {
            (self.mark, self.next_mark) = (next, self.next_mark.saturating_mul(2));
        }
        self.run().map(|_| true)
    }

    /// The entry of the current cluster, and from which number on one is the end.
    fn entry(&self, device: &mut dyn ReadAt, window: &mut Window) -> Result<(u32, u32)> {
        let number = u64::from(self.current);
        let skip = match self.table.width {
            Width::Fat12 => number.saturating_add(number >> 1),
            Width::Fat16 => number.saturating_mul(2),
            Width::Fat32 => number.saturating_mul(4),
        };
        let at = self.table.start_bytes.saturating_add(skip);
        let bytes = window.load(device, at)?;
        let short = || le16(bytes, 0).map(u32::from);
        let entry = match self.table.width {
            Width::Fat12 if self.current & 1 == 1 => short().map(|pair| (pair >> 4, 0xFF8)),
            Width::Fat12 => short().map(|pair| (pair & 0xFFF, 0xFF8)),
            Width::Fat16 => short().map(|entry| (entry, 0xFFF8)),
            // The upper four bits are reserved.
            Width::Fat32 => le32(bytes, 0).map(|entry| (entry & 0x0FFF_FFFF, 0x0FFF_FFF8)),
        };
        entry.ok_or(malformed!(MEDIUM, "allocation table past the end of the medium", at))
    }
}
