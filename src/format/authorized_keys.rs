//! authorized_keys: is a key there, and the file with the missing ones at its end.

use super::text::{Out, lines};
use crate::error::Result;

/// True when a line of the file lets this key in without options of its own: the same line, or the same type
/// and blob with another comment. A line that restricts the key (`command=`, `from=`) does not count.
#[must_use]
pub fn has_key(text: &[u8], key: &str) -> bool {
    lines(text).map(<[u8]>::trim_ascii).any(|line| line == key.as_bytes() || same_key(line, key.as_bytes()))
}

fn same_key(line: &[u8], key: &[u8]) -> bool {
    is_key_type(key) && first_two(key).count() == 2 && first_two(line).eq(first_two(key))
}

fn first_two(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(2)
}

/// The first word is a key type: the line has no options before it.
fn is_key_type(line: &[u8]) -> bool {
    let kinds: [&[u8]; 4] = [b"ssh-", b"ecdsa-", b"sk-", b"rsa-sha2-"];
    kinds.iter().any(|kind| line.starts_with(kind))
}

/// `old` with the keys it does not have yet.
///
/// # Errors
/// `TooMany`.
pub fn merge<'k>(old: &[u8], keys: impl Iterator<Item = &'k str>, out: &mut Out<'_>) -> Result<()> {
    out.put(old)?;
    for key in keys.filter(|key| !has_key(old, key)) {
        out.end_line()?;
        out.put_all(&[key.as_bytes(), b"\n"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{has_key, merge};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    const KEY: &str = "ssh-ed25519 AAAAC3Nz ops@cloud";

    fn merged(old: &str, keys: &[&str]) -> String {
        let mut buf = std::vec![0; 1024];
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
            prop_assert!(has_key(out.as_bytes(), KEY) && out.as_bytes().starts_with(&old));
        }
    }
}
