//! How is the mounted root file system grown to the size of its device?

use super::root::read_contents;
use super::sysfs;
use crate::error::{Error, Result};
use crate::format::superblock::{BTRFS_BYTES, FileSystem, START_BYTES, Superblock};
use crate::sys::Kernel;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystemGrowth {
    /// It grew.
    Grown {
        /// Bytes before.
        from_bytes: u64,
        /// Bytes now.
        to_bytes: u64,
    },
    /// It fills its device.
    Full {
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Numbers of an ext4 superblock.
#[derive(Clone, Copy)]
struct Ext4 {
    block_bytes: u64,
    blocks: u64,
    has_errors: bool,
}

impl Ext4 {
    fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes)
    }
}

/// Grows the ext4 that is mounted read-write at `path` (absolute; `kernel.root` is that directory).
///
/// # Errors
/// `Unsupported` for another file system, or one with recorded errors; `Os` as the kernel says.
pub fn grow_ext4(kernel: &mut Kernel<'_>, path: &str) -> Result<FileSystemGrowth> {
    let unsupported = |rule| Error::Unsupported { what: "root file system", rule };
    let number = kernel.root.stat("")?.device;
    let rule = "on no single block device (btrfs, overlay, network)";
    let device = sysfs::device_of(kernel.host, number)?.ok_or(unsupported(rule))?;
    let device_bytes = sysfs::size_bytes(kernel.host, &device)?;
    let before = read_ext4(kernel, &device)?;
    let blocks = device_bytes.checked_div(before.block_bytes).unwrap_or_default();
    if blocks <= before.blocks {
        return Ok(FileSystemGrowth::Full { bytes: before.bytes() });
    }
    if before.has_errors {
        return Err(unsupported("it has recorded errors: run e2fsck, then it can grow"));
    }
    kernel.system.resize_ext4(path, blocks)?;
    // The kernel drops a last group that is too small to hold anything: then all was done before.
    let after = read_ext4(kernel, &device)?;
    if after.blocks == before.blocks {
        return Ok(FileSystemGrowth::Full { bytes: before.bytes() });
    }
    Ok(FileSystemGrowth::Grown { from_bytes: before.bytes(), to_bytes: after.bytes() })
}

fn read_ext4(kernel: &mut Kernel<'_>, device: &str) -> Result<Ext4> {
    let mut window = [0; START_BYTES + BTRFS_BYTES];
    let mut found = Err(Error::Unsupported { what: "root file system", rule: "neither ext4, xfs nor btrfs" });
    kernel.disks.open_read(device, &mut |device| {
        if let Some(superblock) = read_contents(device, 0, &mut window)?.file_system() {
            found = numbers(superblock);
        }
        Ok(())
    })?;
    found
}

fn numbers(superblock: &Superblock<'_>) -> Result<Ext4> {
    let Superblock { block_bytes, blocks, has_errors, .. } = *superblock;
    let rule = match superblock.file_system {
        FileSystem::Ext4 => return Ok(Ext4 { block_bytes: u64::from(block_bytes), blocks, has_errors }),
        FileSystem::Xfs => "growing xfs",
        FileSystem::Btrfs => "growing btrfs",
    };
    Err(Error::Unsupported { what: "root file system", rule })
}
