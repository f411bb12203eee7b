//! Password hashes in /etc/shadow, and their locks: the administrator's, and whoever's the seed has besides.
//!
//! Without a hash a new account has none that fits (`*`), an existing one keeps its password, and an empty
//! password, which would let anybody in on the serial console, becomes `*`.

use super::account::{self, PASSWD, SHADOW};
use super::replace::{self, Target};
use super::users::Digits;
use super::{Root, State, person, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::passwd::{CHANGED, PASSWORD, find, set_fields};
use crate::format::person::Person;
use crate::limits;

/// In shadow: no password fits, other ways of logging in stay open.
pub(super) const NO_PASSWORD: &str = "*";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    person::check(facts, root, look)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    person::apply(facts, root, look, act)
}

fn look(person: &Person<'_>, root: &mut Root<'_>) -> Result<State> {
    let name = person.name.as_str();
    if account::lookup(root.dir, &mut root.buffers, &person.name, person.allows_system)?.is_none() {
        return Ok(State::Missing);
    }
    let passwd = read(root.dir, PASSWD, object!(PASSWD), root.buffers.old)?;
    let is_shadowed = find(passwd, name).is_some_and(|line| line.field(PASSWORD) == b"x");
    let shadow = read(root.dir, SHADOW, object!(SHADOW), root.buffers.old)?;
    let is_set = find(shadow, name).is_some_and(|line| {
        let (lock, hash) = wanted(person, line.field(PASSWORD));
        line.field(PASSWORD).strip_prefix(lock) == Some(hash)
            && (!person.must_change || line.field(CHANGED) == b"0")
    });
    Ok(if is_set && is_shadowed { State::Satisfied } else { State::Missing })
}

/// The field of shadow, in two parts: the lock, and what is locked. Nothing is unlocked that would let anybody in,
/// and who has no password needs no lock.
fn wanted<'p>(person: &'p Person<'_>, there: &'p [u8]) -> (&'static [u8], &'p [u8]) {
    let unlocked = there.strip_prefix(b"!").filter(|bare| !bare.is_empty());
    match (person.hash.as_bytes(), person.is_locked) {
        (b"", _) if there.is_empty() => (b"", NO_PASSWORD.as_bytes()),
        (b"", Some(true)) if !there.starts_with(b"!") && there != NO_PASSWORD.as_bytes() => (b"!", there),
        (b"", Some(false)) => (b"", unlocked.unwrap_or(there)),
        (b"", _) => (b"", there),
        (hash, Some(true)) => (b"!", hash),
        (hash, _) => (b"", hash),
    }
}

fn act(person: &Person<'_>, root: &mut Root<'_>) -> Result<()> {
    let name = person.name.as_str();
    // Refuses system accounts.
    account::require(root.dir, &mut root.buffers, &person.name, person.allows_system)?;
    let day = Digits::of(root.day())?;
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        replace::edit(dir, Target::existing(object!(SHADOW)), buffers, &mut |old, out| {
            let line = find(old, name).ok_or(malformed!(SHADOW, "a user has no entry", 0))?;
            let (lock, hash) = wanted(person, line.field(PASSWORD));
            let mut field = heapless::Vec::<u8, { limits::PASSWORD_HASH + 2 }>::new();
            let full = too_many!("password hash", limits::PASSWORD_HASH);
            field.extend_from_slice(lock).and_then(|()| field.extend_from_slice(hash)).map_err(|_| full)?;
            // Locking alone is no change of the password.
            let is_new = !line.field(PASSWORD).ends_with(hash);
            let day = if is_new { day.as_bytes() } else { line.field(CHANGED) };
            let day = if person.must_change { b"0" } else { day };
            set_fields(old, name, &[(PASSWORD, &field), (CHANGED, day)], out)
        })?;
        // A password or nothing in passwd itself would count instead of shadow's.
        replace::edit(dir, Target::existing(object!(PASSWD)), buffers, &mut |old, out| {
            set_fields(old, name, &[(PASSWORD, b"x")], out)
        })
        .map(|_| ())
    })
}
