//! How does the seed reach the mounted root?

use super::{
    DIRECTORIES, FILE_PARTS, FILES, PENDING_STAGING, PRIVATE_DIR, PRIVATE_FILE, SEED, STAGING, STATE, USERS,
    Verdict, begin, each_name, load_context, make_parent, make_state_dir, may_be_applied, path, pending,
    remove, spooled,
};
use crate::error::{Errno, Result};
use crate::facts::InstanceId;
use crate::sys::Dir;

/// Copies the published seed to `pending-<id>` on the mounted root; the rename is the commit. False of one that must
/// wait: the initrd of another boot asks again, too.
///
/// # Errors
/// `Os`; a half-written copy is never taken for a whole one.
pub fn persist(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Result<bool> {
    let target = pending(id)?;
    let staging = path(STATE, PENDING_STAGING)?;
    make_state_dir(root)?;
    remove(root, &staging)?;
    complete(run, root, &target)?;
    if load_context(run, SEED)?.verdict == Verdict::Wait {
        return Ok(false);
    }
    root.make_dir(&staging, PRIVATE_DIR)?;
    for directory in DIRECTORIES {
        root.make_dir(&path(&staging, directory)?, PRIVATE_DIR)?;
    }
    each_name(run, SEED, &mut |run, name| copy_value(run, SEED, Some(root), &staging, name))?;
    // Everything is on the disk before the name that makes it count.
    root.sync_all()?;
    // At no moment is there none. Where the file system cannot swap, there is for a moment.
    if root.stat(&target).is_err() || root.exchange(&staging, &target).is_err() {
        remove(root, &target)?;
        root.rename(&staging, &target)?;
    }
    root.sync_dir(STATE)?;
    remove(root, &staging)?;
    Ok(true)
}

/// An earlier boot, cut off in apply, may have known more: the medium can be gone by now, and with it the password. Then
/// its seed counts, with this boot's lease.
#[inline(never)]
fn complete(run: &mut dyn Dir, root: &mut dyn Dir, kept: &str) -> Result<()> {
    let has_medium = |dir: &mut dyn Dir, base| path(base, "medium").is_ok_and(|path| dir.stat(&path).is_ok());
    // What could be had in that boot and not in this one leaves nothing but its fault.
    let is_lost = !may_be_applied(run, SEED) || (has_medium(root, kept) && !has_medium(run, SEED));
    if !is_lost || !may_be_applied(root, kept) {
        return Ok(());
    }
    begin(run)?;
    let is_of_lease = |name: &str| name.starts_with("lease/") || name.starts_with("wireserver/");
    each_name(root, kept, &mut |root, name| match is_of_lease(name) {
        true => copy_value(run, SEED, None, STAGING, name),
        false => copy_value(root, kept, Some(run), STAGING, name),
    })?;
    run.exchange(STAGING, SEED)?;
    remove(run, STAGING)
}

/// Starts a seed with everything of another that [`publish`](super::publish()) does not write itself: with `root` of the one
/// kept there, else of the published one.
///
/// # Errors
/// As [`begin`]; `Os`.
#[inline(never)]
pub fn rebegin(run: &mut dyn Dir, root: Option<&mut dyn Dir>, base: &str) -> Result<()> {
    begin(run)?;
    let is_ours = |name: &str| super::NAMES.contains(&name);
    match root {
        Some(root) => each_name(root, base, &mut |root, name| match is_ours(name) {
            true => Ok(()),
            false => copy_value(root, base, Some(run), STAGING, name),
        }),
        None => each_name(run, base, &mut |run, name| match is_ours(name) {
            true => Ok(()),
            false => copy_value(run, base, None, STAGING, name),
        }),
    }?;
    // Of two that speak of one account the later wins: behind these there is room for what a person says.
    let mut places = USERS.iter();
    for name in USERS {
        if spooled(run, name).is_some()
            && let Some(place) = places.next().filter(|place| *place != name)
        {
            run.rename(&path(STAGING, name)?, &path(STAGING, place)?)?;
        }
    }
    Ok(())
}

/// Copies a file of [`FILES`] to another seed, in the same directory or in `to`, but for its path, which makes it one.
///
/// # Errors
/// `Os`.
pub fn keep_file(
    from: &mut dyn Dir,
    base: &str,
    mut to: Option<&mut dyn Dir>,
    to_base: &str,
    file: &str,
) -> Result<()> {
    {
        let to: &mut dyn Dir = match &mut to {
            Some(to) => *to,
            None => from,
        };
        make_state_dir(to)?;
        for directory in [to_base, &path(to_base, FILES)?] {
            match to.make_dir(directory, PRIVATE_DIR) {
                Err(error) if error.errno() == Some(Errno::EXIST) => {}
                outcome => outcome?,
            }
        }
    }
    FILE_PARTS.iter().filter(|part| **part != "path").try_for_each(|part| {
        let to: Option<&mut dyn Dir> = match &mut to {
            Some(to) => Some(&mut **to),
            None => None,
        };
        copy_value(from, base, to, to_base, &path(file, part)?)
    })
}

/// What [`keep_words`] has not finished.
pub const INCLUDE_STAGING: &str = "var/lib/preroot/include.tmp";
/// What a later translation has to know: who this VM is, and what was said to it. No passwords, but for those in the texts.
const WORDS: &[&str] = &[
    "format",
    "platform",
    "source",
    "instance-id",
    "hostname",
    "user/name",
    "user/password-login",
    "user/authorized-keys",
    "verdict",
    super::CUSTOM_DATA,
    super::USER_DATA,
    super::FQDN,
    super::PRESERVE_HOST_NAME,
    super::MANAGE_HOSTS,
    super::MOUNT_DEFAULTS,
    super::ASKED_BY,
    super::VENDOR_MAPPING,
    super::LAUNCH_INDEX,
    super::INCLUDE,
];

/// Copies what a later translation has to know to a seed of its own, in the same directory or in `to`: whole or not at all.
///
/// # Errors
/// `Os`.
#[inline(never)]
pub fn keep_words(from: &mut dyn Dir, base: &str, mut to: Option<&mut dyn Dir>, target: &str) -> Result<()> {
    let staging = INCLUDE_STAGING;
    {
        let to: &mut dyn Dir = match &mut to {
            Some(to) => *to,
            None => from,
        };
        make_state_dir(to)?;
        remove(to, staging)?;
        to.make_dir(staging, PRIVATE_DIR)?;
        DIRECTORIES.iter().try_for_each(|name| to.make_dir(&path(staging, name)?, PRIVATE_DIR))?;
    }
    WORDS.iter().chain(super::VENDOR_DATA).try_for_each(|name| {
        let to: Option<&mut dyn Dir> = match &mut to {
            Some(to) => Some(&mut **to),
            None => None,
        };
        copy_value(from, base, to, staging, name)
    })?;
    let to: &mut dyn Dir = match to {
        Some(to) => to,
        None => from,
    };
    to.sync_all()?;
    to.rename(staging, target)?;
    to.sync_dir(STATE)
}

/// Copies a value from one seed to another, with `to` in another directory; none is fine.
#[inline(never)]
pub(super) fn copy_value(
    from: &mut dyn Dir,
    base: &str,
    mut to: Option<&mut dyn Dir>,
    to_base: &str,
    name: &str,
) -> Result<()> {
    let source = path(base, name)?;
    if from.stat(&source).is_err_and(|error| error.is_not_found()) {
        return Ok(());
    }
    match &mut to {
        Some(to) => make_parent(*to, to_base, name)?,
        None => make_parent(from, to_base, name)?,
    }
    copy_file(from, &source, to, &path(to_base, name)?)
}

/// Copies a file, with `to` into another directory.
fn copy_file(from: &mut dyn Dir, source: &str, to: Option<&mut dyn Dir>, target: &str) -> Result<()> {
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
