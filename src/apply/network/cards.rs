//! Which network card has this MAC address, and what is it called?

use crate::apply::{PathText, Root, next_name};
use crate::facts::network::{LinkName, MacAddr, Network};
use crate::format::network::{Plan, SYNTHETIC};
use crate::format::text::join;
use crate::limits;
use crate::sys::Dir;

const NET: &str = "sys/class/net";

/// What has an address, the best last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// What only took it.
    Software,
    Card,
    /// Hyper-V's, which stays when the function behind it, of the same address, is taken away.
    Synthetic,
}

/// Finds it, and never what is a part of another interface: that is found under the name of the whole.
pub(super) fn find(host: &mut dyn Dir, mac: MacAddr) -> Option<LinkName> {
    let mut best: Option<(Kind, LinkName)> = None;
    let mut last = PathText::new();
    while let Some(name) = next_name(host, NET, &last) {
        let found = look(host, &name, mac);
        best = best.filter(|(kind, _)| found.as_ref().is_none_or(|(other, _)| other <= kind)).or(found);
        last = name;
    }
    best.map(|(_, name)| name)
}

/// All of them on this machine.
pub(super) fn plan<'n>(network: &'n Network, host: &mut dyn Dir) -> Plan<'n> {
    let mut plan = Plan::new(network, &mut |mac| find(host, mac));
    for at in network.positions() {
        if plan.card_mac(at).and(plan.name(at)).is_some_and(|name| is_synthetic(host, name)) {
            plan.set_synthetic(at);
        }
    }
    plan
}

fn is_synthetic(host: &mut dyn Dir, name: &str) -> bool {
    let Ok(path) = join(&[NET, "/", name, "/device/driver"]) else { return false };
    let mut buf = [0; limits::PATH];
    let target = host.read_link(&path, &mut buf).ok().and_then(|n| buf.get(..n)).unwrap_or_default();
    target.rsplit(|byte| *byte == b'/').next() == Some(SYNTHETIC.as_bytes())
}

fn look(host: &mut dyn Dir, name: &str, mac: MacAddr) -> Option<(Kind, LinkName)> {
    let mut buf = [0; 64];
    let n = host.read(&join(&[NET, "/", name, "/address"]).ok()?, &mut buf).ok()?;
    let text = core::str::from_utf8(buf.get(..n)?).ok()?.trim_ascii();
    if MacAddr::parse(text) != Ok(mac) || host.stat(&join(&[NET, "/", name, "/master"]).ok()?).is_ok() {
        return None;
    }
    let kind = match host.stat(&join(&[NET, "/", name, "/device"]).ok()?).is_ok() {
        false => Kind::Software,
        true if is_synthetic(host, name) => Kind::Synthetic,
        true => Kind::Card,
    };
    Some((kind, LinkName::parse(name).ok()?))
}

/// Waits until all are there, as long as for the first card in the initrd: a driver may still be at it.
pub(super) fn wait(network: &Network, root: &mut Root<'_>) {
    let until_us = root.clock.now_us().saturating_add(limits::NIC_MS.saturating_mul(1000));
    root.wait_until(until_us, &mut |host| Plan::new(network, &mut |mac| find(host, mac)).missing == 0);
}
