//! What was the kernel told? `/proc/cmdline` into arguments, as `next_arg` in lib/cmdline.c splits them.

/// One argument of the kernel command line: `name` or `name=value`, without the quotes around a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument<'a> {
    /// Before the first `=`.
    pub name: &'a str,
    /// Behind it.
    pub value: Option<&'a str>,
}

/// The arguments of a command line in their order. Blanks inside double quotes do not separate.
pub fn arguments(line: &str) -> impl Iterator<Item = Argument<'_>> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let mut is_quoted = false;
        let end = rest.bytes().position(|byte| {
            is_quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !is_quoted
        });
        let (word, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, ""));
        rest = after;
        Some(argument(word))
    })
}

/// The value of the last argument called `name`; "" when it has none.
#[must_use]
pub fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    arguments(line).filter(|argument| argument.name == name).last().map(|a| a.value.unwrap_or_default())
}

/// A switch: `name` and `name=1|y|yes|on|true` turn it on, `name=0|n|no|off|false` off; `None` when it is
/// absent or says something else. The words are systemd's (`parse_boolean`).
#[must_use]
pub fn switch(line: &str, name: &str) -> Option<bool> {
    match value(line, name)? {
        "" | "1" | "y" | "yes" | "on" | "true" => Some(true),
        "0" | "n" | "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// What the kernel command line asks of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// `rd.preroot=0`: do nothing at all.
    pub is_off: bool,
    /// `rd.preroot.debug`: detail on the console.
    pub is_debug: bool,
}

impl Options {
    /// Reads them from the text of `/proc/cmdline`.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        Self {
            is_off: switch(line, "rd.preroot") == Some(false),
            is_debug: switch(line, "rd.preroot.debug").unwrap_or_default(),
        }
    }
}

fn argument(word: &str) -> Argument<'_> {
    // `"name=a b"` and `name="a b"` are the same.
    let word = word.strip_prefix('"').map_or(word, |inner| inner.strip_suffix('"').unwrap_or(inner));
    match word.split_once('=') {
        None => Argument { name: word, value: None },
        Some((name, value)) => {
            let inner = value.strip_prefix('"').map(|inner| inner.strip_suffix('"').unwrap_or(inner));
            Argument { name, value: Some(inner.unwrap_or(value)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Argument, Options, arguments, switch, value};
    use proptest::prelude::{prop_assert, proptest};
    use std::vec::Vec;

    const LINE: &str = "BOOT_IMAGE=/vmlinuz root=PARTUUID=ab-01 ro quiet  dyndbg=\"file drivers/hv +p\" \"x=a b\" root=/dev/sda1\n";

    #[test]
    fn quotes_hold_blanks() {
        let all: Vec<_> = arguments(LINE).collect();
        assert_eq!(all.len(), 7);
        assert_eq!(all[1], Argument { name: "root", value: Some("PARTUUID=ab-01") });
        assert_eq!(all[2], Argument { name: "ro", value: None });
        assert_eq!(all[4], Argument { name: "dyndbg", value: Some("file drivers/hv +p") });
        assert_eq!(all[5], Argument { name: "x", value: Some("a b") });
    }

    #[test]
    fn the_last_one_counts() {
        assert_eq!(value(LINE, "root"), Some("/dev/sda1"));
        assert_eq!(value(LINE, "ro"), Some(""));
        assert_eq!(value(LINE, "rw"), None);
    }

    #[test]
    fn switches_are_on_off_or_unsaid() {
        let line = "a b=1 c=no d=maybe e=0 e";
        let said = ["a", "b", "c", "d", "e", "f"].map(|name| switch(line, name));
        assert_eq!(said, [Some(true), Some(true), Some(false), None, Some(true), None]);
    }

    #[test]
    fn the_command_line_switches_us_off() {
        assert!(Options::parse("ro rd.preroot=0 quiet").is_off);
        assert!(!Options::parse("ro rd.preroot quiet").is_off);
        assert!(!Options::parse("").is_off);
        assert!(Options::parse("rd.preroot.debug").is_debug);
    }

    proptest! {
        #[test]
        fn any_text_has_arguments(line in ".*") {
            for argument in arguments(&line) {
                prop_assert!(argument.name.len() <= line.len());
            }
        }
    }
}
