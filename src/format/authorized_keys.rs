//! authorized_keys: is a key there, and the file with ours in it.

use super::base64::{Decoder, base64_rules, encode_in_place};
use super::sha256::Sha256;
use super::text::{Out, lines};
use crate::error::Result;
use crate::limits;

/// A line that holds a key (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLine<'t> {
    /// What restricts it; empty for nothing.
    pub options: &'t [u8],
    /// `ssh-ed25519` ...
    pub kind: &'t [u8],
    /// The key in base64: what tells two keys apart.
    pub blob: &'t [u8],
    /// The rest.
    pub comment: &'t [u8],
}

impl<'t> KeyLine<'t> {
    /// Splits a line; `None` for comments and whatever is no key.
    #[must_use]
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let options_len = if is_kind(word(line).0) { 0 } else { options_len(line) };
        let (options, rest) = line.split_at_checked(options_len)?;
        let (kind, rest) = word(rest.trim_ascii_start());
        let (blob, comment) = word(rest);
        let is_key = is_kind(kind) && !blob.is_empty() && !line.starts_with(b"#");
        is_key.then_some(Self { options, kind, blob, comment })
    }
}

/// The fingerprint of a key as `ssh-keygen -l` shows it: `SHA256:` and 43 characters; `None` where the key is no base64.
#[must_use]
pub fn fingerprint(key: &KeyLine<'_>) -> Option<heapless::String<50>> {
    let rules = base64_rules!("SSH key");
    let mut sha = Sha256::new();
    let mut decoder = Decoder::new(rules, limits::SSH_KEY);
    let mut take = |bytes: &[u8]| {
        sha.push(bytes);
        Ok(())
    };
    decoder.push(key.blob, &mut take).and_then(|()| decoder.finish(&mut take)).ok()?;
    let mut text = [0; 44];
    text.get_mut(..32)?.copy_from_slice(&sha.finish());
    let n = encode_in_place(&mut text, 32).checked_sub(1)?;
    let mut named = heapless::String::try_from("SHA256:").ok()?;
    named.push_str(core::str::from_utf8(text.get(..n)?).ok()?).ok()?;
    Some(named)
}

/// The first word, and what follows it without the blanks between.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or_default();
    (word, rest.trim_ascii_start())
}

/// Options end at the first blank outside quotes; `\"` is no quote.
fn options_len(line: &[u8]) -> usize {
    let (mut is_quoted, mut before) = (false, b' ');
    let end = line.iter().position(|byte| {
        is_quoted ^= *byte == b'"' && before != b'\\';
        before = *byte;
        !is_quoted && byte.is_ascii_whitespace()
    });
    end.unwrap_or(line.len())
}

/// A type of key, in the names of sshd or the short ones that old files have.
fn is_kind(word: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"rsa", b"dsa", b"ecdsa", b"ed25519"];
    let begins: [&[u8]; 4] = [b"ssh-", b"ecdsa-", b"sk-", b"rsa-sha2-"];
    names.contains(&word) || begins.iter().any(|begin| word.starts_with(begin))
}

/// True when a line of the file lets this key in as the key's own line does: the same line, or one that differs in
/// its comment only.
#[must_use]
pub fn has_key(text: &[u8], key: &str) -> bool {
    let wanted = KeyLine::parse(key.as_bytes()).map(|key| KeyLine { comment: b"", ..key });
    lines(text).any(|line| {
        let there = KeyLine::parse(line).map(|key| KeyLine { comment: b"", ..key });
        line.trim_ascii() == key.as_bytes() || (wanted.is_some() && there == wanted)
    })
}

/// `old` with the keys: one that is there, by its blob, gets the new line in its place, options and comment
/// with it; the others come at the end. Source: cloud-init's `ssh_util.update_authorized_keys`.
///
/// # Errors
/// `TooMany`.
pub fn merge<'k>(old: &[u8], keys: impl Iterator<Item = &'k str> + Clone, out: &mut Out<'_>) -> Result<()> {
    for line in lines(old) {
        match keys.clone().find(|key| is_same(line, key.as_bytes())) {
            Some(key) => out.put_all(&[key.as_bytes(), b"\n"])?,
            None => out.put(line)?,
        }
    }
    out.end_line()?;
    for key in keys.filter(|key| !lines(old).any(|line| is_same(line, key.as_bytes()))) {
        // Given twice, it is written once.
        if !lines(out.as_bytes()).any(|line| is_same(line, key.as_bytes())) {
            out.put_all(&[key.as_bytes(), b"\n"])?;
        }
    }
    Ok(())
}

fn is_same(line: &[u8], key: &[u8]) -> bool {
    let blob = |line| KeyLine::parse(line).map(|key| key.blob);
    line.trim_ascii() == key || (blob(key).is_some() && blob(line) == blob(key))
}

#[cfg(test)]
mod tests {
    use super::{KeyLine, has_key, merge};
    use crate::format::cases::{self, Answer};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    /// Made with `ssh-keygen -t ed25519` and `ssh-keygen -l` of OpenSSH 9.2.
    #[test]
    fn a_fingerprint_is_ssh_keygens() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6+LFCETYBBhe3+Em+hx+JOYH93mSBWQ5ttAMBAbhgF x";
        let key = KeyLine::parse(line.as_bytes()).unwrap();
        assert_eq!(super::fingerprint(&key).unwrap(), "SHA256:HP+8cSwvbR5qIqFfhZQVwEnRPoFpwVvAzz55l7NwaGs");
        assert!(super::fingerprint(&KeyLine { blob: b"?", ..key }).is_none());
    }

    const KEY: &str = "ssh-ed25519 AAAAC3Nz ops@cloud";

    fn merged(old: &str, keys: &[&str]) -> String {
        let mut buf = std::vec![0; 8192];
        let mut out = Out::new(too_many!("test"), &mut buf);
        merge(old.as_bytes(), keys.iter().copied(), &mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn foreign_lines_stay_and_ours_come_once() {
        let foreign = "# mine\nssh-rsa AAAAB3 me\n";
        let once = merged(foreign, &[KEY]);
        assert_eq!(once, std::format!("{foreign}{KEY}\n"));
        assert_eq!(merged(&once, &[KEY]), once);
        assert_eq!(merged("ssh-rsa AAAAB3 me", &[KEY]), std::format!("ssh-rsa AAAAB3 me\n{KEY}\n"));
        assert_eq!(merged("", &[]), "");
    }

    #[test]
    fn a_restricted_line_gives_way_to_the_platform_s() {
        let restricted = "command=\"echo \\\"a b\\\"\" ssh-ed25519 AAAAC3Nz me\n# mine\n";
        assert_eq!(merged(restricted, &[KEY, KEY]), std::format!("{KEY}\n# mine\n"));
    }

    #[test]
    fn lines_are_split_as_cloud_init_splits_them() {
        cases::run("authorized_keys_parse", |case| {
            if case.input["options"].is_string() {
                return Answer::Differs("options handed in beside the line belong to its caller");
            }
            let line = case.text("line").as_bytes();
            let text = |bytes: &[u8]| serde_json::Value::from(core::str::from_utf8(bytes).unwrap());
            let Some(key) = KeyLine::parse(line) else {
                return Answer::Is(serde_json::json!({ "valid": false, "options": null, "keytype": null,
                    "base64": null, "comment": null, "text": case.input["line"] }));
            };
            let options = if key.options.is_empty() { serde_json::Value::Null } else { text(key.options) };
            Answer::Is(serde_json::json!({ "valid": true, "options": options, "keytype": text(key.kind),
                "base64": text(key.blob), "comment": text(key.comment), "text": case.input["line"] }))
        });
    }

    #[test]
    fn keys_are_merged_as_cloud_init_merges_them() {
        cases::run("authorized_keys_update", |case| {
            let keys: Vec<&str> = case.input["keys"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(serde_json::Value::as_str)
                // Facts hold nothing that is no key.
                .filter(|key| KeyLine::parse(key.as_bytes()).is_some())
                .collect();
            Answer::Is(merged(&case.lines("old"), &keys).into())
        });
    }

    #[test]
    fn another_comment_is_the_same_key_but_a_restriction_is_not() {
        assert!(has_key(b"ssh-ed25519  AAAAC3Nz\n", KEY));
        for line in ["#ssh-ed25519 AAAAC3Nz", "command=\"x\" ssh-ed25519 AAAAC3Nz", "ssh-ed25519 AAAAC3N", ""]
        {
            assert!(!has_key(line.as_bytes(), KEY), "{line}");
        }
        let restricted = "from=\"10.0.0.1\" ssh-rsa AAAAB3 a";
        assert!(!has_key(b"from=\"10.0.0.1\" ssh-rsa AAAAC3 b", restricted));
        assert!(has_key(restricted.as_bytes(), restricted));
    }

    proptest! {
        #[test]
        fn any_file_has_the_key_afterwards(old in any::<Vec<u8>>()) {
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            merge(&old, [KEY].into_iter(), &mut out).unwrap();
            prop_assert!(has_key(out.as_bytes(), KEY));
        }
    }
}
