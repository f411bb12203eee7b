//! Accounts: group, user, the groups it is in, home; the administrator's, and whoever's the seed has besides.
//!
//! The lines are useradd's. passwd comes last, so that nobody can log in before the rest is there, and so
//! that an account that exists is whole. No `-` backup files are made: the old file is whole until the
//! rename, and a copy of shadow is one more place for hashes.

use super::account::{self, Account, GROUP, GSHADOW, PASSWD, SHADOW, SUBGID, SUBUID};
use super::password::NO_PASSWORD;
use super::replace::{self, Target};
use super::{Buffers, Object, Root, State, exists, home, join, named, person, read};
use crate::error::{Result, Rule};
use crate::facts::{Facts, UserName};
use crate::format::login_defs::LoginDefsRepr;
use crate::format::passwd::{self, SubIds, find, free_id, free_range, free_system_id};
use crate::format::person::Person;
use crate::format::text::{Out, PathText, lines};
use crate::seed;
use crate::sys::{Dir, FileType};

/// Groups of an administrator, joined where the image has them: what it grants by them is the image's choice
/// (sudo on Debian, wheel on Red Hat), and adm and systemd-journal may read logs. None is created. Desktop
/// groups (audio, plugdev ...) of cloud-init's default user are left out: nobody sits at a VM.
const GROUPS: &[&str] = &["adm", "sudo", "wheel", "systemd-journal"];

const USERADD: &str = "etc/default/useradd";
/// The primary group of who has none of its own: useradd's GROUP where /etc/default/useradd does not say another.
const DEFAULT_GROUP: &str = "users";
const DEFAULT_GID: u32 = 100;
const NO_GROUP: &Rule = unsupported!(rule GROUP, "no free group id between GID_MIN and GID_MAX");

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    // A list that cannot be read is told by `apply`.
    if !groups(root, false).unwrap_or(false) {
        return Ok(State::Missing);
    }
    person::check(facts, root, look)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let made = groups(root, true).map(|_| ());
    root.degrade(made);
    person::apply(facts, root, look, act)
}

/// Groups that the seed names beside those of its users, before these are made: as in cloud-init, of their members only
/// accounts count that are there. True when all is as it should be.
#[inline(never)]
fn groups(root: &mut Root<'_>, makes: bool) -> Result<bool> {
    let buf = core::mem::take(&mut root.buffers.person);
    let mut is_whole = true;
    let read = root.seed_file(seed::GROUPS, buf).map(|text| core::str::from_utf8(text).unwrap_or_default());
    let outcome = read.and_then(|text| {
        let is_off = root.is_switched_off;
        for line in text.lines().filter(|_| !is_off) {
            is_whole &= group(root, line, makes)?;
        }
        Ok(is_whole)
    });
    root.buffers.person = buf;
    outcome
}

fn group(root: &mut Root<'_>, line: &str, makes: bool) -> Result<bool> {
    let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
    let Some(name) = words.next() else { return Ok(true) };
    let name = UserName::parse(name)?;
    if !makes {
        let has_group = has_line(root.dir, &mut root.buffers, object!(GROUP), name.as_str())?;
        // Whether all have joined is not asked: joining twice does nothing.
        return Ok(has_group && words.next().is_none());
    }
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        let defs = account::login_defs(dir, buffers)?;
        let nobody = Person::administrator(&name, "", "");
        need_group(&mut Editor { dir, buffers, person: &nobody, homes: "", defs, day: None }, name.as_str())?;
        for member in words.clone() {
            let member = Person::administrator(&UserName::parse(member)?, "", "");
            if account::lookup(dir, buffers, &member.name, true)?.is_some() {
                let mut editor = Editor { dir, buffers, person: &member, homes: "", defs, day: None };
                join_group(&mut editor, name.as_str())?;
            }
        }
        Ok(())
    })?;
    Ok(true)
}

fn look(person: &Person<'_>, root: &mut Root<'_>) -> Result<State> {
    if person.must_exist {
        return Ok(State::Satisfied);
    }
    let buffers = &mut root.buffers;
    let Some(account) = account::lookup(root.dir, buffers, &person.name, person.allows_system)? else {
        return Ok(State::Missing);
    };
    let is_whole = has_line(root.dir, buffers, object!(SHADOW), person.name.as_str())?
        && is_member_everywhere(root.dir, buffers, person)?
        && (!makes_home(person) || home::exists(root.dir, &account)?);
    Ok(if is_whole { State::Satisfied } else { State::Missing })
}

/// As useradd's `-m` and `-M`, and as cloud-init calls it for system accounts; the platform's keys need a place.
const fn makes_home(person: &Person<'_>) -> bool {
    person.is_platforms || !person.no_home && !person.is_system
}

fn has_line(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, file: &'static Object, name: &str) -> Result<bool> {
    Ok(find(read(dir, file.name, file, buffers.old)?, name).is_some())
}

/// Of the groups asked for; the administrator's are those the image has.
fn is_member_everywhere(dir: &mut dyn Dir, buffers: &mut Buffers<'_>, person: &Person<'_>) -> Result<bool> {
    let name = person.name.as_str();
    for file in [object!(GROUP), object!(GSHADOW)] {
        let text = read(dir, file.name, file, buffers.old)?;
        let is_member =
            |group: &str, may_lack| find(text, group).map_or(may_lack, |line| line.has_member(name));
        let mut administrators = GROUPS.iter().filter(|_| person.is_administrator);
        let is_everywhere = administrators.all(|group| is_member(group, true))
            && person.groups().all(|group| is_member(group, file.name == GSHADOW));
        if !is_everywhere {
            return Ok(false);
        }
    }
    Ok(true)
}

fn act(person: &Person<'_>, root: &mut Root<'_>) -> Result<()> {
    let (day, homes) = (root.day(), root.config.home_directory());
    let buffers = &mut root.buffers;
    account::locked(root.dir, &mut |dir| {
        let defs = account::login_defs(dir, buffers)?;
        add_account(&mut Editor { dir, buffers, person, homes, defs, day })
    })?;
    if !makes_home(person) {
        return Ok(());
    }
    let account = account::require(root.dir, buffers, &person.name, person.allows_system)?;
    let mode = account::login_defs(root.dir, buffers)?.home_mode;
    home::make(root.dir, buffers, &account, mode)
}

/// What the steps below share.
struct Editor<'e, 'b> {
    dir: &'e mut dyn Dir,
    buffers: &'e mut Buffers<'b>,
    person: &'e Person<'e>,
    homes: &'e str,
    defs: LoginDefsRepr,
    day: Option<u32>,
}

fn add_account(editor: &mut Editor<'_, '_>) -> Result<()> {
    let person = editor.person;
    let known = account::lookup(editor.dir, editor.buffers, &person.name, person.allows_system)?;
    // The primary group of an account that is there stays.
    let primary = Some(person.primary_group).filter(|group| !group.is_empty() && known.is_none());
    for group in person.groups().chain(primary) {
        need_group(editor, group)?;
    }
    let account = match &known {
        Some(account) => account.clone(),
        None => new_account(editor)?,
    };
    add_shadow(editor)?;
    for group in GROUPS.iter().filter(|_| person.is_administrator) {
        join_group(editor, group)?;
    }
    person.groups().try_for_each(|group| join_group(editor, group))?;
    if known.is_some() {
        return Ok(());
    }
    if !person.is_system {
        add_sub_ids(editor, object!(SUBUID), editor.defs.sub_uids)?;
        add_sub_ids(editor, object!(SUBGID), editor.defs.sub_gids)?;
    }
    add_user(editor, &account)
}

/// Makes it as groupadd does, unless only groups that exist are wanted.
fn need_group(editor: &mut Editor<'_, '_>, group: &str) -> Result<()> {
    let groups = read(editor.dir, GROUP, object!(GROUP), editor.buffers.old)?;
    if find(groups, group).is_some() {
        return Ok(());
    }
    if editor.person.needs_groups {
        return Err(unsupported!(GROUP, "a user's group does not exist"));
    }
    let gid = free_id(groups, editor.defs.gids, None).ok_or(NO_GROUP.at(0))?;
    add_group(editor, group, Some(gid), b"x")
}

/// Its lines, where they are missing; with `None` it has that in group. gshadow only where the image uses it, and locked;
/// without it the password of group is `x` by groupadd, `!` by useradd.
fn add_group(editor: &mut Editor<'_, '_>, group: &str, gid: Option<u32>, password: &[u8]) -> Result<()> {
    let has_gshadow = exists(editor.dir, GSHADOW)?;
    let name = group.as_bytes();
    // The line of group last: what is there is whole.
    if has_gshadow {
        add_line(editor, Target::existing(object!(GSHADOW)), &[name, b"!", b"", b""])?;
    }
    if gid.is_some() {
        let (password, digits) = (if has_gshadow { b"x" } else { password }, Digits::of(gid)?);
        add_line(editor, Target::existing(object!(GROUP)), &[name, password, digits.as_bytes(), b""])?;
    }
    Ok(())
}

/// Chooses the ids, and makes the user's own group as USERGROUPS_ENAB does. A group of that name that is
/// there already, ours from before a power cut or the image's, becomes the primary group.
fn new_account(editor: &mut Editor<'_, '_>) -> Result<Account> {
    let person = editor.person;
    let name = person.name.as_str();
    let text = editor.dir.read(PASSWD, editor.buffers.old).map_err(named(object!(PASSWD)))?;
    let text = editor.buffers.old.get(..text).unwrap_or_default();
    let uid = match person.uid {
        Some(uid) if lines(text).any(|line| passwd::View::of(line).id() == Some(uid)) => {
            return Err(unsupported!(PASSWD, "a user's id is another's"));
        }
        Some(uid) => Some(uid),
        None if person.is_system => free_system_id(text, editor.defs.system_uids, None),
        None => free_id(text, editor.defs.uids, None),
    };
    let uid = uid.ok_or(unsupported!(PASSWD, "no free user id between UID_MIN and UID_MAX"))?;
    let gid = if person.primary_group.is_empty() && !person.no_user_group {
        own_group(editor, uid)?
    } else {
        let groups = read(editor.dir, GROUP, object!(GROUP), editor.buffers.old)?;
        let group = if person.primary_group.is_empty() { DEFAULT_GROUP } else { person.primary_group };
        let gid = find(groups, group).and_then(|line| line.id());
        gid.or(person.primary_group.is_empty().then_some(DEFAULT_GID))
            .ok_or(malformed!(GROUP, "group id", 0))?
    };
    let home = match person.home {
        "" => join(&[editor.homes.trim_matches('/'), "/", name]),
        home => join(&[home.trim_matches('/')]),
    };
    Ok(Account { uid, gid, home: home? })
}

fn own_group(editor: &mut Editor<'_, '_>, uid: u32) -> Result<u32> {
    let name = editor.person.name.as_str();
    let groups = read(editor.dir, GROUP, object!(GROUP), editor.buffers.old)?;
    let known = find(groups, name).map(|line| line.id());
    let gid = match known {
        Some(gid) => gid.ok_or(malformed!(GROUP, "group id", 0))?,
        None if editor.person.is_system => {
            free_system_id(groups, editor.defs.system_gids, Some(uid)).ok_or(NO_GROUP.at(0))?
        }
        None => free_id(groups, editor.defs.gids, Some(uid)).ok_or(NO_GROUP.at(0))?,
    };
    add_group(editor, name, known.is_none().then_some(gid), b"!")?;
    Ok(gid)
}

/// No password: `*`, not `!`, which sshd without PAM (Alpine) takes for an account that may not log in at all,
/// keys included (OpenSSH `LOCKED_PASSWD_PREFIX`). Module `password` sets one where there is one.
fn add_shadow(editor: &mut Editor<'_, '_>) -> Result<()> {
    let (person, defs) = (editor.person, &editor.defs);
    let hash = if person.first_hash.is_empty() { NO_PASSWORD } else { person.first_hash };
    // As useradd: system accounts neither age nor end.
    let ages = |days: Option<u32>| Digits::of(days.filter(|_| !person.is_system));
    let (day, min, max) = (Digits::of(editor.day)?, ages(defs.min_days)?, ages(defs.max_days)?);
    let (warn, inactive) = (ages(defs.warn_days)?, ages(person.inactive)?);
    let expires = ages(person.expires)?;
    let fields = [
        person.name.as_str().as_bytes(),
        hash.as_bytes(),
        day.as_bytes(),
        min.as_bytes(),
        max.as_bytes(),
        warn.as_bytes(),
        inactive.as_bytes(),
        expires.as_bytes(),
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
    let name = editor.person.name.as_str().as_bytes();
    add_line(editor, Target::existing(file), &[name, first.as_bytes(), count.as_bytes()])
}

/// Whom nobody gave a shell: the administrator has bash; others what useradd, which cloud-init calls for them, gives here.
fn default_shell(editor: &mut Editor<'_, '_>) -> Result<PathText> {
    if !editor.person.is_administrator {
        let text = read(editor.dir, USERADD, object!(USERADD), editor.buffers.old)?;
        let shell = lines(text).filter_map(|line| line.strip_prefix(b"SHELL=")).last();
        let shell = shell.and_then(|shell| core::str::from_utf8(shell.trim_ascii()).ok()).unwrap_or_default();
        if shell.starts_with('/') && !shell.contains(|c: char| c == ':' || c.is_ascii_control()) {
            return join(&[shell]);
        }
    }
    join(&[if exists(editor.dir, "bin/bash")? { "/bin/bash" } else { "/bin/sh" }])
}

fn add_user(editor: &mut Editor<'_, '_>, account: &Account) -> Result<()> {
    let (uid, gid) = (Digits::of(Some(account.uid))?, Digits::of(Some(account.gid))?);
    let home = join(&["/", &account.home])?;
    let person = editor.person;
    let shell = match person.shell {
        "" => default_shell(editor)?,
        shell => join(&[shell])?,
    };
    let (name, gecos) = (person.name.as_str().as_bytes(), person.gecos.as_bytes());
    let fields = [name, b"x", uid.as_bytes(), gid.as_bytes(), gecos, home.as_bytes(), shell.as_bytes()];
    add_line(editor, Target::existing(object!(PASSWD)), &fields)
}

/// Adds a line unless its name is there.
fn add_line(editor: &mut Editor<'_, '_>, target: Target<'_>, fields: &[&[u8]]) -> Result<()> {
    let name = fields.first().and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default();
    replace::edit(editor.dir, target, editor.buffers, &mut |old, out| {
        if find(old, name).is_some() { out.put(old) } else { passwd::add(old, fields, out) }
    })
    .map(|_| ())
}

fn join_group(editor: &mut Editor<'_, '_>, group: &str) -> Result<()> {
    let user = editor.person.name.as_str();
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
