//! A network as ifupdown has it: interfaces(5), one file for all links. Debian's ifupdown and ifupdown-ng take the same
//! words; busybox (1.35, networking/ifupdown.c) ends at the first stanza that it does not know, and has words of its own.

use super::{OURS, Plan, put_address, put_list, put_mac, put_pair, put_prefix};
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
    for round in 0..3 {
        for at in plan.network.positions() {
            let is_now = plan.network.link(at).is_some_and(|link| match link.kind {
                LinkKind::Physical => round == 0,
                LinkKind::Bond => round == 1,
                LinkKind::Vlan { .. } => round == 2,
            });
            if is_now && !plan.is_missing(at) {
                put_one(plan, at, out)?;
            }
        }
    }
    Ok(())
}

/// The names of the links that [`put`] writes.
pub fn names<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = &'p str> {
    plan.network.positions().filter(|at| !plan.is_missing(*at)).filter_map(|at| plan.name(at))
}

fn put_one(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(name) = plan.name(at) else { return Ok(()) };
    put_pair(out, "\n", "auto", " ", name)?;
    let mut is_first = true;
    // Routes stand with the first stanza of their family, or the first of all where it has none.
    let has = |is_v6: bool| plan.network.subnets_of(at).any(|subnet| subnet.is_v6() == is_v6);
    let (mut had_v4, mut had_v6) = (false, false);
    let is_member = plan.network.link(at).is_some_and(|link| link.bond.is_some());
    for subnet in plan.network.subnets_of(at).filter(|_| !is_member) {
        put_stanza(plan, at, name, subnet, is_first, out)?;
        let is_v6 = subnet.is_v6();
        let is_now = |v6: bool| match v6 == is_v6 {
            true => !(if v6 { had_v6 } else { had_v4 }),
            false => is_first && !has(v6),
        };
        for route in plan.network.routes_of(at).filter(|route| is_now(route.to.address.is_ipv6())) {
            put_route(plan, at, name, &route, out)?;
        }
        (had_v4, had_v6) = (had_v4 || !is_v6, had_v6 || is_v6);
        is_first = false;
    }
    if is_first { put_stanza(plan, at, name, Subnet::Manual, true, out) } else { Ok(()) }
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
    if is_first { put_link(plan, at, out) } else { Ok(()) }
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
    if let Some(mtu) = link.mtu {
        out.put(b"    mtu ")?;
        out.put_number(mtu.into())?;
        out.put(b"\n")?;
    }
    if let Some(mac) = plan.given_mac(at) {
        // busybox drops the first of two words, ifupdown-ng takes one only.
        out.put(if plan.is_busybox { b"    hwaddress ether " } else { b"    hwaddress " })?;
        put_mac(out, mac)?;
        out.put(b"\n")?;
    }
    match link.kind {
        LinkKind::Physical => {}
        LinkKind::Bond => {
            put_parameters(plan, at, out)?;
            out.put(b"    bond-slaves none\n")?;
        }
        LinkKind::Vlan { id, parent } => {
            out.put(b"    vlan-id ")?;
            out.put_number(id.into())?;
            put_pair(out, "\n    ", "vlan-raw-device", " ", plan.name(parent).unwrap_or_default())?;
        }
    }
    if let Some(bond) = link.bond {
        if let Some(name) = plan.name(bond) {
            put_pair(out, INDENT, "bond-master", " ", name)?;
        }
        return put_parameters(plan, bond, out);
    }
    if plan.network.dns_of(at).next().is_some() {
        out.put(b"    dns-nameservers ")?;
        put_list(out, b" ", plan.network.dns_of(at), put_address)?;
        out.put(b"\n")?;
    }
    if plan.network.search_of(at).next().is_some() {
        out.put(b"    dns-search ")?;
        put_list(out, b" ", plan.network.search_of(at), |out, domain| out.put(domain.as_bytes()))?;
        out.put(b"\n")?;
    }
    Ok(())
}

/// A bond's, with it and with each member: whichever comes up first makes it. All keys have dashes.
fn put_parameters(plan: &Plan<'_>, bond: LinkAt, out: &mut Out<'_>) -> Result<()> {
    for parameter in plan.network.parameters_of(bond) {
        out.put(b"    bond-")?;
        let [key, ..] = parameter.names();
        key.bytes().try_for_each(|byte| out.put(&[if byte == b'_' { b'-' } else { byte }]))?;
        put_pair(out, "", "", " ", &parameter.value)?;
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
        if let Some(metric) = route.metric {
            out.put(b" metric ")?;
            out.put_number(metric.into())?;
        }
        out.put(b" || true\n")?;
    }
    Ok(())
}
