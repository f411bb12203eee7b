//! A network in the files of a seed: `network/N` for each link, lines `KEY VALUE`; `network/all` for what is nobody's own.

use super::{put_address, put_mac, put_prefix};
use crate::error::Result;
use crate::facts::network::{
    ALL, Domain, Driver, Link, LinkAt, LinkKind, LinkName, MacAddr, Network, Parameter, Prefix, Route, Subnet,
};
use crate::format::text::{Out, number};

const WHAT: &str = "seed";
/// The longest line: a search domain.
const LINE: usize = 320;
const WAYS: [(&str, Subnet); 6] = [
    ("dhcp4", Subnet::Dhcp4),
    ("dhcp6", Subnet::Dhcp6),
    ("slaac", Subnet::Slaac),
    ("dhcpv6-stateless", Subnet::Stateless),
    ("dhcpv6-stateful", Subnet::Stateful),
    ("manual", Subnet::Manual),
];

/// Writes a link's file, or that of all, line by line.
///
/// # Errors
/// What `put` says.
#[inline(never)]
pub fn emit(network: &Network, at: LinkAt, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buf = [0; LINE];
    let mut line = |key: &str, write: &dyn Fn(&mut Out<'_>) -> Result<()>| {
        let mut out = Out::new(too_many!("line of a seed"), &mut buf);
        out.put(key.as_bytes())?;
        out.put(b" ")?;
        write(&mut out)?;
        out.put(b"\n")?;
        put(out.as_bytes())
    };
    if let Some(link) = network.link(at) {
        emit_link(link, &mut line)?;
    }
    for parameter in network.parameters_of(at) {
        line("parameter", &|out| {
            out.put_all(&[parameter.names()[0].as_bytes(), b" ", parameter.value.as_bytes()])
        })?;
    }
    for subnet in network.subnets_of(at) {
        line("subnet", &|out| match subnet {
            Subnet::Static(prefix) => put_prefix(out, prefix),
            way => {
                out.put(WAYS.iter().find(|(_, known)| *known == way).map_or("", |(word, _)| word).as_bytes())
            }
        })?;
    }
    for route in network.routes_of(at) {
        line("route", &|out| {
            put_prefix(out, route.to)?;
            out.put(b" ")?;
            match route.via {
                Some(via) => put_address(out, via)?,
                None => out.put(b"-")?,
            }
            for (n, number) in [route.metric, route.mtu].into_iter().enumerate() {
                match number {
                    Some(number) => {
                        out.put(b" ")?;
                        out.put_number(number.into())?;
                    }
                    None if n == 0 && route.mtu.is_some() => out.put(b" -")?,
                    None => {}
                }
            }
            Ok(())
        })?;
    }
    for row in network.dns.iter().filter(|row| row.link == at) {
        line("dns", &|out| put_address(out, row.value))?;
    }
    for row in network.search.iter().filter(|row| row.link == at) {
        line("search", &|out| out.put(row.value.as_str().as_bytes()))?;
    }
    Ok(())
}

type PutLine<'l> = &'l mut dyn FnMut(&str, &dyn Fn(&mut Out<'_>) -> Result<()>) -> Result<()>;

fn emit_link(link: &Link, line: PutLine<'_>) -> Result<()> {
    line("type", &|out| match link.kind {
        LinkKind::Physical => out.put(b"physical"),
        LinkKind::Bond => out.put(b"bond"),
        LinkKind::Bridge => out.put(b"bridge"),
        LinkKind::Vlan { id, parent } => {
            out.put(b"vlan ")?;
            out.put_number(id.into())?;
            out.put(b" ")?;
            out.put_number(parent.into())
        }
    })?;
    if let Some(name) = &link.name {
        line("name", &|out| out.put(name.as_str().as_bytes()))?;
    }
    if let Some(mac) = link.mac {
        line("mac", &|out| put_mac(out, mac))?;
    }
    if let Some(driver) = &link.driver {
        line("driver", &|out| out.put(driver.as_str().as_bytes()))?;
    }
    let master = link.master.map(u32::from);
    let numbers =
        [("mtu", link.mtu), ("mtu6", link.mtu6), ("master", master), ("dhcp-metric", link.dhcp_metric)];
    for (key, number) in numbers {
        if let Some(number) = number {
            line(key, &|out| out.put_number(number.into()))?;
        }
    }
    let manual = link.is_manual.then_some(true);
    let words = [
        ("accept-ra", link.accept_ra),
        ("dhcp-dns", link.dhcp_dns),
        ("wakeonlan", link.wakeonlan),
        ("manual", manual),
    ];
    for (key, is_on) in words {
        if let Some(is_on) = is_on {
            line(key, &|out| out.put(if is_on { b"true" } else { b"false" }))?;
        }
    }
    Ok(())
}

/// Reads a file that [`emit`] wrote. The next link, or, with [`ALL`], what is nobody's own. [`Network::check`] comes
/// last: a link may be named before it is there.
///
/// # Errors
/// `Malformed`, `TooMany`.
#[inline(never)]
pub fn parse(text: &str, at: LinkAt, network: &mut Network) -> Result<()> {
    let bad = malformed!(WHAT, "line of a network", 0);
    let mut link = Link::new(LinkKind::Physical);
    for line in text.lines() {
        let (key, value) = crate::format::text::split_once(line, " ").ok_or(bad)?;
        let mut words = value.split(' ');
        let first = words.next().unwrap_or_default();
        let small = |word: &str| number(word.as_bytes()).and_then(|n| LinkAt::try_from(n).ok()).ok_or(bad);
        match key {
            "type" => {
                link.kind = match first {
                    "physical" => LinkKind::Physical,
                    "bond" => LinkKind::Bond,
                    "bridge" => LinkKind::Bridge,
                    "vlan" => {
                        let id = words.next().and_then(|word| number(word.as_bytes()));
                        let id = id.and_then(|id| u16::try_from(id).ok()).ok_or(bad)?;
                        LinkKind::Vlan { id, parent: small(words.next().unwrap_or_default())? }
                    }
                    _ => return Err(bad),
                }
            }
            "name" => link.name = Some(LinkName::parse(value)?),
            "mac" => link.mac = Some(MacAddr::parse(value)?),
            "driver" => link.driver = Some(Driver::parse(value)?),
            "mtu" => link.mtu = Some(number(value.as_bytes()).ok_or(bad)?),
            "mtu6" => link.mtu6 = Some(number(value.as_bytes()).ok_or(bad)?),
            "accept-ra" => link.accept_ra = Some(value == "true"),
            "dhcp-metric" => link.dhcp_metric = Some(number(value.as_bytes()).ok_or(bad)?),
            "dhcp-dns" => link.dhcp_dns = Some(value == "true"),
            "wakeonlan" => link.wakeonlan = Some(value == "true"),
            "manual" => link.is_manual = value == "true",
            "master" => link.master = Some(small(value)?),
            "parameter" => {
                network.add_parameter(at, Parameter::parse(first, words.next().unwrap_or_default())?)?
            }
            "subnet" => {
                let way = WAYS.iter().find(|(word, _)| *word == value).map(|(_, way)| *way);
                network.add_subnet(at, way.map_or_else(|| Prefix::parse(value).map(Subnet::Static), Ok)?)?;
            }
            "route" => network.add_route(at, route(value).ok_or(bad)?)?,
            "dns" => network.add_dns(at, value.parse().map_err(|_| bad)?)?,
            "search" => network.add_search(at, Domain::parse(value)?)?,
            _ => return Err(bad),
        }
    }
    if at == ALL { Ok(()) } else { network.add_link(link).map(|_| ()) }
}

fn route(value: &str) -> Option<Route> {
    let mut words = value.split(' ');
    let to = Prefix::parse(words.next()?).ok()?;
    let via = match words.next()? {
        "-" => None,
        via => Some(via.parse().ok()?),
    };
    let mut optional = || match words.next() {
        None | Some("-") => Some(None),
        Some(word) => number(word.as_bytes()).map(Some),
    };
    let (metric, mtu) = (optional()?, optional()?);
    Some(Route { to, via, metric, mtu })
}
