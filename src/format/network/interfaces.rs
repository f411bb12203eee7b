//! How do the image's own files make room for ours? Two stanzas of one interface both count to ifupdown, two definitions
//! of one card to netplan, so one that would ask for DHCP has to go; its lines stay as comments, and come back with
//! `deprovision`.

use super::{Plan, ifupdown};
use crate::error::Result;
use crate::format::text::{Out, bare, lines, words};

/// Before a line that was set aside.
const MARK: &[u8] = b"#preroot# ";
/// The line after this one was added.
const ADDED: &[u8] = b"#preroot+\n";
/// Where our file is, and what reads it: Debian's ifupdown, ifupdown-ng and busybox. `source` with a pattern is Debian's
/// alone: busybox ends at it, and ifupdown-ng takes nothing of the file.
const DIRECTORY: &[u8] = b"/etc/network/interfaces.d";
const SOURCE: &[u8] = b"source-directory /etc/network/interfaces.d\n";
/// What every such file has.
const LOOPBACK: &[u8] = b"auto lo\niface lo inet loopback\n";
/// Words that begin something of its own: interfaces(5).
const BEGINNINGS: &[&[u8]] = &[
    b"iface",
    b"mapping",
    b"auto",
    b"source",
    b"source-directory",
    b"source-dir",
    b"rename",
    b"no-auto-down",
    b"no-scripts",
    b"template",
];

/// Writes /etc/network/interfaces so that it says nothing of these interfaces, and reads ours.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn give_way(old: &[u8], plan: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    if old.trim_ascii().is_empty() {
        out.put(LOOPBACK)?;
    }
    set_aside(old, plan, out)?;
    if originals(old).any(reads_ours) { Ok(()) } else { put_added(out, &[SOURCE]) }
}

/// Writes a file that it reads so that it says nothing of these interfaces.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn set_aside(old: &[u8], plan: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    let is_ours = |word: &[u8]| ifupdown::names(plan).any(|name| name.as_bytes() == word);
    let mut is_aside = false;
    for line in originals(old) {
        let rest = || words(line).skip(1);
        let first = words(line).next().unwrap_or_default();
        let is_up = first == b"auto" || first.starts_with(b"allow-");
        if is_up || BEGINNINGS.contains(&first) {
            is_aside = first == b"iface" && rest().next().is_some_and(is_ours);
        }
        // Who is allowed to come by udev may: udev has asked for it by what the image said before apply, in this boot,
        // and a card that is not up and not allowed then is a failed unit (Debian's ifup@).
        let names_ours = is_up && first != b"allow-hotplug" && rest().any(is_ours);
        if first.is_empty() || !(is_aside || names_ours) {
            out.put(line)?;
            continue;
        }
        out.put_all(&[MARK, line])?;
        let mut others = rest().filter(|word| !is_ours(word)).peekable();
        if names_ours && others.peek().is_some() {
            put_added(out, &[first])?;
            others.try_for_each(|word| out.put_all(&[b" ", word]))?;
            out.put(b"\n")?;
        }
    }
    out.end_line()
}

fn put_added(out: &mut Out<'_>, parts: &[&[u8]]) -> Result<()> {
    out.end_line()?;
    out.put(ADDED)?;
    out.put_all(parts)
}

/// True for a line that reads our file.
fn reads_ours(line: &[u8]) -> bool {
    let mut words = words(line);
    let (Some(first), Some(path)) = (words.next(), words.next()) else { return false };
    let is_directory = |path: &[u8]| path == DIRECTORY || path == b"interfaces.d";
    match first {
        b"source-directory" | b"source-dir" => is_directory(path.strip_suffix(b"/").unwrap_or(path)),
        b"source" => {
            [&b"/*"[..], b"/50-preroot"].iter().any(|name| path.strip_suffix(*name).is_some_and(is_directory))
        }
        _ => false,
    }
}

/// What netplan calls what is made of, or matches, network cards.
const SECTIONS: [&[u8]; 5] = [b"ethernets:", b"bonds:", b"bridges:", b"vlans:", b"vrfs:"];

/// Writes a file of netplan's so that it defines no links of these kinds: a pattern that matches our card would come
/// before what is said of the card, and addresses of the same id would be added. A file in the flow style, or without a
/// version (an empty `network:` is none to netplan), is set aside as a whole.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn set_netplan_aside(old: &[u8], _: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    let is_section = |line| words(line).next().is_some_and(|first| SECTIONS.contains(&first));
    let names_one = |line| {
        words(line).any(|word| SECTIONS.iter().any(|name| word.windows(name.len()).any(|part| part == *name)))
    };
    if !originals(old).any(names_one) {
        return take_back(old, out);
    }
    let has_version = originals(old).any(|line| words(line).next() == Some(b"version:"));
    let is_whole = !has_version || originals(old).any(|line| names_one(line) && !is_section(line));
    let mut above: Option<usize> = None;
    for line in originals(old) {
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        if let Some(first) = words(line).next() {
            let is_below = above.is_some_and(|above| indent > above || first.starts_with(b"}"));
            above = above.filter(|_| is_below).or(is_section(line).then_some(indent));
        }
        let is_aside = is_whole || above.is_some();
        out.put_all(&[if is_aside && !bare(line).trim_ascii().is_empty() { MARK } else { b"" }, line])?;
    }
    out.end_line()
}

/// The lines that the image has.
fn originals(old: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_added = false;
    lines(old).filter_map(move |mut line| {
        if core::mem::take(&mut is_added) {
            return None;
        }
        while let Some(rest) = line.strip_prefix(MARK) {
            line = rest;
        }
        is_added = bare(line) == bare(ADDED);
        (!is_added).then_some(line)
    })
}

/// Writes the file as the image has it.
///
/// # Errors
/// `TooMany`.
pub fn take_back(old: &[u8], out: &mut Out<'_>) -> Result<()> {
    originals(old).try_for_each(|line| out.put(line))
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::{give_way, set_aside, set_netplan_aside, take_back};
    use crate::facts::network::{Link, LinkKind, LinkName, Network};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec;

    fn written(work: impl Fn(&mut Out<'_>)) -> String {
        let mut buf = vec![0; 4096];
        let mut out = Out::new(too_many!("test"), &mut buf);
        work(&mut out);
        String::from_utf8_lossy(out.as_bytes()).into()
    }

    fn given(old: &str) -> String {
        by(old, give_way)
    }

    fn by(old: &str, way: fn(&[u8], &Plan<'_>, &mut Out<'_>) -> crate::error::Result<()>) -> String {
        let link = |name| Link { name: LinkName::parse(name).ok(), ..Link::new(LinkKind::Physical) };
        let network = Network { links: ["eth0", "bond0"].map(link).into_iter().collect(), ..Network::new() };
        let plan = Plan::new(&network, &mut |_| None);
        written(|out| way(old.as_bytes(), &plan, out).unwrap())
    }

    fn back(text: &str) -> String {
        written(|out| take_back(text.as_bytes(), out).unwrap())
    }

    #[test]
    fn stanzas_of_our_interfaces_are_set_aside_and_come_back() {
        let old = "# x\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n  # why\n  mtu 1400\n\niface eth0 inet6 auto\nauto eth1 eth0\niface eth1 inet manual\n  up true eth0\n";
        let new = given(old);
        assert_eq!(
            new,
            "# x\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\n#preroot# iface eth0 inet dhcp\n  # why\n#preroot#   mtu 1400\n\n#preroot# iface eth0 inet6 auto\n#preroot# auto eth1 eth0\n#preroot+\nauto eth1\niface eth1 inet manual\n  up true eth0\n"
        );
        assert_eq!(given(&new), new, "once more changes nothing");
        assert_eq!(back(&new), old);
    }

    /// busybox and ifupdown-ng know no patterns: they would take nothing of the file.
    #[test]
    fn a_file_that_does_not_read_ours_is_made_to_and_back() {
        let added = "#preroot+\nsource-directory /etc/network/interfaces.d\n";
        for old in [
            "auto lo\n",
            "auto lo\nsource /etc/network/interfaces.d/*.cfg\n",
            "source /etc/network/interfaces.d/eth0\n",
            "source-directory /run/network/interfaces.d\n",
        ] {
            assert_eq!(given(old), std::format!("{old}{added}"));
            assert_eq!(back(&given(old)), old);
        }
        assert_eq!(given("auto lo"), std::format!("auto lo\n{added}"));
        assert_eq!(given(""), std::format!("auto lo\niface lo inet loopback\n{added}"));
        for old in [
            "source-directory /etc/network/interfaces.d\n",
            "source-dir interfaces.d/\n",
            "source /etc/network/interfaces.d/*\n",
        ] {
            assert_eq!(given(old), old);
        }
    }

    #[test]
    fn a_network_of_fewer_interfaces_gives_some_back() {
        assert_eq!(
            given("#preroot# auto eth9\nsource interfaces.d/*\n"),
            "auto eth9\nsource interfaces.d/*\n"
        );
    }

    #[test]
    fn a_file_beside_ours_is_set_aside_too() {
        let old = "auto lo\nauto eth0\niface eth0 inet dhcp\n";
        assert_eq!(by(old, set_aside), "auto lo\n#preroot# auto eth0\n#preroot# iface eth0 inet dhcp\n");
    }

    /// Debian's cloud images have such a file: its patterns match our card before its own definition does.
    #[test]
    fn links_of_netplan_are_set_aside_and_come_back() {
        let old = "network:\n    version: 2\n    ethernets:\n        all-en:\n            match:\n                name: en*\n            # why\n\n            dhcp4: true\n    renderer: NetworkManager\n    tunnels:\n        wg0: {mode: wireguard}\n";
        let new = by(old, set_netplan_aside);
        assert_eq!(
            new,
            "network:\n    version: 2\n#preroot#     ethernets:\n#preroot#         all-en:\n#preroot#             match:\n#preroot#                 name: en*\n#preroot#             # why\n\n#preroot#             dhcp4: true\n    renderer: NetworkManager\n    tunnels:\n        wg0: {mode: wireguard}\n"
        );
        assert_eq!(by(&new, set_netplan_aside), new);
        assert_eq!(back(&new), old);
        let whole = "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n";
        assert_eq!(by(whole, set_netplan_aside), std::format!("#preroot# {whole}"));
        let bare = "---\nnetwork:\n  bridges:\n    br0: {}\n";
        assert_eq!(by(bare, set_netplan_aside).matches("#preroot# ").count(), 4);
        let other = "network:\n  version: 2 # no ethernets:\n  renderer: NetworkManager\n";
        assert_eq!(by(other, set_netplan_aside), other);
        let flow = "network:\n  version: 2\n  ethernets: {\n    a: {}\n  }\n  renderer: networkd\n";
        assert_eq!(by(flow, set_netplan_aside).matches("#preroot# ").count(), 3);
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "((auto|iface|allow-hotplug|  up|#|source)? ?(eth0|eth1|lo)? ?[a-z/0-9.]{0,9}\n?){0,8}", other in any::<String>()) {
            for text in [text, other] {
                let once = given(&text);
                prop_assert_eq!(&given(&once), &once);
                if !text.contains("#preroot") && !text.trim_ascii().is_empty() {
                    let ended = if text.ends_with('\n') { text.clone() } else { text.clone() + "\n" };
                    prop_assert_eq!(back(&once), ended);
                }
                let once = by(&text, set_netplan_aside);
                prop_assert_eq!(&by(&once, set_netplan_aside), &once);
            }
        }
    }
}
