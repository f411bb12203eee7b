//! customData: kept for the administrator and for what runs it later, root's alone, and where waagent keeps it. Another
//! VM's, which a captured image brings, is removed. Run it is by `preroot scripts`, if the configuration says so.

use super::replace::{self, Ownership, Target};
use super::{
    PathText, Root, SeedPlace, State, below, exists, home, ignore_missing, join, named, read, split,
};
use crate::error::{Errno, Result};
use crate::facts::{Facts, Provenance};
use crate::format::base64::encode_in_place;
use crate::seed;
use crate::sys::Owner;

/// Where it ends up.
pub(super) const FILE: &str = "var/lib/preroot/custom-data";
/// What `preroot scripts` finds of it.
const LINK: &str = "var/lib/preroot/scripts/user/custom-data";
const LINKED: &str = "../../custom-data";
const WHAT: &str = "customData";

/// A file that holds it.
struct Copy {
    path: PathText,
    mode: u32,
    is_encoded: bool,
}

/// Ours, and waagent's where the platform sent it as customData: there it is as it came unless the configuration
/// wants it decoded. Source: WALinuxAgent pa/provision/default.py, `save_customdata`.
fn copies(facts: &Facts, root: &Root<'_>) -> Result<[Option<Copy>; 2]> {
    let is_run = root.config.execute_custom_data();
    let ours = Copy { path: join(&[FILE])?, mode: if is_run { 0o700 } else { 0o600 }, is_encoded: false };
    let is_theirs = facts.custom_data.as_ref().is_none_or(|data| data.from == Provenance::OvfMedium);
    let theirs = Copy {
        path: below(root.config.agent_directory().trim_matches('/'), "CustomData")?,
        mode: 0o600,
        is_encoded: !is_run && !root.config.decode_custom_data(),
    };
    Ok([Some(ours), is_theirs.then_some(theirs)])
}

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let copies = copies(facts, root)?;
    let mut is_whole = true;
    if facts.custom_data.is_some() {
        for copy in copies.iter().flatten() {
            is_whole = is_whole && is_there(root, copy)?;
        }
        is_whole = is_whole && exists(root.dir, LINK)? == root.config.execute_custom_data();
    } else if root.was_another_vms()? {
        for path in copies.iter().flatten().map(|copy| &*copy.path).chain([LINK]) {
            is_whole = is_whole && !exists(root.dir, path)?;
        }
    }
    Ok(if is_whole { State::Satisfied } else { State::Missing })
}

fn is_there(root: &mut Root<'_>, copy: &Copy) -> Result<bool> {
    let wanted = content(root, copy)?;
    let wanted = root.buffers.new.get(..wanted).unwrap_or_default();
    let is_private = root.dir.stat(&copy.path).is_ok_and(|stat| stat.uid == 0 && stat.mode == copy.mode);
    Ok(is_private && read(root.dir, &copy.path, object!(WHAT), root.buffers.old)? == wanted)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let is_given = facts.custom_data.is_some();
    seed::make_state_dir(root.dir).map_err(named(object!(seed::STATE)))?;
    if !is_given || !root.config.execute_custom_data() {
        remove(root, LINK)?;
    }
    for copy in copies(facts, root)?.iter().flatten() {
        if is_given { write(root, copy)? } else { remove(root, &copy.path)? }
    }
    if is_given && root.config.execute_custom_data() {
        make_dir(root, seed::SCRIPTS)?;
        make_dir(root, split(LINK).0)?;
        may_exist(root.dir.make_symlink(LINK, LINKED)).map_err(named(object!(seed::SCRIPTS)))?;
        root.dir.sync_dir(split(LINK).0).map_err(named(object!(seed::SCRIPTS)))?;
    }
    Ok(())
}

fn write(root: &mut Root<'_>, copy: &Copy) -> Result<()> {
    let directory = split(&copy.path).0;
    home::make_parents(root.dir, split(directory).0)?;
    make_dir(root, directory)?;
    let n = content(root, copy)?;
    let ownership = Ownership::Force(Owner::root(copy.mode));
    let target = Target { path: &copy.path, object: object!(WHAT), ownership };
    let content = root.buffers.new.get(..n).ok_or(too_many!(WHAT, n))?;
    replace::write(root.dir, target, content, &mut |_, _| Ok(()))
}

fn make_dir(root: &mut Root<'_>, path: &str) -> Result<()> {
    may_exist(root.dir.make_dir(path, Owner::root(0o700)))
        .and_then(|()| root.dir.sync_dir(split(path).0))
        .map_err(named(object!("directory of customData")))
}

fn may_exist(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

fn remove(root: &mut Root<'_>, path: &str) -> Result<()> {
    if !exists(root.dir, path)? {
        return Ok(());
    }
    ignore_missing(root.dir.remove(path)).map_err(named(object!(WHAT)))?;
    root.dir.sync_dir(split(path).0).map_err(named(object!(WHAT)))
}

/// Reads it from the seed into the new buffer.
fn content(root: &mut Root<'_>, copy: &Copy) -> Result<usize> {
    let (dir, base) = match root.seed {
        SeedPlace::Run(base) => (&mut *root.run, base),
        SeedPlace::Root(base) => (&mut *root.dir, base),
    };
    let n = dir.read(&below(base, seed::CUSTOM_DATA)?, root.buffers.new).map_err(named(object!(WHAT)))?;
    match copy.is_encoded && n > 0 {
        true => match encode_in_place(root.buffers.new, n) {
            0 => Err(too_many!(WHAT, n)),
            characters => Ok(characters),
        },
        false => Ok(n),
    }
}
