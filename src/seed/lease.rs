//! The lease in a seed: `mac`, `address`, `router`, `routes` and the wireserver's address, as text.

use super::load::Reader;
use super::publish::Writer;
use crate::error::Result;
use crate::format::dhcp::{Ipv4, Lease, ROUTES, Route, is_unicast};
use crate::format::text::{Out, split_once};

/// Room for the largest value, the routes.
const VALUE: usize = 48 * ROUTES;

/// Writes it.
///
/// # Errors
/// `Os`.
pub(super) fn write_lease(seed: &mut Writer<'_>, lease: &Lease) -> Result<()> {
    let mut buf = [0; VALUE];
    let mut value = |name: &str, put: &dyn Fn(&mut Out<'_>) -> Result<()>| {
        let mut out = Out::new(too_many!("lease value"), &mut buf);
        put(&mut out)?;
        seed.value(name, out.as_bytes())
    };
    value("lease/mac", &|out| put_mac(out, lease.mac))?;
    value("lease/address", &|out| put_network(out, lease.address, lease.prefix))?;
    if let Some(router) = lease.router {
        value("lease/router", &|out| put_address(out, router))?;
    }
    value("lease/routes", &|out| lease.routes.iter().try_for_each(|route| put_route(out, route)))?;
    for (name, number) in [("lease/mtu", lease.mtu.map(u64::from)), ("lease/until", lease.until_s)] {
        if let Some(number) = number {
            value(name, &|out| out.put_number(number))?;
        }
    }
    match lease.wireserver {
        Some(wireserver) => value("wireserver/address", &|out| put_address(out, wireserver)),
        None => Ok(()),
    }
}

fn put_address(out: &mut Out<'_>, address: Ipv4) -> Result<()> {
    for (i, byte) in address.into_iter().enumerate() {
        if i > 0 {
            out.put(b".")?;
        }
        out.put_number(u64::from(byte))?;
    }
    Ok(())
}

fn put_network(out: &mut Out<'_>, address: Ipv4, prefix: u8) -> Result<()> {
    put_address(out, address)?;
    out.put(b"/")?;
    out.put_number(u64::from(prefix))
}

fn put_route(out: &mut Out<'_>, route: &Route) -> Result<()> {
    put_network(out, route.network, route.prefix)?;
    out.put(b" ")?;
    put_address(out, route.gateway)?;
    out.put(b"\n")
}

fn put_mac(out: &mut Out<'_>, mac: [u8; 6]) -> Result<()> {
    for (i, byte) in mac.into_iter().enumerate() {
        if i > 0 {
            out.put(b":")?;
        }
        out.put_hex(byte)?;
    }
    Ok(())
}

/// Reads it; `None` where the seed has none that we understand.
///
/// # Errors
/// `Os`.
pub(super) fn load_lease(seed: &mut Reader<'_>) -> Result<Option<Lease>> {
    let mac = seed.known("lease/mac", |text| parse_bytes(text, ':', 16))?;
    let address = seed.known("lease/address", parse_network)?;
    let (Some(mac), Some((address, prefix))) = (mac, address) else { return Ok(None) };
    let router = seed.known("lease/router", parse_host)?;
    let wireserver = seed.known("wireserver/address", parse_host)?;
    let mtu = seed.known("lease/mtu", |text| text.parse().ok())?;
    let until_s = seed.known("lease/until", |text| text.parse().ok())?;
    let lines = seed.text("lease/routes")?.unwrap_or_default().lines();
    let routes = lines.filter_map(parse_route).take(ROUTES).collect();
    let (dns, server, lease_s, hostname) = (heapless::Vec::new(), [0; 4], None, None);
    Ok(Some(Lease {
        mac,
        address,
        prefix,
        router,
        server,
        dns,
        routes,
        wireserver,
        mtu,
        lease_s,
        until_s,
        hostname,
    }))
}

fn parse_host(text: &str) -> Option<Ipv4> {
    parse_address(text).filter(|address| is_unicast(*address))
}

fn parse_address(text: &str) -> Option<Ipv4> {
    parse_bytes(text, '.', 10)
}

fn parse_network(text: &str) -> Option<(Ipv4, u8)> {
    let (address, prefix) = split_once(text, "/")?;
    Some((parse_address(address)?, prefix.parse().ok().filter(|p| *p <= 32)?))
}

fn parse_route(line: &str) -> Option<Route> {
    let (destination, gateway) = split_once(line, " ")?;
    let ((network, prefix), gateway) = (parse_network(destination)?, parse_address(gateway)?);
    if gateway != [0; 4] && !is_unicast(gateway) {
        return None;
    }
    Some(Route { network, prefix, gateway })
}

/// Numbers below 256 with `mark` between them.
fn parse_bytes<const N: usize>(text: &str, mark: char, radix: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut parts = text.split(mark);
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, radix).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
