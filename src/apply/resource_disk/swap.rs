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

/// A swap file to be.
#[derive(Clone, Copy)]
pub(in crate::apply) struct File<'p> {
    /// Absolute.
    pub path: &'p str,
    /// Its size.
    pub bytes: u64,
    /// With a cipher over it whose key nobody keeps.
    pub is_encrypted: bool,
    /// Perhaps on btrfs.
    pub is_copied_on_write: bool,
}

fn path(root: &Root<'_>) -> Result<PathText> {
    join(&["/", point(root), "/swapfile"])
}

/// What the configuration wants.
fn wanted<'p>(root: &Root<'_>, path: &'p str) -> Option<File<'p>> {
    let config = root.config;
    let bytes = u64::from(config.resource_disk_swap_size_mb()) << 20;
    (config.resource_disk_swap() && bytes > 0).then_some(File {
        path,
        bytes,
        is_encrypted: config.resource_disk_swap_encryption(),
        is_copied_on_write: config.resource_disk_file_system() == "btrfs",
    })
}

/// True when none is wanted, or it is in use.
pub(super) fn is_settled(root: &mut Root<'_>) -> Result<bool> {
    let path = path(root)?;
    wanted(root, &path).map_or(Ok(true), |file| file.is_in_use(root))
}

/// Makes what is wanted.
pub(super) fn settle(root: &mut Root<'_>) -> Result<()> {
    let path = path(root)?;
    wanted(root, &path).map_or(Ok(()), |file| file.make(root))
}

impl File<'_> {
    fn is_in_use(&self, root: &mut Root<'_>) -> Result<bool> {
        if self.is_encrypted {
            return exists(root.host, MAPPED.trim_start_matches('/'));
        }
        let text = read(root.host, "proc/swaps", object!(SWAP), root.buffers.old)?;
        let mut devices =
            text.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').next());
        Ok(devices.any(|device| device == self.path.as_bytes()))
    }

    /// Makes it unless one of that size is there, and turns it on. If the kernel finds holes in it, it is written out.
    #[inline(never)]
    pub(in crate::apply) fn make(&self, root: &mut Root<'_>) -> Result<()> {
        if self.is_in_use(root)? {
            return Ok(());
        }
        let is_usable = match root.dir.stat(self.name()) {
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(named(object!(SWAP))(error)),
            // Never over a link (CVE-2019-0804), nor over something of another kind.
            Ok(stat) if stat.file_type != FileType::File => return Err(object!(SWAP).special.at(0)),
            Ok(stat) => (stat.uid, stat.mode, stat.size) == (0, 0o600, self.bytes),
        };
        if is_usable && self.turn_on(root).is_ok() {
            return Ok(());
        }
        self.begin(root)?;
        // Without fallocate, or where the file system cannot, it is written out.
        let length = &mut [0; 20];
        let words = ["-l", digits(self.bytes, length), self.path];
        let _ = call(root, &["/usr/bin/fallocate", "/bin/fallocate"], &words);
        if self.turn_on(root).is_ok() {
            return Ok(());
        }
        self.begin(root)?;
        self.write_out(root)?;
        let outcome = self.turn_on(root);
        if outcome.is_err() {
            // Nobody would use the room it takes.
            let _ = root.dir.remove(self.name());
        }
        outcome
    }

    fn name(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// An empty file in the place of what is there.
    fn begin(&self, root: &mut Root<'_>) -> Result<()> {
        ignore_missing(root.dir.remove(self.name())).map_err(named(object!(SWAP)))?;
        root.dir.create_unsynced(self.name(), Owner::root(0o600), b"").map_err(named(object!(SWAP)))?;
        if self.is_copied_on_write {
            // It could not be swapped to; that has to be said while it is empty.
            let _ = call(root, &["/usr/bin/chattr", "/bin/chattr"], &["+C", self.path]);
        }
        Ok(())
    }

    fn write_out(&self, root: &mut Root<'_>) -> Result<()> {
        root.buffers.new.fill(0);
        let mut left = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        while left > 0 {
            let in_time = root.left_ms();
            let chunk = root.buffers.new.get(..left.min(root.buffers.new.len())).unwrap_or_default();
            let written =
                in_time.and_then(|_| root.dir.append(self.name(), chunk).map_err(named(object!(SWAP))));
            if let Err(error) = written {
                // A full disk would stay full.
                let _ = root.dir.remove(self.name());
                return Err(error);
            }
            left -= chunk.len();
        }
        Ok(())
    }

    fn turn_on(&self, root: &mut Root<'_>) -> Result<()> {
        let device = if self.is_encrypted { map(root, self.path)? } else { self.path };
        call(root, &["/usr/sbin/mkswap", "/sbin/mkswap"], &[device])?;
        call(root, SWAPON, &[device])
    }
}

/// Turns swap on.
pub(in crate::apply) const SWAPON: &[&str] = &["/usr/sbin/swapon", "/sbin/swapon"];

/// Runs a program for swap.
pub(in crate::apply) fn call(root: &mut Root<'_>, programs: &[&'static str], words: &[&str]) -> Result<()> {
    root.call_program(programs, words, object!(SWAP), FAILED)
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
