//! Does sshd take passwords? The platform's answer, where sshd will listen to it.
//!
//! sshd keeps the first value it meets. Where sshd_config includes sshd_config.d before any value of its own,
//! our file there decides, and its number puts it before 50-cloud-init.conf and the distributions' 50 and 60.
//! Elsewhere the first global line of sshd_config is edited, or one is put at the top: appended lines would
//! fall into the last `Match` block.

use super::replace::{self, Ownership, Target};
use super::{Root, State, exists, named, read};
use crate::error::{Errno, Result};
use crate::facts::Facts;
use crate::format::sshd_config::{Deciding, deciding, set};
use crate::format::text::Out;
use crate::sys::Owner;

const CONFIG: &str = "etc/ssh/sshd_config";
const DIRECTORY: &str = "etc/ssh/sshd_config.d";
const DROP_IN: &str = "etc/ssh/sshd_config.d/40-preroot.conf";
const PASSWORD: &str = "PasswordAuthentication";
/// The name every sshd knows: KbdInteractiveAuthentication took it over in OpenSSH 8.7 and kept the alias.
/// It has to be off too, or PAM asks for the same password by another way.
const CHALLENGE: &str = "ChallengeResponseAuthentication";
const KEYBOARD: &str = "KbdInteractiveAuthentication";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(wanted) = &facts.password_login else { return Ok(State::Satisfied) };
    if !exists(root.dir, "etc/ssh")? || !(has_config(root)? || exists(root.dir, DIRECTORY)?) {
        return Ok(State::Foreign { why: "this image has no sshd configuration" });
    }
    let is_set = if uses_drop_in(root)? {
        read(root.dir, DROP_IN, object!(DROP_IN), root.buffers.old)? == drop_in(wanted.value).as_bytes()
    } else {
        is_decided(read(root.dir, CONFIG, object!(CONFIG), root.buffers.old)?, wanted.value)
    };
    Ok(if is_set { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(wanted) = &facts.password_login else { return Ok(()) };
    if !uses_drop_in(root)? {
        return edit_config(root, wanted.value);
    }
    match root.dir.make_dir(DIRECTORY, Owner::root(0o755)) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        outcome => outcome.and_then(|()| root.dir.sync_dir("etc/ssh")).map_err(named(object!(DIRECTORY)))?,
    }
    let target =
        Target { path: DROP_IN, object: object!(DROP_IN), ownership: Ownership::Force(Owner::root(0o600)) };
    let content = drop_in(wanted.value).as_bytes();
    replace::write(root.dir, target, content, &mut |_, _| Ok(()))
}

fn has_config(root: &mut Root<'_>) -> Result<bool> {
    exists(root.dir, CONFIG)
}

/// Without a sshd_config of its own the image keeps it in /usr, and that one includes the directory (SUSE).
fn uses_drop_in(root: &mut Root<'_>) -> Result<bool> {
    if !has_config(root)? {
        return Ok(true);
    }
    Ok(deciding(read(root.dir, CONFIG, object!(CONFIG), root.buffers.old)?, PASSWORD) == Deciding::DropIn)
}

const fn drop_in(passwords: bool) -> &'static str {
    if passwords {
        "# Written by preroot: the platform's setting.\nPasswordAuthentication yes\n"
    } else {
        "# Written by preroot: the platform's setting.\n\
         PasswordAuthentication no\nChallengeResponseAuthentication no\n"
    }
}

fn is_decided(text: &[u8], passwords: bool) -> bool {
    let says = |keyword, word: &str| match deciding(text, keyword) {
        Deciding::Here(value) => value.eq_ignore_ascii_case(word.as_bytes()),
        // sshd's default for all three is yes.
        Deciding::Default => word == "yes",
        Deciding::DropIn => false,
    };
    if passwords {
        says(PASSWORD, "yes")
    } else {
        says(PASSWORD, "no") && (says(CHALLENGE, "no") || says(KEYBOARD, "no"))
    }
}

fn edit_config(root: &mut Root<'_>, passwords: bool) -> Result<()> {
    let word = if passwords { "yes" } else { "no" };
    set_word(root, PASSWORD, word)?;
    let text = read(root.dir, CONFIG, object!(CONFIG), root.buffers.old)?;
    if is_decided(text, passwords) { Ok(()) } else { set_word(root, CHALLENGE, word) }
}

fn set_word(root: &mut Root<'_>, keyword: &str, word: &str) -> Result<()> {
    let edit = &mut |old: &[u8], out: &mut Out<'_>| set(old, keyword, word, out);
    replace::edit(root.dir, Target::existing(object!(CONFIG)), &mut root.buffers, edit).map(|_| ())
}
