//! sudoers(5): the rule of one user, its file's name, and does sudoers read that directory.

use super::person::Person;
use super::text::{Out, lines};
use crate::error::Result;
use crate::facts::UserName;
use crate::limits;

/// Name of the file in sudoers.d: sudo skips names with a dot.
pub type FileName = heapless::String<{ limits::USER_NAME + 11 }>;

/// `90-preroot-USER`, dots as underscores.
#[must_use]
pub fn file_name(user: &UserName) -> FileName {
    let mut name = FileName::new();
    // Both fit: the capacity is the sum of both.
    let _ = name.push_str("90-preroot-");
    for c in user.as_str().chars() {
        let _ = name.push(if c == '.' { '_' } else { c });
    }
    name
}

/// Writes the rules: the administrator's is everything, without asking for a password that does not exist (as waagent,
/// `WA:pa/provision/default.py`).
///
/// # Errors
/// `Malformed` for a rule that would break the file; `TooMany`.
pub fn emit(person: &Person<'_>, uid: u32, out: &mut Out<'_>) -> Result<()> {
    // The default account's rule does not depend on what else is asked for it.
    let has_password = !person.hash.is_empty() && !person.is_default;
    let everything = if has_password { "ALL=(ALL) ALL" } else { "ALL=(ALL) NOPASSWD: ALL" };
    out.put(match person.is_administrator {
        true => b"# Written by preroot for the administrator of this VM.\n",
        false => b"# Written by preroot for a user of this VM.\n",
    })?;
    for rule in person.sudo().chain(person.may_everything().then_some(everything)) {
        if !is_rule(rule) {
            return Err(malformed!("sudoers", "rule of sudo", 0));
        }
        if is_sudoers_word(person.name.as_str()) {
            out.put(b"#")?;
            out.put_number(u64::from(uid))?;
        } else {
            out.put(person.name.as_str().as_bytes())?;
        }
        out.put_all(&[b" ", rule.as_bytes(), b"\n"])?;
    }
    Ok(())
}

/// What visudo would refuse at once, for images without it: a rule says where, `=`, and what; its quotes and
/// parentheses are closed, and it ends with its line.
fn is_rule(rule: &str) -> bool {
    let (hosts, commands) = rule.split_once('=').unwrap_or_default();
    let count = |c| rule.matches(c).count();
    !hosts.trim().is_empty()
        && !commands.trim().is_empty()
        && !rule.ends_with('\\')
        && count('(') == count(')')
        && count('"').is_multiple_of(2)
}

/// A login name that sudoers would take for something else: an alias or `ALL` (upper case), a keyword.
fn is_sudoers_word(name: &str) -> bool {
    let is_alias = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_alias || name.starts_with("Defaults") || name.ends_with("_Alias")
}

/// True when sudoers reads the files in /etc/sudoers.d (`#includedir` is no comment).
#[must_use]
pub fn includes_directory(text: &[u8]) -> bool {
    lines(text).map(<[u8]>::trim_ascii).any(|line| {
        let directory = line.strip_prefix(b"@includedir").or_else(|| line.strip_prefix(b"#includedir"));
        directory.is_some_and(|path| {
            let path = path.trim_ascii();
            path.strip_suffix(b"/").unwrap_or(path) == b"/etc/sudoers.d"
        })
    })
}

/// `old` reading /etc/sudoers.d, last; `#includedir` is understood by every sudo since 1.7.2.
///
/// # Errors
/// `TooMany`.
pub fn include_directory(old: &[u8], out: &mut Out<'_>) -> Result<()> {
    out.put(old)?;
    out.end_line()?;
    out.put(b"#includedir /etc/sudoers.d\n")
}

#[cfg(test)]
mod tests {
    use super::{emit, file_name, include_directory, includes_directory};
    use crate::facts::UserName;
    use crate::format::person::Person;
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    fn rule(user: &str, has_password: bool) -> String {
        let mut buf = std::vec![0; 256];
        let mut out = Out::new(too_many!("test"), &mut buf);
        let name = UserName::parse(user).unwrap();
        emit(&Person::administrator(&name, if has_password { "$6$x" } else { "" }, ""), 1000, &mut out)
            .unwrap();
        let text = String::from_utf8(out.as_bytes().to_vec()).unwrap();
        text.lines().last().unwrap().into()
    }

    #[test]
    fn a_password_is_asked_for_only_where_there_is_one() {
        assert_eq!(rule("azureuser", false), "azureuser ALL=(ALL) NOPASSWD: ALL");
        assert_eq!(rule("azureuser", true), "azureuser ALL=(ALL) ALL");
    }

    #[test]
    fn other_users_have_their_own_rules_or_none_of_them() {
        let mut buf = [0; 256];
        let mut out = Out::new(too_many!("test"), &mut buf);
        let text = "name foo\nsudo ALL=(ALL) NOPASSWD:ALL\nsudo ALL=(other) /bin/ls\n";
        emit(&Person::parse(text, &UserName::parse("ubuntu").unwrap()).unwrap(), 1000, &mut out).unwrap();
        let expected = "# Written by preroot for a user of this VM.\nfoo ALL=(ALL) NOPASSWD:ALL\nfoo ALL=(other) /bin/ls\n";
        assert_eq!(out.as_bytes(), expected.as_bytes());
        for rule in ["ALL", "ALL=", "=ALL", "ALL=(ALL ALL", "ALL=\"x", "ALL=x\\"] {
            let text = std::format!("name foo\nsudo {rule}\n");
            assert!(
                emit(&Person::parse(&text, &UserName::parse("ubuntu").unwrap()).unwrap(), 1000, &mut out)
                    .is_err(),
                "{rule}"
            );
        }
    }

    #[test]
    fn a_user_called_all_does_not_let_everybody_in() {
        for name in ["ALL", "OPS_2", "Defaults", "Defaults-x", "Host_Alias"] {
            assert_eq!(rule(name, true), "#1000 ALL=(ALL) ALL", "{name}");
        }
    }

    #[test]
    fn a_file_name_has_no_dot() {
        assert_eq!(file_name(&UserName::parse("a.b").unwrap()), "90-preroot-a_b");
        let long = UserName::parse("abcdefghijklmnopqrstuvwxyz.12345").unwrap();
        assert_eq!(file_name(&long), "90-preroot-abcdefghijklmnopqrstuvwxyz_12345");
    }

    proptest! {
        #[test]
        fn any_sudoers_reads_the_directory_afterwards(old in any::<Vec<u8>>()) {
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            include_directory(&old, &mut out).unwrap();
            prop_assert!(includes_directory(out.as_bytes()) && out.as_bytes().starts_with(&old));
        }
    }

    #[test]
    fn a_commented_directory_is_read_and_others_are_not() {
        assert!(includes_directory(b"x\n@includedir /etc/sudoers.d\n"));
        assert!(includes_directory(b"#includedir /etc/sudoers.d/"));
        assert!(!includes_directory(b"# includedir /etc/sudoers.d\n#includedir /usr/etc/sudoers.d\n"));
    }
}
