//! How does the image's /etc/network/interfaces make room for ours? Two stanzas of one interface both count there, so
//! one that would ask for DHCP has to go; its lines stay as comments, and come back with `deprovision`.

use super::{Plan, ifupdown};
use crate::error::Result;
use crate::format::text::{Out, bare, lines, words};

/// Before a line that was set aside.
const MARK: &[u8] = b"#preroot# ";
/// What reads the directory that our file is in.
pub const SOURCE: &[u8] = b"source /etc/network/interfaces.d/*\n";
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

/// Writes the file so that it says nothing of these interfaces, and reads ours.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn give_way(old: &[u8], plan: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    let is_ours = |word: &[u8]| ifupdown::names(plan).any(|name| name.as_bytes() == word);
    if old.trim_ascii().is_empty() {
        out.put(LOOPBACK)?;
    }
    let (mut is_aside, mut is_read) = (false, false);
    for line in lines(old) {
        let rest = || words(line).skip(1);
        let first = words(line).next().unwrap_or_default();
        let is_up = first == b"auto" || first.starts_with(b"allow-");
        if is_up || BEGINNINGS.contains(&first) {
            is_aside = first == b"iface" && rest().next().is_some_and(is_ours);
        }
        is_read |= first.starts_with(b"source") && bare(line).windows(12).any(|part| part == b"interfaces.d");
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
            out.end_line()?;
            out.put(first)?;
            others.try_for_each(|word| out.put_all(&[b" ", word]))?;
            out.put(b"\n")?;
        }
    }
    out.end_line()?;
    if is_read { Ok(()) } else { out.put(SOURCE) }
}

/// Takes it back.
///
/// # Errors
/// `TooMany`.
pub fn take_back(old: &[u8], out: &mut Out<'_>) -> Result<()> {
    lines(old).try_for_each(|line| out.put(line.strip_prefix(MARK).unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::{give_way, take_back};
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
        let link = |name| Link { name: LinkName::parse(name).ok(), ..Link::new(LinkKind::Physical) };
        let network = Network { links: ["eth0", "bond0"].map(link).into_iter().collect(), ..Network::new() };
        let plan = Plan::new(&network, &mut |_| None);
        written(|out| give_way(old.as_bytes(), &plan, out).unwrap())
    }

    #[test]
    fn stanzas_of_our_interfaces_are_set_aside_and_come_back() {
        let old = "# x\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n  # why\n  mtu 1400\n\niface eth0 inet6 auto\nauto eth1 eth0\niface eth1 inet manual\n  up true eth0\n";
        let new = given(old);
        assert_eq!(
            new,
            "# x\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\n#preroot# iface eth0 inet dhcp\n  # why\n#preroot#   mtu 1400\n\n#preroot# iface eth0 inet6 auto\n#preroot# auto eth1 eth0\nauto eth1\niface eth1 inet manual\n  up true eth0\n"
        );
        assert_eq!(given(&new), new, "once more changes nothing");
        let back = written(|out| take_back(new.as_bytes(), out).unwrap());
        assert_eq!(back.replace("auto eth1\n", ""), old);
    }

    #[test]
    fn a_file_that_reads_no_directory_is_made_to() {
        assert_eq!(given("auto lo"), "auto lo\nsource /etc/network/interfaces.d/*\n");
        assert_eq!(given(""), "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n");
        let old = "source-directory /etc/network/interfaces.d\n";
        assert_eq!(given(old), old);
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "((auto|iface|allow-hotplug|  up|#|source)? ?(eth0|eth1|lo)? ?[a-z/0-9.]{0,9}\n?){0,8}", other in any::<String>()) {
            for text in [text, other] {
                let once = given(&text);
                prop_assert_eq!(given(&once), once);
            }
        }
    }
}
