//! hosts(5): does a name resolve, the file with a line for our own name, the whole file as cloud-init writes it for each
//! family of distributions, and when cloud-init changes a host name that is there.

use super::text::{Out, lines, split_once, words};
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

/// Families of distributions, by what a whole hosts file of theirs has: `d` Debian, Ubuntu, Arch; `r` Red Hat, Azure
/// Linux; `m` Mariner; `s` SUSE; `a` Alpine.
const LINES: &[(&str, &str)] = &[
    ("dsa", "127.0.1.1 @"),
    ("rm", "127.0.0.1 @"),
    ("d", "127.0.0.1 localhost"),
    ("rmsa", "127.0.0.1 localhost.localdomain localhost"),
    ("rmsa", "127.0.0.1 localhost4.localdomain4 localhost4"),
    ("rms", "::1 @"),
    ("rs", "::1 localhost.localdomain localhost"),
    ("rmsa", "::1 localhost6.localdomain6 localhost6"),
    ("d", "::1 localhost ip6-localhost ip6-loopback"),
    ("s", "::1 localhost ipv6-localhost ipv6-loopback"),
    ("s", "fe00::0 ipv6-localnet"),
    ("s", "ff00::0 ipv6-mcastprefix"),
    ("da", "ff02::1 ip6-allnodes"),
    ("da", "ff02::2 ip6-allrouters"),
    ("s", "ff02::1 ipv6-allnodes"),
    ("s", "ff02::2 ipv6-allrouters"),
    ("s", "ff02::3 ipv6-allhosts"),
];

/// The letter of a distribution in [`LINES`], by its ID in os-release(5).
#[must_use]
pub fn family(id: &str) -> char {
    match id {
        "redhat" | "rhel" | "centos" | "fedora" | "almalinux" | "rocky" | "azurelinux" => 'r',
        "mariner" => 'm',
        "suse" | "sles" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => 's',
        "alpine" => 'a',
        _ => 'd',
    }
}

/// A whole file. Source: cloud-init `manage_etc_hosts: true`, templates/hosts.*.tmpl.
///
/// # Errors
/// `TooMany`.
pub fn emit_whole(family: char, name: &str, short: &str, out: &mut Out<'_>) -> Result<()> {
    out.put(b"# Written by preroot, once for this VM.\n")?;
    for (_, line) in LINES.iter().filter(|(families, _)| families.contains(family)) {
        match line.strip_suffix('@') {
            None => out.put_all(&[line.as_bytes(), b"\n"])?,
            Some(address) => {
                out.put_all(&[address.as_bytes(), name.as_bytes(), b" ", short.as_bytes(), b"\n"])?;
            }
        }
    }
    Ok(())
}

/// Who looks after /etc/hosts, and how: cloud-init's `manage_etc_hosts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Managing {
    /// `false`: the image's own.
    Nothing,
    /// `localhost`: a line for our own name.
    Line,
    /// `true`, or `template`: the whole file.
    Whole,
}

impl Managing {
    /// By its word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "false" => Self::Nothing,
            "localhost" => Self::Line,
            "true" | "template" => Self::Whole,
            _ => return None,
        })
    }
}

/// Host name and full name, of what a configuration says and what the platform does; what is not said is "". Source:
/// cloud-init, util.py `get_hostname_fqdn`.
#[must_use]
pub fn names<'t>(hostname: &'t str, fqdn: &'t str, platform: &'t str) -> (&'t str, &'t str) {
    let label = |name: &'t str| split_once(name, ".").map_or(name, |(label, _)| label);
    let has_domain = |name: &str| split_once(name, ".").is_some();
    let fqdn = match (fqdn, has_domain(hostname), platform) {
        ("", true, _) | ("", _, "") => hostname,
        ("", _, platform) => platform,
        (fqdn, ..) => fqdn,
    };
    if hostname.is_empty() || has_domain(hostname) && fqdn == hostname {
        (label(fqdn), fqdn)
    } else {
        (hostname, fqdn)
    }
}

/// What a boot changes of a host name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renaming {
    /// What we wrote last is noted anew.
    pub notes: bool,
    /// /etc/hostname and the running kernel.
    pub renames: bool,
}

/// A name that a person gave stays: only one that is still what we wrote last, or none, is changed. `system` is in
/// /etc/hostname, `previous` is what was written last. Source: cloud-init `Distro.update_hostname`.
#[must_use]
pub fn renaming(system: Option<&str>, previous: Option<&str>, wanted: &str) -> Renaming {
    let is_theirs = system.is_some() && previous.is_some() && system != previous;
    let notes = previous != Some(wanted) && !is_theirs;
    let renames = system.is_none() || (system == previous && system != Some(wanted));
    Renaming { notes, renames: renames && !is_theirs }
}

#[cfg(test)]
mod tests {
    use super::{add_own_name, emit_whole, family, renaming, resolves};
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

    #[test]
    fn recorded_whole_files() {
        cases::run("etc_hosts_template", |case| {
            let mut buf = std::vec![0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            emit_whole(family(case.text("osfamily")), case.text("fqdn"), case.text("hostname"), &mut out)
                .unwrap();
            let ours = String::from_utf8(out.as_bytes().to_vec()).unwrap();
            let sorted = |text: &str| {
                let mut lines = entries(text).into_iter().map(|words| words.join(" ")).collect::<Vec<_>>();
                lines.sort();
                lines
            };
            let is_same = sorted(&ours) == sorted(case.expected.as_str().unwrap());
            Answer::Is(if is_same { case.expected.clone() } else { ours.into() })
        });
    }

    #[test]
    fn recorded_renamings() {
        cases::run("update_hostname_decision", |case| {
            let text = |key: &str| case.input[key].as_str();
            let wanted = case.text("hostname");
            let what = renaming(text("system"), text("previous"), wanted);
            let mut written = Vec::new();
            if what.notes {
                written.push(["%DATA%/previous-hostname", wanted]);
            }
            if what.renames {
                written.push(["/etc/hostname", wanted]);
            }
            let live = if what.renames { std::vec![wanted] } else { std::vec![] };
            Answer::Is(serde_json::json!({ "written": written, "sethostname": live }))
        });
    }

    #[test]
    fn recorded_names() {
        cases::run("hostname_fqdn", |case| {
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::Number(number) => std::format!("{number}"),
                value => value.as_str().unwrap_or_default().into(),
            };
            let of = |key: &str| text(&case.input["cfg"][key]);
            let platform = text(&case.input["metadata"]["local-hostname"]);
            let (hostname, fqdn) = (of("hostname"), of("fqdn"));
            let (host, full) = super::names(&hostname, &fqdn, &platform);
            if host.is_empty() {
                return Answer::Differs("no name at all is none, not `localhost`, and nothing is changed");
            }
            Answer::Is(serde_json::json!([host, full, false]))
        });
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
