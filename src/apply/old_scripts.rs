//! Whose are the scripts of user data? Those that a captured image brings were another VM's, and are not run here: what
//! this VM's user data say comes behind.

use super::{Root, State, custom_data, deferred, exists, ignore_missing, include, join, named, next_name};
use crate::error::Result;
use crate::facts::{Facts, InstanceId};
use crate::seed;
use crate::sys::Dir;

/// Below /var/lib/preroot/scripts: what belongs to a VM, that of each boot first. The others are for each, and may be the image's.
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
        || exists(root.dir, deferred::PLACE)?
        || exists(root.dir, include::PLACE)?;
    Ok(if has_any { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    forget(root.dir, DIRECTORIES)
}

/// Nothing will run them, nor customData: this VM was given up. What runs in each boot stays, and the modules that made the
/// others may do so again.
pub(crate) fn forget_all(root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let marks = seed::marks(id)?;
    for module in ["write_files", "include", "custom_data"] {
        ignore_missing(root.remove(&join(&[&marks, "/", module])?))?;
    }
    ignore_missing(root.remove(custom_data::FILE))?;
    forget(root, DIRECTORIES.get(1..).unwrap_or_default())
}

fn forget(root: &mut dyn Dir, directories: &[&str]) -> Result<()> {
    for directory in directories {
        let mut last = super::PathText::new();
        while let Some(name) = next_name(root, directory, &last) {
            let path = join(&[directory, "/", &name])?;
            ignore_missing(root.remove(&path)).map_err(named(object!("script that nobody runs")))?;
            last = name;
        }
    }
    include::forget(root)?;
    if exists(root, deferred::PLACE)? { deferred::forget_all(root) } else { Ok(()) }
}
