//! Who gets an account, and how? The administrator of the platform, or a file `users/N` of the seed.
//!
//! Such a file has lines `KEY VALUE`; the keys are cloud-config's for `users:` (cloud-init's cc_users_groups), a key
//! without its effect is left out, a clear password is none of them. `sudo`, `doas`, `groups`
//! and `ssh_authorized_keys` may be there several times. `default` stands for a name: the image's default account.
//! With `must_exist` no account is made.

use super::text::split_once;
use crate::error::Result;
use crate::facts::{PasswordHash, SshKey, UserName};

/// What is asked for; what is not there is "" or `None`.
#[derive(Clone)]
pub struct Person<'t> {
    /// Login name.
    pub name: UserName,
    /// The platform named it: the groups are the image's choice, and the rule of sudo ours.
    pub is_administrator: bool,
    /// The platform named it: `lines` are keys.
    pub is_platforms: bool,
    /// Nobody named it: it is whoever this image has for that.
    pub is_default: bool,
    /// An account that is not there is not made.
    pub must_exist: bool,
    /// Accounts below UID_MIN may be meant.
    pub allows_system: bool,
    /// Comment.
    pub gecos: &'t str,
    /// Absolute path.
    pub home: &'t str,
    /// Absolute path.
    pub shell: &'t str,
    /// User id.
    pub uid: Option<u32>,
    /// Its name.
    pub primary_group: &'t str,
    /// Groups that are missing are not made.
    pub needs_groups: bool,
    /// No home is made.
    pub no_home: bool,
    /// No group of its own.
    pub no_user_group: bool,
    /// A system account: ids below UID_MIN, no ageing.
    pub is_system: bool,
    /// Hash for a new account.
    pub first_hash: &'t str,
    /// Hash, whether the account is new or not.
    pub hash: &'t str,
    /// Whether a password is locked.
    pub is_locked: Option<bool>,
    /// The password counts for one login only.
    pub must_change: bool,
    /// The day the account ends, since the epoch.
    pub expires: Option<u32>,
    /// Days between the end of a password and that of the account.
    pub inactive: Option<u32>,
    /// Rules of sudo were asked for, or none: an administrator has no other then.
    pub has_sudo: bool,
    /// The platform's keys are this account's, too.
    pub has_platforms_keys: bool,
    /// Whoever logs in with one of the platform's keys is told who the default account is, and nothing else.
    pub is_redirected: bool,
    /// More lines of authorized_keys.
    pub more_keys: &'t str,
    /// For repeated keys.
    lines: &'t str,
}

const WHAT: &str = "seed";

impl<'t> Person<'t> {
    /// Nothing but a name, and `lines` for the repeated keys.
    const fn of(name: UserName, lines: &'t str) -> Self {
        Self {
            name,
            is_administrator: false,
            is_platforms: false,
            is_default: false,
            must_exist: false,
            allows_system: false,
            gecos: "",
            home: "",
            shell: "",
            uid: None,
            primary_group: "",
            needs_groups: false,
            no_home: false,
            no_user_group: false,
            is_system: false,
            first_hash: "",
            hash: "",
            is_locked: None,
            must_change: false,
            expires: None,
            inactive: None,
            has_sudo: false,
            has_platforms_keys: false,
            is_redirected: false,
            more_keys: "",
            lines,
        }
    }

    /// The administrator, with this hash ("" for none) and these lines of authorized_keys.
    #[must_use]
    pub fn administrator(name: &UserName, hash: &'t str, keys: &'t str) -> Self {
        Self { is_administrator: true, is_platforms: true, hash, ..Self::of(name.clone(), keys) }
    }

    /// The account that the platform's keys and password are for, where it names nobody: made as `self` says, if that is
    /// to be made; what else `self` asks for is its own.
    #[must_use]
    pub fn of_platform(self, name: &UserName, hash: &'t str, keys: &'t str) -> Self {
        Self {
            name: name.clone(),
            is_administrator: name.as_str() != "root",
            is_platforms: true,
            is_default: true,
            must_exist: false,
            allows_system: true,
            hash,
            is_locked: None,
            must_change: false,
            more_keys: "",
            lines: keys,
            ..self
        }
    }

    /// The same, made as an account is that nobody wants anything of.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self::of(self.name.clone(), "").of_platform(&self.name, self.hash, self.lines)
    }

    /// Reads a file of the seed. Every value is checked. `default` is who is meant where it names nobody but the default
    /// account: such a one is an administrator, but for root, who needs nothing for that.
    ///
    /// # Errors
    /// `Malformed`, naming the key.
    pub fn parse(text: &'t str, default: &UserName) -> Result<Self> {
        let mut person = Self::of(default.clone(), text);
        let mut has_name = false;
        for line in text.lines() {
            let (key, value) = split_once(line, " ").unwrap_or((line, ""));
            has_name |= key == "name";
            person.take(key, value)?;
        }
        if !has_name && !person.is_default {
            return Err(malformed!(WHAT, "a user without a name", 0));
        }
        person.is_administrator = person.is_default && person.name.as_str() != "root";
        Ok(person)
    }

    /// True for a line that a file of the seed may have.
    #[must_use]
    pub fn takes(key: &str, value: &str) -> bool {
        UserName::parse("x").is_ok_and(|name| Person::of(name, "").take(key, value).is_ok())
    }

    fn take(&mut self, key: &str, value: &'t str) -> Result<()> {
        if value.bytes().any(|b| b.is_ascii_control()) {
            return Err(malformed!(WHAT, "control character in a user's value", 0));
        }
        let path = || is_path(value).then_some(value).ok_or(malformed!(WHAT, "path of a user", 0));
        let field =
            || (!value.contains(':')).then_some(value).ok_or(malformed!(WHAT, "comment of a user", 0));
        let count = || super::text::number(value.as_bytes()).ok_or(malformed!(WHAT, "number of a user", 0));
        let hash = || PasswordHash::parse(value).map(|_| value);
        let truth = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(malformed!(WHAT, "neither true nor false", 0)),
        };
        match key {
            "name" => self.name = UserName::parse(value)?,
            "default" => self.is_default = truth()?,
            "must_exist" => self.must_exist = truth()?,
            "ssh_authorized_keys" => _ = SshKey::parse(value)?,
            "sudo" => self.has_sudo = true,
            "doas" => {}
            "gecos" => self.gecos = field()?,
            "homedir" => self.home = path()?,
            "shell" => self.shell = path()?,
            "uid" => self.uid = Some(count()?),
            "primary_group" => self.primary_group = group(value)?,
            "groups" => list(value).try_for_each(|name| group(name).map(|_| ()))?,
            "create_groups" => self.needs_groups = !truth()?,
            "no_create_home" => self.no_home = truth()?,
            "no_user_group" => self.no_user_group = truth()?,
            "system" => self.is_system = truth()?,
            "passwd" => self.first_hash = hash()?,
            "hashed_passwd" => self.hash = hash()?,
            "lock_passwd" => self.is_locked = Some(truth()?),
            "expire" => self.must_change = truth()?,
            "expiredate" => self.expires = Some(day(value)?),
            "inactive" => self.inactive = Some(count()?),
            "platform_keys" => self.has_platforms_keys = truth()?,
            "ssh_redirect_user" => self.is_redirected = truth()?,
            _ => return Err(malformed!(WHAT, "unknown key of a user", 0)),
        }
        Ok(())
    }

    /// The groups to be a member of.
    pub fn groups(&self) -> impl Iterator<Item = &'t str> {
        self.values("groups ").filter(|_| !self.is_platforms).flat_map(list)
    }

    /// Lines for authorized_keys.
    pub fn keys(&self) -> impl Iterator<Item = &'t str> + Clone {
        let own = self.values(if self.is_platforms { "" } else { "ssh_authorized_keys " });
        own.chain(self.more_keys.lines().filter(|key| !key.is_empty()))
    }

    /// An administrator of whom nothing else was said.
    #[must_use]
    pub const fn may_everything(&self) -> bool {
        self.is_administrator && !self.has_sudo
    }

    /// Rules of sudoers, without the name.
    pub fn sudo(&self) -> impl Iterator<Item = &'t str> + Clone {
        self.values("sudo ").filter(|_| !self.is_platforms)
    }

    /// Lines for doas.conf.
    pub fn doas(&self) -> impl Iterator<Item = &'t str> + Clone {
        self.values("doas ").filter(|_| !self.is_platforms)
    }

    fn values(&self, key: &'static str) -> impl Iterator<Item = &'t str> + Clone + use<'t> {
        self.lines.lines().filter_map(move |line| line.strip_prefix(key)).filter(|value| !value.is_empty())
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|name| !name.is_empty())
}

/// Groups have the same rule as users (shadow 4.13, libmisc/chkname.c).
fn group(name: &str) -> Result<&str> {
    UserName::parse(name).map(|_| name)
}

fn is_path(value: &str) -> bool {
    value.starts_with('/') && !value.contains(':') && value.split('/').all(|name| name != "..")
}

/// Days since the epoch of `YYYY-MM-DD`, as useradd counts them; a number of days is one already.
///
/// # Errors
/// `Malformed`.
pub fn day(text: &str) -> Result<u32> {
    let bad = malformed!(WHAT, "date of a user", 0);
    if let Some(days) = super::text::number(text.as_bytes()) {
        return Ok(days);
    }
    let mut parts = text.split('-').map(|part| super::text::number(part.as_bytes()));
    let (Some(Some(year)), Some(Some(month)), Some(Some(date)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad);
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let at = usize::try_from(month.saturating_sub(1)).unwrap_or_default();
    let length = lengths.get(at).copied().unwrap_or_default();
    if !(1970..=9999).contains(&year) || month == 0 || !(1..=length).contains(&date) {
        return Err(bad);
    }
    let before: u32 = lengths.iter().take(at).sum();
    let last = year.saturating_sub(1);
    let leaps = (last / 4).saturating_sub(last / 100).saturating_add(last / 400).saturating_sub(477);
    let years = year.saturating_sub(1970).saturating_mul(365).saturating_add(leaps);
    Ok(years.saturating_add(before).saturating_add(date).saturating_sub(1))
}

/// True for a rule of doas.conf(5) for this user alone: `permit` or `deny`, options, the name, then `as` or `cmd`.
/// Source: cloud-init `distros.is_doas_rule_valid`.
#[must_use]
pub fn is_doas_rule(rule: &str, user: &str) -> bool {
    let mut words = rule.split_ascii_whitespace();
    let is_rule = matches!(words.next(), Some("permit" | "deny"));
    let mut in_braces = false;
    let name = words.find(|word| {
        let is_option =
            in_braces || matches!(*word, "nolog" | "nopass" | "persist" | "keepenv" | "setenv" | "{");
        in_braces = (in_braces || *word == "{") && *word != "}";
        !is_option
    });
    is_rule && name == Some(user) && matches!(words.next(), None | Some("as" | "cmd"))
}

#[cfg(test)]
mod tests {
    use super::{Person, day, is_doas_rule};
    use crate::facts::UserName;
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn a_file_of_the_seed_is_read() {
        let text = "name foo\ngecos Foo B. Bar\nhomedir /srv/foo\nshell /bin/zsh\nuid 1500\nprimary_group foobar\n\
                    groups users, wheel\nsudo ALL=(ALL) NOPASSWD:ALL\nsudo ALL=(other) /bin/ls\nlock_passwd false\n\
                    ssh_authorized_keys ssh-rsa AAAA a@b\nexpiredate 2032-09-01\ninactive 5\nno_create_home true\n\
                    hashed_passwd $6$x$y\n";
        let person = Person::parse(text, &UserName::parse("ubuntu").unwrap()).unwrap();
        assert_eq!((person.name.as_str(), person.gecos, person.home), ("foo", "Foo B. Bar", "/srv/foo"));
        assert_eq!((person.uid, person.expires, person.inactive), (Some(1500), Some(22889), Some(5)));
        assert_eq!(person.groups().collect::<Vec<_>>(), ["users", "wheel"]);
        assert_eq!(person.sudo().collect::<Vec<_>>(), ["ALL=(ALL) NOPASSWD:ALL", "ALL=(other) /bin/ls"]);
        assert_eq!(person.keys().collect::<Vec<_>>(), ["ssh-rsa AAAA a@b"]);
        assert!(person.no_home && person.is_locked == Some(false) && person.hash == "$6$x$y");
        assert!(!person.is_administrator && person.doas().next().is_none());
    }

    #[test]
    fn the_administrators_keys_are_no_rules() {
        let name = UserName::parse("ops").unwrap();
        let person = Person::administrator(&name, "", "ssh-rsa AAAA a\nsudo ALL=ALL\n");
        assert_eq!((person.keys().count(), person.sudo().count(), person.doas().count()), (2, 0, 0));
    }

    #[test]
    fn what_breaks_a_file_of_the_system_is_refused() {
        for line in [
            "gecos a:b",
            "gecos a\tb",
            "homedir relative",
            "homedir /a/../b",
            "shell /bin/a:b",
            "uid -1",
            "uid x",
            "primary_group a:b",
            "groups a,b:c",
            "system yes",
            "passwd plain",
            "hashed_passwd $6$a:b",
            "expiredate 2032-13-01",
            "expiredate 2031-02-29",
            "expiredate tomorrow",
            "ssh_authorized_keys nonsense",
            "plain_text_passwd x",
            "name a b",
        ] {
            let text = std::format!("name foo\n{line}\n");
            assert!(Person::parse(&text, &UserName::parse("ubuntu").unwrap()).is_err(), "{line}");
        }
        assert!(Person::parse("gecos x\n", &UserName::parse("ubuntu").unwrap()).is_err());
    }

    /// Against date(1).
    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for text in
            ["1970-01-01", "1999-12-31", "2000-02-29", "2000-03-01", "2024-12-31", "2100-03-01", "9999-12-31"]
        {
            let output = std::process::Command::new("date").args(["-u", "-d", text, "+%s"]).output().unwrap();
            let seconds: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            assert_eq!(u64::from(day(text).unwrap()), seconds / 86_400, "{text}");
        }
        assert_eq!(day("20000").unwrap(), 20_000);
    }

    #[test]
    fn a_doas_rule_names_its_user() {
        for rule in
            ["permit nopass foo", "deny foo", "permit persist setenv { A B } foo as root cmd /bin/ls args x"]
        {
            assert!(is_doas_rule(rule, "foo"), "{rule}");
        }
        for rule in ["permit nopass bar", "permit", "allow foo", "permit foo bar", "permit setenv { foo", ""]
        {
            assert!(!is_doas_rule(rule, "foo"), "{rule}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "((name|gecos|groups|sudo|expiredate|x)? ?[a-z0-9:, -]{0,9}\n){0,6}", other in any::<String>()) {
            if let Ok(person) = Person::parse(&text, &UserName::parse("ubuntu").unwrap()) {
                prop_assert!(!person.gecos.contains(':') && person.groups().all(|group| !group.contains(':')));
            }
            let _ = Person::parse(&other, &UserName::parse("ubuntu").unwrap());
            let _ = (day(&other), is_doas_rule(&other, "foo"));
        }
    }
}
