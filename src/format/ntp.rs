//! Where does an NTP client take its servers from, and what stands there? chrony, ntpd, openntpd and systemd-timesyncd.
//!
//! The seed's entry `ntp` has lines `server NAME`, `pool NAME`, `peer NAME`, `allow NETWORK` and `client NAME`. Sources: the
//! programs' own manuals; cloud-init's cc_ntp.py for their order and places.

use super::text::{Out, lines, split_once, words};
use crate::error::Result;

/// A client by its name in cloud-config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// chrony.
    Chrony,
    /// systemd-timesyncd.
    Timesyncd,
    /// ntpd of ntp.org, or ntpsec's. ntpdate reads the same file.
    Ntp,
    /// OpenBSD's.
    Openntpd,
}

/// A client, and where an image has it.
#[derive(Debug)]
pub struct Client {
    /// Its name in cloud-config.
    pub name: &'static str,
    /// Its language.
    pub kind: Kind,
    /// The program, in one of these places.
    pub programs: &'static [&'static str],
    /// Its configuration: the first that is there. timesyncd's is made.
    pub files: &'static [&'static str],
}

/// In the order in which `auto` takes the first that is installed.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "chrony",
        kind: Kind::Chrony,
        programs: &["/usr/sbin/chronyd", "/usr/bin/chronyd", "/sbin/chronyd"],
        files: &["etc/chrony/chrony.conf", "etc/chrony.conf"],
    },
    Client {
        name: "systemd-timesyncd",
        kind: Kind::Timesyncd,
        programs: &["/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd"],
        files: &["etc/systemd/timesyncd.conf.d/preroot.conf"],
    },
    Client {
        name: "ntp",
        kind: Kind::Ntp,
        programs: &["/usr/sbin/ntpd", "/usr/bin/ntpd", "/sbin/ntpd"],
        files: &["etc/ntpsec/ntp.conf", "etc/ntp.conf"],
    },
    Client {
        name: "openntpd",
        kind: Kind::Openntpd,
        programs: &["/usr/sbin/ntpd", "/usr/sbin/openntpd"],
        files: &["etc/openntpd/ntpd.conf", "etc/ntpd.conf"],
    },
    Client {
        name: "ntpdate",
        kind: Kind::Ntp,
        programs: &["/usr/sbin/ntpdate", "/usr/bin/ntpdate"],
        files: &["etc/ntpsec/ntp.conf", "etc/ntp.conf"],
    },
];

/// What is wanted: validated lines of the seed.
#[derive(Clone, Copy)]
pub struct Wanted<'t> {
    text: &'t str,
}

impl<'t> Wanted<'t> {
    /// Every line is checked.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &'t str) -> Result<Self> {
        let is_known = |word| matches!(word, "server" | "pool" | "peer" | "allow" | "client");
        for line in text.lines() {
            if split_once(line, " ").is_none_or(|(word, value)| !is_known(word) || !is_name(value)) {
                return Err(malformed!("NTP", "no name of a server", 0));
            }
        }
        Ok(Self { text })
    }

    fn each(&self) -> impl Iterator<Item = (&'t str, &'t str)> + Clone + use<'t> {
        self.text.lines().filter_map(|line| split_once(line, " "))
    }

    fn sources(&self) -> impl Iterator<Item = (&'t str, &'t str)> + Clone + use<'t> {
        self.each().filter(|(word, _)| matches!(*word, "server" | "pool" | "peer"))
    }

    /// The client that was asked for; `auto` is none.
    #[must_use]
    pub fn client(&self) -> Option<&'t str> {
        let last = self.each().filter(|(word, _)| *word == "client").last();
        last.map(|(_, name)| name).filter(|name| *name != "auto")
    }

    /// True when there is nothing to be written: the image's own servers are good enough.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.each().all(|(word, _)| word == "client")
    }

    /// True when someone may be served.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.each().any(|(word, _)| word == "allow")
    }
}

/// A host name, an address, or a network; nothing that a configuration could take for something else.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_/%".contains(&byte);
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    starts_well && text.len() <= 255 && text.bytes().all(is_plain)
}

/// A file of our own, for a client that reads such.
///
/// # Errors
/// `TooMany`.
pub fn emit(kind: Kind, wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    out.put(b"# Written by preroot: the time servers of this VM.\n")?;
    if kind != Kind::Timesyncd {
        put_sources(kind, wanted, out)?;
        return put_clients(kind, wanted, b"", out);
    }
    out.put(b"[Time]\nNTP=")?;
    for (n, (_, name)) in wanted.sources().enumerate() {
        out.put_all(&[if n > 0 { b" " } else { b"" }, name.as_bytes()])?;
    }
    out.put(b"\n")
}

/// The image's file with our servers in the place of its own; every other line stays.
///
/// # Errors
/// `TooMany`.
pub fn edit(kind: Kind, old: &[u8], wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    let mut is_put = wanted.sources().next().is_none();
    let replaces = !is_put;
    for line in lines(old) {
        if !replaces || !is_source(line) {
            out.put(line)?;
        } else if !is_put {
            put_sources(kind, wanted, out)?;
            is_put = true;
        }
    }
    if !is_put {
        out.end_line()?;
        put_sources(kind, wanted, out)?;
    }
    put_clients(kind, wanted, old, out)
}

fn is_source(line: &[u8]) -> bool {
    words(line).next().is_some_and(|word| matches!(word, b"server" | b"servers" | b"pool" | b"peer"))
}

fn put_sources(kind: Kind, wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    wanted.sources().try_for_each(|(word, name)| {
        let (word, more) = match (kind, word) {
            (Kind::Openntpd, "pool") => ("servers", ""),
            (Kind::Openntpd, _) => ("server", ""),
            (_, "peer") => (word, ""),
            _ => (word, " iburst"),
        };
        out.put_all(&[word.as_bytes(), b" ", name.as_bytes(), more.as_bytes(), b"\n"])
    })
}

/// Who may be served, where that is a line of this client's; those that are `there` already are enough.
fn put_clients(kind: Kind, wanted: &Wanted<'_>, there: &[u8], out: &mut Out<'_>) -> Result<()> {
    let allowed = wanted.each().filter(|(word, _)| kind == Kind::Chrony && *word == "allow");
    for (word, network) in allowed {
        if !lines(there).any(|line| words(line).eq([word.as_bytes(), network.as_bytes()])) {
            out.end_line()?;
            out.put_all(&[word.as_bytes(), b" ", network.as_bytes(), b"\n"])?;
        }
    }
    Ok(())
}

/// A directory below /etc whose files chrony.conf reads (`confdir`, for files `*.conf`), or reads servers from
/// (`sourcedir`, for files `*.sources`). Relative, without `/` at its ends.
#[must_use]
pub fn directory<'t>(conf: &'t [u8], directive: &str) -> Option<&'t str> {
    let of = |line: &'t [u8]| {
        let mut words = words(line);
        let is_it = words.next().is_some_and(|word| word == directive.as_bytes());
        words.filter(move |_| is_it).find(|path| path.starts_with(b"/etc/"))
    };
    let path = core::str::from_utf8(lines(conf).find_map(of)?).ok()?.trim_matches('/');
    path.split('/').all(|name| name != ".." && !name.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::{CLIENTS, Kind, Wanted, directory, edit, emit, is_name};
    use crate::format::cases::{self, Answer};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    fn written(put: impl FnOnce(&mut Out<'_>) -> crate::error::Result<()>) -> String {
        let mut buf = std::vec![0; 16 * 1024];
        let mut out = Out::new(too_many!("test"), &mut buf);
        put(&mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    fn edited(kind: Kind, old: &str, wanted: &str) -> String {
        written(|out| edit(kind, old.as_bytes(), &Wanted::parse(wanted).unwrap(), out))
    }

    /// What a client makes of a file: the directives that are about servers.
    fn meaning(text: &str) -> Vec<Vec<&str>> {
        let words = text.lines().map(|line| line.split('#').next().unwrap().split_whitespace().collect());
        let is_ours = |line: &Vec<&str>| {
            line.first().is_some_and(|word| {
                ["server", "pool", "peer", "allow"].contains(word) || word.starts_with("NTP=")
            })
        };
        words.filter(is_ours).collect()
    }

    #[test]
    fn recorded_files() {
        cases::run("ntp_render", |case| {
            let expected = case.expected.as_str().unwrap();
            let lines = |key: &str, word: &str| {
                let names = case.input[key].as_array().cloned().unwrap_or_default();
                names
                    .iter()
                    .map(|name| std::format!("{word} {}\n", name.as_str().unwrap()))
                    .collect::<String>()
            };
            let wanted = lines("pools", "pool")
                + &lines("servers", "server")
                + &lines("peers", "peer")
                + &lines("allow", "allow");
            let parsed = Wanted::parse(&wanted).unwrap();
            if parsed.is_empty() {
                return Answer::Differs(
                    "without a server or pool the image's own stay, not pool.ntp.org of its distribution",
                );
            }
            let ours = match case.text("template") {
                // timesyncd asks all of them, in whatever order.
                name if name.starts_with("timesyncd") => {
                    let text = written(|out| emit(Kind::Timesyncd, &parsed, out));
                    let mut names: Vec<_> =
                        meaning(&text)[0].iter().map(|name| name.trim_start_matches("NTP=")).collect();
                    let mut theirs: Vec<_> =
                        meaning(expected)[0].iter().map(|name| name.trim_start_matches("NTP=")).collect();
                    names.sort_unstable();
                    theirs.sort_unstable();
                    return Answer::Is(if names == theirs { case.expected.clone() } else { text.into() });
                }
                name if name.starts_with("chrony") => {
                    edited(Kind::Chrony, "pool image.example iburst\n", &wanted)
                }
                _ => edited(Kind::Ntp, "pool image.example iburst\n", &wanted),
            };
            Answer::Is(if meaning(&ours) == meaning(expected) { case.expected.clone() } else { ours.into() })
        });
    }

    #[test]
    fn recorded_places() {
        cases::run("ntp_client_table", |case| {
            for (name, theirs) in case.expected.as_object().unwrap() {
                let client = CLIENTS.iter().find(|client| client.name == name).unwrap();
                let program = theirs["check_exe"].as_str().unwrap();
                let path = theirs["confpath"]
                    .as_str()
                    .unwrap()
                    .trim_start_matches('/')
                    .replace("cloud-init.conf", "preroot.conf");
                let has_program = client
                    .programs
                    .iter()
                    .any(|it| *it == program || it.ends_with(&std::format!("/{program}")));
                if path == "etc/systemd/timesyncd.conf" {
                    return Answer::Differs(
                        "a drop-in for timesyncd here too: its own file stays the image's",
                    );
                }
                if !has_program || !client.files.contains(&&*path) {
                    return Answer::Is(std::format!("{name}: {program} {path}").into());
                }
            }
            Answer::Is(case.expected.clone())
        });
    }

    #[test]
    fn other_lines_stay_where_they_are() {
        let old = "# top\ndriftfile /d\npool a iburst\nserver b\n# end\nallow 10.0.0.0/8\n";
        let wanted = "client auto\nserver x\npool y\nallow 10.0.0.0/8\nallow 192.168.0.0/16\n";
        let new = "# top\ndriftfile /d\nserver x iburst\npool y iburst\n# end\nallow 10.0.0.0/8\nallow 192.168.0.0/16\n";
        assert_eq!(edited(Kind::Chrony, old, wanted), new);
        assert_eq!(edited(Kind::Chrony, new, wanted), new);
        assert_eq!(
            edited(Kind::Openntpd, "listen on *", "server x\npool y\npeer z\n"),
            "listen on *\nserver x\nservers y\nserver z\n"
        );
    }

    #[test]
    fn the_directories_are_those_of_the_images_file() {
        let debian =
            b"confdir /etc/chrony/conf.d\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\n";
        assert_eq!(directory(debian, "confdir"), Some("etc/chrony/conf.d"));
        assert_eq!(directory(debian, "sourcedir"), Some("etc/chrony/sources.d"));
        for other in [
            "sourcedir /run/chrony-dhcp",
            "#confdir /etc/x",
            "confdir /etc/../x",
            "confdir",
            "confdirs /etc/x",
        ] {
            assert_eq!(
                directory(other.as_bytes(), "confdir").or(directory(other.as_bytes(), "sourcedir")),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn a_name_cannot_be_a_directive() {
        for bad in ["", "a b", "-x", "#a", "a\nb", "/etc/passwd", "a;b", "ü", "\u{7f}"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(
            ["time1.example.com", "10.0.0.1", "::1", "fe80::1%eth0", "10.0.0.0/8"].into_iter().all(is_name)
        );
        assert!(Wanted::parse("server a\ninclude /etc/shadow\n").is_err());
    }

    proptest! {
        #[test]
        fn an_edit_settles_and_loses_nothing_of_others(old in "((server|pool|allow|[a-z#]{1,5}) ?[a-z0-9. ]{0,9}\n?){0,8}", names in "((server|pool|peer|allow) [a-z0-9]{1,5}\n){1,5}", noise in any::<Vec<u8>>()) {
            let once = edited(Kind::Chrony, &old, &names);
            prop_assert_eq!(&edited(Kind::Chrony, &once, &names), &once);
            for line in old.lines().filter(|line| !super::is_source(line.as_bytes())) {
                prop_assert!(once.lines().any(|it| it == line));
            }
            let _ = edit(Kind::Ntp, &noise, &Wanted::parse(&names).unwrap(), &mut Out::new(too_many!("test"), &mut [0; 64]));
            let _ = directory(&noise, "confdir");
        }
    }
}
