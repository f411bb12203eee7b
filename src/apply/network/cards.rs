//! Which network card has this MAC address, and what is it called?

use crate::apply::{PathText, Root, next_name};
use crate::facts::network::{LinkName, MacAddr, Network};
use crate::format::network::Plan;
use crate::format::text::join;
use crate::limits;
use crate::sys::Dir;

const NET: &str = "sys/class/net";

/// Finds it; hardware before what only has its address, and never what is a part of another interface: that is found
/// under the name of the whole.
pub(super) fn find(host: &mut dyn Dir, mac: MacAddr) -> Option<LinkName> {
    let mut best: Option<(bool, LinkName)> = None;
    let mut last = PathText::new();
    while let Some(name) = next_name(host, NET, &last) {
        let found = look(host, &name, mac);
        best = best
            .filter(|(is_card, _)| *is_card || found.as_ref().is_none_or(|(is_card, _)| !is_card))
            .or(found);
        last = name;
    }
    best.map(|(_, name)| name)
}

fn look(host: &mut dyn Dir, name: &str, mac: MacAddr) -> Option<(bool, LinkName)> {
    let mut buf = [0; 64];
    let n = host.read(&join(&[NET, "/", name, "/address"]).ok()?, &mut buf).ok()?;
    let text = core::str::from_utf8(buf.get(..n)?).ok()?.trim_ascii();
    if MacAddr::parse(text) != Ok(mac) || host.stat(&join(&[NET, "/", name, "/master"]).ok()?).is_ok() {
        return None;
    }
    let is_card = host.stat(&join(&[NET, "/", name, "/device"]).ok()?).is_ok();
    Some((is_card, LinkName::parse(name).ok()?))
}

/// Waits until all are there, as long as for the first card in the initrd: a driver may still be at it.
pub(super) fn wait(network: &Network, root: &mut Root<'_>) {
    let until_us = root.clock.now_us().saturating_add(limits::NIC_MS.saturating_mul(1000));
    root.wait_until(until_us, &mut |host| Plan::new(network, &mut |mac| find(host, mac)).missing == 0);
}
