//! A network as netplan has it: netplan(5), one file for all links. Every scalar stands in quotes: `52:54:00:12:34:56`
//! is a number to YAML 1.1.

use super::{OURS, Plan, mode_word, put_address, put_list, put_mac, put_pair, put_prefix};
use crate::error::Result;
use crate::facts::network::{LinkAt, LinkKind, Subnet};
use crate::format::text::Out;

const SECTIONS: [&str; 3] = ["ethernets", "bonds", "vlans"];

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
                LinkKind::Vlan { .. } => 2,
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
    if let Some(mac) = plan.card_mac(at) {
        out.put(b"      match:\n        macaddress: \"")?;
        put_mac(out, mac)?;
        out.put(b"\"\n")?;
        if plan.is_missing(at) {
            out.put(b"      optional: true\n")?;
        }
    }
    if let Some(mac) = plan.given_mac(at) {
        out.put(b"      macaddress: \"")?;
        put_mac(out, mac)?;
        out.put(b"\"\n")?;
    }
    if let Some(mtu) = link.mtu {
        out.put(b"      mtu: ")?;
        out.put_number(mtu.into())?;
        out.put(b"\n")?;
    }
    match link.kind {
        LinkKind::Physical => {}
        LinkKind::Bond => put_bond(plan, at, out)?,
        LinkKind::Vlan { id, parent } => {
            out.put(b"      id: ")?;
            out.put_number(id.into())?;
            out.put(b"\n      link: ")?;
            put_id(plan, parent, out)?;
            out.put(b"\n")?;
        }
    }
    if link.bond.is_some() { Ok(()) } else { put_ways(plan, at, out) }
}

fn put_bond(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    out.put(b"      interfaces: [")?;
    put_list(out, b", ", plan.network.members_of(at), |out, member| put_id(plan, member, out))?;
    out.put(b"]\n")?;
    for (parameter, n) in plan.network.parameters_of(at).zip(0..) {
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
            _ => out.put_all(&[b"        ", key.as_bytes(), b": \"", value.as_bytes(), b"\"\n"])?,
        }
    }
    Ok(())
}

/// Said in full: what another file says of the same id would hold otherwise.
fn put_ways(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    let truth = |is_on: bool| if is_on { "true" } else { "false" };
    put_pair(out, "      ", "dhcp4", ": ", truth(plan.has(at, &[Subnet::Dhcp4])))?;
    // netplan's word for whatever routers say, too; with NetworkManager behind it `accept-ra` alone asks for nothing.
    let asks = [Subnet::Dhcp6, Subnet::Stateful, Subnet::Slaac, Subnet::Stateless];
    put_pair(out, "      ", "dhcp6", ": ", truth(plan.has(at, &asks)))?;
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
        if let Some(metric) = route.metric {
            out.put(b"          metric: ")?;
            out.put_number(metric.into())?;
            out.put(b"\n")?;
        }
    }
    Ok(())
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
