//! A network as NetworkManager has it: one keyfile for each link, nm-settings-keyfile(5).

use super::{OURS, Plan, mode_word, put_address, put_mac, put_number, put_pair, put_prefix};
use crate::error::Result;
use crate::facts::network::{LinkAt, LinkKind, Parameter, Subnet};
use crate::format::sha256::Sha256;
use crate::format::text::Out;

/// One link. A VLAN of what is not there cannot be written.
///
/// # Errors
/// `TooMany`.
#[inline(never)]
pub fn put(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    let label = plan.label(at);
    out.put_all(&[OURS, b"[connection]\nid=preroot ", label.as_bytes(), b"\nuuid="])?;
    put_uuid(plan, at, out)?;
    let kind = match link.kind {
        LinkKind::Physical => "ethernet",
        LinkKind::Bond => "bond",
        LinkKind::Bridge => "bridge",
        LinkKind::Vlan { .. } => "vlan",
    };
    put_pair(out, "\n", "type", "=", kind)?;
    // Above what the image has for any card, and what cloud-init left: 120.
    out.put(b"autoconnect-priority=130\n")?;
    out.put(if link.is_manual { b"autoconnect=false\n" } else { b"" })?;
    if let (None, Some(name)) = (plan.card_mac(at), plan.name(at)) {
        put_pair(out, "", "interface-name", "=", name)?;
    }
    let master = plan.master(at).and_then(|(master, _)| Some((master, plan.network.link(master)?.kind)));
    if let Some((master, kind)) = master {
        let kind = if kind == LinkKind::Bridge { "bridge" } else { "bond" };
        put_pair(out, "", "slave-type", "=", kind)?;
        out.put(b"master=")?;
        put_uuid(plan, master, out)?;
        out.put(b"\n")?;
    }
    put_hardware(plan, at, out)?;
    match link.kind {
        LinkKind::Physical => {}
        LinkKind::Bond | LinkKind::Bridge => put_parameters(plan, at, out)?,
        LinkKind::Vlan { id, parent } => {
            put_number(out, "\n[vlan]\nid=", Some(id.into()))?;
            out.put(b"parent=")?;
            put_uuid(plan, parent, out)?;
            out.put(b"\n")?;
        }
    }
    match master {
        Some((_, LinkKind::Bridge)) if plan.network.parameters_of(at).any(Parameter::is_of_bridge) => {
            return put_rows(plan, at, "\n[bridge-port]\n", out);
        }
        Some(_) => return Ok(()),
        None => {}
    }
    put_family(plan, at, false, out)?;
    put_family(plan, at, true, out)
}

/// A UUID of its own kind (RFC 9562, version 8), the same for the same link in every run.
fn put_uuid(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let mut hash = Sha256::new();
    hash.push(b"preroot network ");
    hash.push(plan.label(at).as_bytes());
    let digest = hash.finish();
    for (n, byte) in digest.into_iter().take(16).enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            out.put(b"-")?;
        }
        out.put_hex(match n {
            6 => (byte & 0x0f) | 0x80,
            8 => (byte & 0x3f) | 0x80,
            _ => byte,
        })?;
    }
    Ok(())
}

fn put_hardware(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let Some(link) = plan.network.link(at) else { return Ok(()) };
    // A bridge's stands with what else it is told.
    let (card, given) = (plan.card_mac(at), plan.given_mac(at).filter(|_| link.kind != LinkKind::Bridge));
    let is_waking = link.wakeonlan == Some(true) && link.kind == LinkKind::Physical;
    if card.or(given).is_none() && link.mtu.is_none() && !is_waking {
        return Ok(());
    }
    out.put(b"\n[ethernet]\n")?;
    if let Some(mac) = card.or(given) {
        out.put(if card.is_some() { b"mac-address=" } else { b"cloned-mac-address=" })?;
        put_mac(out, mac)?;
        out.put(b"\n")?;
    }
    put_number(out, "mtu=", link.mtu)?;
    // NM_SETTING_WIRED_WAKE_ON_LAN_MAGIC.
    put_number(out, "wake-on-lan=", is_waking.then_some(64))
}

fn put_parameters(plan: &Plan<'_>, at: LinkAt, out: &mut Out<'_>) -> Result<()> {
    let is_bridge = plan.network.link(at).is_some_and(|link| link.kind == LinkKind::Bridge);
    put_rows(plan, at, if is_bridge { "\n[bridge]\n" } else { "\n[bond]\n" }, out)?;
    let Some(mac) = plan.given_mac(at).filter(|_| is_bridge) else { return Ok(()) };
    out.put(b"mac-address=")?;
    put_mac(out, mac)?;
    out.put(b"\n")
}

fn put_rows(plan: &Plan<'_>, at: LinkAt, section: &str, out: &mut Out<'_>) -> Result<()> {
    out.put(section.as_bytes())?;
    let is_bridge = section.starts_with("\n[bridge");
    for parameter in plan.network.parameters_of(at).filter(|row| row.is_of_bridge() == is_bridge) {
        let key = match parameter.names() {
            ["bridge_portprio", ..] => "priority",
            [_, _, netplans] if parameter.is_of_bridge() => netplans,
            [kernels, ..] => kernels,
        };
        let value = if key == "mode" { mode_word(&parameter.value) } else { parameter.value.as_str() };
        put_pair(out, "", key, "=", value)?;
    }
    Ok(())
}

/// One family. What is left out is asked for by NetworkManager on its own: DHCP on the parent of a VLAN, too.
fn put_family(plan: &Plan<'_>, at: LinkAt, is_v6: bool, out: &mut Out<'_>) -> Result<()> {
    let has_other =
        plan.network.subnets_of(at).any(|subnet| subnet.is_v6() != is_v6 && subnet != Subnet::Manual);
    let is_static = plan.addresses(at).any(|prefix| prefix.address.is_ipv6() == is_v6);
    let has_routes = plan.network.routes_of(at).any(|route| route.to.address.is_ipv6() == is_v6);
    let (asks, method) = match is_v6 {
        false => (plan.has(at, &[Subnet::Dhcp4]), "auto"),
        // What "dhcp" leaves out: routers.
        true if plan.has(at, &[Subnet::Stateful]) => (true, "dhcp"),
        true => (asks_v6(plan, at), "auto"),
    };
    let has_servers = plan.network.dns_of(at).any(|address| address.is_ipv6() == is_v6);
    let method = match (asks, is_static) {
        (true, _) => method,
        (false, true) => "manual",
        // Link-local addresses, and what routers say of their own accord, as elsewhere.
        (false, false) if is_v6 && has_other && !has_routes && !has_servers => return Ok(()),
        // NetworkManager takes no servers with "disabled"; those of IPv4 without an address of its own cannot be
        // reached, and asking for one would be more than was asked.
        (false, false) if has_routes || is_v6 && has_other && has_servers => "auto",
        (false, false) => "disabled",
    };
    put_pair(out, "\n", if is_v6 { "[ipv6]\nmethod" } else { "[ipv4]\nmethod" }, "=", method)?;
    if method == "disabled" {
        return Ok(());
    }
    // Where two families are asked for, one of them will do.
    let may_fail = !asks && !is_static
        || asks && (is_v6 && plan.has(at, &[Subnet::Dhcp4]) || !is_v6 && asks_v6(plan, at));
    put_pair(out, "", "may-fail", "=", if may_fail { "true" } else { "false" })?;
    put_number(out, "mtu=", plan.network.link(at).and_then(|link| link.mtu6).filter(|_| is_v6))?;
    let addresses = plan.addresses(at).filter(|prefix| prefix.address.is_ipv6() == is_v6);
    for (prefix, n) in addresses.zip(1..) {
        put_numbered(out, "address", n)?;
        put_prefix(out, prefix)?;
        out.put(b"\n")?;
    }
    put_routes(plan, at, is_v6, out)?;
    if let Some(link) = plan.network.link(at).filter(|_| method != "manual") {
        put_number(out, "route-metric=", link.dhcp_metric)?;
        out.put(if link.dhcp_dns == Some(false) { b"ignore-auto-dns=true\n" } else { b"" })?;
    }
    put_names(plan, at, is_v6, out)
}

fn asks_v6(plan: &Plan<'_>, at: LinkAt) -> bool {
    plan.accept_ra(at) == Some(true) || plan.has(at, &[Subnet::Dhcp6])
}

fn put_numbered(out: &mut Out<'_>, key: &str, n: u64) -> Result<()> {
    out.put(key.as_bytes())?;
    out.put_number(n)?;
    out.put(b"=")
}

fn put_routes(plan: &Plan<'_>, at: LinkAt, is_v6: bool, out: &mut Out<'_>) -> Result<()> {
    let routes = plan.network.routes_of(at).filter(|route| route.to.address.is_ipv6() == is_v6);
    for (route, n) in routes.zip(1..) {
        put_numbered(out, "route", n)?;
        put_prefix(out, route.to)?;
        if let Some(via) = route.via {
            out.put(b",")?;
            put_address(out, via)?;
        } else if route.metric.is_some() {
            out.put(if is_v6 { b",::" } else { b",0.0.0.0" })?;
        }
        if let Some(metric) = route.metric {
            out.put(b",")?;
            out.put_number(metric.into())?;
        }
        out.put(b"\n")?;
        let is_on_link = plan.network.is_on_link(at, &route);
        if is_on_link || route.mtu.is_some() {
            out.put(b"route")?;
            out.put_number(n)?;
            out.put(if is_on_link { b"_options=onlink=true" } else { b"_options=" })?;
            out.put(if is_on_link && route.mtu.is_some() { b"," } else { b"" })?;
            put_number(out, "mtu=", route.mtu)?;
            out.put(if route.mtu.is_none() { b"\n" } else { b"" })?;
        }
    }
    Ok(())
}

fn put_names(plan: &Plan<'_>, at: LinkAt, is_v6: bool, out: &mut Out<'_>) -> Result<()> {
    let mut servers = plan.network.dns_of(at).filter(|address| address.is_ipv6() == is_v6).peekable();
    if servers.peek().is_some() {
        out.put(b"dns=")?;
        for address in servers {
            put_address(out, address)?;
            out.put(b";")?;
        }
        out.put(b"\n")?;
    }
    let mut domains = plan.network.search_of(at).peekable();
    if domains.peek().is_some() {
        out.put(b"dns-search=")?;
        domains.try_for_each(|domain| out.put_all(&[domain.as_bytes(), b";"]))?;
        out.put(b"\n")?;
    }
    Ok(())
}
