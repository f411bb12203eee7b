//! What do depmod's text tables say? Pure functions on one line each; modules.alias is larger than any buffer.
//!
//! Source: depmod(8), modules.dep(5) and kmod's libkmod-module.c. Names are equal modulo `-` and `_`.

/// Whether two module names are the same to the kernel.
#[must_use]
pub fn is_same_name(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| folded(a) == folded(b))
}

fn folded(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// The name in a path of modules.dep or modules.builtin: no directory, no `.ko`, no compression suffix.
/// `None` when the file is no module.
#[must_use]
pub fn name_of(path: &str) -> Option<&str> {
    let file = path.rsplit('/').next()?;
    let plain = [".gz", ".xz", ".zst"].iter().find_map(|suffix| file.strip_suffix(suffix)).unwrap_or(file);
    plain.strip_suffix(".ko").filter(|name| !name.is_empty())
}

/// Where an unpacked copy of a compressed module would be.
#[must_use]
pub fn plain_path(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(plain, _)| plain).filter(|plain| plain.ends_with(".ko"))
}

/// Whether the kernel must decompress it.
#[must_use]
pub fn is_compressed(path: &str) -> bool {
    !path.ends_with(".ko")
}

/// A line of modules.dep: a module's file and the files it needs, relative to the directory of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependencies<'a> {
    /// The module.
    pub path: &'a str,
    needs: &'a str,
}

impl<'a> Dependencies<'a> {
    /// Reads `path: need need ...`; `None` for a line of another shape.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        let (path, needs) = line.split_once(':')?;
        name_of(path)?;
        Some(Self { path, needs })
    }

    /// What it needs, all the way down, in the order of loading (the file has the nearest first).
    pub fn in_load_order(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.needs.split_ascii_whitespace().rev()
    }
}

/// A line of modules.alias: a pattern and the module that drives what matches it. `None` for other lines.
#[must_use]
pub fn parse_alias(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("alias"), Some(pattern), Some(module)) => Some((pattern, module)),
        _ => None,
    }
}

/// An entry of modules.builtin.modinfo (entries end with NUL): the pattern and the module that is built in,
/// from `module.alias=pattern`. `None` for other entries.
#[must_use]
pub fn parse_builtin_alias(entry: &str) -> Option<(&str, &str)> {
    let (key, pattern) = entry.split_once('=')?;
    let module = key.strip_suffix(".alias")?;
    Some((pattern, module))
}

/// When a soft dependency is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftTime {
    /// Before the module.
    Pre,
    /// After it.
    Post,
}

/// A line of modules.softdep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoftDependencies<'a> {
    /// The module.
    pub module: &'a str,
    words: &'a str,
}

impl<'a> SoftDependencies<'a> {
    /// Reads `softdep module pre: a b post: c`; `None` for other lines.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        let rest = line.trim_ascii_start().strip_prefix("softdep")?;
        let (module, words) = rest.trim_ascii().split_once(|c: char| c.is_ascii_whitespace())?;
        rest.starts_with(|c: char| c.is_ascii_whitespace()).then_some(Self { module, words })
    }

    /// Names of modules or aliases. Words before the first `pre:` or `post:` mean nothing (kmod skips them).
    pub fn wanted(&self, time: SoftTime) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut now = None;
        self.words.split_ascii_whitespace().filter(move |word| {
            match *word {
                "pre:" => now = Some(SoftTime::Pre),
                "post:" => now = Some(SoftTime::Post),
                _ => return now == Some(time),
            }
            false
        })
    }
}

/// Whether a pattern of modules.alias covers a modalias: fnmatch(3) without flags, `-` and `_` equal
/// outside brackets as in kmod.
#[must_use]
pub fn is_match(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    let mut after_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            after_star = Some((pattern, text));
            continue;
        }
        let advanced = match text {
            [] => return pattern.is_empty(),
            [byte, rest @ ..] => one(pattern, *byte).map(|pattern| (pattern, rest)),
        };
        (pattern, text) = match (advanced, after_star) {
            (Some(next), _) => next,
            (None, Some((again, [_, rest @ ..]))) => {
                after_star = Some((again, rest));
                (again, rest)
            }
            (None, _) => return false,
        };
    }
}

/// Takes one element of a pattern if it covers `byte`: the rest of the pattern.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => match bracket(rest, byte) {
            Some((is_in, rest)) => is_in.then_some(rest),
            None => (byte == b'[').then_some(rest),
        },
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] if folded(*literal) == folded(byte) => Some(rest),
        _ => None,
    }
}

/// `[abc0-9]` or `[!abc]`, the opening bracket taken: whether it covers `byte`, and what follows. `None`
/// without a closing bracket: then the opening one is an ordinary character.
fn bracket(inner: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (is_negated, mut rest) = match inner {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, inner),
    };
    let mut is_in = false;
    let mut is_first = true;
    loop {
        rest = match rest {
            [] => return None,
            [b']', rest @ ..] if !is_first => return Some((is_in != is_negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                is_in |= (*low..=*high).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                is_in |= *single == byte;
                rest
            }
        };
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Dependencies, SoftDependencies, SoftTime, is_compressed, is_match, is_same_name, name_of,
        parse_alias, parse_builtin_alias, plain_path,
    };
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    #[test]
    fn a_path_has_a_name() {
        for (path, name) in [
            ("kernel/drivers/pci/controller/pci-hyperv.ko.xz", Some("pci-hyperv")),
            ("kernel/fs/ext4/ext4.ko", Some("ext4")),
            ("a.ko.zst", Some("a")),
            ("a.ko.gz", Some("a")),
            ("a.ko.bz2", None),
            (".ko", None),
            ("", None),
        ] {
            assert_eq!(name_of(path), name, "{path}");
        }
        assert!(is_same_name("pci-hyperv", "pci_hyperv") && !is_same_name("sd_mod", "sr_mod"));
        assert!(is_compressed("a.ko.xz") && !is_compressed("a.ko"));
        assert_eq!((plain_path("b/a.ko.zst"), plain_path("b/a.ko")), (Some("b/a.ko"), None));
    }

    #[test]
    fn dependencies_come_furthest_first() {
        let line = "drivers/scsi/hv_storvsc.ko: drivers/scsi/scsi_mod.ko drivers/scsi/scsi_common.ko drivers/hv/hv_vmbus.ko";
        let found = Dependencies::parse(line).unwrap();
        let order: Vec<_> = found.in_load_order().filter_map(name_of).collect();
        assert_eq!(order, ["hv_vmbus", "scsi_common", "scsi_mod"]);
        assert_eq!(Dependencies::parse("drivers/hv/hv_vmbus.ko:").unwrap().in_load_order().count(), 0);
        assert_eq!(Dependencies::parse("# comment"), None);
    }

    #[test]
    fn aliases_are_three_words() {
        assert_eq!(parse_alias("alias acpi*:VMBus:* hv_vmbus"), Some(("acpi*:VMBus:*", "hv_vmbus")));
        assert_eq!(parse_alias("# Aliases extracted"), None);
        assert_eq!(parse_alias("alias x"), None);
        let built_in = "crc32c_generic.alias=crypto-crc32c";
        assert_eq!(parse_builtin_alias(built_in), Some(("crypto-crc32c", "crc32c_generic")));
        assert_eq!(parse_builtin_alias("amd_uncore.license=GPL v2"), None);
    }

    #[test]
    fn soft_dependencies_have_a_time() {
        let line = SoftDependencies::parse("softdep vfio pre: a b post: c d").unwrap();
        let all = |time| line.wanted(time).collect::<Vec<_>>();
        assert_eq!(
            (line.module, all(SoftTime::Pre), all(SoftTime::Post)),
            ("vfio", ["a", "b"].into(), ["c", "d"].into())
        );
        assert_eq!(SoftDependencies::parse("softdep cifs gcm").unwrap().wanted(SoftTime::Pre).count(), 0);
        assert_eq!(SoftDependencies::parse("softdep cifs"), None);
        assert_eq!(SoftDependencies::parse("softdepx cifs pre: y"), None);
    }

    /// Lines of modules.alias of Debian's 6.1 and 6.12 kernels.
    #[test]
    fn patterns_match_as_fnmatch() {
        for (pattern, text, expected) in [
            (
                "pci:v00008086d00007010sv*sd*bc*sc*i*",
                "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80",
                true,
            ),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80", false),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("scsi:t-0x05*", "scsi:t-0x05", true),
            ("scsi:t-0x05*", "scsi:t-0x00", false),
            ("acpi*:VMBus:*", "acpi:MSFT1000:VMBus:", true),
            ("input:b*v*p*e*-e*1,*2,*k*[!7]*", "input:b0003v1p1e1-e0,1,2,k8", true),
            ("x[0-9a-f]y", "xby", true),
            ("x[0-9a-f]y", "xgy", false),
            ("x[]]y", "x]y", true),
            ("x[!]]y", "x]y", false),
            ("x[y", "x[y", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("crypto-crc32c", "crypto_crc32c", true),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
            ("a*b*c", "aXbYbZ", false),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_only_itself(a in "[a-z0-9:]{0,12}", b in "[a-z0-9:]{0,12}") {
            prop_assert_eq!(is_match(&a, &b), a == b);
        }

        #[test]
        fn a_star_stands_for_any_part(head in "[a-z]{0,8}", part in "[a-z]{0,8}", tail in "[a-z]{0,8}") {
            let text = [head.as_str(), &part, &tail].concat();
            let pattern = [head.as_str(), "*", &tail].concat();
            prop_assert!(is_match(&pattern, &text));
            let stars: String = text.chars().map(|_| '?').collect();
            prop_assert!(is_match(&stars, &text));
        }

        #[test]
        fn any_pattern_ends(pattern in "[a*?\\[\\]!^\\\\-]{0,24}", text in "[a\\[\\]-]{0,24}", line in ".*") {
            let _ = is_match(&pattern, &text);
            let _ = parse_alias(&line);
            let _ = parse_builtin_alias(&line);
            let _ = Dependencies::parse(&line).map(|d| d.in_load_order().count());
            let _ = SoftDependencies::parse(&line).map(|s| s.wanted(SoftTime::Post).count());
        }
    }
}
