//! How does the seed reach the mounted root?

use super::{
    DIRECTORIES, PENDING_STAGING, PRIVATE_DIR, PRIVATE_FILE, SEED, STATE, make_state_dir, names, path,
    pending, remove,
};
use crate::error::Result;
use crate::facts::InstanceId;
use crate::sys::Dir;

/// Copies the published seed to `pending-<id>` on the mounted root; the rename is the commit.
///
/// # Errors
/// `Os`; a half-written copy is never taken for a whole one.
pub fn persist(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let target = pending(id)?;
    let staging = path(STATE, PENDING_STAGING)?;
    make_state_dir(root)?;
    remove(root, &staging)?;
    root.make_dir(&staging, PRIVATE_DIR)?;
    for directory in DIRECTORIES {
        root.make_dir(&path(&staging, directory)?, PRIVATE_DIR)?;
    }
    for name in names() {
        match copy_file(run, &path(SEED, name)?, Some(root), &path(&staging, name)?) {
            Err(error) if error.is_not_found() => {}
            outcome => outcome?,
        }
    }
    // Everything is on the disk before the name that makes it count.
    root.sync_all()?;
    remove(root, &target)?;
    root.rename(&staging, &target)?;
    root.sync_dir(STATE)
}

/// Copies a file, with `to` into another directory.
pub(super) fn copy_file(
    from: &mut dyn Dir,
    source: &str,
    to: Option<&mut dyn Dir>,
    target: &str,
) -> Result<()> {
    let mut buf = [0; 2048];
    let mut offset = 0;
    let mut n = from.read_at(source, offset, &mut buf)?;
    let mut other = to;
    // `create` first even for an empty file: it must exist.
    let mut is_first = true;
    loop {
        let chunk = buf.get(..n).unwrap_or_default();
        let to: &mut dyn Dir = match &mut other {
            Some(to) => *to,
            None => from,
        };
        if is_first {
            to.create_unsynced(target, PRIVATE_FILE, chunk)?;
        } else {
            to.append(target, chunk)?;
        }
        is_first = false;
        offset = offset.saturating_add(n as u64);
        if n < buf.len() {
            return Ok(());
        }
        n = from.read_at(source, offset, &mut buf)?;
    }
}
