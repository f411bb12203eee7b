//! Which file system (or container) begins here, with which UUID, label and size?
//!
//! Sources: ext4 `Documentation/filesystems/ext4/super.rst`, xfs `fs/xfs/libxfs/xfs_format.h` (struct
//! xfs_dsb), btrfs `include/uapi/linux/btrfs_tree.h` (struct btrfs_super_block), LUKS2 on-disk format 2.0,
//! LVM2 `lib/format_text/layout.h` (struct label_header), md `include/uapi/linux/raid/md_p.h`.

use super::field::{be32, be64, le16, le32, le64};
use super::guid::Guid;

/// Bytes at offset 0 that [`Contents::parse`] looks at. md 1.2 lies at 4096.
pub const START_BYTES: usize = 4096 + 64;
/// Where btrfs keeps its superblock.
pub const BTRFS_OFFSET: u64 = 64 * 1024;
/// Bytes there that are looked at.
pub const BTRFS_BYTES: usize = 1024;

/// A file system whose UUID and label `root=` may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl FileSystem {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// What a superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock<'a> {
    /// Which file system.
    pub file_system: FileSystem,
    /// Its identity.
    pub uuid: Guid,
    /// Its label, without padding; any bytes.
    pub label: &'a [u8],
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// Blocks that its features allow it to have. ext4 without `64bit` ends at 2^32, with `sparse_super2` the kernel
    /// grows none (fs/ext4/ioctl.c, ext4_ioctl_group_add and its kin).
    pub most_blocks: u64,
    /// Devices it is on (btrfs).
    pub devices: u64,
    /// It recorded an error and wants fsck (ext4: EXT4_ERROR_FS, with which it refuses to grow).
    pub has_errors: bool,
}

/// What begins at the start of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents<'a> {
    /// A file system.
    FileSystem(Superblock<'a>),
    /// An encrypted container.
    Luks,
    /// An LVM physical volume. (The size in its label is what pvcreate saw, whatever pvresize did since.)
    Lvm,
    /// A member of an md array (superblock 1.1 or 1.2, which lie at the start; for the others see [`raid_places`]).
    Raid,
    /// Anything else.
    Unknown,
}

impl<'a> Contents<'a> {
    /// `start` is what lies at offset 0 ([`START_BYTES`]), `btrfs` what lies at [`BTRFS_OFFSET`]
    /// ([`BTRFS_BYTES`]); either may be short or empty on small devices.
    #[must_use]
    pub fn parse(start: &'a [u8], btrfs: &'a [u8]) -> Self {
        if start.starts_with(b"LUKS\xba\xbe") {
            return Self::Luks;
        }
        if is_lvm(start) {
            return Self::Lvm;
        }
        if is_md(start) || start.get(4096..).is_some_and(is_md) {
            return Self::Raid;
        }
        let found = ext4(start).or_else(|| xfs(start)).or_else(|| self::btrfs(btrfs));
        found.map_or(Self::Unknown, Self::FileSystem)
    }

    /// The file system, if it is one.
    #[must_use]
    pub fn file_system(&self) -> Option<&Superblock<'a>> {
        match self {
            Self::FileSystem(superblock) => Some(superblock),
            _ => None,
        }
    }
}

/// True where a superblock of md begins.
#[must_use]
pub fn is_md(raw: &[u8]) -> bool {
    le32(raw, 0) == Some(0xA92B_4EFC)
}

/// Bytes at each of [`raid_places`] that [`is_raid`] looks at.
pub const RAID_BYTES: usize = 512;

/// Where a member of `bytes` bytes has what makes it one, if that lies at its end: md 0.90 (`MD_NEW_SIZE_SECTORS`) and 1.0
/// (`super_1_load` in drivers/md/md.c), firmware RAID of Intel (`MPB_SECTOR_CNT` in mdadm's super-intel.c) and of the SNIA
/// (DDF 2.0, 5.3). What such a member holds shows at its start as if it were no member.
#[must_use]
pub fn raid_places(bytes: u64) -> [Option<u64>; 4] {
    const RESERVED: u64 = 64 << 10;
    let rounded = |bytes: u64, unit: u64| bytes & !unit.saturating_sub(1);
    let sectors = |count: u64| rounded(bytes, 512).checked_sub(count.saturating_mul(512));
    [
        rounded(bytes, RESERVED).checked_sub(RESERVED),
        sectors(16).map(|at| rounded(at, 4096)),
        sectors(2),
        sectors(1),
    ]
}

/// True for what may lie at one of [`raid_places`].
#[must_use]
pub fn is_raid(raw: &[u8]) -> bool {
    is_md(raw) || raw.starts_with(b"Intel Raid ISM Cfg Sig. ") || raw.starts_with(&[0xDE, 0x11, 0xDE, 0x11])
}

/// The label is in one of the first four sectors.
fn is_lvm(start: &[u8]) -> bool {
    start.chunks_exact(512).take(4).any(|sector| {
        sector.starts_with(b"LABELONE") && sector.get(24..32).is_some_and(|kind| kind == b"LVM2 001")
    })
}

fn text(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    let field = bytes.get(at..)?.get(..len)?;
    field.split(|byte| *byte == 0).next()
}

fn uuid(bytes: &[u8], at: usize) -> Option<Guid> {
    bytes.get(at..)?.first_chunk().map(|raw| Guid::from_text_order(*raw))
}

fn ext4(start: &[u8]) -> Option<Superblock<'_>> {
    const INCOMPAT_64BIT: u32 = 0x80;
    const COMPAT_SPARSE_SUPER2: u32 = 0x200;
    const ERROR_FS: u16 = 2;
    let raw = start.get(1024..2048)?;
    if le16(raw, 0x38)? != 0xEF53 {
        return None;
    }
    // s_log_block_size: 1 KiB to 64 KiB.
    let block_bytes = 1024_u32.checked_shl(le32(raw, 0x18)?).filter(|size| (1024..=65536).contains(size))?;
    let is_64bit = le32(raw, 0x60)? & INCOMPAT_64BIT != 0;
    let high = if is_64bit { le32(raw, 0x150)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(le32(raw, 4)?);
    let most_blocks = match le32(raw, 0x5C)? & COMPAT_SPARSE_SUPER2 {
        0 if is_64bit => u64::MAX,
        0 => u64::from(u32::MAX),
        _ => blocks,
    };
    Some(Superblock {
        file_system: FileSystem::Ext4,
        uuid: uuid(raw, 0x68)?,
        label: text(raw, 0x78, 16)?,
        block_bytes,
        blocks,
        most_blocks,
        devices: 1,
        has_errors: le16(raw, 0x3A)? & ERROR_FS != 0,
    })
}

fn xfs(start: &[u8]) -> Option<Superblock<'_>> {
    let block_bytes = be32(start, 4).filter(|size| size.is_power_of_two() && (512..=65536).contains(size))?;
    start.starts_with(b"XFSB").then_some(Superblock {
        file_system: FileSystem::Xfs,
        uuid: uuid(start, 32)?,
        label: text(start, 108, 12)?,
        block_bytes,
        blocks: be64(start, 8)?,
        most_blocks: u64::MAX,
        devices: 1,
        has_errors: false,
    })
}

fn btrfs(raw: &[u8]) -> Option<Superblock<'_>> {
    if raw.get(0x40..0x48)? != b"_BHRfS_M" {
        return None;
    }
    let block_bytes =
        le32(raw, 0x90).filter(|size| size.is_power_of_two() && (512..=65536).contains(size))?;
    Some(Superblock {
        file_system: FileSystem::Btrfs,
        uuid: uuid(raw, 0x20)?,
        label: text(raw, 0x12B, 256)?,
        block_bytes,
        blocks: le64(raw, 0x70)?.checked_div(u64::from(block_bytes))?,
        most_blocks: u64::MAX,
        devices: le64(raw, 0x88)?,
        has_errors: false,
    })
}

#[cfg(test)]
mod tests {
    use super::{BTRFS_BYTES, Contents, FileSystem, Guid, START_BYTES, Superblock};
    use proptest::prelude::{any, proptest};
    use std::vec::Vec;

    fn ext4_start() -> Vec<u8> {
        let mut start = std::vec![0; START_BYTES];
        let raw = &mut start[1024..];
        raw[4..8].copy_from_slice(&7_u32.to_le_bytes());
        raw[0x18] = 2;
        raw[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        raw[0x60] = 0x80;
        raw[0x68..0x78].fill(0x11);
        raw[0x78..0x7C].copy_from_slice(b"root");
        raw[0x150] = 1;
        start
    }

    #[test]
    fn each_file_system_is_read() {
        let start = ext4_start();
        let expected = Superblock {
            file_system: FileSystem::Ext4,
            uuid: Guid::from_text_order([0x11; 16]),
            label: b"root",
            block_bytes: 4096,
            blocks: (1 << 32) + 7,
            most_blocks: u64::MAX,
            devices: 1,
            has_errors: false,
        };
        assert_eq!(Contents::parse(&start, &[]), Contents::FileSystem(expected));

        let mut start = std::vec![0; START_BYTES];
        start[..16].copy_from_slice(b"XFSB\0\0\x10\0\0\0\0\0\0\0\0\x09");
        start[108..120].copy_from_slice(b"twelve bytes");
        let contents = Contents::parse(&start, &[]);
        let found = contents.file_system().unwrap();
        assert_eq!(
            (found.file_system, found.blocks, found.label),
            (FileSystem::Xfs, 9, &b"twelve bytes"[..])
        );

        let mut raw = std::vec![0; BTRFS_BYTES];
        raw[0x40..0x48].copy_from_slice(b"_BHRfS_M");
        raw[0x90..0x92].copy_from_slice(&[0, 0x10]);
        raw[0x70..0x72].copy_from_slice(&[0, 0x20]);
        let contents = Contents::parse(&[], &raw);
        let found = contents.file_system().unwrap();
        assert_eq!((found.file_system, found.blocks, found.label), (FileSystem::Btrfs, 2, &b""[..]));
    }

    #[test]
    fn the_features_of_ext4_are_its_limits() {
        let mut start = ext4_start();
        start[1024 + 0x60] = 0;
        let contents = Contents::parse(&start, &[]);
        let found = contents.file_system().unwrap();
        assert_eq!((found.blocks, found.most_blocks), (7, u64::from(u32::MAX)));
        start[1024 + 0x5D] = 2;
        assert_eq!(Contents::parse(&start, &[]).file_system().unwrap().most_blocks, 7);
    }

    #[test]
    fn containers_win_over_what_an_old_file_system_left() {
        let mut start = ext4_start();
        start[..6].copy_from_slice(b"LUKS\xba\xbe");
        assert_eq!(Contents::parse(&start, &[]), Contents::Luks);
        let mut start = ext4_start();
        start[512..520].copy_from_slice(b"LABELONE");
        start[536..544].copy_from_slice(b"LVM2 001");
        assert_eq!(Contents::parse(&start, &[]), Contents::Lvm);
        let mut start = ext4_start();
        start[4096..4100].copy_from_slice(&0xA92B_4EFC_u32.to_le_bytes());
        assert_eq!(Contents::parse(&start, &[]), Contents::Raid);
    }

    #[test]
    fn impossible_block_sizes_are_not_believed() {
        let mut start = ext4_start();
        start[1024 + 0x18] = 33;
        assert_eq!(Contents::parse(&start, &[]), Contents::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(start in any::<Vec<u8>>(), btrfs in any::<Vec<u8>>()) {
            let _ = Contents::parse(&start, &btrfs);
        }

        #[test]
        fn no_superblock_panics(at in 0_usize..2048, byte: u8, cut in 0..START_BYTES) {
            let mut start = ext4_start();
            start[at] = byte;
            let _ = Contents::parse(&start[..cut], &start[at..]);
        }
    }
}
