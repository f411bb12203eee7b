//! The administrator's password hash in /etc/shadow.
//!
//! Without a hash a new account has none that fits (`*`), an existing one keeps its password, and an empty
//! password, which would let anybody in on the serial console, becomes `*`.

use super::account::{self, PASSWD, SHADOW};
use super::replace::{self, Target};
use super::users::Digits;
use super::{Root, State, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::passwd::{CHANGED, PASSWORD, View, find, set_fields};

/// In shadow: no password fits, other ways of logging in stay open.
pub(super) const NO_PASSWORD: &str = "*";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(user) = &facts.user else { return Ok(State::Satisfied) };
    let name = user.value.as_str();
    if account::lookup(root.dir, &mut root.buffers, &user.value, root.config.allow_reset_sys_user())?
        .is_none()
    {
        return Ok(State::Missing);
    }
    let passwd = read(root.dir, PASSWD, object!(PASSWD), root.buffers.old)?;
    let is_shadowed = find(passwd, name).is_some_and(|line| line.field(PASSWORD) == b"x");
    let shadow = read(root.dir, SHADOW, object!(SHADOW), root.buffers.old)?;
    let is_set = find(shadow, name).is_some_and(|line| is_as_asked(&line, facts));
    Ok(if is_set && is_shadowed { State::Satisfied } else { State::Missing })
}

fn is_as_asked(line: &View<'_>, facts: &Facts) -> bool {
    let there = line.field(PASSWORD);
    match &facts.password {
        Some(hash) => there == hash.value.as_str().as_bytes(),
        None => !there.is_empty(),
    }
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(user) = &facts.user else { return Ok(()) };
    let name = user.value.as_str();
    // Refuses system accounts.
    account::require(root.dir, &mut root.buffers, &user.value, root.config.allow_reset_sys_user())?;
    let hash = facts.password.as_ref().map_or(NO_PASSWORD, |hash| hash.value.as_str()).as_bytes();
    let day = Digits::of(root.day())?;
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        replace::edit(
            dir,
            Target::existing(object!(SHADOW)),
            buffers,
            &mut |old, out| match find(old, name) {
                None => Err(malformed!(SHADOW, "administrator has no entry", 0)),
                Some(line) if is_as_asked(&line, facts) => out.put(old),
                Some(_) => set_fields(old, name, &[(PASSWORD, hash), (CHANGED, day.as_bytes())], out),
            },
        )?;
        // A password or nothing in passwd itself would count instead of shadow's.
        replace::edit(dir, Target::existing(object!(PASSWD)), buffers, &mut |old, out| {
            set_fields(old, name, &[(PASSWORD, b"x")], out)
        })
        .map(|_| ())
    })
}
