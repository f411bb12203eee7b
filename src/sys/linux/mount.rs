//! How large is a mounted file system, and how is it grown?
//!
//! Each says so by ioctls of its own (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h, include/uapi/linux/btrfs.h).
#![expect(unsafe_code, reason = "ioctls")]

use super::{open_path, raw, refused};
use crate::error::{Errno, Result};
use crate::format::guid::Guid;
use crate::format::superblock::FileSystem;
use crate::format::text::{digits, join};
use crate::sys::Mounted;
use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl::EXT4_IOC_RESIZE_FS;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::OFlags;

/// `_IOR('X', 100, struct xfs_fsop_geom_v1)`, `_IOW('X', 110, struct xfs_growfs_data)`.
const XFS_GEOMETRY: u32 = 0x8070_5864;
const XFS_GROW: u32 = 0x4010_586E;
/// `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`, `_IOWR(0x94, 30, struct btrfs_ioctl_dev_info_args)`,
/// `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)`.
const BTRFS_INFO: u32 = 0x8400_941F;
const BTRFS_DEVICE: u32 = 0xD000_941E;
const BTRFS_RESIZE: u32 = 0x5000_9403;

/// Room for the largest of these structures, btrfs's 4096 bytes. All of them are laid out in words of 64 bits.
type Words = [u64; 512];

/// What the magic numbers of statfs(2) mean (include/uapi/linux/magic.h).
fn file_system(magic: u64) -> Option<FileSystem> {
    match magic {
        0xEF53 => Some(FileSystem::Ext4),
        0x5846_5342 => Some(FileSystem::Xfs),
        0x9123_683E => Some(FileSystem::Btrfs),
        _ => None,
    }
}

fn open(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_path(path, flags).map_err(|code| refused(os!("open mount point"), code))
}

/// Asks with a structure in `words`, and has the answer there.
fn ask(file: &OwnedFd, request: u32, words: &mut Words) -> core::result::Result<(), Errno> {
    let descriptor = usize::try_from(file.as_raw_fd()).unwrap_or(usize::MAX);
    let place = words.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel reads and writes as many bytes as the request's size field says, at most 4096: `words`' size.
    let answer = unsafe { raw::syscall(nr::__NR_ioctl, [descriptor, request as usize, place, 0, 0]) };
    match raw::checked(answer)? {
        0 => Ok(()),
        // enum btrfs_err_code: another balance or resize is under way, or a device is missing.
        _ => Err(Errno::BUSY),
    }
}

/// As [`System::mounted`](crate::sys::System::mounted).
#[inline(never)]
pub(super) fn mounted(path: &str) -> Result<Mounted> {
    let file = open(path)?;
    let magic = rustix::fs::fstatfs(&file).map_err(|code| refused(os!("statfs"), code))?.f_type;
    let file_system = file_system(magic.cast_unsigned());
    let id = Guid::default();
    let mut found =
        Mounted { file_system, id, devices: 1, device_id: 0, block_bytes: 0, bytes: 0, last_copy_bytes: 0 };
    let mut words = [0; 512];
    match file_system {
        Some(FileSystem::Xfs) => {
            ask(&file, XFS_GEOMETRY, &mut words).map_err(|errno| os!("XFS_IOC_FSGEOMETRY", errno))?;
            found.block_bytes = words[0] & 0xFFFF_FFFF;
            found.bytes = words[4].saturating_mul(found.block_bytes);
            // Each group begins with one.
            let (group_blocks, groups) = (words[1] & 0xFFFF_FFFF, words[1] >> 32);
            let before = groups.saturating_sub(1).saturating_mul(group_blocks);
            found.last_copy_bytes = before.saturating_mul(found.block_bytes);
        }
        Some(FileSystem::Btrfs) => {
            ask(&file, BTRFS_INFO, &mut words).map_err(|errno| os!("BTRFS_IOC_FS_INFO", errno))?;
            // The highest number is its only device's, where it is one.
            (found.device_id, found.devices) = (words[0], words[1]);
            found.id = Guid::from_words(words[2], words[3]);
            if found.devices == 1 {
                words = [0; 512];
                words[0] = found.device_id;
                ask(&file, BTRFS_DEVICE, &mut words).map_err(|errno| os!("BTRFS_IOC_DEV_INFO", errno))?;
                found.bytes = words[4];
            }
        }
        _ => {}
    }
    Ok(found)
}

/// As [`System::resize`](crate::sys::System::resize). The caller needs CAP_SYS_RESOURCE for ext4
/// (ext4_resize_begin), CAP_SYS_ADMIN for the others.
#[inline(never)]
pub(super) fn resize(path: &str, mounted: &Mounted, bytes: u64) -> Result<()> {
    let file = open(path)?;
    let mut words = [0; 512];
    let blocks = bytes.checked_div(mounted.block_bytes).unwrap_or_default();
    let (request, rule) = match mounted.file_system {
        Some(FileSystem::Ext4) => {
            words[0] = blocks;
            (EXT4_IOC_RESIZE_FS, os!("grow ext4"))
        }
        Some(FileSystem::Xfs) => {
            ask(&file, XFS_GEOMETRY, &mut words).map_err(|errno| os!("XFS_IOC_FSGEOMETRY", errno))?;
            // The share of inodes stays what it is.
            let inode_percent = words[3] >> 32;
            words = [0; 512];
            (words[0], words[1]) = (blocks, inode_percent);
            (XFS_GROW, os!("grow xfs"))
        }
        _ => {
            let name = join(&[digits(mounted.device_id, &mut [0; 20]), ":max"])?;
            for (word, bytes) in words.iter_mut().skip(1).zip(name.as_bytes().chunks(8)) {
                let mut whole = [0; 8];
                for (to, from) in whole.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *word = u64::from_ne_bytes(whole);
            }
            (BTRFS_RESIZE, os!("grow btrfs"))
        }
    };
    ask(&file, request, &mut words).map_err(|errno| rule.refused(errno))
}

#[cfg(test)]
mod tests {
    use super::{
        BTRFS_DEVICE, BTRFS_INFO, BTRFS_RESIZE, Words, XFS_GEOMETRY, XFS_GROW, file_system, mounted,
    };

    #[test]
    fn no_structure_is_larger_than_the_words() {
        let sizes = [
            (XFS_GEOMETRY, 112),
            (XFS_GROW, 16),
            (BTRFS_INFO, 1024),
            (BTRFS_DEVICE, 4096),
            (BTRFS_RESIZE, 4096),
        ];
        for (request, size) in sizes {
            assert_eq!((request >> 16 & 0x3FFF) as usize, size);
            assert!(size <= size_of::<Words>());
        }
    }

    #[test]
    fn what_is_none_of_ours_says_so() {
        assert_eq!(file_system(0x0102_1994), None);
        assert_eq!(mounted("/proc").map(|mounted| mounted.file_system), Ok(None));
        assert!(mounted("/no/such/place").is_err());
    }
}
