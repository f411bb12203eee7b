//! How is a mounted file system grown?
#![expect(unsafe_code, reason = "an ioctl")]

use super::{open_path, refused};
use crate::error::Result;
use linux_raw_sys::ioctl::EXT4_IOC_RESIZE_FS;
use rustix::fs::OFlags;

/// Grows the ext4 mounted at `path` to `blocks` of its blocks. It must be mounted read-write, without recorded
/// errors, and the caller needs CAP_SYS_RESOURCE (fs/ext4/ioctl.c, ext4_resize_begin).
///
/// # Errors
/// `Os`: ROFS when it is read-only, 1 (EPERM) with recorded errors.
pub(super) fn resize_ext4(path: &str, blocks: u64) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open_path(path, flags).map_err(|code| refused(os!("open mount point"), code))?;
    // SAFETY: EXT4_IOC_RESIZE_FS reads a __u64 (fs/ext4/ext4.h).
    let grown = unsafe {
        rustix::ioctl::ioctl(&root, rustix::ioctl::Setter::<{ EXT4_IOC_RESIZE_FS }, u64>::new(blocks))
    };
    grown.map_err(|code| refused(os!("grow ext4"), code))
}
