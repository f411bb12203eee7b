//! customData: kept for the administrator and for what runs it later, root's alone. Another VM's, which a
//! captured image brings, is removed.

use super::replace::{self, Ownership, Target};
use super::{Root, SeedPlace, State, below, exists, ignore_missing, named, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::seed;
use crate::sys::Owner;

/// Where it ends up.
const FILE: &str = "var/lib/preroot/custom-data";
const WHAT: &str = "customData";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    if facts.custom_data.is_none() {
        let is_stale = root.was_another_vms()? && exists(root.dir, FILE)?;
        return Ok(if is_stale { State::Missing } else { State::Satisfied });
    }
    let wanted = from_seed(root)?;
    let wanted = root.buffers.new.get(..wanted).unwrap_or_default();
    let is_private = root.dir.stat(FILE).is_ok_and(|stat| stat.uid == 0 && stat.mode & 0o077 == 0);
    let there = read(root.dir, FILE, object!(WHAT), root.buffers.old)?;
    Ok(if is_private && there == wanted { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    if facts.custom_data.is_none() {
        if root.was_another_vms()? {
            ignore_missing(root.dir.remove(FILE)).map_err(named(object!(WHAT)))?;
            root.dir.sync_dir(seed::STATE).map_err(named(object!(seed::STATE)))?;
        }
        return Ok(());
    }
    let n = from_seed(root)?;
    seed::make_state_dir(root.dir).map_err(named(object!(seed::STATE)))?;
    let target =
        Target { path: FILE, object: object!(WHAT), ownership: Ownership::Force(Owner::root(0o600)) };
    let content = root.buffers.new.get(..n).ok_or(too_many!(WHAT, n))?;
    replace::write(root.dir, target, content, &mut |_, _| Ok(()))
}

/// Reads it from the seed into the new buffer.
fn from_seed(root: &mut Root<'_>) -> Result<usize> {
    let (dir, base) = match root.seed {
        SeedPlace::Run(base) => (&mut *root.run, base),
        SeedPlace::Root(base) => (&mut *root.dir, base),
    };
    dir.read(&below(base, seed::CUSTOM_DATA)?, root.buffers.new).map_err(named(object!(WHAT)))
}
