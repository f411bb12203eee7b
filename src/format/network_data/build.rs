//! From values of network_data.json to a network: one link, network, route, service at a time.

use super::keys::{Field, KEY, Place};
use super::{Notes, WHAT};
use crate::error::{Kind, Result, Rule};
use crate::facts::network::{
    ALL, Domain, Link, LinkAt, LinkKind, LinkName, MacAddr, Network, Of, Parameter, Prefix, Route, Subnet,
};
use crate::format::text::number;
use crate::limits;
use core::net::IpAddr;

/// Ids of links that are defined or referred to: as many that lead nowhere as there may be links.
const IDS: usize = 2 * limits::NETWORK_LINKS;
/// Rows of the network that is being read, whose link is not known yet.
const CURRENT: LinkAt = ALL - 1;
/// No id.
const NO_ID: LinkAt = ALL;

/// A link by its id in the document.
struct Id {
    hash: u64,
    /// Its position, once it was defined.
    link: Option<LinkAt>,
    accept_ra: Option<bool>,
}

/// What the current link's `type` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Card,
    Bond,
    Vlan,
}

/// The link that is being read.
struct LinkRecord {
    id: LinkAt,
    kind: Type,
    name: Option<LinkName>,
    mac: Option<MacAddr>,
    vlan_mac: Option<MacAddr>,
    mtu: Option<u32>,
    parent: LinkAt,
    vlan: Option<u16>,
}

/// The network that is being read.
struct NetworkRecord {
    link: LinkAt,
    /// `None`: of no type that has a meaning.
    kind: Option<Subnet>,
    /// Its type is that of addresses which the document gives.
    is_static: bool,
    accept_ra: Option<bool>,
    address: Option<(IpAddr, Option<u8>)>,
    mask: Option<u8>,
    gateway: Option<IpAddr>,
}

/// The route that is being read.
struct RouteRecord {
    to: Option<(IpAddr, Option<u8>)>,
    mask: Option<u8>,
    via: Option<IpAddr>,
    metric: Option<u32>,
    is_bad: bool,
}

const NEW_LINK: LinkRecord = LinkRecord {
    id: NO_ID,
    kind: Type::Card,
    name: None,
    mac: None,
    vlan_mac: None,
    mtu: None,
    parent: NO_ID,
    vlan: None,
};
const NEW_NETWORK: NetworkRecord = NetworkRecord {
    link: NO_ID,
    kind: None,
    is_static: false,
    accept_ra: None,
    address: None,
    mask: None,
    gateway: None,
};
const NEW_ROUTE: RouteRecord = RouteRecord { to: None, mask: None, via: None, metric: None, is_bad: false };

/// What is known so far. In the tables of the network that is being filled, links are positions in `ids` until
/// [`Building::finish`].
pub(super) struct Building {
    pub(super) notes: Notes,
    pub(super) bond_key: heapless::Vec<u8, KEY>,
    ids: heapless::Vec<Id, IDS>,
    /// Bonds by position, and their members' ids.
    members: heapless::Vec<(LinkAt, LinkAt), IDS>,
    /// The links or networks that were opened, for notes.
    count: u64,
    is_in_network: bool,
    link: LinkRecord,
    network: NetworkRecord,
    route: RouteRecord,
    /// The service's address, and whether it is a name server's.
    service: Option<IpAddr>,
    is_dns: bool,
    /// Bonds so far.
    bonds: u8,
}

impl Building {
    pub(super) const fn new() -> Self {
        Self {
            notes: Notes { first: heapless::Vec::new(), more: 0 },
            bond_key: heapless::Vec::new(),
            ids: heapless::Vec::new(),
            members: heapless::Vec::new(),
            count: 0,
            is_in_network: false,
            link: NEW_LINK,
            network: NEW_NETWORK,
            route: NEW_ROUTE,
            service: None,
            is_dns: false,
            bonds: 0,
        }
    }

    fn note(&mut self, rule: &'static Rule) {
        self.notes.add(rule.at(self.count));
    }

    /// A value, or a note; only what we cannot hold ends the document.
    fn keep<T>(&mut self, value: Result<T>) -> Result<Option<T>> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is(Kind::TooMany) => Err(error),
            Err(error) => {
                self.notes.add(error);
                Ok(None)
            }
        }
    }

    fn parsed<T>(&mut self, value: Option<T>, rule: &'static Rule) -> Option<T> {
        if value.is_none() {
            self.note(rule);
        }
        value
    }

    /// The position of an id.
    fn id(&mut self, hash: u64) -> Result<LinkAt> {
        let found = self.ids.iter().position(|id| id.hash == hash);
        let at = found.unwrap_or(self.ids.len());
        if found.is_none() {
            let new = Id { hash, link: None, accept_ra: None };
            self.ids.push(new).map_err(|_| too_many!("ids of links in network_data.json", IDS))?;
        }
        Ok(LinkAt::try_from(at).unwrap_or(NO_ID))
    }

    pub(super) fn open(&mut self, place: Place) {
        match place {
            Place::Links | Place::Networks => self.count = 0,
            Place::Link => {
                self.count = self.count.saturating_add(1);
                self.link = NEW_LINK;
            }
            Place::Network => {
                self.count = self.count.saturating_add(1);
                self.network = NEW_NETWORK;
                self.is_in_network = true;
            }
            Place::Route => self.route = NEW_ROUTE,
            Place::Service => (self.service, self.is_dns) = (None, false),
            _ => {}
        }
    }

    /// Whose rows come now.
    fn owner(&self) -> LinkAt {
        if self.is_in_network { CURRENT } else { ALL }
    }

    #[inline(never)]
    pub(super) fn close(&mut self, place: Place, network: &mut Network) -> Result<()> {
        match place {
            Place::Link => self.end_link(network),
            Place::Network => {
                self.is_in_network = false;
                self.end_network(network)
            }
            Place::Route => self.end_route(network),
            Place::Service => match self.service.filter(|_| self.is_dns) {
                Some(address) => network.add_dns(self.owner(), address),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A value of this field; `None` when it is too long to be one.
    #[inline(never)]
    pub(super) fn value(
        &mut self,
        field: Field,
        text: Option<&str>,
        hash: u64,
        network: &mut Network,
    ) -> Result<()> {
        match field {
            Field::LinkId => self.link.id = self.id(hash)?,
            Field::VlanLink => self.link.parent = self.id(hash)?,
            Field::NetworkLink => self.network.link = self.id(hash)?,
            Field::BondLinks => {
                let member = (next(network), self.id(hash)?);
                self.members.push(member).map_err(|_| too_many!("members of bonds", IDS))?;
            }
            Field::Other => {}
            field => match text {
                Some("") => {}
                Some(text) => return self.text(field, text, network),
                None => self.note(malformed!(WHAT, "a value longer than any we know")),
            },
        }
        Ok(())
    }

    fn text(&mut self, field: Field, text: &str, network: &mut Network) -> Result<()> {
        let bad_address = malformed!(WHAT, "not an address");
        let bad_mask = malformed!(WHAT, "not a netmask");
        match field {
            Field::LinkName => self.link.name = self.keep(LinkName::parse(text))?,
            Field::LinkType => self.link_type(text),
            Field::LinkMac => self.link.mac = self.keep(MacAddr::parse(text))?,
            Field::VlanMac => self.link.vlan_mac = self.keep(MacAddr::parse(text))?,
            // RFC 791 asks for 68 bytes at least.
            Field::LinkMtu => {
                let mtu = number(text.as_bytes()).filter(|mtu| (68..=65_535).contains(mtu));
                self.link.mtu = self.parsed(mtu, malformed!(WHAT, "not an MTU"));
            }
            Field::VlanId => {
                let id = number(text.as_bytes()).and_then(|id| u16::try_from(id).ok());
                self.link.vlan = id.filter(|id| *id <= 4094);
            }
            Field::BondParameter => {
                let key = core::mem::take(&mut self.bond_key);
                let key = core::str::from_utf8(&key).unwrap_or_default();
                if let Some(parameter) = self.keep(Parameter::parse(key, text))? {
                    network.add_parameter(next(network), parameter)?;
                }
            }
            Field::NetworkType => self.network_type(text),
            Field::Address => self.network.address = self.parsed(address(text), bad_address),
            Field::Mask => self.network.mask = self.parsed(mask(text), bad_mask),
            Field::Gateway => self.network.gateway = self.parsed(text.parse().ok(), bad_address),
            Field::Dns => {
                for word in words(text) {
                    if let Some(address) = self.parsed(word.parse().ok(), bad_address) {
                        network.add_dns(self.owner(), address)?;
                    }
                }
            }
            Field::Search | Field::ServiceSearch => {
                for word in words(text) {
                    if let Some(domain) = self.keep(Domain::parse(word))? {
                        network.add_search(self.owner(), domain)?;
                    }
                }
            }
            Field::RouteTo => {
                self.route.to = self.parsed(address(text), bad_address);
                self.route.is_bad |= self.route.to.is_none();
            }
            Field::RouteMask => {
                self.route.mask = self.parsed(mask(text), bad_mask);
                self.route.is_bad |= self.route.mask.is_none();
            }
            Field::RouteGateway => {
                self.route.via = self.parsed(text.parse().ok(), bad_address);
                self.route.is_bad |= self.route.via.is_none();
            }
            Field::RouteMetric => {
                self.route.metric = self.parsed(number(text.as_bytes()), malformed!(WHAT, "not a metric"));
            }
            Field::ServiceType => self.is_dns = text == "dns",
            // Of a service that is no name server nothing is expected.
            Field::ServiceAddress => self.service = text.parse().ok(),
            _ => {}
        }
        Ok(())
    }

    fn link_type(&mut self, text: &str) {
        // nova's `network/model.py`, VIF_TYPE_*, as cloud-init knows them.
        const CARDS: &[&str] = &[
            "phy",
            "ethernet",
            "vif",
            "ovs",
            "bgpovs",
            "bridge",
            "cascading",
            "dvs",
            "hw_veb",
            "hyperv",
            "tap",
            "vhostuser",
            "physical",
        ];
        self.link.kind = match text {
            "bond" => Type::Bond,
            "vlan" => Type::Vlan,
            _ => Type::Card,
        };
        if self.link.kind == Type::Card && !CARDS.contains(&text) {
            self.note(unsupported!(rule WHAT, "unknown type of link, taken as a network card"));
        }
    }

    fn network_type(&mut self, text: &str) {
        let (kind, accept_ra) = match text {
            "ipv4" | "static" => (None, None),
            "ipv6" | "static6" => (None, Some(false)),
            "ipv4_dhcp" | "dhcp" | "dhcp4" => (Some(Subnet::Dhcp4), None),
            "ipv6_dhcp" | "dhcp6" => (Some(Subnet::Dhcp6), Some(true)),
            "ipv6_slaac" => (Some(Subnet::Slaac), None),
            "ipv6_dhcpv6-stateless" => (Some(Subnet::Stateless), None),
            "ipv6_dhcpv6-stateful" => (Some(Subnet::Stateful), Some(true)),
            _ => (Some(Subnet::Manual), None),
        };
        if kind == Some(Subnet::Manual) && text != "manual" {
            self.note(unsupported!(rule WHAT, "unknown type of network, taken as one without addresses"));
        }
        self.network.is_static = kind.is_none();
        (self.network.kind, self.network.accept_ra) = (kind, accept_ra);
    }

    fn end_link(&mut self, network: &mut Network) -> Result<()> {
        let record = core::mem::replace(&mut self.link, NEW_LINK);
        let at = next(network);
        let is_bond = record.kind == Type::Bond;
        let kind = match (record.kind, record.vlan) {
            (Type::Card, _) if record.mac.is_none() && record.name.is_none() => {
                self.note(malformed!(WHAT, "a network card without MAC address and name"));
                None
            }
            (Type::Card, _) => Some(LinkKind::Physical),
            (Type::Bond, _) => Some(LinkKind::Bond),
            (Type::Vlan, Some(id)) => Some(LinkKind::Vlan { id, parent: record.parent }),
            (Type::Vlan, None) => {
                self.note(malformed!(WHAT, "a VLAN without its number"));
                None
            }
        };
        if !is_bond || kind.is_none() {
            self.members.retain(|(bond, _)| *bond != at);
            network.parameters.retain(|row| row.link != at);
        }
        let Some(kind) = kind else { return Ok(()) };
        let mut link = Link::new(kind);
        (link.name, link.mtu) = (record.name, record.mtu);
        link.mac = if record.kind == Type::Vlan { record.vlan_mac } else { record.mac };
        if is_bond {
            if link.name.is_none() {
                link.name = bond_name(self.bonds);
            }
            self.bonds = self.bonds.saturating_add(1);
        }
        network.add_link(link)?;
        if let Some(id) = self.ids.get_mut(usize::from(record.id)) {
            id.link = id.link.or(Some(at));
        }
        Ok(())
    }

    fn end_network(&mut self, network: &mut Network) -> Result<()> {
        let record = core::mem::replace(&mut self.network, NEW_NETWORK);
        let subnet = match (record.kind, record.address) {
            (Some(subnet), _) => Some(subnet),
            (None, Some((address, length))) if record.is_static => {
                let length = length.or(record.mask).unwrap_or(default_length(address));
                self.keep(Prefix::new(address, length))?.map(Subnet::Static)
            }
            (None, _) => {
                self.note(malformed!(WHAT, "a network without type or address"));
                None
            }
        };
        let link = subnet.and(Some(record.link)).filter(|link| *link != NO_ID);
        if let (Some(link), Some(subnet)) = (link, subnet) {
            network.add_subnet(link, subnet)?;
            if let Some(via) = record.gateway {
                self.add_route(
                    network,
                    Route { to: everything(via), via: Some(via), metric: None, mtu: None },
                )?;
            }
            if let (Some(id), Some(accept_ra)) = (self.ids.get_mut(usize::from(link)), record.accept_ra) {
                // Who needs them hears them, whatever the others say.
                id.accept_ra = Some(accept_ra || id.accept_ra == Some(true));
            }
        }
        let place = |row| if row == CURRENT { link } else { Some(row) };
        settle(&mut network.routes, &place);
        settle(&mut network.dns, &place);
        settle(&mut network.search, &place);
        Ok(())
    }

    fn end_route(&mut self, network: &mut Network) -> Result<()> {
        let record = core::mem::replace(&mut self.route, NEW_ROUTE);
        let Some((address, length)) = record.to.filter(|_| !record.is_bad) else {
            if !record.is_bad {
                self.note(malformed!(WHAT, "a route to nowhere"));
            }
            return Ok(());
        };
        let guessed = if address.is_unspecified() { 0 } else { default_length(address) };
        let to = Prefix::new(address, length.or(record.mask).unwrap_or(guessed));
        let Some(to) = self.keep(to)? else { return Ok(()) };
        if record.via.is_some_and(|via| via.is_ipv4() != address.is_ipv4()) {
            self.note(malformed!(WHAT, "a gateway of the other family"));
            return Ok(());
        }
        let via = record.via.filter(|via| !via.is_unspecified());
        self.add_route(network, Route { to: network_of(to), via, metric: record.metric, mtu: None })
    }

    fn add_route(&mut self, network: &mut Network, route: Route) -> Result<()> {
        network.add_route(CURRENT, route)
    }

    /// Ids become positions; what refers to no link goes.
    #[inline(never)]
    pub(super) fn finish(&mut self, network: &mut Network) -> Result<()> {
        let ids = &self.ids;
        let position = |id: LinkAt| ids.get(usize::from(id)).and_then(|id| id.link);
        let place = |row| if row == ALL { Some(ALL) } else { position(row) };
        settle(&mut network.subnets, &place);
        settle(&mut network.routes, &place);
        settle(&mut network.dns, &place);
        settle(&mut network.search, &place);
        for id in ids {
            if let Some(link) = id.link.and_then(|at| network.links.get_mut(usize::from(at))) {
                link.accept_ra = id.accept_ra;
            }
        }
        for (bond, member) in &self.members {
            if let Some(link) = position(*member).and_then(|at| network.links.get_mut(usize::from(at))) {
                link.master = Some(*bond);
            }
        }
        let mut is_lost = false;
        for link in &mut network.links {
            if let LinkKind::Vlan { parent, .. } = &mut link.kind {
                is_lost |= position(*parent).is_none();
                *parent = position(*parent).unwrap_or(ALL);
            }
        }
        if is_lost {
            self.count = 0;
            self.note(malformed!(WHAT, "a VLAN on a link that is not there"));
        }
        network.drop_lost();
        network.check()
    }
}

/// Where the link that is being read will be.
fn next(network: &Network) -> LinkAt {
    LinkAt::try_from(network.links.len()).unwrap_or(ALL)
}

/// Moves rows to another link; those without one go, and so do repetitions.
#[inline(never)]
fn settle<T: Clone + PartialEq, const N: usize>(
    rows: &mut heapless::Vec<Of<T>, N>,
    place: &dyn Fn(LinkAt) -> Option<LinkAt>,
) {
    let mut kept = 0;
    for at in 0..rows.len() {
        let Some(row) = rows.get(at).cloned() else { break };
        let Some(link) = place(row.link) else { continue };
        let row = Of { link, value: row.value };
        let is_new = !rows.iter().take(kept).any(|other| *other == row);
        if let (true, Some(slot)) = (is_new, rows.get_mut(kept)) {
            *slot = row;
            kept = kept.saturating_add(1);
        }
    }
    rows.truncate(kept);
}

fn bond_name(n: u8) -> Option<LinkName> {
    let mut buf = [0; 20];
    let digits = crate::format::text::digits(u64::from(n), &mut buf);
    let name = crate::format::text::join(&["bond", digits]).ok()?;
    LinkName::parse(&name).ok()
}

/// cloud-init's, where the document says none (`net/network_state.py`).
fn default_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

/// The default route's destination, of this address' family.
fn everything(address: IpAddr) -> Prefix {
    let address = match address {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    Prefix { address, length: 0 }
}

/// The same without bits of a host: the kernel takes no others for a route.
fn network_of(prefix: Prefix) -> Prefix {
    let bits = |most: u32| most.saturating_sub(u32::from(prefix.length));
    let address = match prefix.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(bits(32)).unwrap_or_default();
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(bits(128)).unwrap_or_default();
            IpAddr::V6((address.to_bits() & mask).into())
        }
    };
    Prefix { address, ..prefix }
}

/// `ADDRESS` or `ADDRESS/LENGTH`.
fn address(text: &str) -> Option<(IpAddr, Option<u8>)> {
    match crate::format::text::split_once(text, "/") {
        Some((address, length)) => Some((address.parse().ok()?, Some(mask(length)?))),
        None => Some((text.parse().ok()?, None)),
    }
}

/// A length, or a mask of either family: ones, then zeros.
fn mask(text: &str) -> Option<u8> {
    if let Some(length) = number(text.as_bytes()) {
        return u8::try_from(length).ok().filter(|length| *length <= 128);
    }
    let (ones, zeros, bits) = match text.parse().ok()? {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 32),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 128),
    };
    u8::try_from(ones).ok().filter(|_| ones.saturating_add(zeros) == bits)
}

/// Several values in one text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|word| !word.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use core::net::IpAddr;

    pub(crate) fn address(text: &str) -> (IpAddr, Option<u8>) {
        super::address(text).unwrap()
    }

    pub(crate) fn mask(text: &str) -> u8 {
        super::mask(text).unwrap()
    }

    #[test]
    fn a_mask_is_ones_then_zeros() {
        for (text, length) in [
            ("255.255.240.0", Some(20)),
            ("0.0.0.0", Some(0)),
            ("255.255.255.255", Some(32)),
            ("ffff:ffff:ffff:ffff::", Some(64)),
            ("::", Some(0)),
            ("64", Some(64)),
            ("255.234.255.0", None),
            ("ff:ff:ff:ff::", None),
            ("129", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(super::mask(text), length, "{text}");
        }
    }
}
