//! sshd_config(5): where a setting must stand to count, and the file with it.
//!
//! The first value sshd meets wins, so a file included at the top beats everything after it, and a setting
//! after the first `Match` belongs to that block.

use super::text::{Out, lines};
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
            out.put_all(&[keyword.as_bytes(), b" ", value.as_bytes()])?;
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
    use super::{Deciding, deciding, set};
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
            std::format!("Port 22\n{KEY} no\nMatch all\n")
        );
        assert_eq!(edited("#PasswordAuthentication yes\n"), std::format!("{KEY} no\n#{KEY} yes\n"));
        assert_eq!(
            edited("Match all\n PasswordAuthentication yes"),
            std::format!("{KEY} no\nMatch all\n {KEY} yes")
        );
        assert_eq!(edited(""), std::format!("{KEY} no\n"));
    }

    proptest! {
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
