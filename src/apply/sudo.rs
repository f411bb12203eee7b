//! The administrator may become root, and who else has a rule may what it says: one file each in sudoers.d.
//!
//! NOPASSWD only where the platform gave no password, as waagent does. visudo sees the file before sudo does,
//! where the image has it: a file with an error would lock everybody out of sudo.

use super::replace::{self, Ownership, Target};
use super::{PathText, Root, State, account, below, exists, join, named, person, read};
use crate::error::{Errno, Result};
use crate::facts::{Facts, UserName};
use crate::format::person::Person;
use crate::format::sudoers::{emit, file_name, include_directory, includes_directory};
use crate::format::text::Out;
use crate::sys::Owner;

const SUDOERS: &str = "etc/sudoers";
/// SUSE's, read where there is none in /etc; it includes the directory.
const VENDORS: &str = "usr/etc/sudoers";
const DIRECTORY: &str = "etc/sudoers.d";
const VISUDO: &[&str] = &["/usr/sbin/visudo", "/sbin/visudo"];

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    person::check(facts, root, look)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    person::apply(facts, root, look, act)
}

fn look(person: &Person<'_>, root: &mut Root<'_>) -> Result<State> {
    if !person.may_everything() && person.sudo().next().is_none() {
        return Ok(State::Satisfied);
    }
    let has_own = exists(root.dir, SUDOERS)?;
    if !has_own && !exists(root.dir, VENDORS)? {
        return Ok(State::Foreign { why: "this image has no sudo; log in as the administrator and use su" });
    }
    let account = account::lookup(root.dir, &mut root.buffers, &person.name, person.allows_system)?;
    let Some(account::Account { uid, .. }) = account else { return Ok(State::Missing) };
    let is_read =
        !has_own || includes_directory(read(root.dir, SUDOERS, object!(SUDOERS), root.buffers.old)?);
    let there = read(root.dir, &path(&person.name)?, object!(DIRECTORY), root.buffers.old)?;
    let mut rule = Out::new(too_many!(DIRECTORY), root.buffers.new);
    emit(person, uid, &mut rule)?;
    Ok(if is_read && there == rule.as_bytes() { State::Satisfied } else { State::Missing })
}

fn act(person: &Person<'_>, root: &mut Root<'_>) -> Result<()> {
    let uid = account::require(root.dir, &mut root.buffers, &person.name, person.allows_system)?.uid;
    match root.dir.make_dir(DIRECTORY, Owner::root(0o750)) {
        Ok(()) => root.dir.sync_dir("etc").map_err(named(object!(DIRECTORY)))?,
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        Err(error) => return Err(named(object!(DIRECTORY))(error)),
    }
    let mut rule = Out::new(too_many!(DIRECTORY), root.buffers.new);
    emit(person, uid, &mut rule)?;
    let n = rule.as_bytes().len();
    write(root, &path(&person.name)?, n)?;
    include(root)
}

fn path(user: &UserName) -> Result<PathText> {
    below(DIRECTORY, &file_name(user))
}

fn include(root: &mut Root<'_>) -> Result<()> {
    if !exists(root.dir, SUDOERS)? {
        return Ok(());
    }
    replace::edit(root.dir, Target::existing(object!(SUDOERS)), &mut root.buffers, &mut |old, out| {
        if includes_directory(old) { out.put(old) } else { include_directory(old, out) }
    })
    .map(|_| ())
}

/// Replaces a file by the first `n` bytes of the new buffer, after visudo has seen them.
fn write(root: &mut Root<'_>, path: &str, n: usize) -> Result<()> {
    let visudo = root.program(VISUDO);
    let (system, mount) = (&mut *root.system, root.path);
    let target = Target { path, object: object!(DIRECTORY), ownership: Ownership::Force(Owner::root(0o440)) };
    let content = root.buffers.new.get(..n).unwrap_or_default();
    replace::write(root.dir, target, content, &mut |_, temporary| {
        let Some(visudo) = visudo else { return Ok(()) };
        let file = join(&["/", temporary])?;
        super::run_of_image(
            system,
            mount,
            &[visudo, "-c", "-f", &file],
            object!(DIRECTORY),
            malformed!(DIRECTORY, "visudo refuses the rule"),
        )
    })
}
