//! A network as netplan has it: netplan(5), one file for all links. Every scalar stands in quotes: `52:54:00:12:34:56`
//! is a number to YAML 1.1.

use super::{OURS, Plan, mode_word, put_address, put_list, put_mac, put_number, put_pair, put_prefix};
use crate::error::Result;
use crate::facts::network::{Link, LinkAt, LinkKind, Subnet};
use crate::format::text::Out;

const SECTIONS: [&str; 4] = ["ethernets", "bonds", "bridges", "vlans"];

/// All links. Without `set-name`: netplan would have networkd look for the new name only, which the card has after the next
/// boot; the name is in our `.link` file.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn put(plan: &Plan<'_>, out: &mut Out<'_>) -> Result<()> {
    out.put(OURS)?;
    out.put(b"network:\n  version: 2\n")?;
    for (n, section) in SECTIONS.iter().enumerate() {
        let is_here = |at: &LinkAt| {
            let number = plan.network.link(*at).map(|link| match link.kind {
                LinkKind::Physical => 0,
                LinkKind::Bond => 1,
                LinkKind::Bridge => 2,
                LinkKind::Vlan { .. } => 3,
            });
            number == Some(n) && !plan.label(*at).is_empty()
        };
        let mut links = plan.network.positions().filter(is_here).peekable();
        if links.peek().is_some() {
            put_pair(out, "  ", section, ":", "")?;
            links.try_for_each(|at| put_one(plan, at, out))?;
        }
    }
    Ok(())
}

/// What a link is called here: the name it has, so that what another file of the image says of it is overruled. A digit
/// comes first in that of a card without a name: an id of netplan's may have that.
fn put_id(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    out.put_all(&[b"\"", plan.label(at).as_bytes(), b"\""])
}

fn put_one(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    out.put(b"    ")?;
    put_id(plan, at, out)?;
    out.put(b":\n")?;
    put_match(plan, at, out)?;
    if let Some(mac) = plan.given_mac(at) {
        out.put(b"      macaddress: \"")?;
        put_mac(out, mac)?;
        out.put(b"\"\n")?;
    }
    put_number(out, "      mtu: ", link.mtu)?;
    put_number(out, "      ipv6-mtu: ", link.mtu6.filter(|_| !plan.is_port(at)))?;
    if let (LinkKind::Physical, Some(is_on)) = (link.kind, link.wakeonlan) {
        put_pair(out, "      ", "wakeonlan", ": ", truth(is_on))?;
    }
    match link.kind {
        LinkKind::Physical => {}
        LinkKind::Bond | LinkKind::Bridge => put_ports(plan, at, link.kind == LinkKind::Bridge, out)?,
        LinkKind::Vlan { id, parent } => {
            put_number(out, "      id: ", Some(id.into()))?;
            out.put(b"      link: ")?;
            put_id(plan, parent, out)?;
            out.put(b"\n")?;
        }
    }
    if plan.is_port(at) { Ok(()) } else { put_ways(plan, at, out) }
}

fn put_match(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(mac) = plan.card_mac(at) else { return Ok(()) };
    out.put(b"      match:\n        macaddress: \"")?;
    put_mac(out, mac)?;
    out.put(b"\"\n")?;
    if let Some(driver) = plan.driver(at) {
        put_pair(out, "        ", "driver", ": ", driver)?;
    }
    if plan.is_missing(at) { out.put(b"      optional: true\n") } else { Ok(()) }
}

fn put_ports(plan: &Plan<'_>, at: LinkAt, is_bridge: bool, out: &mut Out<'_>) -> Result<()> {
    out.put(b"      interfaces: [")?;
    put_list(out, b", ", plan.network.ports_of(at), |out, port| put_id(plan, port, out))?;
    out.put(b"]\n")?;
    let rows = plan.network.parameters_of(at).filter(|row| row.is_of_bridge() == is_bridge);
    for (parameter, n) in rows.zip(0..) {
        if n == 0 {
            out.put(b"      parameters:\n")?;
        }
        let [kernel, _, key] = parameter.names();
        let value = parameter.value.as_str();
        let value = if kernel == "mode" { mode_word(value) } else { value };
        match kernel {
            "arp_ip_target" => {
                out.put_all(&[b"        ", key.as_bytes(), b": "])?;
                put_quoted(out, "[", value.split(','), |out, word| out.put(word.as_bytes()))?;
            }
            // These have nothing but numbers and truths.
            _ if is_bridge => put_pair(out, "        ", key, ": ", value)?,
            _ => out.put_all(&[b"        ", key.as_bytes(), b": \"", value.as_bytes(), b"\"\n"])?,
        }
    }
    if is_bridge { put_port_parameters(plan, at, out) } else { Ok(()) }
}

/// `path-cost: {PORT: COST}`: what ports are told stands with their bridge, which is told something too, or nothing reads it.
fn put_port_parameters(plan: &Plan<'_>, bridge: LinkAt, out: &mut Out<'_>) -> Result<()> {
    for wanted in ["path-cost", "port-priority"] {
        let mut is_begun = false;
        for port in plan.network.ports_of(bridge) {
            let mut rows = plan.network.parameters_of(port).filter(|row| row.names()[2] == wanted);
            let Some(parameter) = rows.next() else { continue };
            if !core::mem::replace(&mut is_begun, true) {
                put_pair(out, "        ", wanted, ":", "")?;
            }
            out.put(b"          ")?;
            put_id(plan, port, out)?;
            put_pair(out, "", "", ": ", &parameter.value)?;
        }
    }
    Ok(())
}

fn truth(is_on: bool) -> &'static str {
    if is_on { "true" } else { "false" }
}

/// Said in full: what another file says of the same id would hold otherwise.
fn put_ways(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    let asks = plan.has(at, &[Subnet::Dhcp4]);
    put_pair(out, "      ", "dhcp4", ": ", truth(asks))?;
    put_overrides(link, asks, "      dhcp4-overrides:\n", out)?;
    // netplan's word for whatever routers say, too; with NetworkManager behind it `accept-ra` alone asks for nothing.
    let asks = plan.has(at, &[Subnet::Dhcp6, Subnet::Stateful, Subnet::Slaac, Subnet::Stateless]);
    put_pair(out, "      ", "dhcp6", ": ", truth(asks))?;
    put_overrides(link, asks, "      dhcp6-overrides:\n", out)?;
    let is_said = link.accept_ra.is_some() || plan.has(at, &[Subnet::Stateful]);
    if let Some(accept_ra) = plan.accept_ra(at).filter(|_| is_said) {
        put_pair(out, "      ", "accept-ra", ": ", truth(accept_ra))?;
    }
    put_quoted(out, "      addresses: [", plan.addresses(at), put_prefix)?;
    let has_names = plan.network.dns_of(at).next().is_some() || plan.network.search_of(at).next().is_some();
    if has_names {
        out.put(b"      nameservers:\n")?;
        put_quoted(out, "        addresses: [", plan.network.dns_of(at), put_address)?;
        put_quoted(out, "        search: [", plan.network.search_of(at), |out, domain| {
            out.put(domain.as_bytes())
        })?;
    }
    for (route, n) in plan.network.routes_of(at).zip(0..) {
        out.put(if n == 0 { b"      routes:\n        - to: \"" } else { b"        - to: \"" })?;
        put_prefix(out, route.to)?;
        out.put(b"\"\n")?;
        match route.via {
            Some(via) => {
                out.put(b"          via: \"")?;
                put_address(out, via)?;
                out.put(b"\"\n")?;
            }
            None => out.put(b"          scope: link\n")?,
        }
        if plan.network.is_on_link(at, &route) {
            out.put(b"          on-link: true\n")?;
        }
        put_number(out, "          metric: ", route.metric)?;
        put_number(out, "          mtu: ", route.mtu)?;
    }
    Ok(())
}

/// What becomes of what DHCP brings. netplan wants the same of both families.
fn put_overrides(link: &Link, asks: bool, head: &str, out: &mut Out<'_>) -> Result<()> {
    if !asks || link.dhcp_metric.is_none() && link.dhcp_dns.is_none() {
        return Ok(());
    }
    out.put(head.as_bytes())?;
    put_number(out, "        route-metric: ", link.dhcp_metric)?;
    link.dhcp_dns.map_or(Ok(()), |is_on| put_pair(out, "        ", "use-dns", ": ", truth(is_on)))
}

/// `key: ["a", "b"]`; nothing where there is nothing.
fn put_quoted<T>(
    out: &mut Out<'_>,
    before: &str,
    list: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Out<'_>, T) -> Result<()>,
) -> Result<()> {
    let mut list = list.peekable();
    if list.peek().is_none() {
        return Ok(());
    }
    out.put_all(&[before.as_bytes(), b"\""])?;
    put_list(out, b"\", \"", list, &mut put)?;
    out.put(b"\"]\n")
}
