//! `bootcmd` and boothooks: the scripts that run before anything else is made. They are files of the seed, and written before
//! the others; who runs them is the stage.

use super::write_files::{self, File};
use super::{Root, State};
use crate::error::Result;
use crate::facts::Facts;

/// Where they are.
pub const DIRECTORY: &str = "var/lib/preroot/scripts/boot";

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    write_files::check_those(root, is_one)
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    write_files::apply_those(root, is_one)
}

fn is_one(file: &File<'_>) -> bool {
    file.path.strip_prefix(DIRECTORY).is_some_and(|rest| rest.starts_with('/'))
}
