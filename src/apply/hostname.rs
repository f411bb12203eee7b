//! /etc/hostname and the running kernel's host name.

use super::replace::{self, Target};
use super::{Root, State, read};
use crate::error::Result;
use crate::facts::{Facts, Hostname};

const FILE: &str = "etc/hostname";
const LIVE: &str = "proc/sys/kernel/hostname";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(name) = &facts.hostname else { return Ok(State::Satisfied) };
    let is_written = holds(root, FILE, &name.value)?;
    // Without /proc nobody can say; systemd reads the file by itself.
    let is_live = !root.is_live() || root.dir.stat(LIVE).is_err() || holds(root, LIVE, &name.value)?;
    Ok(if is_written && is_live { State::Satisfied } else { State::Missing })
}

fn holds(root: &mut Root<'_>, path: &str, name: &Hostname) -> Result<bool> {
    let text = read(root.dir, path, object!(FILE), root.buffers.old)?;
    Ok(text.trim_ascii() == name.as_str().as_bytes())
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(name) = &facts.hostname else { return Ok(()) };
    let target = Target::root(FILE, object!(FILE), 0o644);
    replace::edit(root.dir, target, &mut root.buffers, &mut |_, out| {
        out.put_all(&[name.value.as_str().as_bytes(), b"\n"])
    })?;
    if root.is_live() { root.system.set_hostname(name.value.as_str()) } else { Ok(()) }
}
