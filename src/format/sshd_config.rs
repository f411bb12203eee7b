//! sshd_config(5): where a setting must stand to count, and the file with it.
//!
//! The first value sshd meets wins, so a file included at the top beats everything after it, and a setting
//! after the first `Match` belongs to that block.

use super::text::{Out, PathText, lines, split_once};
use crate::error::Result;

/// What decides about one keyword.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deciding<'t> {
    /// Files in sshd_config.d, included before any value in this file.
    DropIn,
    /// This value in this file.
    Here(&'t [u8]),
    /// sshd's default.
    Default,
}

/// Keyword and first argument of a line; keywords may be followed by blanks or one `=`.
fn setting(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii();
    if line.starts_with(b"#") {
        return None;
    }
    let is_end = |b: &u8| b.is_ascii_whitespace() || *b == b'=';
    let mut words = line.split(is_end).filter(|word| !word.is_empty());
    let keyword = words.next()?;
    Some((keyword, words.next().unwrap_or_default()))
}

/// The words behind the keyword, without quotes, up to a comment.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_end = |b: &u8| b.is_ascii_whitespace() || *b == b'=';
    let words = line.split(is_end).filter(|word| !word.is_empty()).skip(1);
    words.take_while(|word| !word.starts_with(b"#")).map(unquoted)
}

fn unquoted(word: &[u8]) -> &[u8] {
    word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word)
}

/// Where sshd looks for the keys of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
pub enum KeysFile {
    /// This file says nothing about it.
    Unsaid,
    /// Nowhere: `none`.
    None,
    /// Here, relative to the root: the first that is this user's alone.
    At(PathText),
    /// Only in places that are not this user's alone, or that need what we do not know.
    Others,
}

/// Reads the first global AuthorizedKeysFile. `home` is absolute. `%h`, `%u` and `%%` are known, relative paths begin
/// at the home; a file for everybody is no place for one user's keys. `Match` blocks do not count. Source: cloud-init
/// `ssh_util.extract_authorized_keys`, which does the same.
#[must_use]
pub fn keys_file(text: &[u8], user: &str, home: &str) -> KeysFile {
    let is_match = |word: &[u8]| word.eq_ignore_ascii_case(b"Match");
    let ours = |line: &&[u8]| {
        setting(line)
            .is_some_and(|(word, _)| is_match(word) || word.eq_ignore_ascii_case(b"AuthorizedKeysFile"))
    };
    let Some(line) =
        lines(text).find(ours).filter(|line| !setting(line).is_some_and(|(word, _)| is_match(word)))
    else {
        return KeysFile::Unsaid;
    };
    if words(line).next().is_some_and(|word| word.eq_ignore_ascii_case(b"none")) {
        return KeysFile::None;
    }
    words(line).find_map(|word| expand(word, user, home)).map_or(KeysFile::Others, KeysFile::At)
}

/// The path, if it is this user's.
fn expand(word: &[u8], user: &str, home: &str) -> Option<PathText> {
    let word = core::str::from_utf8(word).ok()?;
    let (mut path, mut is_theirs) = (PathText::new(), !word.starts_with(['/', '%']));
    if is_theirs {
        path.push_str(home).and_then(|()| path.push('/')).ok()?;
    }
    let mut rest = word;
    while let Some((before, behind)) = split_once(rest, "%") {
        path.push_str(before).ok()?;
        let token = behind.chars().next()?;
        let text = match token {
            'h' => home,
            'u' => user,
            '%' => "%",
            _ => return None,
        };
        is_theirs = is_theirs || token != '%';
        path.push_str(text).ok()?;
        rest = behind.get(1..)?;
    }
    path.push_str(rest).ok()?;
    is_theirs = is_theirs || path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'));
    let is_plain = path.split('/').all(|name| name != "..") && !path.ends_with('/') && path.starts_with('/');
    let path = PathText::try_from(path.trim_start_matches('/')).ok()?;
    (is_theirs && is_plain && !path.contains("//")).then_some(path)
}

fn global(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(text).filter_map(setting).take_while(|(keyword, _)| !keyword.eq_ignore_ascii_case(b"Match"))
}

/// True for the `Include` that brings in /etc/ssh/sshd_config.d.
fn is_drop_in((keyword, value): (&[u8], &[u8])) -> bool {
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let value = value.strip_suffix(b"\"").unwrap_or(value);
    let paths: [&[u8]; 2] = [b"/etc/ssh/sshd_config.d/*.conf", b"sshd_config.d/*.conf"];
    keyword.eq_ignore_ascii_case(b"Include") && paths.contains(&value)
}

/// What decides about `keyword` in this sshd_config.
#[must_use]
pub fn deciding<'t>(text: &'t [u8], keyword: &str) -> Deciding<'t> {
    for line in global(text) {
        if is_drop_in(line) {
            return Deciding::DropIn;
        }
        if line.0.eq_ignore_ascii_case(keyword.as_bytes()) {
            return Deciding::Here(line.1);
        }
    }
    Deciding::Default
}

/// `old` with the first global line of `keyword` given this value, or such a line at the top, where no
/// `Match` can claim it. Source of the rule: cloud-init edits in place too, but appends.
///
/// # Errors
/// `TooMany`.
pub fn set(old: &[u8], keyword: &str, value: &str, out: &mut Out<'_>) -> Result<()> {
    let place = position(old, keyword);
    if place.is_none() {
        out.put_all(&[keyword.as_bytes(), b" ", value.as_bytes(), b"\n"])?;
    }
    for (n, line) in lines(old).enumerate() {
        if place == Some(n) {
            let (keyword, _) = setting(line).unwrap_or((keyword.as_bytes(), b""));
            out.put_all(&[keyword, b" ", value.as_bytes()])?;
            out.put(if line.ends_with(b"\n") { b"\n" } else { b"" })?;
        } else {
            out.put(line)?;
        }
    }
    Ok(())
}

/// Number of the first line that sets `keyword` for everybody.
fn position(text: &[u8], keyword: &str) -> Option<usize> {
    for (n, line) in lines(text).enumerate() {
        match setting(line) {
            Some((word, _)) if word.eq_ignore_ascii_case(keyword.as_bytes()) => return Some(n),
            Some((word, _)) if word.eq_ignore_ascii_case(b"Match") => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Deciding, KeysFile, deciding, keys_file, set};
    use crate::format::cases::{self, Answer};
    use crate::format::text::{Out, lines};
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    const KEY: &str = "PasswordAuthentication";

    fn edited(old: &str) -> String {
        let mut buf = std::vec![0; 1024];
        let mut out = Out::new(too_many!("test"), &mut buf);
        set(old.as_bytes(), KEY, "no", &mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_first_value_decides() {
        let include = "Include /etc/ssh/sshd_config.d/*.conf\n";
        for (text, expected) in [
            (std::format!("# x\n{include}{KEY} yes\n"), Deciding::DropIn),
            (std::format!("{KEY} yes\n{include}"), Deciding::Here(b"yes")),
            (std::format!("#{include}passwordauthentication=no\n"), Deciding::Here(b"no")),
            (std::format!("Match User a\n{KEY} no\n{include}"), Deciding::Default),
            (String::new(), Deciding::Default),
        ] {
            assert_eq!(deciding(text.as_bytes(), KEY), expected, "{text}");
        }
    }

    #[test]
    fn a_setting_is_edited_in_place_or_put_on_top() {
        assert_eq!(
            edited("Port 22\npasswordauthentication yes # x\nMatch all\n"),
            "Port 22\npasswordauthentication no\nMatch all\n"
        );
        assert_eq!(edited("#PasswordAuthentication yes\n"), std::format!("{KEY} no\n#{KEY} yes\n"));
        assert_eq!(
            edited("Match all\n PasswordAuthentication yes"),
            std::format!("{KEY} no\nMatch all\n {KEY} yes")
        );
        assert_eq!(edited(""), std::format!("{KEY} no\n"));
    }

    /// The lines cloud-init has in its own tests of the same (tests/unittests/test_ssh_util.py,
    /// TestMultipleSshAuthorizedKeysFile, TestRenderAuthorizedKeysPaths), and ours.
    #[test]
    fn keys_are_where_sshd_looks_for_them() {
        let at = |path: &str| KeysFile::At(path.try_into().unwrap());
        for (text, expected) in [
            ("", KeysFile::Unsaid),
            ("#AuthorizedKeysFile .x\n", KeysFile::Unsaid),
            ("Match all\nAuthorizedKeysFile .x\n", KeysFile::Unsaid),
            ("AuthorizedKeysFile none", KeysFile::None),
            (
                "AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2\n",
                at("home/ops/.ssh/authorized_keys"),
            ),
            ("authorizedkeysfile=\"%h/.keys\" # x\n", at("home/ops/.keys")),
            ("AuthorizedKeysFile /etc/ssh/keys /etc/ssh/auth/%u %h/x\n", at("etc/ssh/auth/ops")),
            ("AuthorizedKeysFile /opt/%u/keys\n", at("opt/ops/keys")),
            ("AuthorizedKeysFile /home/ops/.ssh/k\nAuthorizedKeysFile %h/y", at("home/ops/.ssh/k")),
            ("AuthorizedKeysFile /etc/%%/%u", at("etc/%/ops")),
            ("AuthorizedKeysFile /etc/ssh/keys /home/opsi/x", KeysFile::Others),
            ("AuthorizedKeysFile /etc/%U/keys ../x/%u %", KeysFile::Others),
            ("AuthorizedKeysFile\n", KeysFile::Others),
        ] {
            assert_eq!(keys_file(text.as_bytes(), "ops", "/home/ops"), expected, "{text}");
        }
    }

    #[test]
    fn recorded_edits_of_sshd_config() {
        cases::run("sshd_config_update", |case| {
            let appends = "a new setting goes on top, where no Match block can claim it";
            let (mut text, mut changed) = (case.lines("lines"), Vec::new());
            let mut is_on_top = false;
            for (key, value) in case.input["updates"].as_object().unwrap() {
                let value = value.as_str().unwrap();
                let before = text.clone();
                is_on_top |= super::position(text.as_bytes(), key).is_none();
                let mut buf = std::vec![0; 1024];
                let mut out = Out::new(too_many!("test"), &mut buf);
                set(before.as_bytes(), key, value, &mut out).unwrap();
                text = String::from_utf8(out.as_bytes().to_vec()).unwrap();
                if text != before {
                    changed.push(key.clone());
                }
            }
            let lines: Vec<&str> = text.lines().collect();
            if is_on_top {
                let theirs =
                    case.expected["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
                let (mut ours, mut theirs) = (lines, theirs.collect::<Vec<_>>());
                ours.sort_unstable();
                theirs.sort_unstable();
                assert_eq!(ours, theirs, "{}", case.name);
                return Answer::Differs(appends);
            }
            Answer::Is(serde_json::json!({ "changed": changed, "lines": lines }))
        });
    }

    proptest! {
        #[test]
        fn a_path_for_keys_stays_in_the_tree(text in "AuthorizedKeysFile( |[a-z/.%hu])*\n") {
            if let KeysFile::At(path) = keys_file(text.as_bytes(), "ops", "/home/ops") {
                let is_safe = !path.starts_with('/') && path.split('/').all(|name| !name.is_empty() && name != "..");
                prop_assert_eq!(is_safe, true, "{}", path);
            }
        }

        #[test]
        fn any_file_says_no_afterwards(old in any::<Vec<u8>>()) {
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            set(&old, KEY, "no", &mut out).unwrap();
            prop_assert_eq!(deciding(out.as_bytes(), KEY), Deciding::Here(b"no"));
            let _ = lines(&old).count();
        }
    }
}
