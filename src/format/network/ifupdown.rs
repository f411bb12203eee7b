//! A network as ifupdown has it: interfaces(5), one file for all links. Debian's ifupdown and ifupdown-ng take the same
//! words; busybox (1.35, networking/ifupdown.c) ends at the first stanza that it does not know, and has words of its own.

use super::{OURS, Plan, put_address, put_list, put_mac, put_number, put_pair, put_prefix};
use crate::error::Result;
use crate::facts::network::{LinkAt, LinkKind, Prefix, Route, Subnet};
use crate::format::text::Out;
use core::net::IpAddr;

const INDENT: &str = "    ";

/// All links that are there: a name is all ifupdown knows them by.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn put(plan: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    out.put(OURS)?;
    // What is made of others comes behind them.
    for round in 0..5 {
        for at in plan.network.positions() {
            if round_of(plan, at) == Some(round) && !plan.is_missing(at) {
                put_one(plan, at, out)?;
            }
        }
    }
    Ok(())
}

fn round_of(plan: &Plan<'_>, at: LinkAt) -> Option<u8> {
    Some(match plan.network.link(at)?.kind {
        LinkKind::Physical => 0,
        LinkKind::Bond => 1,
        LinkKind::Vlan { parent, .. } if plan.network.link(parent)?.kind == LinkKind::Bridge => 4,
        LinkKind::Vlan { .. } => 2,
        LinkKind::Bridge => 3,
    })
}

/// The names of the links that [`put`] writes.
pub fn names<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = &'p str> {
    plan.network.positions().filter(|at| !plan.is_missing(*at)).filter_map(|at| plan.name(at))
}

fn put_one(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(name) = plan.name(at) else { return Ok(()) };
    if is_up(plan, at) {
        put_pair(out, "\n", "auto", " ", name)?
    } else {
        out.put(b"\n")?
    };
    let is_port = plan.is_port(at);
    let subnets = || plan.network.subnets_of(at).filter(|_| !is_port);
    // Routes stand with the last stanza of their family, whose addresses are all there by then; with the last of all
    // where it has none.
    let last = |is_v6: bool| {
        let of_family = subnets().zip(0..).filter(|(subnet, _)| subnet.is_v6() == is_v6).last();
        of_family.or(subnets().zip(0..).last()).map(|(_, n)| n)
    };
    for (subnet, n) in subnets().zip(0..) {
        put_stanza(plan, at, name, subnet, n == 0, out)?;
        let is_here = |route: &Route| last(route.to.address.is_ipv6()) == Some(n);
        for route in plan.network.routes_of(at).filter(is_here) {
            put_route(plan, at, name, &route, out)?;
        }
    }
    if subnets().next().is_none() { put_stanza(plan, at, name, Subnet::Manual, true, out) } else { Ok(()) }
}

/// True if it comes up by itself: of what nothing stands on, and nobody asks an address for, nothing was asked.
fn is_up(plan: &Plan<'_>, at: LinkAt) -> bool {
    let Some(link) = plan.network.link(at) else { return false };
    let is_used = matches!(link.kind, LinkKind::Bond | LinkKind::Bridge)
        || link.master.is_some()
        || plan.network.subnets_of(at).next().is_some()
        || plan.vlans_of(at).next().is_some();
    is_used && !link.is_manual
}

fn put_stanza(
    plan: &Plan<'_>,
    at: LinkAt,
    name: &str,
    subnet: Subnet,
    is_first: bool,
    out: &mut Out<'_>,
) -> Result<()> {
    let how = match subnet {
        // busybox knows neither `inet6 auto` nor `inet6 dhcp`; the kernel hears routers by itself.
        subnet if plan.is_busybox && subnet.is_v6() && !matches!(subnet, Subnet::Static(_)) => {
            " inet6 manual"
        }
        Subnet::Static(prefix) if prefix.address.is_ipv4() => " inet static",
        Subnet::Static(_) => " inet6 static",
        Subnet::Dhcp4 => " inet dhcp",
        Subnet::Dhcp6 | Subnet::Stateful => " inet6 dhcp",
        Subnet::Slaac | Subnet::Stateless => " inet6 auto",
        Subnet::Manual => " inet manual",
    };
    put_pair(out, "iface ", name, how, "")?;
    if let Subnet::Static(prefix) = subnet {
        out.put(b"    address ")?;
        if plan.is_busybox {
            put_address(out, prefix.address)?;
            out.put(b"\n    netmask ")?;
            put_netmask(out, prefix)?;
        } else {
            put_prefix(out, prefix)?;
        }
        out.put(b"\n")?;
    }
    // dhclient's, and that of Alpine's script for udhcpc; what IPv6 brings has none here.
    let metric = plan.network.link(at).and_then(|link| link.dhcp_metric);
    put_number(out, "    metric ", metric.filter(|_| subnet == Subnet::Dhcp4))?;
    // To busybox `manual` is nothing at all.
    if plan.is_busybox && how.ends_with("manual") {
        out.put_all(&[b"    up ip link set dev ", name.as_bytes(), b" up || true\n"])?;
    }
    if subnet == Subnet::Stateless && !plan.is_busybox {
        out.put(b"    dhcp 1\n")?;
    }
    // `auto` hears routers anyway, and does not know the word.
    let accept_ra = plan.accept_ra(at).filter(|_| how == " inet6 static" || how == " inet6 dhcp");
    if let Some(accept_ra) = accept_ra {
        put_pair(out, INDENT, "accept-ra", " ", if accept_ra { "1" } else { "0" })?;
    }
    put_number(out, "    mtu ", mtu_of(plan, at, subnet, is_first))?;
    if is_first { put_link(plan, at, out) } else { Ok(()) }
}

/// What an MTU of IPv6's is to Debian's ifupdown: one that stands with a stanza of IPv6, if the card's is more. The card's
/// stands with the first of the others.
fn mtu_of(plan: &Plan<'_>, at: LinkAt, subnet: Subnet, is_first: bool) -> Option<u32> {
    let link = plan.network.link(at)?;
    let subnets = || plan.network.subnets_of(at).filter(|_| !plan.is_port(at));
    let has_own = link.mtu6.is_some() && !plan.is_busybox && subnets().any(|other| !other.is_v6());
    let takes_own = |subnet: Subnet| has_own && subnet.is_v6();
    if takes_own(subnet) {
        return link.mtu6;
    }
    let is_here = subnets()
        .find(|other| !takes_own(*other))
        .map_or(is_first, |first| is_first || has_own && first == subnet);
    link.mtu.filter(|_| is_here)
}

/// Dotted for IPv4, a number for IPv6: busybox wants it apart and so, ifupdown-ng loses it where it stands apart.
fn put_netmask(out: &mut Out<'_>, prefix: Prefix) -> Result<()> {
    if prefix.address.is_ipv6() {
        return out.put_number(prefix.length.into());
    }
    let hosts = u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
    put_address(out, IpAddr::V4((!hosts).into()))
}

/// What is said of the link once.
fn put_link(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    if let Some(mac) = plan.given_mac(at) {
        // busybox drops the first of two words, ifupdown-ng takes one only.
        out.put(if plan.is_busybox { b"    hwaddress ether " } else { b"    hwaddress " })?;
        put_mac(out, mac)?;
        out.put(b"\n")?;
    }
    match link.kind {
        // ethtool's script (ethtool-interfaces.d).
        LinkKind::Physical => {
            out.put(if link.wakeonlan == Some(true) { b"    ethernet-wol g\n" } else { b"" })?
        }
        LinkKind::Bond => {
            put_parameters(plan, at, "", out)?;
            out.put(b"    bond-slaves none\n")?;
        }
        LinkKind::Bridge => put_bridge(plan, at, out)?,
        LinkKind::Vlan { id, parent } => {
            put_number(out, "    vlan-id ", Some(id.into()))?;
            put_pair(out, INDENT, "vlan-raw-device", " ", plan.name(parent).unwrap_or_default())?;
        }
    }
    if let Some((master, name)) = plan.master(at) {
        if plan.network.link(master).is_none_or(|link| link.kind != LinkKind::Bond) {
            return Ok(());
        }
        put_pair(out, INDENT, "bond-master", " ", name)?;
        return put_parameters(plan, master, "", out);
    }
    // resolvconf knows no servers of a link: what comes up brings those of all.
    if plan.network.subnets_of(at).next().is_none() {
        return Ok(());
    }
    if plan.network.all_dns_of(at).next().is_some() {
        out.put(b"    dns-nameservers ")?;
        put_list(out, b" ", plan.network.all_dns_of(at), put_address)?;
        out.put(b"\n")?;
    }
    if plan.network.all_search_of(at).next().is_some() {
        out.put(b"    dns-search ")?;
        put_list(out, b" ", plan.network.all_search_of(at), |out, domain| out.put(domain.as_bytes()))?;
        out.put(b"\n")?;
    }
    Ok(())
}

fn put_bridge(plan: &Plan<'_>, bridge: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let ports = || plan.network.ports_of(bridge).filter(|port| !plan.is_missing(*port));
    out.put(b"    bridge-ports")?;
    if ports().all(|port| plan.name(port).is_none()) {
        out.put(b" none")?;
    }
    for name in ports().filter_map(|port| plan.name(port)) {
        out.put_all(&[b" ", name.as_bytes()])?;
    }
    out.put(b"\n")?;
    put_parameters(plan, bridge, "", out)?;
    for port in ports() {
        put_parameters(plan, port, plan.name(port).unwrap_or_default(), out)?;
    }
    Ok(())
}

/// A bond's, with it and with each member: whichever comes up first makes it. A bridge's, and its port's. All keys have
/// dashes.
fn put_parameters(plan: &Plan<'_>, at: LinkAt, port: &str, out: &mut Out<'_>) -> Result<()> {
    let is_bond = plan.network.link(at).is_some_and(|link| link.kind == LinkKind::Bond) && port.is_empty();
    for parameter in plan.network.parameters_of(at).filter(|row| row.is_of_bridge() != is_bond) {
        out.put(if is_bond { b"    bond-" } else { b"    " })?;
        let [key, ..] = parameter.names();
        key.bytes().try_for_each(|byte| out.put(&[if byte == b'_' { b'-' } else { byte }]))?;
        let value = match parameter.value.as_str() {
            "true" if key == "bridge_stp" => "on",
            "false" if key == "bridge_stp" => "off",
            value => value,
        };
        out.put(if port.is_empty() { b"" } else { b" " })?;
        put_pair(out, port, "", " ", value)?;
    }
    Ok(())
}

/// A route that cannot be made keeps no interface from coming up.
fn put_route(plan: &Plan<'_>, at: LinkAt, name: &str, route: &Route, out: &mut Out<'_>) -> Result<()> {
    for (when, what) in [("    post-up ip ", "route add "), ("    pre-down ip ", "route del ")] {
        out.put(when.as_bytes())?;
        out.put(if route.to.address.is_ipv6() { b"-family inet6 " } else { b"" })?;
        out.put(what.as_bytes())?;
        if route.to.is_default() {
            out.put(b"default")?
        } else {
            put_prefix(out, route.to)?
        };
        if let Some(via) = route.via {
            out.put(b" via ")?;
            put_address(out, via)?;
        }
        out.put_all(&[b" dev ", name.as_bytes()])?;
        if plan.network.is_on_link(at, route) {
            out.put(b" onlink")?;
        }
        for (key, number) in [(" metric ", route.metric), (" mtu ", route.mtu)] {
            if let Some(number) = number {
                out.put(key.as_bytes())?;
                out.put_number(number.into())?;
            }
        }
        out.put(b" || true\n")?;
    }
    Ok(())
}
