//! A home directory from /etc/skel, whole or absent.
//!
//! It is filled beside its place, in a directory only root can enter, and renamed when all of it is on the
//! disk. No symbolic link below it is followed; links of the skeleton are copied as links.

use super::account::Account;
use super::{Buffers, PathText, below, ignore_missing, join, named, split};
use crate::error::{Errno, Result};
use crate::sys::{Dir, FileType, Owner, Symlinks};

const SKELETON: &str = "etc/skel";
/// Directories inside directories; a skeleton has one or two.
const DEPTH: usize = 8;
const WHAT: &str = "home directory";
/// Longest name of a directory entry (NAME_MAX).
type Name = heapless::String<255>;

/// True when the account has its home, or has none to have (`/`, as some service accounts).
///
/// # Errors
/// `Unsupported` when something else stands there; `Os`.
pub(super) fn exists(dir: &mut dyn Dir, account: &Account) -> Result<bool> {
    if account.home.is_empty() {
        return Ok(true);
    }
    match dir.stat(&account.home) {
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(named(object!(WHAT))(error)),
        Ok(stat) if stat.file_type != FileType::Directory => {
            Err(unsupported!(WHAT, "not a directory (links are not followed)"))
        }
        // sshd's StrictModes refuses keys in a home of a third person, and so do we.
        Ok(stat) if stat.uid != account.uid && stat.uid != 0 => {
            Err(unsupported!(WHAT, "belongs to somebody else"))
        }
        Ok(_) => Ok(true),
    }
}

/// Makes the home if it is missing; one that is there is left as it is.
///
/// # Errors
/// As [`exists`]; `TooMany` for a path or depth of the skeleton; `Os`.
pub(super) fn make(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, account: &Account, mode: u32) -> Result<()> {
    if exists(dir, account)? {
        return Ok(());
    }
    let (parent, name) = split(&account.home);
    make_parents(dir, parent)?;
    let staging = below(parent, &join(&[".", name, ".preroot"])?)?;
    remove_tree(dir, &staging, DEPTH)?;
    dir.make_dir(&staging, Owner::root(0o700)).map_err(named(object!(WHAT)))?;
    let owner = Owner { mode, uid: account.uid, gid: account.gid };
    copy_tree(dir, buffers, &staging, "", owner, DEPTH)?;
    dir.set_owner(&staging, owner).map_err(named(object!(WHAT)))?;
    dir.enter(parent, Symlinks::Inside, &mut |parent| parent.sync_all()).map_err(named(object!(WHAT)))?;
    dir.rename(&staging, &account.home).map_err(named(object!(WHAT)))?;
    dir.sync_dir(parent).map_err(named(object!(WHAT)))
}

/// `/home` may be missing in a minimal image; it must be root's, or its owner could put a link in our way.
pub(super) fn make_parents(dir: &mut dyn Dir, parent: &str) -> Result<()> {
    let ends = parent.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at);
    for end in ends.chain([parent.len()]).filter(|end| *end > 0) {
        let above = parent.get(..end).unwrap_or_default();
        match dir.make_dir(above, Owner::root(0o755)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome.map_err(named(object!(WHAT)))?,
        }
        dir.enter(above, Symlinks::Inside, &mut |above| match above.stat("")?.uid {
            0 => Ok(()),
            _ => Err(unsupported!(WHAT, "a directory above it is not root's")),
        })?;
    }
    Ok(())
}

/// Copies what is below `etc/skel/<at>` to `<home>/<at>`.
fn copy_tree(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    home: &str,
    at: &str,
    owner: Owner,
    depth: usize,
) -> Result<()> {
    let from = below_skeleton(at)?;
    let mut n = 0;
    while let Some(name) = nth_entry(dir, &from, n)? {
        n += 1;
        let path = below(at, &name)?;
        let from = below_skeleton(&path)?;
        let stat = dir.stat(&from).map_err(named(object!(SKELETON)))?;
        // Ownership is the user's, so set-id bits of the skeleton have no meaning.
        let owner = Owner { mode: stat.mode & 0o777, ..owner };
        match stat.file_type {
            FileType::Directory => {
                let depth = depth.checked_sub(1).ok_or(too_many!(SKELETON, DEPTH))?;
                in_home(dir, home, &mut |home| home.make_dir(&path, owner))?;
                copy_tree(dir, buffers, home, &path, owner, depth)?;
            }
            FileType::File => copy_file(dir, buffers, &from, home, &path, owner)?,
            FileType::Symlink => copy_link(dir, &from, home, &path)?,
            FileType::BlockDevice | FileType::Other => {}
        }
    }
    Ok(())
}

fn below_skeleton(at: &str) -> Result<PathText> {
    if at.is_empty() { join(&[SKELETON]) } else { below(SKELETON, at) }
}

fn in_home(dir: &mut dyn Dir, home: &str, work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>) -> Result<()> {
    dir.enter(home, Symlinks::Refuse, work).map_err(named(object!(WHAT)))
}

fn copy_file(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    from: &str,
    home: &str,
    path: &str,
    owner: Owner,
) -> Result<()> {
    let mut offset = 0;
    loop {
        let n = dir.read_at(from, offset, buffers.old).map_err(named(object!(SKELETON)))?;
        let chunk = buffers.old.get(..n).unwrap_or_default();
        in_home(dir, home, &mut |home| match offset {
            0 => home.create_unsynced(path, owner, chunk),
            _ => home.append(path, chunk),
        })?;
        offset = offset.saturating_add(n as u64);
        if n < buffers.old.len() {
            return Ok(());
        }
    }
}

fn copy_link(dir: &mut dyn Dir, from: &str, home: &str, path: &str) -> Result<()> {
    let mut target = [0; 512];
    let n = dir.read_link(from, &mut target).map_err(named(object!(SKELETON)))?;
    let target = core::str::from_utf8(target.get(..n).unwrap_or_default());
    let target = target.map_err(|_| malformed!(SKELETON, "link is not UTF-8", 0))?;
    in_home(dir, home, &mut |home| home.make_symlink(path, target))
}

/// The n-th entry of a directory nobody changes meanwhile; none in a directory that is missing.
fn nth_entry(dir: &mut dyn Dir, path: &str, n: usize) -> Result<Option<Name>> {
    let mut seen = 0;
    let mut found = None;
    let listed = dir.list(path, &mut |name, _| {
        if seen == n {
            found = Name::try_from(name).ok();
        }
        seen += 1;
        seen <= n
    });
    ignore_missing(listed).map_err(named(object!(WHAT)))?;
    Ok(found)
}

/// Removes what a power cut left; nothing when there is nothing.
fn remove_tree(dir: &mut dyn Dir, path: &str, depth: usize) -> Result<()> {
    let stat = match dir.stat(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        outcome => outcome.map_err(named(object!(WHAT)))?,
    };
    if stat.file_type != FileType::Directory {
        return dir.remove(path).map_err(named(object!(WHAT)));
    }
    let deeper = depth.checked_sub(1).ok_or(too_many!(WHAT, DEPTH));
    while let Some(name) = nth_entry(dir, path, 0)? {
        remove_tree(dir, &below(path, &name)?, deeper?)?;
    }
    dir.remove_dir(path).map_err(named(object!(WHAT)))
}
