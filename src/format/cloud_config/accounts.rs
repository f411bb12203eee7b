//! Who gets which password and keys? `users`, `chpasswd`, `password` and the keys of the default account, as files
//! `users/N` of the seed.
//!
//! `users` fills them from 0 on, what only adds to an account from the last one down: files are applied in their order,
//! and chpasswd has the last word, as in cloud-init. A clear password is hashed as it comes and overwritten.

use super::rows::Act;
use super::{Entries, Learned, WHAT, put_line, truth};
use crate::error::{Result, Rule};
use crate::facts::{PasswordHash, SshKey, UserName};
use crate::format::person::Person;
use crate::format::sha512_crypt::{salt, sha512_crypt};
use crate::format::text::{PathText, digits, join, split_once};
use crate::limits;
use crate::secret::Secret;

/// A line of chpasswd: a name, `:`, a hash or a clear password.
const LINE: usize = limits::USER_NAME + 1 + limits::PASSWORD_HASH;
const RANDOM: &Rule = unsupported!(rule WHAT, "a random password: nobody could read it here");
const NO_SALT: &Rule = unsupported!(rule WHAT, "no randomness for a salt: the password is left out");
const NOT_A_LINE: &Rule = malformed!(WHAT, "no NAME:PASSWORD in chpasswd");
const FULL: &Rule = too_many!("users");

/// Number of a file `users/N`.
type Slot = usize;

pub(super) struct Accounts {
    /// Files from 0 on.
    users: Slot,
    /// Files from the last down.
    others: Slot,
    /// Of the default account, its keys; and the same keys for root.
    keys: Option<(Slot, Slot)>,
    /// Of the default account, its password.
    password: Option<Slot>,
    /// For each file: it is a line of chpasswd.
    chpasswd: u64,
    /// root gets the default account's keys, those of the platform with them (cloud-init, cc_ssh.apply_credentials).
    shares_with_root: bool,
    keeps_password: bool,
    has_users: bool,
    has_default: bool,
    /// The user that is read.
    has_name: bool,
    has_lock: bool,
    /// The user of chpasswd that is read.
    name: Option<UserName>,
    kind: Kind,
    line: Secret<LINE>,
    is_long: bool,
}

/// `type` of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hash,
    Text,
    Random,
}

/// Whom a password is for.
enum Whom<'n> {
    Default,
    Named(&'n UserName),
}

impl Accounts {
    pub(super) const fn new() -> Self {
        Self {
            users: 0,
            others: 0,
            keys: None,
            password: None,
            chpasswd: 0,
            shares_with_root: false,
            keeps_password: false,
            has_users: false,
            has_default: false,
            has_name: false,
            has_lock: false,
            name: None,
            kind: Kind::Hash,
            line: Secret::new(),
            is_long: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.line.wipe();
        (self.users, self.others, self.keys, self.password, self.chpasswd) = (0, 0, None, None, 0);
        (self.shares_with_root, self.keeps_password) = (false, false);
        (self.has_users, self.has_default) = (false, false);
        self.begin();
    }

    pub(super) fn forget(&self, entries: &mut dyn Entries) -> Result<()> {
        (0..limits::USERS).try_for_each(|slot| entries.forget(&file(slot)?))
    }

    /// `users` is a list, even if it is empty.
    pub(super) fn begin_list(&mut self) {
        self.has_users = true;
    }

    /// An object in `users` or `chpasswd.users` begins.
    pub(super) fn begin(&mut self) {
        self.line.wipe();
        (self.has_name, self.has_lock, self.is_long) = (false, false, false);
        (self.name, self.kind) = (None, Kind::Hash);
    }

    /// A free file from the last down.
    fn other(&mut self) -> Option<Slot> {
        let taken = self.users.saturating_add(self.others);
        // The one after the last of `users` may be in the making.
        let slot = limits::USERS.checked_sub(self.others.saturating_add(1))?;
        (taken.saturating_add(1) < limits::USERS).then(|| self.others = self.others.saturating_add(1))?;
        Some(slot)
    }

    fn has_room(&self) -> bool {
        self.users.saturating_add(self.others) < limits::USERS
    }

    /// A scalar that is no password.
    pub(super) fn value(
        &mut self,
        act: Act,
        value: &str,
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        match act {
            Act::Key => return self.key(value, learned, entries),
            Act::DisableRoot => self.shares_with_root = truth(value) == Some(false),
            Act::Expire => self.keeps_password = truth(value) == Some(false),
            Act::ChpasswdName => self.name = UserName::parse(value).ok(),
            Act::ChpasswdKind => {
                self.kind = match value {
                    "text" => Kind::Text,
                    "RANDOM" => Kind::Random,
                    _ => Kind::Hash,
                }
            }
            Act::UserItem => return self.item(value, learned, entries),
            Act::UserName => {
                self.has_name = Person::takes("name", value);
                return self.user_line("name", value, learned, entries);
            }
            Act::UserTruth(word) => {
                self.has_lock |= word == "lock_passwd";
                let value = match truth(value) {
                    Some(true) => "true",
                    Some(false) => "false",
                    None => value,
                };
                return self.user_line(word, value, learned, entries);
            }
            // Deprecated words for no rule.
            Act::UserLine("sudo") if truth(value) == Some(false) => {}
            Act::UserLine(word) => return self.user_line(word, value, learned, entries),
            _ => {}
        }
        Ok(())
    }

    /// A line for the user that is read.
    fn user_line(
        &mut self,
        word: &'static str,
        value: &str,
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        if !self.has_room() {
            learned.refuse(FULL.above(limits::USERS));
            return Ok(());
        }
        if Person::takes(word, value) {
            return put_line(&file(self.users)?, &[word, " ", value, "\n"], entries);
        }
        learned.refuse(malformed!(WHAT, "value of a user", self.users as u64));
        Ok(())
    }

    /// `default`, or names between commas.
    fn item(&mut self, value: &str, learned: &mut Learned, entries: &mut dyn Entries) -> Result<()> {
        self.has_users = true;
        for name in value.split(',').map(str::trim_ascii).filter(|name| !name.is_empty()) {
            if name == "default" {
                self.has_default = true;
                continue;
            }
            self.begin();
            self.has_name = Person::takes("name", name);
            self.user_line("name", name, learned, entries)?;
            self.finish_user(learned, entries)?;
        }
        Ok(())
    }

    /// The user is whole; one that cannot be used makes room for the next.
    pub(super) fn finish_user(&mut self, learned: &mut Learned, entries: &mut dyn Entries) -> Result<()> {
        self.has_users = true;
        if !self.has_room() {
            return Ok(());
        }
        let file = file(self.users)?;
        if !self.has_name {
            learned.refuse(malformed!(WHAT, "a user without a name", self.users as u64));
            return entries.forget(&file);
        }
        if !self.has_lock {
            entries.put(&file, b"lock_passwd true\n")?;
        }
        self.users = self.users.saturating_add(1);
        Ok(())
    }

    fn key(&mut self, value: &str, learned: &mut Learned, entries: &mut dyn Entries) -> Result<()> {
        if let Err(error) = SshKey::parse(value) {
            learned.refuse(error);
            return Ok(());
        }
        let (mine, roots) = match self.keys {
            Some(slots) => slots,
            None => {
                let (Some(mine), Some(roots)) = (self.other(), self.other()) else {
                    learned.refuse(FULL.above(limits::USERS));
                    return Ok(());
                };
                entries.put(&file(mine)?, b"default true\n")?;
                entries.put(&file(roots)?, b"name root\n")?;
                *self.keys.insert((mine, roots))
            }
        };
        let key = value.trim_ascii();
        put_line(&file(mine)?, &["ssh_authorized_keys ", key, "\n"], entries)?;
        put_line(&file(roots)?, &["ssh_authorized_keys ", key, "\n"], entries)
    }

    /// A password, for whoever `act` says.
    pub(super) fn password(
        &mut self,
        act: Act,
        value: &str,
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        match act {
            Act::Password => self.set_password(&Whom::Default, value, Kind::Hash, learned, entries),
            // A hash takes its time: not for nothing.
            Act::PlainPassword if !self.has_room() => {
                learned.refuse(FULL.above(limits::USERS));
                Ok(())
            }
            Act::PlainPassword => {
                let hash = hash(value, learned, entries);
                hash.map_or(Ok(()), |hash| self.user_line("hashed_passwd", hash.as_str(), learned, entries))
            }
            _ => {
                self.line.wipe();
                self.is_long = self.line.push(FULL, value.as_bytes()).is_err();
                Ok(())
            }
        }
    }

    /// The object in `chpasswd.users` is whole.
    pub(super) fn finish_chpasswd_user(
        &mut self,
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        let (name, kind) = (self.name.take(), self.kind);
        let line = core::mem::take(&mut self.line);
        let password = core::str::from_utf8(line.expose()).unwrap_or_default();
        match name {
            _ if kind == Kind::Random => learned.refuse(RANDOM.at(0)),
            Some(name) if !password.is_empty() && !self.is_long => {
                let is_hash = PasswordHash::parse(password).is_ok();
                if kind == Kind::Hash && !is_hash {
                    learned.refuse(malformed!(WHAT, "a password that is no hash", 0));
                } else {
                    self.set_password(&Whom::Named(&name), password, kind, learned, entries)?;
                }
            }
            _ => learned.refuse(NOT_A_LINE.at(0)),
        }
        Ok(())
    }

    /// A piece of `chpasswd.list`, or of an item of it.
    pub(super) fn list_part(
        &mut self,
        part: &[u8],
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            self.is_long |= self.line.push(FULL, text).is_err();
            if ends {
                self.list_end(learned, entries)?;
            }
        }
        Ok(())
    }

    /// A line of it ends; an empty one says nothing.
    pub(super) fn list_end(&mut self, learned: &mut Learned, entries: &mut dyn Entries) -> Result<()> {
        let is_long = core::mem::take(&mut self.is_long);
        let line = core::mem::take(&mut self.line);
        let text = core::str::from_utf8(line.expose()).unwrap_or_default().trim_ascii();
        if text.is_empty() && !is_long {
            return Ok(());
        }
        let split = split_once(text, ":").filter(|(_, password)| !password.is_empty() && !is_long);
        let named = split.and_then(|(name, password)| Some((UserName::parse(name).ok()?, password)));
        match named {
            Some((name, password)) => {
                self.set_password(&Whom::Named(&name), password, Kind::Hash, learned, entries)
            }
            None => {
                learned.refuse(NOT_A_LINE.at(0));
                Ok(())
            }
        }
    }

    /// `kind` says what a password that looks like a hash is; others are clear.
    #[inline(never)]
    fn set_password(
        &mut self,
        whom: &Whom<'_>,
        password: &str,
        kind: Kind,
        learned: &mut Learned,
        entries: &mut dyn Entries,
    ) -> Result<()> {
        let hash = match password {
            _ if self.users.saturating_add(self.others).saturating_add(1) >= limits::USERS => {
                learned.refuse(FULL.above(limits::USERS));
                return Ok(());
            }
            "R" | "RANDOM" if kind != Kind::Text => {
                learned.refuse(RANDOM.at(0));
                return Ok(());
            }
            _ if kind == Kind::Hash && is_hash(password) => PasswordHash::parse(password).ok(),
            _ => hash(password, learned, entries),
        };
        let Some(hash) = hash else { return Ok(()) };
        let Some(slot) = self.other() else {
            learned.refuse(FULL.above(limits::USERS));
            return Ok(());
        };
        let file = file(slot)?;
        match whom {
            Whom::Default => {
                self.password = Some(slot);
                entries.put(&file, b"default true\nlock_passwd false\n")?;
            }
            Whom::Named(name) => {
                self.chpasswd |= 1u64.wrapping_shl(u32::try_from(slot).unwrap_or_default());
                put_line(&file, &["name ", name.as_str(), "\nmust_exist true\n"], entries)?;
            }
        }
        put_line(&file, &["hashed_passwd ", hash.as_str(), "\n"], entries)
    }

    /// The mapping is whole.
    pub(super) fn finish(&mut self, learned: &mut Learned, entries: &mut dyn Entries) -> Result<()> {
        // cloud-init asks `password` only where chpasswd names nobody.
        if self.chpasswd != 0
            && let Some(slot) = self.password.take()
        {
            entries.forget(&file(slot)?)?;
        }
        // With a list of users the default account is one of them, or nobody.
        let has_none = self.has_users && !self.has_default;
        if let Some((mine, roots)) = self.keys {
            if has_none {
                entries.forget(&file(mine)?)?;
            }
            if !self.shares_with_root {
                entries.forget(&file(roots)?)?;
            }
        }
        if self.shares_with_root {
            match self.keys.map(|(_, roots)| roots).or_else(|| self.other()) {
                Some(slot) if self.keys.is_some() => entries.put(&file(slot)?, b"platform_keys true\n")?,
                Some(slot) => entries.put(&file(slot)?, b"name root\nplatform_keys true\n")?,
                None => learned.refuse(FULL.above(limits::USERS)),
            }
        }
        if has_none && let Some(slot) = self.password.take() {
            entries.forget(&file(slot)?)?;
        }
        if has_none && self.keys.is_some() {
            learned.refuse(malformed!(WHAT, "keys for the default account, which `users` does not name", 0));
        }
        for slot in (0..limits::USERS).filter(|_| !self.keeps_password) {
            let is_of_chpasswd = self.chpasswd >> u32::try_from(slot).unwrap_or_default() & 1 == 1;
            if is_of_chpasswd || self.password == Some(slot) {
                entries.put(&file(slot)?, b"expire true\n")?;
            }
        }
        Ok(())
    }
}

/// `users/N`.
#[inline(never)]
fn file(slot: Slot) -> Result<PathText> {
    join(&["users/", digits(slot as u64, &mut [0; 20])])
}

/// What crypt(3) takes for a hash: `$ID$...$...`. cloud-init's pattern, and yescrypt, which Debian has by default and
/// cloud-init takes for a clear password.
fn is_hash(text: &str) -> bool {
    let mut parts = text.split('$');
    let is_known = parts.next() == Some("")
        && matches!(parts.next(), Some("1" | "2a" | "2b" | "2y" | "5" | "6" | "7" | "y" | "gy"));
    is_known && parts.filter(|part| !part.is_empty()).count() >= 2 && PasswordHash::parse(text).is_ok()
}

/// A clear password's hash; none without randomness.
fn hash(password: &str, learned: &mut Learned, entries: &mut dyn Entries) -> Option<PasswordHash> {
    if password.is_empty() || password.len() > limits::PASSWORD {
        learned.refuse(malformed!(WHAT, "length of a password", 0));
        return None;
    }
    let Some(random) = entries.random() else {
        learned.refuse(NO_SALT.at(0));
        return None;
    };
    sha512_crypt(password.as_bytes(), &salt(random), None).ok()
}
