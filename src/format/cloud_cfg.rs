//! What does an image's cloud.cfg say that preroot respects? By the line, not as YAML: what other tools and people write there.
//!
//! `preserve_hostname: true` at the first column; `cloud_init_modules:`, `cloud_config_modules:` and `cloud_final_modules:`
//! with an item each line (`- ntp`, `- [ntp, always]`) or in brackets; `default_user:` inside `system_info:` with `name:` on
//! a line of its own or in braces. Anything else says nothing. Source: cloud-init's config/cloud.cfg.tmpl.

use super::cloud_config::truth;
use super::text::{bare, lines, split_once};

/// Something that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'t> {
    /// `preserve_hostname`
    PreserveHostname(bool),
    /// `system_info.default_user.name`
    DefaultUser(&'t str),
    /// The n-th of the lists of modules begins; in a later file it replaces the earlier one's.
    List(usize),
    /// A module in it.
    Module(usize, &'t str),
}

const LISTS: [&str; 3] = ["cloud_init_modules", "cloud_config_modules", "cloud_final_modules"];

/// Modules that [`CloudModules`] knows.
const KNOWN: &[&str] = &[
    "ntp",
    "timezone",
    "locale",
    "write_files",
    "resolv_conf",
    "set_hostname",
    "update_etc_hosts",
    "users_groups",
    "set_passwords",
];

/// Which modules an image lists.
pub struct CloudModules {
    /// For each list that is there, the bits of [`KNOWN`].
    lists: [Option<u16>; 3],
}

impl Default for CloudModules {
    fn default() -> Self {
        Self::new()
    }
}

impl CloudModules {
    /// No list: nothing is switched off.
    #[must_use]
    pub const fn new() -> Self {
        Self { lists: [None; 3] }
    }

    pub(super) fn begin(&mut self, list: usize) {
        if let Some(list) = self.lists.get_mut(list) {
            *list = Some(0);
        }
    }

    pub(super) fn add(&mut self, list: usize, name: &str) {
        let known = (0u32..).zip(KNOWN).find(|(_, known)| is_same(known, name));
        if let (Some(Some(list)), Some((bit, _))) = (self.lists.get_mut(list), known) {
            *list |= 1u16.wrapping_shl(bit);
        }
    }

    /// True when there are lists, and none of them has it.
    #[must_use]
    pub fn lacks(&self, module: &str) -> bool {
        let bit = (0u32..)
            .zip(KNOWN)
            .find(|(_, known)| **known == module)
            .map_or(0, |(bit, _)| 1u16.wrapping_shl(bit));
        let all = self.lists.iter().flatten().fold(0, |all, list| all | list);
        self.lists.iter().any(Option::is_some) && all & bit == 0
    }
}

/// `-` is `_`, and `cc_` before it nothing.
fn is_same(known: &str, name: &str) -> bool {
    let name = name.strip_prefix("cc_").unwrap_or(name);
    let underscored = name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte });
    known.bytes().eq(underscored)
}

/// Inside of what a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// The n-th list; with so many brackets open.
    List(usize, usize),
    SystemInfo,
    /// Its `default_user`, which stands so far in.
    DefaultUser(usize),
}

/// Reads a file; `each` gets the line, from 1, and what it says.
pub fn read<'t>(text: &'t [u8], each: &mut dyn FnMut(u16, Item<'t>)) {
    let mut inside = Inside::Nothing;
    for (line, n) in lines(text).zip((1..u16::MAX).chain(core::iter::repeat(u16::MAX))) {
        let Ok(line) = core::str::from_utf8(bare(line)) else { continue };
        let line = split_once(line, " #").map_or(line, |(code, _)| code).trim_ascii_end();
        let code = line.trim_ascii_start();
        if code.is_empty() || code.starts_with('#') {
            continue;
        }
        let depth = line.len().saturating_sub(code.len());
        let mut say = |item| each(n, item);
        inside = match inside {
            Inside::List(list, open) if open > 0 => Inside::List(list, brackets(list, open, code, &mut say)),
            Inside::List(list, _) if code.starts_with('-') => {
                item(list, code, &mut say);
                inside
            }
            _ if depth == 0 => top(code, &mut say),
            Inside::DefaultUser(at) if depth > at => {
                if let Some(("name", value)) = split_once(code, ":") {
                    say(Item::DefaultUser(unquoted(value)));
                }
                inside
            }
            Inside::SystemInfo | Inside::DefaultUser(_) => match split_once(code, ":") {
                Some(("default_user", "")) => Inside::DefaultUser(depth),
                Some(("default_user", value)) => {
                    flow_name(value, &mut say);
                    Inside::SystemInfo
                }
                _ => Inside::SystemInfo,
            },
            _ => inside,
        };
    }
}

/// A line at the first column.
fn top<'t>(code: &'t str, say: &mut dyn FnMut(Item<'t>)) -> Inside {
    let Some((key, value)) = split_once(code, ":") else { return Inside::Nothing };
    let value = value.trim_ascii();
    if let Some(list) = LISTS.iter().position(|name| *name == key) {
        say(Item::List(list));
        let open = if value.is_empty() { 0 } else { brackets(list, 0, value, say) };
        return Inside::List(list, open);
    }
    match key {
        "preserve_hostname" => {
            if let Some(is_so) = truth(unquoted(value)) {
                say(Item::PreserveHostname(is_so));
            }
            Inside::Nothing
        }
        "system_info" => Inside::SystemInfo,
        _ => Inside::Nothing,
    }
}

/// `- name`, or `- [name, how often]`.
fn item<'t>(list: usize, code: &'t str, say: &mut dyn FnMut(Item<'t>)) {
    let code = code.trim_start_matches(['-', ' ', '\t', '[', '{']);
    let code = code.strip_prefix("name:").unwrap_or(code);
    let end = code.find([',', ']', '}']).unwrap_or(code.len());
    say(Item::Module(list, unquoted(code.get(..end).unwrap_or_default())));
}

/// A piece of a list in brackets, of which `open` are; how many are then. The first word of an inner list, on its line, is the module.
fn brackets<'t>(list: usize, open: usize, code: &'t str, say: &mut dyn FnMut(Item<'t>)) -> usize {
    let (mut open, mut is_first) = (open, false);
    for word in code.split_inclusive([',', '[', ']']) {
        let name = unquoted(word.trim_end_matches([',', '[', ']']));
        if !name.is_empty() && (open == 1 || (open == 2 && is_first)) {
            say(Item::Module(list, name));
        }
        is_first = word.ends_with('[');
        match word.bytes().last() {
            Some(b'[') => open = open.saturating_add(1),
            Some(b']') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open
}

/// `{name: root, ...}`
fn flow_name<'t>(value: &'t str, say: &mut dyn FnMut(Item<'t>)) {
    let Some(inner) = value.trim_ascii().strip_prefix('{') else { return };
    let pairs = inner.split([',', '}']).filter_map(|pair| split_once(pair, ":"));
    for (_, name) in pairs.filter(|(key, _)| key.trim_ascii() == "name") {
        say(Item::DefaultUser(unquoted(name)));
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_ascii().trim_matches(['"', '\'']).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::{CloudModules, Item, read};
    use proptest::prelude::{any, proptest};
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    fn items(text: &str) -> Vec<(u16, String)> {
        let mut items = Vec::new();
        read(text.as_bytes(), &mut |line, item| {
            items.push((
                line,
                match item {
                    Item::PreserveHostname(is_so) => format!("preserve {is_so}"),
                    Item::DefaultUser(name) => format!("user {name}"),
                    Item::List(n) => format!("list {n}"),
                    Item::Module(n, name) => format!("{n} {name}"),
                },
            ));
        });
        items
    }

    fn modules(texts: &[&str]) -> CloudModules {
        let mut modules = CloudModules::new();
        for text in texts {
            read(text.as_bytes(), &mut |_, item| match item {
                Item::List(n) => modules.begin(n),
                Item::Module(n, name) => modules.add(n, name),
                _ => {}
            });
        }
        modules
    }

    /// The shape of Tencent's guide for images, and of distributions' files.
    const GUIDE: &str = "users:\n   - default\n\ndisable_root: 0\npreserve_hostname: true # ours\ncloud_init_modules:\n - migrator\n - write-files\n\
        - ['update_etc_hosts','once-per-instance']\n - users-groups\n\ncloud_config_modules:\n- locale\n- set-passwords\n- [ntp, always]\n\
        unverified_modules: ['resolv_conf']\nsystem_info:\n  distro: rhel\n  default_user:\n    name: root\n    gecos: name: x\n  paths:\n    name: y\n";

    #[test]
    fn lines_that_count_are_found_where_they_count() {
        let expected = [
            (5, "preserve true"),
            (6, "list 0"),
            (7, "0 migrator"),
            (8, "0 write-files"),
            (9, "0 update_etc_hosts"),
            (10, "0 users-groups"),
            (12, "list 1"),
            (13, "1 locale"),
            (14, "1 set-passwords"),
            (15, "1 ntp"),
            (20, "user root"),
        ];
        assert_eq!(items(GUIDE), expected.map(|(line, text)| (line, text.to_string())));
        for nothing in [
            " preserve_hostname: true\n",
            "#preserve_hostname: true\n",
            "preserve_hostname: maybe\n",
            "default_user:\n  name: a\n",
        ] {
            assert_eq!(items(nothing), vec![], "{nothing:?}");
        }
        assert_eq!(items("preserve_hostname: 'Yes'\n"), [(1, "preserve true".to_string())]);
        assert_eq!(
            items("system_info:\n  default_user: {gecos: x, name: \"ubuntu\"}\n"),
            [(2, "user ubuntu".to_string())]
        );
    }

    #[test]
    fn lists_in_brackets_are_lists() {
        for text in [
            "cloud_final_modules: [a, [ntp, always], 'c']\n",
            "cloud_final_modules: [a,\n  [ntp,\n always],\n  c]\n",
        ] {
            let names = items(text).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
            assert_eq!(names, ["list 2", "2 a", "2 ntp", "2 c"], "{text:?}");
        }
    }

    #[test]
    fn a_module_is_lacking_only_where_there_are_lists_without_it() {
        assert!(!modules(&["preserve_hostname: true\n"]).lacks("ntp"));
        let guide = modules(&[GUIDE]);
        assert!(!guide.lacks("ntp") && !guide.lacks("write_files") && !guide.lacks("users_groups"));
        assert!(guide.lacks("timezone") && guide.lacks("resolv_conf"));
        assert!(
            modules(&[GUIDE, "cloud_config_modules: [locale]\n"]).lacks("ntp"),
            "the later file's list counts"
        );
    }

    proptest! {
        #[test]
        fn any_file_is_read(bytes in any::<Vec<u8>>(), text in "([a-z_ -]{0,9}[:\\[\\]{},\"' \n]{0,3}){0,20}") {
            read(&bytes, &mut |_, _| {});
            let _ = (items(&text), modules(&[&format!("cloud_init_modules:{text}")]));
        }
    }
}
