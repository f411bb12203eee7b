//! Does a rule of the machine that the image was made on name this one's network cards? The builder's card would stay
//! eth0 for ever, and this VM's be eth1. The rule is set aside beside its place, where udev does not read it.
//! Source: WALinuxAgent osutil/default.py, `remove_rules_files`.

use super::{Root, State, exists, ignore_missing, named};
use crate::error::Result;
use crate::facts::Facts;

const FILE: &str = "etc/udev/rules.d/70-persistent-net.rules";
const ASIDE: &str = "etc/udev/rules.d/70-persistent-net.rules.preroot";

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    Ok(if exists(root.dir, FILE)? { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    ignore_missing(root.dir.rename(FILE, ASIDE)).map_err(named(object!(FILE)))?;
    root.dir.sync_dir("etc/udev/rules.d").map_err(named(object!(FILE)))
}
