//! A network as systemd has it: systemd.network(5), systemd.netdev(5), systemd.link(5).

use super::{OURS, Plan, mode_word, put_address, put_list, put_mac, put_number, put_pair, put_prefix};
use crate::error::Result;
use crate::facts::network::{LinkAt, LinkKind, LinkName, Parameter, Subnet};
use crate::format::text::Out;

/// The name of a card that is asked for.
fn asked<'p>(plan: &'p Plan<'_>, at: LinkAt) -> Option<&'p str> {
    plan.card_mac(at).and(plan.network.link(at)?.name.as_ref()).map(LinkName::as_str)
}

/// True when udev is to give this link its name, or to have it wake the machine: a card that is known by its address.
#[must_use]
pub fn has_link(plan: &Plan<'_>, at: LinkAt) -> bool {
    let is_asked = asked(plan, at).is_some() || is_waking(plan, at);
    is_asked && !plan.card_mac(at).is_some_and(|mac| shares_with_card(plan, at, mac))
}

fn is_waking(plan: &Plan<'_>, at: LinkAt) -> bool {
    plan.card_mac(at).is_some() && plan.network.link(at).is_some_and(|link| link.wakeonlan == Some(true))
}

/// Two cards of one address, as Azure's have, cannot be told apart here but by their drivers.
fn shares_with_card(plan: &Plan<'_>, at: LinkAt, mac: crate::facts::network::MacAddr) -> bool {
    let driver = |at| plan.driver(at);
    plan.network.positions().any(|other| {
        other != at
            && plan.card_mac(other) == Some(mac)
            && (driver(at).is_none() || driver(at) == driver(other))
    })
}

/// The `.link` file. A bond or VLAN takes the card's address, and is none of `Type=ether` to udev; before systemd 243
/// nothing is, and the card keeps its name. The first file that matches counts: of a card without a name of its own it
/// says what systemd's own 99-default.link does.
///
/// # Errors
/// `TooMany`.
pub fn put_link(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(mac) = plan.card_mac(at) else { return Ok(()) };
    out.put(OURS)?;
    out.put(b"[Match]\nMACAddress=")?;
    put_mac(out, mac)?;
    out.put(b"\nType=ether\n")?;
    put_driver(plan, at, out)?;
    let (key, value) = match asked(plan, at) {
        Some(name) => ("Name", name),
        None => ("NamePolicy", "keep kernel database onboard slot path"),
    };
    put_pair(out, "\n[Link]\n", key, "=", value)?;
    out.put(if is_waking(plan, at) { b"WakeOnLan=magic\n" } else { b"" })
}

fn put_driver(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    plan.driver(at).map_or(Ok(()), |driver| put_pair(out, "", "Driver", "=", driver))
}

/// True when the link is to be made.
#[must_use]
pub fn has_netdev(plan: &Plan<'_>, at: LinkAt) -> bool {
    let is_made = plan.network.link(at).is_some_and(|link| link.kind != LinkKind::Physical);
    is_made && plan.name(at).is_some()
}

/// The `.netdev` file of a bond, bridge or VLAN.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn put_netdev(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    let (kind, section) = match link.kind {
        LinkKind::Physical => return Ok(()),
        LinkKind::Bond => ("bond", "\n[Bond]\n"),
        LinkKind::Bridge => ("bridge", "\n[Bridge]\n"),
        LinkKind::Vlan { .. } => ("vlan", "\n[VLAN]\n"),
    };
    out.put_all(&[OURS, b"[NetDev]\nName=", plan.name(at).unwrap_or_default().as_bytes()])?;
    put_pair(out, "\n", "Kind", "=", kind)?;
    put_mac_line(plan, at, out)?;
    put_number(out, "MTUBytes=", link.mtu)?;
    out.put(section.as_bytes())?;
    if let LinkKind::Vlan { id, .. } = link.kind {
        return put_number(out, "Id=", Some(id.into()));
    }
    let is_bridge = link.kind == LinkKind::Bridge;
    let mut rows = plan.network.parameters_of(at).filter(|row| row.is_of_bridge() == is_bridge);
    rows.try_for_each(|parameter| put_parameter(parameter, out))
}

fn put_parameter(parameter: &Parameter, out: &mut Out<'_>) -> Result<()> {
    let [kernel, key, _] = parameter.names();
    if key.is_empty() {
        return Ok(());
    }
    out.put_all(&[key.as_bytes(), b"="])?;
    let value = parameter.value.as_str();
    match (kernel, value) {
        ("mode", _) => out.put(mode_word(value).as_bytes())?,
        ("lacp_rate", "0") => out.put(b"slow")?,
        ("lacp_rate", "1") => out.put(b"fast")?,
        ("arp_ip_target", _) => {
            put_list(out, b" ", value.split(','), |out, word| out.put(word.as_bytes()))?;
        }
        _ => out.put(value.as_bytes())?,
    }
    let is_ms = matches!(kernel, "miimon" | "updelay" | "downdelay" | "arp_interval");
    out.put(if is_ms { b"ms\n" } else { b"\n" })
}

fn put_mac_line(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(mac) = plan.given_mac(at) else { return Ok(()) };
    out.put(b"MACAddress=")?;
    put_mac(out, mac)?;
    out.put(b"\n")
}

/// True when anything can be said about the link: it can be found.
#[must_use]
pub fn has_network(plan: &Plan<'_>, at: LinkAt) -> bool {
    !plan.label(at).is_empty()
}

/// The `.network` file.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn put_network(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    out.put(OURS)?;
    put_match(plan, at, out)?;
    if link.mtu.is_some() || plan.given_mac(at).is_some() || link.is_manual {
        out.put(b"\n[Link]\n")?;
        put_mac_line(plan, at, out)?;
        put_number(out, "MTUBytes=", link.mtu)?;
        out.put(if link.is_manual { b"ActivationPolicy=manual\nRequiredForOnline=no\n" } else { b"" })?;
    }
    out.put(b"\n[Network]\n")?;
    match plan.master(at) {
        Some((master, name)) => put_port(plan, at, master, name, out)?,
        None => put_ways(plan, at, out)?,
    }
    for vlan in plan.vlans_of(at) {
        put_pair(out, "", "VLAN", "=", vlan)?;
    }
    if plan.is_port(at) {
        return put_port_parameters(plan, at, out);
    }
    put_number(out, "IPv6MTUBytes=", link.mtu6)?;
    for prefix in plan.addresses(at) {
        out.put(b"\n[Address]\nAddress=")?;
        put_prefix(out, prefix)?;
        out.put(b"\n")?;
    }
    put_routes(plan, at, out)?;
    put_overrides(plan, at, out)
}

/// What becomes of what DHCP and routers bring. Of IPv6 the routes come from routers, the servers from both.
fn put_overrides(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    let asks_v4 = plan.has(at, &[Subnet::Dhcp4]);
    let asks_v6 = plan.has(at, &[Subnet::Dhcp6, Subnet::Stateful, Subnet::Slaac, Subnet::Stateless]);
    let dns = link.dhcp_dns.map(|is_on| if is_on { "yes" } else { "no" });
    for (section, asks, metric) in [
        ("\n[DHCPv4]\n", asks_v4, link.dhcp_metric),
        ("\n[DHCPv6]\n", asks_v6, None),
        ("\n[IPv6AcceptRA]\n", asks_v6, link.dhcp_metric),
    ] {
        if !asks || metric.is_none() && dns.is_none() {
            continue;
        }
        out.put(section.as_bytes())?;
        put_number(out, "RouteMetric=", metric)?;
        dns.map_or(Ok(()), |word| put_pair(out, "", "UseDNS", "=", word))?;
    }
    Ok(())
}

/// By MAC address, which only cards have for themselves; by name where it is not one card's alone.
fn put_match(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    out.put(b"[Match]\n")?;
    let mac = plan.card_mac(at);
    if let Some(mac) = mac {
        out.put(b"MACAddress=")?;
        put_mac(out, mac)?;
        out.put(b"\n")?;
    }
    put_driver(plan, at, out)?;
    if mac.is_none_or(|_| plan.is_mac_shared(at)) {
        // A card that is not there and has no name; before systemd 243 this finds nothing.
        let Some(name) = plan.name(at) else { return out.put(b"Type=ether\n") };
        out.put_all(&[b"Name=", name.as_bytes()])?;
        // The name of the next boot.
        if let Some(asked) = asked(plan, at).filter(|asked| *asked != name) {
            out.put_all(&[b" ", asked.as_bytes()])?;
        }
        out.put(b"\n")?;
    }
    Ok(())
}

fn put_port(plan: &Plan<'_>, at: LinkAt, master: LinkAt, name: &str, out: &mut Out<'_>) -> Result<()> {
    let is_bridge = plan.network.link(master).is_some_and(|link| link.kind == LinkKind::Bridge);
    put_pair(out, "", if is_bridge { "Bridge" } else { "Bond" }, "=", name)?;
    let mut primary = plan.network.parameters_of(master).filter(|row| row.names()[0] == "primary");
    let is_primary = primary.any(|row| Some(row.value.as_str()) == plan.name(at));
    if is_primary { out.put(b"PrimarySlave=yes\n") } else { Ok(()) }
}

fn put_port_parameters(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    for (parameter, n) in plan.network.parameters_of(at).filter(|row| row.is_of_bridge()).zip(0..) {
        out.put(if n == 0 { b"\n[Bridge]\n" } else { b"" })?;
        put_parameter(parameter, out)?;
    }
    Ok(())
}

/// cloud-init says `DHCP=no` for stateful DHCPv6 and nothing for SLAAC: neither would come by an address where RAs are
/// off by default.
fn put_ways(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let (v4, v6) = (plan.has(at, &[Subnet::Dhcp4]), plan.has(at, &[Subnet::Dhcp6, Subnet::Stateful]));
    let dhcp = match (v4, v6) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    put_pair(out, "", "DHCP", "=", dhcp)?;
    if let Some(accept_ra) = plan.accept_ra(at) {
        put_pair(out, "", "IPv6AcceptRA", "=", if accept_ra { "yes" } else { "no" })?;
    }
    if plan.network.all_dns_of(at).next().is_some() {
        out.put(b"DNS=")?;
        put_list(out, b" ", plan.network.all_dns_of(at), put_address)?;
        out.put(b"\n")?;
    }
    if plan.network.all_search_of(at).next().is_some() {
        out.put(b"Domains=")?;
        put_list(out, b" ", plan.network.all_search_of(at), |out, domain| out.put(domain.as_bytes()))?;
        out.put(b"\n")?;
    }
    Ok(())
}

fn put_routes(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    for route in plan.network.routes_of(at) {
        out.put(b"\n[Route]\nDestination=")?;
        put_prefix(out, route.to)?;
        if let Some(via) = route.via {
            out.put(b"\nGateway=")?;
            put_address(out, via)?;
        }
        if plan.network.is_on_link(at, &route) {
            out.put(b"\nGatewayOnLink=yes")?;
        }
        out.put(b"\n")?;
        put_number(out, "Metric=", route.metric)?;
        put_number(out, "MTUBytes=", route.mtu)?;
    }
    Ok(())
}
