//! Is there a swap file of the right size on the resource disk, without holes, for root alone, and in use?

use super::{exists, ignore_missing, join, named, point, read};
use crate::apply::Root;
use crate::error::{Result, Rule};
use crate::format::text::{PathText, digits};
use crate::sys::{FileType, Owner};

const SWAP: &str = "swap file";
const FAILED: &Rule = malformed!(SWAP, "swap cannot be made");
/// The encrypted swap device.
const MAPPED: &str = "/dev/mapper/preroot-swap";

fn bytes(root: &Root<'_>) -> u64 {
    let config = root.config;
    let is_wanted = config.resource_disk_swap();
    if is_wanted { u64::from(config.resource_disk_swap_size_mb()) << 20 } else { 0 }
}

fn path(root: &Root<'_>) -> Result<PathText> {
    join(&["/", point(root), "/swapfile"])
}

/// True when none is wanted, or it is in use.
pub(super) fn is_settled(root: &mut Root<'_>) -> Result<bool> {
    if bytes(root) == 0 {
        return Ok(true);
    }
    if root.config.resource_disk_swap_encryption() {
        return exists(root.host, MAPPED.trim_start_matches('/'));
    }
    let path = path(root)?;
    let text = read(root.host, "proc/swaps", object!(SWAP), root.buffers.old)?;
    let mut devices =
        text.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').next());
    Ok(devices.any(|device| device == path.as_bytes()))
}

/// Makes the swap file unless one of that size is there, and turns it on. If the kernel finds holes in it, it is
/// written out.
#[inline(never)]
pub(super) fn settle(root: &mut Root<'_>) -> Result<()> {
    if is_settled(root)? {
        return Ok(());
    }
    let path = path(root)?;
    let file = path.trim_start_matches('/');
    let bytes = bytes(root);
    let is_usable = match root.dir.stat(file) {
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(named(object!(SWAP))(error)),
        // Never over a link (CVE-2019-0804), nor over something of another kind.
        Ok(stat) if stat.file_type != FileType::File => return Err(object!(SWAP).special.at(0)),
        Ok(stat) => (stat.uid, stat.mode, stat.size) == (0, 0o600, bytes),
    };
    if is_usable && turn_on(root, &path).is_ok() {
        return Ok(());
    }
    begin(root, &path)?;
    // Without fallocate, or where the file system cannot, it is written out.
    let length = &mut [0; 20];
    let words = ["-l", digits(bytes, length), &path];
    let _ = call(root, &["/usr/bin/fallocate", "/bin/fallocate"], &words);
    if turn_on(root, &path).is_ok() {
        return Ok(());
    }
    begin(root, &path)?;
    write_out(root, file, bytes)?;
    turn_on(root, &path)
}

fn call(root: &mut Root<'_>, programs: &[&'static str], words: &[&str]) -> Result<()> {
    root.call_program(programs, words, object!(SWAP), FAILED)
}

/// An empty file in the place of what is there.
fn begin(root: &mut Root<'_>, path: &str) -> Result<()> {
    let file = path.trim_start_matches('/');
    ignore_missing(root.dir.remove(file)).map_err(named(object!(SWAP)))?;
    root.dir.create_unsynced(file, Owner::root(0o600), b"").map_err(named(object!(SWAP)))?;
    if root.config.resource_disk_file_system() == "btrfs" {
        // Copied on write it could not be swapped to; that has to be said while it is empty.
        let _ = call(root, &["/usr/bin/chattr", "/bin/chattr"], &["+C", path]);
    }
    Ok(())
}

fn write_out(root: &mut Root<'_>, file: &str, bytes: u64) -> Result<()> {
    root.buffers.new.fill(0);
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let chunk = root.buffers.new.get(..left.min(root.buffers.new.len())).unwrap_or_default();
        let written = root.dir.append(file, chunk).map_err(named(object!(SWAP)));
        if let Err(error) = written {
            // A full disk would stay full.
            let _ = root.dir.remove(file);
            return Err(error);
        }
        left -= chunk.len();
    }
    Ok(())
}

fn turn_on(root: &mut Root<'_>, path: &str) -> Result<()> {
    let device = if root.config.resource_disk_swap_encryption() { map(root, path)? } else { path };
    call(root, &["/usr/sbin/mkswap", "/sbin/mkswap"], &[device])?;
    call(root, &["/usr/sbin/swapon", "/sbin/swapon"], &[device])
}

/// Puts a cipher over the file whose key nobody keeps.
fn map(root: &mut Root<'_>, path: &str) -> Result<&'static str> {
    let name = MAPPED.rsplit('/').next().unwrap_or_default();
    let words: &[&str] = &[
        "open",
        "--type",
        "plain",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--key-file",
        "/dev/urandom",
        path,
        name,
    ];
    call(root, &["/usr/sbin/cryptsetup", "/sbin/cryptsetup"], words)?;
    Ok(MAPPED)
}
