//! How is the mounted root file system grown to the size of its device?

use super::root::read_contents;
use super::sysfs;
use crate::error::{Kind, Result};
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
    Full,
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

const WHAT: &str = "root file system";

/// Grows the ext4 that is mounted read-write at `path` (absolute; `kernel.root` is that directory).
///
/// # Errors
/// `Unsupported` for another file system, or one with recorded errors; `Os` as the kernel says.
pub fn grow_ext4(kernel: &mut Kernel<'_>, path: &str) -> Result<FileSystemGrowth> {
    look(kernel, Some(path))
}

/// True when there is nothing for [`grow_ext4`] to do.
pub fn is_full(kernel: &mut Kernel<'_>) -> bool {
    match look(kernel, None) {
        Ok(growth) => growth == FileSystemGrowth::Full,
        Err(error) => error.is(Kind::Unsupported),
    }
}

/// Compares it with its device, and grows it where a path is given.
fn look(kernel: &mut Kernel<'_>, path: Option<&str>) -> Result<FileSystemGrowth> {
    let number = kernel.root.stat("")?.device;
    let spread = unsupported!(WHAT, "on no single block device (btrfs, overlay, network)");
    let device = sysfs::device_of(kernel.host, number)?.ok_or(spread)?;
    let device_bytes = sysfs::size_bytes(kernel.host, &device)?;
    let before = read_ext4(kernel, &device)?;
    let blocks = device_bytes.checked_div(before.block_bytes).unwrap_or_default();
    if blocks <= before.blocks {
        return Ok(FileSystemGrowth::Full);
    }
    if before.has_errors {
        return Err(unsupported!(WHAT, "it has recorded errors: run e2fsck, then it can grow"));
    }
    let after = match path {
        Some(path) => {
            kernel.system.resize_ext4(path, blocks)?;
            read_ext4(kernel, &device)?
        }
        None => Ext4 { blocks, ..before },
    };
    // The kernel drops a last group that is too small to hold anything: then all was done before.
    if after.blocks == before.blocks {
        return Ok(FileSystemGrowth::Full);
    }
    Ok(FileSystemGrowth::Grown { from_bytes: before.bytes(), to_bytes: after.bytes() })
}

fn read_ext4(kernel: &mut Kernel<'_>, device: &str) -> Result<Ext4> {
    let mut window = [0; START_BYTES + BTRFS_BYTES];
    let mut found = Err(unsupported!(WHAT, "neither ext4, xfs nor btrfs"));
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
    match superblock.file_system {
        FileSystem::Ext4 => Ok(Ext4 { block_bytes: u64::from(block_bytes), blocks, has_errors }),
        FileSystem::Xfs => Err(unsupported!(WHAT, "growing xfs")),
        FileSystem::Btrfs => Err(unsupported!(WHAT, "growing btrfs")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{FileSystemGrowth, grow_ext4, is_full};
    use crate::error::Result;
    use crate::sys::fake::{FakeDisk, World};
    use std::vec::Vec;

    /// An ext4 of `blocks` blocks of 4 KiB on sda1 of `mib` MiB, mounted (its `st_dev` is 0:0).
    pub(crate) fn mounted(blocks: u32, mib: u64, state: u8) -> World {
        let mut bytes: Vec<u8> = std::vec![0; 128 * 1024];
        bytes[1024 + 4..1024 + 8].copy_from_slice(&blocks.to_le_bytes());
        bytes[1024 + 0x18] = 2;
        bytes[1024 + 0x38..1024 + 0x3B].copy_from_slice(&[0x53, 0xEF, state]);
        let mut world = World::new();
        world.disks.disks.insert("sda1".into(), FakeDisk::new(bytes));
        world
            .host
            .put("sys/devices/sda/sda1/size", std::format!("{}\n", mib * 2048))
            .put_symlink("sys/class/block/sda1", "../../devices/sda/sda1")
            .put_symlink("sys/dev/block/0:0", "../../devices/sda/sda1");
        world
    }

    fn grow(world: &mut World) -> Result<FileSystemGrowth> {
        grow_ext4(&mut world.kernel(), "/sysroot")
    }

    #[test]
    fn it_is_grown_to_the_blocks_of_its_partition() {
        let mut world = mounted(25600, 200, 1);
        // The fake's superblock does not change: a kernel that had nothing to add.
        assert_eq!(grow(&mut world), Ok(FileSystemGrowth::Full));
        assert_eq!(world.system.resized, [("/sysroot".into(), 51200)]);
        assert!(!is_full(&mut world.kernel()));
    }

    #[test]
    fn a_full_one_is_not_touched() {
        for mib in [100, 99] {
            let mut world = mounted(25600, mib, 1);
            assert_eq!(grow(&mut world), Ok(FileSystemGrowth::Full));
            assert!(is_full(&mut world.kernel()));
            assert!(world.system.resized.is_empty());
        }
    }

    #[test]
    fn recorded_errors_and_other_file_systems_are_left_alone() {
        let mut world = mounted(25600, 200, 3);
        assert!(grow(&mut world).unwrap_err().reason().contains("e2fsck"));
        let mut world = mounted(25600, 200, 1);
        let disk = world.disks.disks.get_mut("sda1").unwrap();
        disk.bytes[1024 + 0x38] = 0;
        disk.bytes[..8].copy_from_slice(b"XFSB\0\0\x10\0");
        assert_eq!(grow(&mut world).unwrap_err().reason(), "growing xfs");
        let mut nowhere = World::new();
        assert!(grow(&mut nowhere).unwrap_err().reason().contains("no single block device"));
    }
}
