//! The administrator's keys in ~/.ssh/authorized_keys, beside those that are there.
//!
//! The home belongs to a user, so from there on no symbolic link is followed.

use super::account::{self, Account};
use super::replace::{self, Ownership, Target};
use super::{Buffers, Root, State, named, read};
use crate::error::{Errno, Result};
use crate::facts::{Facts, SshKeys, UserName};
use crate::format::authorized_keys::{has_key, merge};
use crate::sys::{Dir, FileType, Owner, Symlinks};

const WHAT: &str = "authorized_keys";
const DIRECTORY: &str = ".ssh";
const FILE: &str = ".ssh/authorized_keys";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some((user, keys)) = asked(facts) else { return Ok(State::Satisfied) };
    let buffers = &mut root.buffers;
    let Some(account) = account::lookup(root.dir, buffers, user, root.config.allow_reset_sys_user())? else {
        return Ok(State::Missing);
    };
    let mut is_whole = false;
    in_home(root.dir, &account, &mut |home| {
        let is_private =
            is_owned(home, DIRECTORY, &account, 0o700)? && is_owned(home, FILE, &account, 0o600)?;
        let text = read(home, FILE, object!(WHAT), buffers.old)?;
        is_whole = is_private && keys.lines().all(|key| has_key(text, key));
        Ok(())
    })?;
    Ok(if is_whole { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some((user, keys)) = asked(facts) else { return Ok(()) };
    let buffers = &mut root.buffers;
    let account = account::require(root.dir, buffers, user, root.config.allow_reset_sys_user())?;
    in_home(root.dir, &account, &mut |home| write_keys(home, buffers, &account, keys))
}

/// Whose keys, and which; `None` when there is nothing to do.
fn asked(facts: &Facts) -> Option<(&UserName, &SshKeys)> {
    let (user, keys) = (facts.user.as_ref()?, facts.keys.as_ref()?);
    (!keys.value.is_empty()).then_some((&user.value, &keys.value))
}

fn in_home(
    dir: &mut dyn Dir,
    account: &Account,
    work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
) -> Result<()> {
    if account.home.is_empty() {
        return Err(unsupported!(WHAT, "the administrator has no home"));
    }
    if !super::home::exists(dir, account)? {
        return Err(os!("home directory", Errno::NOENT));
    }
    dir.enter(&account.home, Symlinks::Refuse, work)
}

fn write_keys(
    home: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    account: &Account,
    keys: &SshKeys,
) -> Result<()> {
    let owner = |mode| Owner { mode, uid: account.uid, gid: account.gid };
    match home.make_dir(DIRECTORY, owner(0o700)) {
        Ok(()) => home.sync_dir("").map_err(named(object!(WHAT)))?,
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        Err(error) => return Err(named(object!(".ssh"))(error)),
    }
    if !is_owned(home, DIRECTORY, account, 0o700)? {
        home.set_owner(DIRECTORY, owner(0o700)).map_err(named(object!(".ssh")))?;
    }
    let target = Target { path: FILE, object: object!(WHAT), ownership: Ownership::Force(owner(0o600)) };
    replace::edit(home, target, buffers, &mut |old, out| merge(old, keys.lines(), out))?;
    // The right keys in a file of the wrong mode: sshd would refuse them.
    if is_owned(home, FILE, account, 0o600)? {
        return Ok(());
    }
    home.set_owner(FILE, owner(0o600)).map_err(named(object!(WHAT)))
}

/// True when it is the user's and grants no more than `mode`; false when it is missing.
fn is_owned(home: &mut dyn Dir, path: &str, account: &Account, mode: u32) -> Result<bool> {
    let stat = match home.stat(path) {
        Err(error) if error.is_not_found() => return Ok(false),
        outcome => outcome.map_err(named(object!(WHAT)))?,
    };
    if !matches!(stat.file_type, FileType::Directory | FileType::File) {
        return Err(unsupported!(WHAT, "a symbolic link stands in its place"));
    }
    Ok(stat.uid == account.uid && stat.mode & !mode == 0)
}
