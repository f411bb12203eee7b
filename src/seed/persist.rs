//! How does the seed reach the mounted root?

use super::{
    DIRECTORIES, PENDING_STAGING, PRIVATE_DIR, PRIVATE_FILE, SEED, STAGING, STATE, begin, load_context,
    make_state_dir, names, path, pending, remove, verify,
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
    complete(run, root, &target)?;
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
    // At no moment is there none. Where the file system cannot swap, there is for a moment.
    if root.stat(&target).is_err() || root.exchange(&staging, &target).is_err() {
        remove(root, &target)?;
        root.rename(&staging, &target)?;
    }
    root.sync_dir(STATE)?;
    remove(root, &staging)
}

/// An earlier boot, cut off in apply, may have known more: the medium can be gone by now, and with it the password. Then
/// its seed counts, with this boot's lease.
#[inline(never)]
fn complete(run: &mut dyn Dir, root: &mut dyn Dir, kept: &str) -> Result<()> {
    let has_medium = |dir: &mut dyn Dir, base| path(base, "medium").is_ok_and(|path| dir.stat(&path).is_ok());
    let is_better = has_medium(root, kept)
        && !has_medium(run, SEED)
        && verify(root, kept).is_ok()
        && load_context(root, kept).is_ok_and(|context| !context.is_fatal);
    if !is_better {
        return Ok(());
    }
    begin(run)?;
    for name in names() {
        let target = path(STAGING, name)?;
        let copied = match name.starts_with("lease/") || name.starts_with("wireserver/") {
            true => copy_file(run, &path(SEED, name)?, None, &target),
            false => copy_file(root, &path(kept, name)?, Some(run), &target),
        };
        match copied {
            Err(error) if error.is_not_found() => {}
            outcome => outcome?,
        }
    }
    run.exchange(STAGING, SEED)?;
    remove(run, STAGING)
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
