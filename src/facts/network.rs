//! Which network is this VM to have? What network_data.json says, and any later source, in one form for all renderers.
//!
//! Tables that name each other by position, so that a document may come in any order and nothing is held twice. A
//! value in here is safe in every file it is written to: no blank, no bracket, no newline.

mod names;
mod parameter;

pub use names::{Domain, Driver, LinkName, MacAddr, Prefix};
pub use parameter::{KEYS, Parameter};

use crate::error::Result;
use crate::limits;
use core::net::IpAddr;

const WHAT: &str = "network";

/// Position of a link in [`Network::links`].
pub type LinkAt = u8;

/// What a link is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// A network card, known by its MAC address.
    Physical,
    /// Links that are one, see [`Link::master`].
    Bond,
    /// Links that are one segment, as above.
    Bridge,
    /// Frames with this tag on another link.
    Vlan {
        /// 0 to 4094.
        id: u16,
        /// That link.
        parent: LinkAt,
    },
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// The name asked for. `None`: the kernel's or udev's, or one that who writes the files finds for what is made.
    pub name: Option<LinkName>,
    /// Of a network card: which one. Of the others: the address it gets.
    pub mac: Option<MacAddr>,
    /// Of a network card: whose card. Two of Azure's have one address.
    pub driver: Option<Driver>,
    /// Bytes of a packet.
    pub mtu: Option<u32>,
    /// Bytes of a packet of IPv6, where it has less.
    pub mtu6: Option<u32>,
    /// Whether router advertisements are heard; `None` as the subnets have it.
    pub accept_ra: Option<bool>,
    /// What routes that DHCP or routers bring cost: the smaller wins.
    pub dhcp_metric: Option<u32>,
    /// Whether name servers that DHCP or routers tell are asked; `None` as the software has it: they are.
    pub dhcp_dns: Option<bool>,
    /// Whether a magic packet wakes the machine.
    pub wakeonlan: Option<bool>,
    /// True if only a person brings it up.
    pub is_manual: bool,
    /// The bond or bridge it is a port of.
    pub master: Option<LinkAt>,
}

impl Link {
    /// One of this kind with nothing said about it.
    #[must_use]
    pub const fn new(kind: LinkKind) -> Self {
        Self {
            kind,
            name: None,
            mac: None,
            driver: None,
            mtu: None,
            mtu6: None,
            accept_ra: None,
            dhcp_metric: None,
            dhcp_dns: None,
            wakeonlan: None,
            is_manual: false,
            master: None,
        }
    }
}

/// How a link comes by addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subnet {
    /// This one.
    Static(Prefix),
    /// DHCP for IPv4.
    Dhcp4,
    /// DHCP for IPv6, whatever routers say.
    Dhcp6,
    /// From router advertisements.
    Slaac,
    /// As `Slaac`; DHCP tells the rest.
    Stateless,
    /// By DHCP, routers by advertisements.
    Stateful,
    /// None, but the link is up.
    Manual,
}

impl Subnet {
    /// True if it is about IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        match self {
            Self::Static(prefix) => prefix.address.is_ipv6(),
            Self::Dhcp4 | Self::Manual => false,
            _ => true,
        }
    }
}

/// A way to a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// There.
    pub to: Prefix,
    /// Over this neighbour; `None`: it is on the link.
    pub via: Option<IpAddr>,
    /// The smaller wins.
    pub metric: Option<u32>,
    /// Bytes of a packet that goes there.
    pub mtu: Option<u32>,
}

/// Something of a link, or of all links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Of<T> {
    /// The link; [`ALL`] where it is nobody's own.
    pub link: LinkAt,
    /// What it has.
    pub value: T,
}

/// Stands for no link in particular.
pub const ALL: LinkAt = LinkAt::MAX;

/// All of it. 10 KiB: a static, not a local.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// Interfaces, in the order of the document.
    pub links: heapless::Vec<Link, { limits::NETWORK_LINKS }>,
    /// How they come by addresses, each link's in the order of the document.
    pub subnets: heapless::Vec<Of<Subnet>, { limits::NETWORK_SUBNETS }>,
    /// Routes.
    pub routes: heapless::Vec<Of<Route>, { limits::NETWORK_ROUTES }>,
    /// Name servers.
    pub dns: heapless::Vec<Of<IpAddr>, { limits::NETWORK_DNS }>,
    /// Domains to search.
    pub search: heapless::Vec<Of<Domain>, { limits::NETWORK_SEARCH }>,
    /// What bonds, bridges and ports of bridges are told.
    pub parameters: heapless::Vec<Of<Parameter>, { limits::NETWORK_PARAMETERS }>,
}

impl Network {
    /// Nothing known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            links: heapless::Vec::new(),
            subnets: heapless::Vec::new(),
            routes: heapless::Vec::new(),
            dns: heapless::Vec::new(),
            search: heapless::Vec::new(),
            parameters: heapless::Vec::new(),
        }
    }

    /// Forgets everything, in place.
    pub fn clear(&mut self) {
        self.links.clear();
        self.subnets.clear();
        self.routes.clear();
        self.dns.clear();
        self.search.clear();
        self.parameters.clear();
    }

    /// True when nobody said anything about interfaces.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The link there.
    #[must_use]
    pub fn link(&self, at: LinkAt) -> Option<&Link> {
        self.links.get(usize::from(at))
    }

    /// Every position.
    pub fn positions(&self) -> impl Iterator<Item = LinkAt> + use<> {
        0..LinkAt::try_from(self.links.len()).unwrap_or(LinkAt::MAX)
    }

    /// How this link comes by addresses.
    pub fn subnets_of(&self, at: LinkAt) -> impl Iterator<Item = Subnet> {
        of(&self.subnets, at).copied()
    }

    /// Routes over this link.
    pub fn routes_of(&self, at: LinkAt) -> impl Iterator<Item = Route> {
        of(&self.routes, at).copied()
    }

    /// Name servers of this link; those of all where it has addresses and none of its own.
    pub fn dns_of(&self, at: LinkAt) -> impl Iterator<Item = IpAddr> {
        of(&self.dns, self.owner(&self.dns, at)).copied()
    }

    /// Domains of this link; those of all where it has addresses and none of its own.
    pub fn search_of(&self, at: LinkAt) -> impl Iterator<Item = &str> {
        of(&self.search, self.owner(&self.search, at)).map(Domain::as_str)
    }

    /// Name servers of this link, then those of all: where whoever asks them asks every link's.
    pub fn all_dns_of(&self, at: LinkAt) -> impl Iterator<Item = IpAddr> {
        both(&self.dns, at).copied()
    }

    /// Domains of this link, then those of all.
    pub fn all_search_of(&self, at: LinkAt) -> impl Iterator<Item = &str> {
        both(&self.search, at).map(Domain::as_str)
    }

    fn owner<T>(&self, rows: &[Of<T>], at: LinkAt) -> LinkAt {
        let has_own = rows.iter().any(|row| row.link == at) || self.subnets_of(at).next().is_none();
        if has_own { at } else { ALL }
    }

    /// What this bond, bridge or port is told.
    pub fn parameters_of(&self, at: LinkAt) -> impl Iterator<Item = &Parameter> {
        of(&self.parameters, at)
    }

    /// The ports of this bond or bridge.
    pub fn ports_of(&self, at: LinkAt) -> impl Iterator<Item = LinkAt> {
        self.positions().filter(move |n| self.link(*n).is_some_and(|link| link.master == Some(at)))
    }

    /// True when the neighbour of this route is outside of the link's own networks, as a gateway of a /32 is: it has to
    /// be looked for on the link all the same. Link-local ones are on every link.
    #[must_use]
    pub fn is_on_link(&self, at: LinkAt, route: &Route) -> bool {
        let Some(via) = route.via else { return false };
        // What is asked for may bring the network of the gateway.
        let is_asked = |subnet: Subnet| {
            subnet.is_v6() == via.is_ipv6() && !matches!(subnet, Subnet::Static(_) | Subnet::Manual)
        };
        if self.subnets_of(at).any(is_asked) {
            return false;
        }
        let is_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        let mut own = self.subnets_of(at).filter_map(|subnet| match subnet {
            Subnet::Static(prefix) if prefix.address.is_ipv4() == via.is_ipv4() => Some(prefix),
            _ => None,
        });
        let Some(first) = own.next() else { return false };
        !is_local && !first.holds(via) && !own.any(|prefix| prefix.holds(via))
    }

    /// Drops VLANs whose parent is not there, and theirs.
    pub fn drop_lost(&mut self) {
        loop {
            let count = self.links.len();
            let lost = self.positions().find(|at| match self.link(*at).map(|link| link.kind) {
                Some(LinkKind::Vlan { parent, .. }) => usize::from(parent) >= count,
                _ => false,
            });
            let Some(lost) = lost else { break };
            self.remove_link(lost);
        }
    }

    /// Takes a link away, and all it had; the positions behind it move up.
    fn remove_link(&mut self, at: LinkAt) {
        let moved = |n: LinkAt| match n {
            ALL => ALL,
            n if n == at => ALL,
            n if n > at => n.saturating_sub(1),
            n => n,
        };
        self.links.remove(usize::from(at));
        for link in &mut self.links {
            link.master = link.master.map(moved).filter(|master| *master != ALL);
            if let LinkKind::Vlan { parent, .. } = &mut link.kind {
                *parent = moved(*parent);
            }
        }
        remove(&mut self.subnets, at);
        remove(&mut self.routes, at);
        remove(&mut self.dns, at);
        remove(&mut self.search, at);
        remove(&mut self.parameters, at);
    }

    /// Every reference names a link that is there and is what it is referred to as.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    pub fn check(&self) -> Result<()> {
        for link in &self.links {
            let mut at = match link.kind {
                LinkKind::Vlan { id, .. } if id > 4094 => {
                    return Err(malformed!(WHAT, "number of a VLAN", 0));
                }
                LinkKind::Vlan { parent, .. } => Some(parent),
                _ => None,
            };
            // A VLAN of a VLAN of a card; more is a circle, and so is one of what it is a port of.
            for _ in 0..3 {
                let Some(parent) = at else { break };
                let below = self.link(parent).ok_or(malformed!(WHAT, "a VLAN without its link", 0))?;
                at = match below.kind {
                    LinkKind::Vlan { parent, .. } => Some(parent),
                    _ if link.master == Some(parent) => break,
                    _ => None,
                };
            }
            if at.is_some() {
                return Err(malformed!(WHAT, "VLANs in a circle", 0));
            }
            let master = link.master.map(|master| self.link(master).map(|master| master.kind));
            let is_good = match master {
                None => true,
                Some(Some(LinkKind::Bond)) => matches!(link.kind, LinkKind::Physical | LinkKind::Vlan { .. }),
                Some(Some(LinkKind::Bridge)) => link.kind != LinkKind::Bridge,
                _ => false,
            };
            if !is_good {
                return Err(malformed!(WHAT, "a member of what is no bond", 0));
            }
        }
        Ok(())
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

fn of<T>(rows: &[Of<T>], at: LinkAt) -> impl Iterator<Item = &T> {
    rows.iter().filter(move |row| row.link == at).map(|row| &row.value)
}

/// A link's own, then what is of all and not its own.
fn both<T: PartialEq>(rows: &[Of<T>], at: LinkAt) -> impl Iterator<Item = &T> {
    of(rows, at).chain(of(rows, ALL).filter(move |value| of(rows, at).all(|own| own != *value)))
}

fn remove<T, const N: usize>(rows: &mut heapless::Vec<Of<T>, N>, at: LinkAt) {
    rows.retain(|row| row.link != at);
    for row in rows.iter_mut().filter(|row| row.link > at && row.link != ALL) {
        row.link = row.link.saturating_sub(1);
    }
}

/// Adds a row. Not inlined per table: the error is the caller's.
macro_rules! push {
    ($rows:expr, $row:expr, $what:literal, $limit:expr) => {
        $rows.push($row).map_err(|_| too_many!($what, $limit))
    };
}

impl Network {
    /// Adds a link, and says where it is.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_link(&mut self, link: Link) -> Result<LinkAt> {
        let at = LinkAt::try_from(self.links.len()).unwrap_or(ALL);
        push!(self.links, link, "links of the network", limits::NETWORK_LINKS)?;
        Ok(at)
    }

    /// Adds a way to come by addresses.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_subnet(&mut self, link: LinkAt, value: Subnet) -> Result<()> {
        push!(self.subnets, Of { link, value }, "subnets of the network", limits::NETWORK_SUBNETS)
    }

    /// Adds a route; the same route twice is one.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_route(&mut self, link: LinkAt, value: Route) -> Result<()> {
        if self.routes_of(link).any(|route| route == value) {
            return Ok(());
        }
        push!(self.routes, Of { link, value }, "routes of the network", limits::NETWORK_ROUTES)
    }

    /// Adds a name server; the same twice is one.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_dns(&mut self, link: LinkAt, value: IpAddr) -> Result<()> {
        if of(&self.dns, link).any(|address| *address == value) {
            return Ok(());
        }
        push!(self.dns, Of { link, value }, "name servers of the network", limits::NETWORK_DNS)
    }

    /// Adds a domain; the same twice is one.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_search(&mut self, link: LinkAt, value: Domain) -> Result<()> {
        if of(&self.search, link).any(|domain| *domain == value) {
            return Ok(());
        }
        push!(self.search, Of { link, value }, "search domains of the network", limits::NETWORK_SEARCH)
    }

    /// Adds what a bond or bridge is told; of a repeated key the last counts.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn add_parameter(&mut self, link: LinkAt, value: Parameter) -> Result<()> {
        let old = self.parameters.iter_mut().find(|row| row.link == link && row.value.key == value.key);
        if let Some(old) = old {
            old.value = value;
            return Ok(());
        }
        push!(self.parameters, Of { link, value }, "parameters of bonds", limits::NETWORK_PARAMETERS)
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, LinkKind, Network, Prefix, Route, Subnet};

    #[test]
    fn a_gateway_outside_is_looked_for_on_the_link() {
        let mut network = Network::new();
        let at = network.add_link(Link::new(LinkKind::Physical)).unwrap();
        let route = |via: &str| Route {
            to: Prefix::parse(if via.contains(':') { "::/0" } else { "0.0.0.0/0" }).unwrap(),
            via: Some(via.parse().unwrap()),
            metric: None,
            mtu: None,
        };
        assert!(!network.is_on_link(at, &route("10.0.0.1")), "DHCP knows its own networks");
        for address in ["10.0.0.5/24", "192.0.2.5/32", "2001:db8::5/64"] {
            network.add_subnet(at, Subnet::Static(Prefix::parse(address).unwrap())).unwrap();
        }
        for (via, is_on_link) in [
            ("10.0.0.1", false),
            ("10.0.1.1", true),
            ("192.0.2.1", true),
            ("2001:db8::1", false),
            ("fe80::1", false),
            ("2001:db9::1", true),
        ] {
            assert_eq!(network.is_on_link(at, &route(via)), is_on_link, "{via}");
        }
    }

    #[test]
    fn references_lead_somewhere() {
        let vlan = |parent| Link::new(LinkKind::Vlan { id: 1, parent });
        let member = |bond| Link { master: Some(bond), ..Link::new(LinkKind::Physical) };
        for links in [
            std::vec![vlan(0)],
            std::vec![vlan(1), vlan(0)],
            std::vec![vlan(7)],
            std::vec![member(0)],
            std::vec![member(3)],
        ] {
            let network = Network { links: links.into_iter().collect(), ..Network::new() };
            assert!(network.check().is_err());
        }
        let links = [member(1), Link::new(LinkKind::Bond), vlan(1), vlan(2)];
        Network { links: links.into_iter().collect(), ..Network::new() }.check().unwrap();
    }
}
