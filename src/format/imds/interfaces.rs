//! Which network interfaces does an instance document describe?
//!
//! cloud-init (`sources/DataSourceAzure.py`, `generate_network_config_from_instance_network_metadata`): DHCP brings the
//! first address of a family, the others are set as they stand, with the prefix of the first subnet.

use super::paths::Place;
use crate::error::Error;
use crate::facts::network::Prefix;
use crate::limits;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 or IPv6 of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Family {
    /// Addresses, the one that DHCP brings among them.
    pub addresses: u16,
    /// Subnets seen.
    subnets: u16,
    /// `subnet[0].prefix`
    pub prefix: Option<u8>,
}

/// An interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    /// `macAddress`
    pub mac: Option<[u8; 6]>,
    /// IPv4, then IPv6.
    pub families: [Family; 2],
}

impl Interface {
    const NEW: Self = {
        let family = Family { addresses: 0, subnets: 0, prefix: None };
        Self { mac: None, families: [family, family] }
    };

    /// True if it has an address: without one it is not to be brought up.
    #[must_use]
    pub fn has_address(&self) -> bool {
        self.families.iter().any(|family| family.addresses > 0)
    }
}

/// All of them, in no particular order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interfaces {
    list: heapless::Vec<Interface, { limits::LINKS }>,
    /// Addresses behind the first of their family, and of which interface they are.
    others: heapless::Vec<(u8, IpAddr), { limits::NETWORK_SUBNETS }>,
    /// The interface being read has no room.
    is_lost: bool,
    /// The family being read.
    pub(super) is_v6: bool,
}

impl Interfaces {
    pub(super) const fn new() -> Self {
        Self { list: heapless::Vec::new(), others: heapless::Vec::new(), is_lost: false, is_v6: false }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.others.clear();
        (self.is_lost, self.is_v6) = (false, false);
    }

    /// Each, in the order of the document.
    #[must_use]
    pub fn as_slice(&self) -> &[Interface] {
        &self.list
    }

    /// The addresses of an interface that DHCP does not bring, with their prefix: where the document has none, the one
    /// that cloud-init takes.
    pub fn others_of(&self, at: usize) -> impl Iterator<Item = Prefix> {
        let own = self.others.iter().filter(move |(owner, _)| usize::from(*owner) == at);
        own.filter_map(move |(_, address)| {
            let families = self.list.get(at)?.families;
            let (family, default) = if address.is_ipv6() { (families[1], 128) } else { (families[0], 24) };
            Prefix::new(*address, family.prefix.unwrap_or(default)).ok()
        })
    }

    /// A container begins. Returns what there is no room for.
    pub(super) fn open(&mut self, place: Place) -> Option<Error> {
        match place {
            Place::Interfaces => self.clear(),
            Place::Interface => {
                self.is_lost = self.list.push(Interface::NEW).is_err();
                return self.is_lost.then_some(too_many!("interfaces of IMDS", limits::LINKS));
            }
            // Of what is said twice the last counts.
            Place::Family | Place::Addresses => {
                let (own, is_v6) = (self.list.len().saturating_sub(1), self.is_v6);
                let family = self.family()?;
                family.addresses = 0;
                if place == Place::Family {
                    (family.subnets, family.prefix) = (0, None);
                }
                self.others
                    .retain(|(owner, address)| usize::from(*owner) != own || address.is_ipv6() != is_v6);
            }
            Place::Address => {
                let family = self.family()?;
                family.addresses = family.addresses.saturating_add(1);
            }
            Place::Subnets => {
                let family = self.family()?;
                (family.subnets, family.prefix) = (0, None);
            }
            Place::Subnet => {
                let family = self.family()?;
                family.subnets = family.subnets.saturating_add(1);
            }
            _ => {}
        }
        None
    }

    fn interface(&mut self) -> Option<&mut Interface> {
        if self.is_lost { None } else { self.list.last_mut() }
    }

    fn family(&mut self) -> Option<&mut Family> {
        let is_v6 = self.is_v6;
        let [v4, v6] = &mut self.interface()?.families;
        Some(if is_v6 { v6 } else { v4 })
    }

    pub(super) fn set_mac(&mut self, mac: Option<[u8; 6]>) {
        if let Some(interface) = self.interface() {
            interface.mac = mac;
        }
    }

    /// Takes an address; false when it is none of a host. More of them than the model has room for are its fault to tell.
    pub(super) fn add_address(&mut self, text: &str) -> bool {
        let (owner, is_v6) = (self.list.len().saturating_sub(1), self.is_v6);
        let Some(family) = self.family() else { return true };
        let address = match is_v6 {
            false => text.parse().map(IpAddr::V4).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            true => text.parse().map(IpAddr::V6).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return false;
        }
        if family.addresses > 1
            && let Ok(owner) = u8::try_from(owner)
        {
            let _ = self.others.push((owner, address));
        }
        true
    }

    /// Takes the prefix of a subnet; false when it is none.
    pub(super) fn set_prefix(&mut self, text: &str) -> bool {
        let most = if self.is_v6 { 128 } else { 32 };
        let Some(family) = self.family().filter(|family| family.subnets == 1) else { return true };
        family.prefix = crate::format::text::number(text.as_bytes())
            .and_then(|length| u8::try_from(length).ok())
            .filter(|length| *length <= most);
        family.prefix.is_some()
    }
}
