//! The administrator's account: group, user, groups that let it administer, home.
//!
//! The lines are useradd's. passwd comes last, so that nobody can log in before the rest is there, and so
//! that an account that exists is whole. No `-` backup files are made: the old file is whole until the
//! rename, and a copy of shadow is one more place for hashes.

use super::account::{self, Account, GROUP, GSHADOW, PASSWD, SHADOW, SUBGID, SUBUID};
use super::password::NO_PASSWORD;
use super::replace::{self, Target};
use super::{Buffers, Object, Root, State, exists, home, join, named, read};
use crate::error::Result;
use crate::facts::{Facts, UserName};
use crate::format::login_defs::LoginDefsRepr;
use crate::format::passwd::{self, SubIds, find, free_id, free_range};
use crate::format::text::Out;
use crate::sys::{Dir, FileType};

/// Groups of an administrator, joined where the image has them: what it grants by them is the image's choice
/// (sudo on Debian, wheel on Red Hat), and adm and systemd-journal may read logs. None is created. Desktop
/// groups (audio, plugdev ...) of cloud-init's default user are left out: nobody sits at a VM.
const GROUPS: &[&str] = &["adm", "sudo", "wheel", "systemd-journal"];

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(user) = &facts.user else { return Ok(State::Satisfied) };
    let (user, buffers) = (&user.value, &mut root.buffers);
    let Some(account) = account::lookup(root.dir, buffers, user, root.config.allow_reset_sys_user())? else {
        return Ok(State::Missing);
    };
    let is_whole = has_line(root.dir, buffers, object!(SHADOW), user.as_str())?
        && is_member_everywhere(root.dir, buffers, user)?
        && home::exists(root.dir, &account)?;
    Ok(if is_whole { State::Satisfied } else { State::Missing })
}

fn has_line(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, file: &'static Object, name: &str) -> Result<bool> {
    Ok(find(read(dir, file.name, file, buffers.old)?, name).is_some())
}

fn is_member_everywhere(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, user: &UserName) -> Result<bool> {
    let is_member = |text: &[u8]| {
        GROUPS.iter().filter_map(|group| find(text, group)).all(|line| line.has_member(user.as_str()))
    };
    Ok(is_member(read(dir, GROUP, object!(GROUP), buffers.old)?)
        && is_member(read(dir, GSHADOW, object!(GSHADOW), buffers.old)?))
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(user) = &facts.user else { return Ok(()) };
    let day = root.day();
    let (homes, allows_system) = (root.config.home_directory(), root.config.allow_reset_sys_user());
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        let defs = account::login_defs(dir, buffers)?;
        add_account(&mut Editor { dir, buffers, user: &user.value, homes, allows_system, defs, day })
    })?;
    let account = account::require(root.dir, buffers, &user.value, allows_system)?;
    let mode = account::login_defs(root.dir, buffers)?.home_mode;
    home::make(root.dir, buffers, &account, mode)
}

/// What the steps below share.
struct Editor<'e, 'b> {
    dir: &'e mut dyn Dir,
    buffers: &'e mut Buffers<'b>,
    user: &'e UserName,
    homes: &'e str,
    allows_system: bool,
    defs: LoginDefsRepr,
    day: Option<u32>,
}

fn add_account(editor: &mut Editor<'_, '_>) -> Result<()> {
    let known = account::lookup(editor.dir, editor.buffers, editor.user, editor.allows_system)?;
    let account = match &known {
        Some(account) => account.clone(),
        None => new_account(editor)?,
    };
    add_shadow(editor)?;
    for group in GROUPS {
        join_group(editor, group)?;
    }
    if known.is_some() {
        return Ok(());
    }
    add_sub_ids(editor, object!(SUBUID), editor.defs.sub_uids)?;
    add_sub_ids(editor, object!(SUBGID), editor.defs.sub_gids)?;
    add_user(editor, &account)
}

/// Chooses the ids, and makes the user's own group as USERGROUPS_ENAB does. A group of that name that is
/// there already, ours from before a power cut or the image's, becomes the primary group.
fn new_account(editor: &mut Editor<'_, '_>) -> Result<Account> {
    let name = editor.user.as_str();
    let text = editor.dir.read(PASSWD, editor.buffers.old).map_err(named(object!(PASSWD)))?;
    let text = editor.buffers.old.get(..text).unwrap_or_default();
    let uid = free_id(text, editor.defs.uids, None)
        .ok_or(unsupported!(PASSWD, "no free user id between UID_MIN and UID_MAX"))?;
    let groups = read(editor.dir, GROUP, object!(GROUP), editor.buffers.old)?;
    let (gid, is_new) = match find(groups, name).map(|line| line.id()) {
        Some(gid) => (gid.ok_or(malformed!(GROUP, "group id", 0))?, false),
        None => {
            let gid = free_id(groups, editor.defs.gids, Some(uid));
            (gid.ok_or(unsupported!(GROUP, "no free group id between GID_MIN and GID_MAX"))?, true)
        }
    };
    // As groupadd: gshadow only where the image uses it, and locked; without it the lock is here.
    let has_gshadow = exists(editor.dir, GSHADOW)?;
    if is_new {
        let (password, digits): (&[u8], _) = (if has_gshadow { b"x" } else { b"!" }, Digits::of(Some(gid))?);
        add_line(
            editor,
            Target::existing(object!(GROUP)),
            &[name.as_bytes(), password, digits.as_bytes(), b""],
        )?;
    }
    if has_gshadow {
        add_line(editor, Target::existing(object!(GSHADOW)), &[name.as_bytes(), b"!", b"", b""])?;
    }
    Ok(Account { uid, gid, home: join(&[editor.homes.trim_matches('/'), "/", name])? })
}

/// No password: `*`, not `!`, which sshd without PAM (Alpine) takes for an account that may not log in at all,
/// keys included (OpenSSH `LOCKED_PASSWD_PREFIX`). Module `password` sets one where there is one.
fn add_shadow(editor: &mut Editor<'_, '_>) -> Result<()> {
    let (day, min) = (Digits::of(editor.day)?, Digits::of(editor.defs.min_days)?);
    let (max, warn) = (Digits::of(editor.defs.max_days)?, Digits::of(editor.defs.warn_days)?);
    let name = editor.user.as_str().as_bytes();
    let fields = [
        name,
        NO_PASSWORD.as_bytes(),
        day.as_bytes(),
        min.as_bytes(),
        max.as_bytes(),
        warn.as_bytes(),
        b"",
        b"",
        b"",
    ];
    add_line(editor, Target::root(SHADOW, object!(SHADOW), 0o600), &fields)
}

/// Only where the image uses them, as useradd: rootless containers need them.
fn add_sub_ids(editor: &mut Editor<'_, '_>, file: &'static Object, ids: SubIds) -> Result<()> {
    // A link there, or a missing file, is an image with ways of its own; a home matters more than sub-ids.
    let is_file = editor.dir.stat(file.name).is_ok_and(|stat| stat.file_type == FileType::File);
    if ids.count == 0 || !is_file {
        return Ok(());
    }
    let taken = read(editor.dir, file.name, file, editor.buffers.old)?;
    let Some(first) = free_range(taken, ids) else { return Ok(()) };
    let (first, count) = (Digits::of(Some(first))?, Digits::of(Some(ids.count))?);
    let name = editor.user.as_str().as_bytes();
    add_line(editor, Target::existing(file), &[name, first.as_bytes(), count.as_bytes()])
}

fn add_user(editor: &mut Editor<'_, '_>, account: &Account) -> Result<()> {
    let (uid, gid) = (Digits::of(Some(account.uid))?, Digits::of(Some(account.gid))?);
    let home = join(&["/", &account.home])?;
    let shell: &[u8] = if exists(editor.dir, "bin/bash")? { b"/bin/bash" } else { b"/bin/sh" };
    let name = editor.user.as_str().as_bytes();
    let fields = [name, b"x", uid.as_bytes(), gid.as_bytes(), b"", home.as_bytes(), shell];
    add_line(editor, Target::existing(object!(PASSWD)), &fields)
}

/// Adds a line unless its name is there.
fn add_line(editor: &mut Editor<'_, '_>, target: Target<'_>, fields: &[&[u8]]) -> Result<()> {
    let name = editor.user.as_str();
    replace::edit(editor.dir, target, editor.buffers, &mut |old, out| {
        if find(old, name).is_some() { out.put(old) } else { passwd::add(old, fields, out) }
    })
    .map(|_| ())
}

fn join_group(editor: &mut Editor<'_, '_>, group: &str) -> Result<()> {
    let user = editor.user.as_str();
    for file in [object!(GROUP), object!(GSHADOW)] {
        if !exists(editor.dir, file.name)? {
            continue;
        }
        replace::edit(editor.dir, Target::existing(file), editor.buffers, &mut |old, out| match find(
            old, group,
        ) {
            Some(line) if !line.has_member(user) => passwd::add_member(old, group, user, out),
            _ => out.put(old),
        })?;
    }
    Ok(())
}

/// A number as text.
pub(super) struct Digits {
    bytes: [u8; 10],
    len: usize,
}

impl Digits {
    /// Empty for no number.
    pub(super) fn of(number: Option<u32>) -> Result<Self> {
        let mut bytes = [0; 10];
        let mut out = Out::new(too_many!("number"), &mut bytes);
        if let Some(number) = number {
            out.put_number(u64::from(number))?;
        }
        let len = out.as_bytes().len();
        Ok(Self { bytes, len })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
