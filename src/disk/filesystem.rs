//! How is the mounted root file system grown to the size of its device?

use super::root::read_contents;
use super::sysfs;
use crate::error::{Errno, Kind, Result};
use crate::format::guid::Guid;
use crate::format::root_arg::DeviceName;
use crate::format::superblock::{BTRFS_BYTES, FileSystem, START_BYTES, Superblock};
use crate::format::text::join;
use crate::sys::{Dir, Kernel, Mounted};
use core::fmt::Write as _;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystemGrowth {
    /// It grew.
    Grown {
        /// Bytes before.
        from_bytes: u64,
        /// Bytes now.
        to_bytes: u64,
        /// Bytes of its device that its own features leave unused.
        unused_bytes: u64,
    },
    /// It fills its device.
    Full,
}

/// A file system and its device.
struct Measured {
    mounted: Mounted,
    device: DeviceName,
    /// What it should be.
    wanted_bytes: u64,
    /// What its features leave of the device.
    unused_bytes: u64,
    has_errors: bool,
    /// xfs: it grew, and the power went before the copies of its superblock knew.
    has_old_copies: bool,
}

const WHAT: &str = "root file system";
/// xfs and btrfs leave what makes no group or extent of theirs; less than this is not worth asking again.
const LEAST_BYTES: u64 = 1024 * 1024;

/// Grows the ext4, xfs or btrfs that is mounted read-write at `path` (absolute; `kernel.root` is that directory).
///
/// # Errors
/// `Unsupported` for another file system, one on several devices, or one with recorded errors; `Os` as the kernel says.
pub fn grow(kernel: &mut Kernel<'_>, path: &str) -> Result<FileSystemGrowth> {
    let measured = measure(kernel, path)?;
    let before = measured.mounted;
    if measured.is_full() {
        return Ok(FileSystemGrowth::Full);
    }
    if measured.has_errors {
        return Err(unsupported!(WHAT, "it has recorded errors: run e2fsck, then it can grow"));
    }
    check_apart(kernel.host, &measured.device)?;
    resize(kernel, path, &measured)?;
    let after = measure(kernel, path)?.mounted;
    // The kernel drops a last group that is too small to hold anything: then all was done before.
    if after.bytes == before.bytes {
        return Ok(FileSystemGrowth::Full);
    }
    let unused_bytes = measured.unused_bytes;
    Ok(FileSystemGrowth::Grown { from_bytes: before.bytes, to_bytes: after.bytes, unused_bytes })
}

/// True when there is nothing for [`grow`] to do.
pub fn is_full(kernel: &mut Kernel<'_>, path: &str) -> bool {
    match measure(kernel, path) {
        Ok(measured) => measured.is_full(),
        Err(error) => error.is(Kind::Unsupported),
    }
}

impl Measured {
    fn is_full(&self) -> bool {
        let gain = self.wanted_bytes.saturating_sub(self.mounted.bytes);
        let least = match self.mounted.file_system {
            Some(FileSystem::Ext4) => self.mounted.block_bytes,
            _ => LEAST_BYTES,
        };
        gain < least.max(1) && !self.has_old_copies
    }
}

/// A table may be wrong (a hand, a sector torn inside): the blocks of a neighbour are not the file system's to take.
fn check_apart(host: &mut dyn Dir, device: &str) -> Result<()> {
    let Some(number) = sysfs::partition_number(host, device) else { return Ok(()) };
    let disk = sysfs::disk_of(host, device)?;
    let Some(own) = sysfs::partition(host, &disk, number)? else { return Ok(()) };
    match sysfs::has_neighbour_in(host, &disk, own)? {
        true => Err(unsupported!(WHAT, "its partition overlaps another")),
        false => Ok(()),
    }
}

/// A root that is read-only as a whole has a subvolume that is not, where snapper keeps its snapshots: any of a
/// btrfs will do (as cloud-init's resizefs knows).
fn resize(kernel: &mut Kernel<'_>, path: &str, measured: &Measured) -> Result<()> {
    let resized = kernel.system.resize(path, &measured.mounted, measured.wanted_bytes);
    let Err(why) = resized else { return Ok(()) };
    if why.errno() != Some(Errno::ROFS) {
        return Err(why);
    }
    let snapshots = join(&[path, "/.snapshots"])?;
    let is_btrfs = measured.mounted.file_system == Some(FileSystem::Btrfs);
    if is_btrfs && kernel.system.resize(&snapshots, &measured.mounted, measured.wanted_bytes).is_ok() {
        return Ok(());
    }
    Err(unsupported!(WHAT, "it is mounted read-only"))
}

/// Asks the kernel for the file system, and sysfs for its device.
#[inline(never)]
fn measure(kernel: &mut Kernel<'_>, path: &str) -> Result<Measured> {
    let mut mounted = kernel.system.mounted(path)?;
    let unknown = unsupported!(WHAT, "neither ext4, xfs nor btrfs: growing it is not supported");
    let file_system = mounted.file_system.ok_or(unknown)?;
    let device = device(kernel, &mounted)?;
    let device_bytes = sysfs::size_bytes(kernel.host, &device)?;
    let (mut most_bytes, mut has_errors, mut has_old_copies) = (u64::MAX, false, false);
    match file_system {
        FileSystem::Ext4 => read_superblock(kernel, &device, 0, &mut |found| {
            mounted.block_bytes = u64::from(found.block_bytes);
            mounted.bytes = found.blocks.saturating_mul(mounted.block_bytes);
            most_bytes = found.most_blocks.saturating_mul(mounted.block_bytes);
            has_errors = found.has_errors;
        })?,
        // The kernel writes the copies in their order, behind the transaction (xfs_update_secondary_sbs), and again
        // when it is asked for the size that there is. One that cannot be read is nothing to mend.
        FileSystem::Xfs => {
            let is_old = &mut |found: &Superblock<'_>| {
                let bytes = found.blocks.saturating_mul(u64::from(found.block_bytes));
                has_old_copies = found.file_system == FileSystem::Xfs && bytes != mounted.bytes;
            };
            let _ = read_superblock(kernel, &device, mounted.last_copy_bytes, is_old);
        }
        FileSystem::Btrfs => {}
    }
    let wanted_bytes = if has_old_copies { mounted.bytes } else { device_bytes.min(most_bytes) };
    let unused_bytes = if has_old_copies { 0 } else { device_bytes.saturating_sub(wanted_bytes) };
    Ok(Measured { mounted, device, wanted_bytes, unused_bytes, has_errors, has_old_copies })
}

/// The block device of a mounted root.
///
/// # Errors
/// `Unsupported` where it is none, or several.
pub fn root_device(kernel: &mut Kernel<'_>, path: &str) -> Result<DeviceName> {
    let mounted = kernel.system.mounted(path)?;
    device(kernel, &mounted)
}

fn device(kernel: &mut Kernel<'_>, mounted: &Mounted) -> Result<DeviceName> {
    if mounted.devices > 1 {
        return Err(unsupported!(WHAT, "a btrfs on several devices"));
    }
    let number = kernel.root.stat("")?.device;
    let device = match sysfs::device_of(kernel.host, number)? {
        None if mounted.file_system == Some(FileSystem::Btrfs) => of_btrfs(kernel.host, mounted.id)?,
        device => device,
    };
    device.ok_or(unsupported!(WHAT, "on no block device (overlay, network, memory)"))
}

/// btrfs has device numbers of its own; sysfs has the devices (fs/btrfs/sysfs.c).
fn of_btrfs(host: &mut dyn Dir, id: Guid) -> Result<Option<DeviceName>> {
    let mut place = heapless::String::<64>::new();
    let _ = write!(place, "sys/fs/btrfs/{id}/devices");
    let mut found = None;
    host.list(&place, &mut |name, _| {
        found = sysfs::device_name(name).ok();
        found.is_none()
    })?;
    Ok(found)
}

/// The superblock at `offset` of the device.
fn read_superblock(
    kernel: &mut Kernel<'_>,
    device: &str,
    offset: u64,
    each: &mut dyn FnMut(&Superblock<'_>),
) -> Result<()> {
    let mut window = [0; START_BYTES + BTRFS_BYTES];
    let mut found = Err(unsupported!(WHAT, "its superblock is not where it should be"));
    kernel.disks.open_read(device, &mut |device| {
        if let Some(superblock) = read_contents(device, offset, &mut window)?.file_system() {
            each(superblock);
            found = Ok(());
        }
        Ok(())
    })?;
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::FileSystemGrowth::{Full, Grown};
    use super::{FileSystemGrowth, grow as grow_mounted, is_full};
    use crate::error::Result;
    use crate::format::guid::Guid;
    use crate::format::superblock::FileSystem;
    use crate::sys::fake::{FakeDisk, World};
    use crate::sys::{Dir as _, Mounted};
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
        grow_mounted(&mut world.kernel(), "/sysroot")
    }

    #[test]
    fn it_is_grown_to_the_blocks_of_its_partition() {
        let mut world = mounted(25600, 200, 1);
        // The fake's superblock does not change: a kernel that had nothing to add.
        assert_eq!(grow(&mut world), Ok(FileSystemGrowth::Full));
        assert_eq!(world.system.resized, [("/sysroot".into(), 200 << 20)]);
        assert!(!is_full(&mut world.kernel(), "/sysroot"));
    }

    #[test]
    fn a_full_one_is_not_touched() {
        for mib in [100, 99] {
            let mut world = mounted(25600, mib, 1);
            assert_eq!(grow(&mut world), Ok(FileSystemGrowth::Full));
            assert!(is_full(&mut world.kernel(), "/sysroot"));
            assert!(world.system.resized.is_empty());
        }
    }

    #[test]
    fn recorded_errors_and_other_file_systems_are_left_alone() {
        let mut world = mounted(25600, 200, 3);
        assert!(grow(&mut world).unwrap_err().reason().contains("e2fsck"));
        let mut world = mounted(25600, 200, 1);
        world.system.mounted.as_mut().unwrap().file_system = None;
        assert!(grow(&mut world).unwrap_err().reason().contains("not supported"));
        assert!(is_full(&mut world.kernel(), "/sysroot"));
        let mut nowhere = World::new();
        assert!(grow(&mut nowhere).unwrap_err().reason().contains("on no block device"));
        let mut world = mounted(25600, 200, 1);
        world.system.read_only.insert("/sysroot".into());
        assert_eq!(grow(&mut world).unwrap_err().reason(), "it is mounted read-only");
    }

    /// An xfs or btrfs on sda1.
    pub(crate) fn other(file_system: FileSystem, fs_mib: u64, mib: u64) -> World {
        let mut world = mounted(0, mib, 0);
        world.system.mounted = Some(Mounted {
            file_system: Some(file_system),
            id: Guid::from_text_order([0xAB; 16]),
            devices: 1,
            device_id: 1,
            block_bytes: 4096,
            bytes: fs_mib << 20,
            last_copy_bytes: 0,
        });
        if file_system == FileSystem::Btrfs {
            let devices = "sys/fs/btrfs/abababab-abab-abab-abab-abababababab/devices";
            world.host.remove("sys/dev/block/0:0").unwrap();
            world.host.put_symlink(&std::format!("{devices}/sda1"), "../../../../devices/sda/sda1");
        }
        world
    }

    #[test]
    fn blocks_of_a_neighbour_are_not_taken() {
        for (neighbour_start, text) in [(409_600, ""), (409_599, "overlaps another")] {
            let mut world = mounted(25600, 200, 1);
            for (number, start) in [(1, 0), (7, neighbour_start)] {
                let base = std::format!("sys/devices/sda/sda{number}");
                world
                    .host
                    .put(&std::format!("{base}/partition"), std::format!("{number}\n"))
                    .put(&std::format!("{base}/start"), std::format!("{start}\n"));
            }
            world
                .host
                .put("sys/devices/sda/sda7/size", "8\n")
                .put_symlink("sys/class/block/sda7", "../../devices/sda/sda7");
            let outcome = grow(&mut world);
            assert_eq!(outcome.is_ok(), text.is_empty(), "{outcome:?}");
            assert_eq!(world.system.resized.is_empty(), outcome.is_err());
            assert!(outcome.is_ok() || outcome.unwrap_err().reason().contains(text));
        }
    }

    #[test]
    fn xfs_and_btrfs_grow_to_their_device_and_only_once() {
        for file_system in [FileSystem::Xfs, FileSystem::Btrfs] {
            let mut world = other(file_system, 300, 900);
            let grown = Grown { from_bytes: 300 << 20, to_bytes: 900 << 20, unused_bytes: 0 };
            assert_eq!(grow(&mut world), Ok(grown));
            assert_eq!(grow(&mut world), Ok(Full));
            assert_eq!(world.system.resized, [("/sysroot".into(), 900 << 20)]);
        }
    }

    /// QEMU killed between the growth's transaction and the copies: xfs_repair finds the new groups' wrong, and the
    /// file system is as large as its device.
    #[test]
    fn copies_of_an_xfs_superblock_that_missed_the_growth_are_written_again() {
        for (blocks, is_old) in [(75 << 10, true), (225 << 10, false)] {
            let mut world = other(FileSystem::Xfs, 900, 900);
            let mut copy: Vec<u8> = std::vec![0; 128 * 1024];
            copy[64 * 1024..][..16].copy_from_slice(b"XFSB\0\0\x10\0\0\0\0\0\0\0\0\0");
            copy[64 * 1024 + 8..][..8].copy_from_slice(&u64::to_be_bytes(blocks));
            world.disks.disks.insert("sda1".into(), FakeDisk::new(copy));
            world.system.mounted.as_mut().unwrap().last_copy_bytes = 64 * 1024;
            assert_eq!(is_full(&mut world.kernel(), "/sysroot"), !is_old);
            assert_eq!(grow(&mut world), Ok(Full));
            let wanted: &[_] = if is_old { &[("/sysroot".into(), 900 << 20)] } else { &[] };
            assert_eq!(world.system.resized, wanted);
        }
    }

    #[test]
    fn several_devices_are_left_alone_and_snapshots_open_a_read_only_btrfs() {
        let mut world = other(FileSystem::Btrfs, 300, 900);
        world.system.mounted.as_mut().unwrap().devices = 2;
        assert!(grow(&mut world).unwrap_err().reason().contains("several devices"));
        let mut world = other(FileSystem::Btrfs, 300, 900);
        world.system.read_only.insert("/sysroot".into());
        assert!(matches!(grow(&mut world), Ok(Grown { .. })));
        assert_eq!(world.system.resized.last().unwrap().0, "/sysroot/.snapshots");
    }

    #[test]
    fn an_ext4_without_64bit_ends_at_two_to_the_32_blocks() {
        let mut world = mounted(u32::MAX, 20 << 20, 1);
        assert_eq!(grow(&mut world), Ok(Full));
        let mut world = mounted(25600, 20 << 20, 1);
        assert_eq!(grow(&mut world), Ok(Full), "the fake's superblock does not change");
        assert_eq!(world.system.resized, [("/sysroot".into(), u64::from(u32::MAX) * 4096)]);
    }
}
