//! Which keys of network_data.json mean what, and where?

/// Longest key that is looked for: `bond_packets_per_slave`, with room.
pub(super) const KEY: usize = 32;

/// A container of the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Document,
    Root,
    Links,
    Link,
    Networks,
    Network,
    Routes,
    Route,
    Services,
    Service,
    /// A list of values of this field.
    List(Field),
    Other,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Other,
    Links,
    Networks,
    Routes,
    Services,
    LinkId,
    LinkName,
    LinkType,
    LinkMac,
    LinkMtu,
    BondLinks,
    BondParameter,
    VlanLink,
    VlanId,
    VlanMac,
    NetworkType,
    NetworkLink,
    Address,
    Mask,
    Gateway,
    Dns,
    Search,
    RouteTo,
    RouteMask,
    RouteGateway,
    RouteMetric,
    ServiceType,
    ServiceAddress,
    ServiceSearch,
}

const KEYS: &[(Place, &str, Field)] = &[
    (Place::Root, "links", Field::Links),
    (Place::Root, "networks", Field::Networks),
    (Place::Root, "services", Field::Services),
    (Place::Link, "id", Field::LinkId),
    (Place::Link, "name", Field::LinkName),
    (Place::Link, "type", Field::LinkType),
    (Place::Link, "ethernet_mac_address", Field::LinkMac),
    (Place::Link, "mtu", Field::LinkMtu),
    (Place::Link, "bond_links", Field::BondLinks),
    (Place::Link, "vlan_link", Field::VlanLink),
    (Place::Link, "vlan_id", Field::VlanId),
    (Place::Link, "vlan_mac_address", Field::VlanMac),
    (Place::Network, "type", Field::NetworkType),
    (Place::Network, "link", Field::NetworkLink),
    (Place::Network, "ip_address", Field::Address),
    (Place::Network, "netmask", Field::Mask),
    (Place::Network, "gateway", Field::Gateway),
    (Place::Network, "dns_nameservers", Field::Dns),
    (Place::Network, "dns_search", Field::Search),
    (Place::Network, "routes", Field::Routes),
    (Place::Network, "services", Field::Services),
    (Place::Route, "network", Field::RouteTo),
    (Place::Route, "destination", Field::RouteTo),
    (Place::Route, "netmask", Field::RouteMask),
    (Place::Route, "gateway", Field::RouteGateway),
    (Place::Route, "metric", Field::RouteMetric),
    (Place::Route, "services", Field::Services),
    (Place::Service, "type", Field::ServiceType),
    (Place::Service, "address", Field::ServiceAddress),
    (Place::Service, "search", Field::ServiceSearch),
];

/// What the value of this key is, there.
pub(super) fn field_of(place: Place, key: &str) -> Field {
    match KEYS.iter().find(|(where_, name, _)| *where_ == place && *name == key) {
        Some((.., field)) => *field,
        None if place == Place::Link && key.starts_with("bond") => Field::BondParameter,
        None => Field::Other,
    }
}

impl Place {
    /// Where a container leads that opens here, as the value of this field.
    pub(super) fn inner(self, field: Field, is_object: bool) -> Self {
        match (self, field, is_object) {
            (Self::Document, _, true) => Self::Root,
            (Self::Links, _, true) => Self::Link,
            (Self::Networks, _, true) => Self::Network,
            (Self::Routes, _, true) => Self::Route,
            (Self::Services, _, true) => Self::Service,
            (_, Field::Links, false) => Self::Links,
            (_, Field::Networks, false) => Self::Networks,
            (_, Field::Routes, false) => Self::Routes,
            (_, Field::Services, false) => Self::Services,
            (_, Field::BondLinks | Field::Dns | Field::Search | Field::ServiceSearch, false) => {
                Self::List(field)
            }
            _ => Self::Other,
        }
    }
}
