//! root's password: locked where the configuration says so (Provisioning.DeleteRootPassword).

use super::account::{self, SHADOW};
use super::replace::{self, Target};
use super::{Root, State, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::text::{Out, lines};

/// As waagent writes it: the day says nothing, the lock all. Source: WALinuxAgent osutil/default.py, `del_root_password`.
const LOCKED: &[u8] = b"root:*LOCK*:14600::::::\n";

/// shadow with root's line replaced, where it stands.
pub(super) fn lock(shadow: &[u8], out: &mut Out<'_>) -> Result<()> {
    lines(shadow).try_for_each(|line| out.put(if line.starts_with(b"root:") { LOCKED } else { line }))
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    if !root.config.delete_root_password() {
        return Ok(State::Satisfied);
    }
    let shadow = read(root.dir, SHADOW, object!(SHADOW), root.buffers.old)?;
    let is_open = lines(shadow).any(|line| line.starts_with(b"root:") && line != LOCKED);
    Ok(if is_open { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    if !root.config.delete_root_password() {
        return Ok(());
    }
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        replace::edit(dir, Target::existing(object!(SHADOW)), buffers, &mut |old, out| lock(old, out))
            .map(|_| ())
    })
}
