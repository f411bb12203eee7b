//! Does sshd take passwords, as the platform says, and when does it ask a silent client for a sign of life, as the
//! configuration says (OS.SshClientAliveInterval)? Both where sshd will listen to them.
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
use crate::format::text::{Out, digits};
use crate::sys::Owner;

const CONFIG: &str = "etc/ssh/sshd_config";
const DIRECTORY: &str = "etc/ssh/sshd_config.d";
const DROP_IN: &str = "etc/ssh/sshd_config.d/40-preroot.conf";
const PASSWORD: &str = "PasswordAuthentication";
/// The name every sshd knows: KbdInteractiveAuthentication took it over in OpenSSH 8.7 and kept the alias.
/// It has to be off too, or PAM asks for the same password by another way.
const CHALLENGE: &str = "ChallengeResponseAuthentication";
const KEYBOARD: &str = "KbdInteractiveAuthentication";

const INTERVAL: &str = "ClientAliveInterval";

/// What sshd is to do; `None` leaves the image's choice.
struct Wanted {
    passwords: Option<bool>,
    interval_s: Option<u32>,
}

impl Wanted {
    /// Nothing when nothing is asked for.
    fn of(facts: &Facts, root: &Root<'_>) -> Option<Self> {
        let passwords = facts.password_login.as_ref().map(|fact| fact.value);
        let interval_s = root.config.ssh_client_alive_interval_s();
        (passwords.is_some() || interval_s.is_some()).then_some(Self { passwords, interval_s })
    }

    /// Our file in sshd_config.d.
    fn emit(&self, out: &mut Out<'_>) -> Result<()> {
        out.put(b"# Written by preroot: the platform's setting.\n")?;
        out.put(match self.passwords {
            Some(true) => b"PasswordAuthentication yes\n",
            Some(false) => b"PasswordAuthentication no\nChallengeResponseAuthentication no\n",
            None => b"",
        })?;
        let Some(interval_s) = self.interval_s else { return Ok(()) };
        out.put_all(&[INTERVAL.as_bytes(), b" "])?;
        out.put_number(u64::from(interval_s))?;
        out.put(b"\n")
    }

    /// True when sshd_config itself says so.
    fn is_decided(&self, text: &[u8]) -> bool {
        self.passwords.is_none_or(|passwords| is_decided(text, passwords))
            && self
                .interval_s
                .is_none_or(|interval_s| says(text, INTERVAL, digits(u64::from(interval_s), &mut [0; 20])))
    }
}

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(wanted) = Wanted::of(facts, root) else { return Ok(State::Satisfied) };
    if !exists(root.dir, "etc/ssh")? || !(has_config(root)? || exists(root.dir, DIRECTORY)?) {
        return Ok(State::Foreign { why: "this image has no sshd configuration" });
    }
    let is_set = if uses_drop_in(root)? {
        let mut drop_in = Out::new(object!(DROP_IN).full, root.buffers.new);
        wanted.emit(&mut drop_in)?;
        read(root.dir, DROP_IN, object!(DROP_IN), root.buffers.old)? == drop_in.as_bytes()
    } else {
        wanted.is_decided(read(root.dir, CONFIG, object!(CONFIG), root.buffers.old)?)
    };
    Ok(if is_set { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(wanted) = Wanted::of(facts, root) else { return Ok(()) };
    if !uses_drop_in(root)? {
        return edit_config(root, &wanted);
    }
    match root.dir.make_dir(DIRECTORY, Owner::root(0o755)) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        outcome => outcome.and_then(|()| root.dir.sync_dir("etc/ssh")).map_err(named(object!(DIRECTORY)))?,
    }
    let target =
        Target { path: DROP_IN, object: object!(DROP_IN), ownership: Ownership::Force(Owner::root(0o600)) };
    let mut drop_in = Out::new(object!(DROP_IN).full, root.buffers.new);
    wanted.emit(&mut drop_in)?;
    replace::write(root.dir, target, drop_in.as_bytes(), &mut |_, _| Ok(()))
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

#[inline(never)]
fn says(text: &[u8], keyword: &str, word: &str) -> bool {
    match deciding(text, keyword) {
        Deciding::Here(value) => value.eq_ignore_ascii_case(word.as_bytes()),
        // sshd's default for all switches is yes, for the interval none.
        Deciding::Default => word == "yes",
        Deciding::DropIn => false,
    }
}

fn is_decided(text: &[u8], passwords: bool) -> bool {
    if passwords {
        says(text, PASSWORD, "yes")
    } else {
        says(text, PASSWORD, "no") && (says(text, CHALLENGE, "no") || says(text, KEYBOARD, "no"))
    }
}

fn edit_config(root: &mut Root<'_>, wanted: &Wanted) -> Result<()> {
    if let Some(interval_s) = wanted.interval_s {
        set_word(root, INTERVAL, digits(u64::from(interval_s), &mut [0; 20]))?;
    }
    let Some(passwords) = wanted.passwords else { return Ok(()) };
    let word = if passwords { "yes" } else { "no" };
    set_word(root, PASSWORD, word)?;
    let text = read(root.dir, CONFIG, object!(CONFIG), root.buffers.old)?;
    if is_decided(text, passwords) { Ok(()) } else { set_word(root, CHALLENGE, word) }
}

fn set_word(root: &mut Root<'_>, keyword: &str, word: &str) -> Result<()> {
    let edit = &mut |old: &[u8], out: &mut Out<'_>| set(old, keyword, word, out);
    replace::edit(root.dir, Target::existing(object!(CONFIG)), &mut root.buffers, edit).map(|_| ())
}
