//! hosts(5): does a name resolve, and the file with a line for our own name.

use super::text::{Out, lines, words};
use crate::error::Result;

/// True when some line names `name`; case does not count.
#[must_use]
pub fn has_name(text: &[u8], name: &str) -> bool {
    lines(text).any(|line| words(line).skip(1).any(|word| word.eq_ignore_ascii_case(name.as_bytes())))
}

/// True when the whole name and its first label resolve.
#[must_use]
pub fn resolves(text: &[u8], name: &str, short: &str) -> bool {
    has_name(text, name) && has_name(text, short)
}

/// `old` with the line `127.0.1.1 NAME SHORT` after the last loopback line, as Debian's installer writes it;
/// every other line stays. Source: Debian Reference 5.1.1, cloud-init `manage_etc_hosts: localhost`.
///
/// # Errors
/// `TooMany`.
pub fn add_own_name(old: &[u8], name: &str, short: &str, out: &mut Out<'_>) -> Result<()> {
    let is_loopback = |line: &[u8]| words(line).next().is_some_and(|word| word.starts_with(b"127."));
    let after = lines(old).enumerate().filter(|(_, line)| is_loopback(line)).last().map(|(n, _)| n);
    if after.is_none() {
        put_own_name(old.is_empty(), name, short, out)?;
    }
    for (n, line) in lines(old).enumerate() {
        out.put(line)?;
        if after == Some(n) {
            out.end_line()?;
            put_own_name(false, name, short, out)?;
        }
    }
    Ok(())
}

fn put_own_name(is_whole_file: bool, name: &str, short: &str, out: &mut Out<'_>) -> Result<()> {
    if is_whole_file {
        out.put(b"127.0.0.1\tlocalhost\n")?;
    }
    out.put_all(&[b"127.0.1.1\t", name.as_bytes()])?;
    if name != short {
        out.put_all(&[b"\t", short.as_bytes()])?;
    }
    out.put(b"\n")?;
    if is_whole_file {
        out.put(b"::1\tlocalhost ip6-localhost ip6-loopback\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{add_own_name, resolves};
    use crate::format::cases::{self, Answer};
    use crate::format::text::{Out, lines};
    use proptest::prelude::{any, prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    fn added(old: &str, name: &str) -> String {
        let mut buf = std::vec![0; 512];
        let mut out = Out::new(too_many!("test"), &mut buf);
        add_own_name(old.as_bytes(), name, name.split('.').next().unwrap(), &mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    /// Address and names of every line that has them.
    fn entries(text: &str) -> Vec<Vec<&str>> {
        let words = text.lines().map(|line| line.split('#').next().unwrap().split_whitespace().collect());
        words.filter(|words: &Vec<&str>| !words.is_empty()).collect()
    }

    #[test]
    fn the_entries_are_those_of_cloud_init() {
        cases::run("etc_hosts_localhost", |case| {
            let (old, name) = (case.text("hosts"), case.text("fqdn"));
            if case.text("distro") == "rhel" {
                return Answer::Differs(
                    "127.0.1.1 on every distribution: localhost's own line stays localhost's",
                );
            }
            if case.input["hosts"].is_null() {
                return Answer::Differs("a file that was missing gets localhost, too");
            }
            let short = case.text("hostname");
            let is_there = resolves(old.as_bytes(), name, short);
            let new = if is_there { old.into() } else { added(old, name) };
            // A name without a domain is not written twice.
            let expected = case.expected.as_str().unwrap().replace("\tvm1\tvm1\n", "\tvm1\n");
            assert_eq!(entries(&new), entries(&expected), "{}", case.name);
            Answer::Is(case.expected.clone())
        });
    }

    #[test]
    fn our_line_follows_the_loopback_lines() {
        let old = "# top\n127.0.0.1 localhost # c\n127.0.1.1 old.example.com old\n\n::1 localhost\n";
        assert_eq!(
            added(old, "vm1.example.com"),
            "# top\n127.0.0.1 localhost # c\n127.0.1.1 old.example.com old\n\
             127.0.1.1\tvm1.example.com\tvm1\n\n::1 localhost\n"
        );
        assert_eq!(added("127.0.0.1 localhost", "vm1"), "127.0.0.1 localhost\n127.0.1.1\tvm1\n");
        assert_eq!(added("# none\n", "vm1"), "127.0.1.1\tvm1\n# none\n");
        assert!(added("", "vm1").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\tvm1\n"));
    }

    #[test]
    fn a_name_in_a_comment_or_as_an_address_does_not_resolve() {
        assert!(resolves(b"10.0.0.4 VM1.example.com vm1\n", "vm1.Example.com", "vm1"));
        for text in ["# 10.0.0.4 vm1\n", "vm1 a\n", "127.0.1.1 vm10\n", "10.0.0.4 a # vm1\n"] {
            assert!(!resolves(text.as_bytes(), "vm1", "vm1"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_file_resolves_afterwards_and_keeps_its_lines(old in any::<Vec<u8>>()) {
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            add_own_name(&old, "vm1.example", "vm1", &mut out).unwrap();
            prop_assert!(resolves(out.as_bytes(), "vm1.example", "vm1"));
            let new: Vec<&[u8]> = lines(out.as_bytes()).map(super::super::text::bare).collect();
            prop_assert!(lines(&old).all(|line| new.contains(&super::super::text::bare(line))));
        }
    }
}
