//! The administrator may become root: one file in sudoers.d.
//!
//! NOPASSWD only where the platform gave no password, as waagent does. visudo sees the file before sudo does,
//! where the image has it: a file with an error would lock everybody out of sudo.

use super::replace::{self, Ownership, Target};
use super::{PathText, Root, State, account, below, exists, join, named, read};
use crate::error::{Errno, Result};
use crate::facts::{Facts, UserName};
use crate::format::sudoers::{emit, file_name, include_directory, includes_directory};
use crate::format::text::Out;
use crate::sys::Owner;

const SUDOERS: &str = "etc/sudoers";
/// SUSE's, read where there is none in /etc; it includes the directory.
const VENDORS: &str = "usr/etc/sudoers";
const DIRECTORY: &str = "etc/sudoers.d";
const VISUDO: &[&str] = &["/usr/sbin/visudo", "/sbin/visudo"];

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(user) = &facts.user else { return Ok(State::Satisfied) };
    let has_own = exists(root.dir, SUDOERS)?;
    if !has_own && !exists(root.dir, VENDORS)? {
        return Ok(State::Foreign { why: "this image has no sudo; log in as the administrator and use su" });
    }
    let account =
        account::lookup(root.dir, &mut root.buffers, &user.value, root.config.allow_reset_sys_user())?;
    let Some(account::Account { uid, .. }) = account else { return Ok(State::Missing) };
    let is_read =
        !has_own || includes_directory(read(root.dir, SUDOERS, object!(SUDOERS), root.buffers.old)?);
    let there = read(root.dir, &path(&user.value)?, object!(DIRECTORY), root.buffers.old)?;
    let mut rule = Out::new(too_many!(DIRECTORY), root.buffers.new);
    emit(&user.value, uid, facts.password.is_some(), &mut rule)?;
    Ok(if is_read && there == rule.as_bytes() { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(user) = &facts.user else { return Ok(()) };
    let uid =
        account::require(root.dir, &mut root.buffers, &user.value, root.config.allow_reset_sys_user())?.uid;
    match root.dir.make_dir(DIRECTORY, Owner::root(0o750)) {
        Ok(()) => root.dir.sync_dir("etc").map_err(named(object!(DIRECTORY)))?,
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        Err(error) => return Err(named(object!(DIRECTORY))(error)),
    }
    let mut bytes = [0; 256];
    let mut rule = Out::new(too_many!(DIRECTORY), &mut bytes);
    emit(&user.value, uid, facts.password.is_some(), &mut rule)?;
    let ownership = Ownership::Force(Owner::root(0o440));
    write(
        root,
        Target { path: &path(&user.value)?, object: object!(DIRECTORY), ownership },
        rule.as_bytes(),
    )?;
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

/// Replaces a file after visudo has seen it.
fn write(root: &mut Root<'_>, target: Target<'_>, content: &[u8]) -> Result<()> {
    let visudo = root.program(VISUDO);
    let (system, mount) = (&mut *root.system, root.path);
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
