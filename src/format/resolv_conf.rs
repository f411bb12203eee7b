//! Which name servers, domains and options does the seed ask for, and how do resolv.conf(5) and resolved.conf(5) say that?
//!
//! The entry `resolv-conf` has lines `nameserver ADDRESS`, `search NAME`, `domain NAME`, `sortlist NETWORK`, `option TEXT`.
//! Source: cloud-init, templates/resolv.conf.tmpl.

use super::ntp::is_name;
use super::text::{Out, split_once};
use crate::error::Result;

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
        let is_option = |value: &str| value.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b';');
        let is_line = |line| match split_once(line, " ") {
            Some(("nameserver" | "search" | "domain" | "sortlist", value)) => is_name(value),
            Some(("option", value)) => !value.is_empty() && is_option(value),
            _ => false,
        };
        match text.lines().all(is_line) {
            true => Ok(Self { text }),
            false => Err(malformed!("resolv.conf", "no name server, domain or option", 0)),
        }
    }

    /// True when nothing is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn values(&self, key: &'static str) -> impl Iterator<Item = &'t str> + Clone + use<'t> {
        self.text
            .lines()
            .filter_map(move |line| split_once(line, " ").filter(|(word, _)| *word == key))
            .map(|it| it.1)
    }

    /// A line of all values of this key, if there are some.
    fn put_line(&self, begin: &str, keys: &[&'static str], out: &mut Out<'_>) -> Result<()> {
        let mut values = keys.iter().flat_map(|key| self.values(key)).peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        out.put(begin.as_bytes())?;
        for (n, value) in values.enumerate() {
            out.put_all(&[if n > 0 { b" " } else { b"" }, value.as_bytes()])?;
        }
        out.put(b"\n")
    }
}

/// The whole of resolv.conf.
///
/// # Errors
/// `TooMany`.
pub fn emit(wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    out.put(b"# Written by preroot: the name servers of this VM.\n")?;
    wanted
        .values("nameserver")
        .try_for_each(|name| out.put_all(&[b"nameserver ", name.as_bytes(), b"\n"]))?;
    wanted.put_line("search ", &["search"], out)?;
    // The last one counts.
    if let Some(domain) = wanted.values("domain").last() {
        out.put_all(&[b"domain ", domain.as_bytes(), b"\n"])?;
    }
    wanted.put_line("sortlist ", &["sortlist"], out)?;
    wanted.put_line("options ", &["option"], out)
}

/// A file for systemd-resolved, which has its own mind on sort lists and options.
///
/// # Errors
/// `TooMany`.
pub fn emit_resolved(wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    out.put(b"# Written by preroot: the name servers of this VM.\n[Resolve]\n")?;
    wanted.put_line("DNS=", &["nameserver"], out)?;
    wanted.put_line("Domains=", &["search", "domain"], out)
}

#[cfg(test)]
mod tests {
    use super::{Wanted, emit, emit_resolved};
    use crate::format::cases::{self, Answer};
    use crate::format::text::Out;
    use proptest::prelude::{prop_assert, proptest};
    use serde_json::Value;
    use std::string::String;
    use std::vec::Vec;

    fn written(text: &str) -> (String, String) {
        let (mut one, mut two) = ([0; 4096], [0; 4096]);
        let (mut plain, mut resolved) =
            (Out::new(too_many!("test"), &mut one), Out::new(too_many!("test"), &mut two));
        let wanted = Wanted::parse(text).unwrap();
        emit(&wanted, &mut plain).unwrap();
        emit_resolved(&wanted, &mut resolved).unwrap();
        let text = |out: Out<'_>| String::from_utf8(out.as_bytes().to_vec()).unwrap();
        (text(plain), text(resolved))
    }

    fn meaning(text: &str) -> Vec<Vec<&str>> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| line.split_whitespace().collect()).collect()
    }

    #[test]
    fn recorded_files() {
        cases::run("resolv_conf_render", |case| {
            let mut entry = String::new();
            for (key, word) in
                [("nameservers", "nameserver"), ("searchdomains", "search"), ("sortlist", "sortlist")]
            {
                for value in case.input[key].as_array().into_iter().flatten() {
                    entry += &std::format!("{word} {}\n", value.as_str().unwrap());
                }
            }
            if let Some(domain) = case.input["domain"].as_str() {
                entry += &std::format!("domain {domain}\n");
            }
            for (key, value) in case.input["options"].as_object().into_iter().flatten() {
                match value {
                    Value::Bool(true) => entry += &std::format!("option {key}\n"),
                    Value::Bool(false) => {}
                    value => entry += &std::format!("option {key}:{value}\n"),
                }
            }
            let (ours, _) = written(&entry);
            let is_same = meaning(&ours) == meaning(case.expected.as_str().unwrap());
            Answer::Is(if is_same { case.expected.clone() } else { ours.into() })
        });
    }

    #[test]
    fn resolved_gets_servers_and_domains() {
        let (_, resolved) = written(
            "nameserver 10.0.0.1\nnameserver ::1\nsearch a.example\ndomain b.example\noption rotate\n",
        );
        assert!(resolved.ends_with("[Resolve]\nDNS=10.0.0.1 ::1\nDomains=a.example b.example\n"));
    }

    #[test]
    fn a_value_cannot_be_another_line() {
        for bad in [
            "nameserver a b\n",
            "nameserver\n",
            "option a b\n",
            "option #\n",
            "include x\n",
            "search \u{7f}\n",
            "x",
        ] {
            assert!(Wanted::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_has_a_line_for_each_that_was_asked(text in "((nameserver|search|option) [a-z0-9.:]{1,9}\n){0,9}", noise in ".{0,40}") {
            let _ = Wanted::parse(&noise);
            if Wanted::parse(&text).is_ok() {
                let servers = text.lines().filter(|line| line.starts_with("nameserver")).count();
                let (ours, _) = written(&text);
                prop_assert!(ours.lines().filter(|line| line.starts_with("nameserver")).count() == servers);
            }
        }
    }
}
