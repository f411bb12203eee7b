//! `bootcmd` and boothooks: the scripts that run before anything else is made. They are files of the seed, and written before
//! the others; who runs them is the stage.

use super::{Root, State, write_files};
use crate::error::Result;
use crate::facts::Facts;

/// Where they are.
pub const DIRECTORY: &str = "var/lib/preroot/scripts/boot";
const BELOW: &str = "var/lib/preroot/scripts/boot/";

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    write_files::check_below(root, BELOW)
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    write_files::apply_below(root, BELOW)
}
