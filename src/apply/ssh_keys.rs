//! SSH keys, beside those that are there, in the file where sshd looks for them.
//!
//! The home belongs to a user, so from there on no symbolic link is followed, and none in a place elsewhere.

use super::account::{self, Account};
use super::replace::{self, Ownership, Target};
use super::{
    Buffers, PathText, Root, State, below, exists, home, join, named, next_name, person, read, split,
};
use crate::error::{Errno, Result};
use crate::facts::{Facts, InstanceId, UserName};
use crate::format::authorized_keys::{has_key, merge};
use crate::format::person::Person;
use crate::format::sshd_config::{Deciding, KeysFile, deciding, keys_file};
use crate::seed;
use crate::sys::{Dir, FileType, Owner, Symlinks};

const WHAT: &str = "authorized_keys";
const DIRECTORY: &str = ".ssh";
const FILE: &str = ".ssh/authorized_keys";
const KEYWORD: &str = "AuthorizedKeysFile";
/// SUSE's is in /usr where /etc has none.
const CONFIGS: &[&str] = &["etc/ssh/sshd_config", "usr/etc/ssh/sshd_config"];
const DROP_INS: &str = "etc/ssh/sshd_config.d";
const NONE: &str = "sshd reads no authorized_keys in this image (AuthorizedKeysFile none)";

/// Where the keys go: `file` below `base`, which is the home, or a directory of root's.
struct Place {
    base: PathText,
    file: PathText,
    is_in_home: bool,
}

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    person::check(facts, root, look)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    person::apply(facts, root, look, act)
}

fn look(person: &Person<'_>, root: &mut Root<'_>) -> Result<State> {
    if person.keys().next().is_none() {
        return Ok(State::Satisfied);
    }
    if replaces(person, root)? {
        return Ok(State::Missing);
    }
    let (user, buffers) = (&person.name, &mut root.buffers);
    let Some(account) = account::lookup(root.dir, buffers, user, person.allows_system)? else {
        return Ok(State::Missing);
    };
    let Some(place) = place(root.dir, buffers, user, &account)? else {
        return Ok(State::Foreign { why: NONE });
    };
    if !place.is_in_home && !exists(root.dir, &place.base)? {
        return Ok(State::Missing);
    }
    let mut is_whole = false;
    at(root.dir, &account, &place, &mut |dir| {
        let mut is_private = is_owned(dir, &place.file, &account, 0o600)?;
        for directory in directories(&place.file) {
            is_private = is_private && is_owned(dir, directory, &account, mode(directory))?;
        }
        let text = read(dir, &place.file, object!(WHAT), buffers.old)?;
        is_whole = is_private && person.keys().all(|key| has_key(text, key));
        Ok(())
    })?;
    Ok(if is_whole { State::Satisfied } else { State::Missing })
}

/// True where a key that is bound takes the place of those that are there, as Tencent Cloud's console means it. Once for
/// a VM: what comes after that is beside it.
fn replaces(person: &Person<'_>, root: &mut Root<'_>) -> Result<bool> {
    let is_theirs = person.is_default && root.seed_file("platform", &mut [0; 16])? == b"tencent\n";
    let note = note(root.id)?;
    Ok(is_theirs && !exists(root.dir, &note)?)
}

fn note(id: &InstanceId) -> Result<PathText> {
    join(&[&seed::marks(id)?, "/keys-replaced"])
}

fn act(person: &Person<'_>, root: &mut Root<'_>) -> Result<()> {
    let replaces = replaces(person, root)?;
    let (user, buffers) = (&person.name, &mut root.buffers);
    let account = account::require(root.dir, buffers, user, person.allows_system)?;
    let Some(place) = place(root.dir, buffers, user, &account)? else { return Ok(()) };
    if !place.is_in_home {
        home::make_parents(root.dir, &place.base)?;
    }
    at(root.dir, &account, &place, &mut |dir| {
        write_keys(dir, buffers, &account, &place.file, person, replaces)
    })?;
    if !replaces {
        return Ok(());
    }
    let told = named(object!(WHAT));
    seed::make_marks(root.dir, root.id).map_err(&told)?;
    // Lost with the power, the keys are replaced once more, and the others added again.
    root.dir.create_unsynced(&note(root.id)?, Owner::root(0o600), b"").map_err(told)
}

/// Where sshd looks for this user's keys: the first AuthorizedKeysFile of sshd_config and what it includes, as sshd
/// reads them; `None`: nowhere.
fn place(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    user: &UserName,
    account: &Account,
) -> Result<Option<Place>> {
    let home = join(&["/", &account.home])?;
    let said = match said(dir, buffers, user, &home)? {
        KeysFile::None => return Ok(None),
        KeysFile::At(path) => path,
        KeysFile::Unsaid | KeysFile::Others => below(&account.home, FILE)?,
    };
    let in_home = said.strip_prefix(&*account.home).and_then(|rest| rest.strip_prefix('/'));
    let (base, file) = in_home.map_or(split(&said), |file| (&*account.home, file));
    Ok(Some(Place { base: join(&[base])?, file: join(&[file])?, is_in_home: in_home.is_some() }))
}

/// The file of this user's keys, where it is not below the home.
pub(super) fn outside_home(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    user: &UserName,
    account: &Account,
) -> Result<Option<PathText>> {
    let place = place(dir, buffers, user, account)?.filter(|place| !place.is_in_home);
    place.map(|place| below(&place.base, &place.file)).transpose()
}

fn said(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, user: &UserName, home: &str) -> Result<KeysFile> {
    for config in CONFIGS {
        if !exists(dir, config)? {
            continue;
        }
        let text = read(dir, config, object!("sshd_config"), buffers.old)?;
        if deciding(text, KEYWORD) == Deciding::DropIn {
            let mut last = PathText::new();
            while let Some(name) = next_name(dir, DROP_INS, &last) {
                // A file that does not fit is not read by us; sshd_config has the next word.
                let drop_in = dir.read(&below(DROP_INS, &name)?, buffers.new).unwrap_or_default();
                let drop_in = buffers.new.get(..drop_in).unwrap_or_default();
                let found = keys_file(drop_in, user.as_str(), home);
                if found != KeysFile::Unsaid && name.ends_with(".conf") {
                    return Ok(found);
                }
                last = name;
            }
        }
        return Ok(keys_file(text, user.as_str(), home));
    }
    Ok(KeysFile::Unsaid)
}

fn at(
    dir: &mut dyn Dir,
    account: &Account,
    place: &Place,
    work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
) -> Result<()> {
    if place.is_in_home && account.home.is_empty() {
        return Err(unsupported!(WHAT, "a user with keys has no home"));
    }
    if place.is_in_home && !home::exists(dir, account)? {
        return Err(os!("home directory", Errno::NOENT));
    }
    dir.enter(&place.base, Symlinks::Refuse, work).map_err(named(object!(WHAT)))
}

/// The directories on the way to a file, from above.
fn directories(file: &str) -> impl Iterator<Item = &str> {
    file.match_indices('/').filter_map(|(at, _)| file.get(..at))
}

/// sshd insists that nobody else may write; what else is in `.ssh` is nobody's business either.
fn mode(directory: &str) -> u32 {
    if directory == DIRECTORY { 0o700 } else { 0o755 }
}

fn write_keys(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    account: &Account,
    file: &str,
    person: &Person<'_>,
    replaces: bool,
) -> Result<()> {
    let owner = |mode| Owner { mode, uid: account.uid, gid: account.gid };
    for directory in directories(file) {
        match dir.make_dir(directory, owner(0o700)) {
            Ok(()) => dir.sync_dir(split(directory).0).map_err(named(object!(WHAT)))?,
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(named(object!(".ssh"))(error)),
        }
        if !is_owned(dir, directory, account, mode(directory))? {
            dir.set_owner(directory, owner(mode(directory))).map_err(named(object!(".ssh")))?;
        }
    }
    let target = Target { path: file, object: object!(WHAT), ownership: Ownership::Force(owner(0o600)) };
    replace::edit(dir, target, buffers, &mut |old, out| {
        merge(if replaces { b"" } else { old }, person.keys(), out)
    })?;
    // The right keys in a file of the wrong mode: sshd would refuse them.
    if is_owned(dir, file, account, 0o600)? {
        return Ok(());
    }
    dir.set_owner(file, owner(0o600)).map_err(named(object!(WHAT)))
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
