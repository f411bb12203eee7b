//! Whose are the scripts of user data? Those that a captured image brings were another VM's, and are not run here: what
//! this VM's user data say comes behind.

use super::{
    PathText, Root, State, custom_data, deferred, exists, ignore_missing, include, join, named, next_name,
};
use crate::error::Result;
use crate::facts::{Facts, InstanceId};
use crate::seed;
use crate::sys::Dir;

/// Below /var/lib/preroot/scripts: what belongs to a VM, that of each boot first. In the last ones the image may have some, too,
/// and user data's have names that begin so (tools/cloud-config, places.rs).
const PLACES: &[(&str, &str)] = &[
    ("var/lib/preroot/scripts/boot", ""),
    ("var/lib/preroot/scripts/first", ""),
    ("var/lib/preroot/scripts/vendor", ""),
    ("var/lib/preroot/scripts/user", ""),
    ("var/lib/preroot/scripts/per-once", seed::OF_USER_DATA),
    ("var/lib/preroot/scripts/per-boot", seed::OF_USER_DATA),
    ("var/lib/preroot/scripts/per-instance", seed::OF_USER_DATA),
];

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    if !root.was_another_vms()? {
        return Ok(State::Satisfied);
    }
    let has_any = PLACES.iter().any(|place| next_of(root.dir, place, "").is_some())
        || exists(root.dir, deferred::PLACE)?
        || exists(root.dir, include::PLACE)?;
    Ok(if has_any { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    forget(root.dir, PLACES)
}

/// Nothing will run them, nor customData: this VM was given up. What runs in each boot stays, and the modules that made the
/// others may do so again.
pub(crate) fn forget_all(root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let marks = seed::marks(id)?;
    for module in ["write_files", "include", "custom_data"] {
        ignore_missing(root.remove(&join(&[&marks, "/", module])?))?;
    }
    ignore_missing(root.remove(custom_data::FILE))?;
    forget(root, PLACES.get(1..).unwrap_or_default())
}

/// The next name that is a VM's.
fn next_of(root: &mut dyn Dir, (directory, start): &(&str, &str), last: &str) -> Option<PathText> {
    // What sorts behind the beginning itself, and begins so, stands together.
    next_name(root, directory, last.max(start)).filter(|name| name.starts_with(start))
}

fn forget(root: &mut dyn Dir, places: &[(&str, &str)]) -> Result<()> {
    for place in places {
        let mut last = PathText::new();
        while let Some(name) = next_of(root, place, &last) {
            let path = join(&[place.0, "/", &name])?;
            ignore_missing(root.remove(&path)).map_err(named(object!("script that nobody runs")))?;
            last = name;
        }
    }
    include::forget(root)?;
    if exists(root, deferred::PLACE)? { deferred::forget_all(root) } else { Ok(()) }
}
