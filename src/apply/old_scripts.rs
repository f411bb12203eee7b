//! Whose are the scripts of user data? Those that a captured image brings were another VM's, and are not run here: what
//! this VM's user data say comes behind.

use super::{Root, State, deferred, exists, ignore_missing, join, named, next_name};
use crate::error::Result;
use crate::facts::Facts;

/// Below /var/lib/preroot/scripts: what belongs to a VM. The others are for each, and may be the image's.
const DIRECTORIES: &[&str] = &[
    "var/lib/preroot/scripts/boot",
    "var/lib/preroot/scripts/first",
    "var/lib/preroot/scripts/vendor",
    "var/lib/preroot/scripts/user",
];

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    if !root.was_another_vms()? {
        return Ok(State::Satisfied);
    }
    let has_any = DIRECTORIES.iter().any(|directory| next_name(root.dir, directory, "").is_some())
        || exists(root.dir, deferred::PLACE)?;
    Ok(if has_any { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    for directory in DIRECTORIES {
        let mut last = super::PathText::new();
        while let Some(name) = next_name(root.dir, directory, &last) {
            let path = join(&[directory, "/", &name])?;
            ignore_missing(root.dir.remove(&path)).map_err(named(object!("script of another VM")))?;
            last = name;
        }
    }
    if exists(root.dir, deferred::PLACE)? { deferred::forget_all(root) } else { Ok(()) }
}
