//! A network in the files of the image's own network software: systemd-networkd, NetworkManager, ifupdown, netplan.
//! And: what is every interface called?

use super::text::{Out, digits, join};
use crate::error::Result;
use crate::facts::network::{Driver, LinkAt, LinkKind, LinkName, MacAddr, Network, Of, Prefix, Subnet};
use crate::limits;
use core::fmt::Write as _;
use core::net::IpAddr;

pub mod ifupdown;
pub mod interfaces;
pub mod netplan;
pub mod network_manager;
pub mod networkd;
pub mod seed;
pub mod switch;
#[cfg(test)]
mod tests;

/// First line of each file.
pub const OURS: &[u8] = b"# Written by preroot, from what the platform says of this VM's network.\n";

/// What each link is called in files; `None` for a card that is not there and has no name, and for what is made of one.
pub type Names = heapless::Vec<Option<LinkName>, { limits::NETWORK_LINKS }>;

/// A network on this machine.
pub struct Plan<'n> {
    /// What is asked for.
    pub network: &'n Network,
    /// What each link is called.
    pub names: Names,
    /// A bit for each card that is not there.
    pub missing: u32,
    /// A bit for each card that has to be told by its driver from another one of its address.
    pub synthetic: u32,
    /// True where busybox is the image's ifup.
    pub is_busybox: bool,
}

/// The driver of Hyper-V's cards. The function of the hardware that works for such a card has the same address.
pub const SYNTHETIC: &str = "hv_netvsc";

impl<'n> Plan<'n> {
    /// Names every link: a card as `find` knows it by its MAC address, else as is asked; a bond or bridge as is asked; a VLAN
    /// `PARENT.ID` as cloud-init and ifupdown do, or `vlanID` where that is longer than the kernel takes.
    #[inline(never)]
    pub fn new(network: &'n Network, find: &mut dyn FnMut(MacAddr) -> Option<LinkName>) -> Self {
        let mut plan = Self { network, names: Names::new(), missing: 0, synthetic: 0, is_busybox: false };
        for at in network.positions() {
            let Some(link) = network.link(at) else { break };
            let mac = link.mac.filter(|_| link.kind == LinkKind::Physical);
            let found = mac.and_then(&mut *find);
            if mac.is_some() && found.is_none() {
                plan.missing |= 1u32.checked_shl(at.into()).unwrap_or_default();
            }
            // There is room for as many as there are links.
            let _ = plan.names.push(found.or_else(|| link.name.clone()));
        }
        // A VLAN on a VLAN may stand before it.
        for _ in 0..2 {
            for at in network.positions() {
                if let Some(LinkKind::Vlan { id, parent }) = network.link(at).map(|link| link.kind) {
                    let name = plan.name(parent).and_then(|parent| vlan_name(parent, id));
                    if let Some(slot) = plan.names.get_mut(usize::from(at)) {
                        *slot = name;
                    }
                }
            }
        }
        plan
    }

    /// A link's name.
    #[must_use]
    pub fn name(&self, at: LinkAt) -> Option<&str> {
        self.names.get(usize::from(at)).and_then(|name| name.as_ref().map(LinkName::as_str))
    }

    /// True for a card that this machine does not have.
    #[must_use]
    pub fn is_missing(&self, at: LinkAt) -> bool {
        self.missing.checked_shr(at.into()).unwrap_or_default() & 1 == 1
    }

    /// Whose card it is, where that is asked for or needed.
    #[must_use]
    pub fn driver(&self, at: LinkAt) -> Option<&str> {
        let asked = self.network.link(at)?.driver.as_ref().map(Driver::as_str);
        let is_synthetic = self.synthetic.checked_shr(at.into()).unwrap_or_default() & 1 == 1;
        asked.or(is_synthetic.then_some(SYNTHETIC))
    }

    /// Tells a card of Hyper-V's from the function behind it.
    pub fn set_synthetic(&mut self, at: LinkAt) {
        self.synthetic |= 1u32.checked_shl(at.into()).unwrap_or_default();
    }

    /// What a link is called in the names of files: its name, or the MAC address of a card that has none. Empty where
    /// nothing can be said about it.
    #[must_use]
    pub fn label(&self, at: LinkAt) -> heapless::String<{ limits::LINK_NAME }> {
        let mut label = heapless::String::new();
        if let Some(name) = self.name(at) {
            let _ = label.push_str(name);
        } else if let Some(mac) = self.card_mac(at) {
            // Twelve digits fit.
            let _ = mac.0.iter().try_for_each(|byte| write!(label, "{byte:02x}"));
        }
        label
    }

    /// The MAC address that a card is known by.
    #[must_use]
    pub fn card_mac(&self, at: LinkAt) -> Option<MacAddr> {
        self.network.link(at).filter(|link| link.kind == LinkKind::Physical).and_then(|link| link.mac)
    }

    /// The MAC address that something we make gets.
    #[must_use]
    pub fn given_mac(&self, at: LinkAt) -> Option<MacAddr> {
        self.network.link(at).filter(|link| link.kind != LinkKind::Physical).and_then(|link| link.mac)
    }

    /// True when another link has, or gets, the address of this card: a bond or a bridge takes a
    /// port's, a VLAN its parent's.
    #[must_use]
    pub fn is_mac_shared(&self, at: LinkAt) -> bool {
        let Some(card) = self.network.link(at) else { return false };
        let has_it = |link: &&crate::facts::network::Link| link.mac == card.mac;
        card.master.is_some()
            || self.vlans_of(at).next().is_some()
            || self.network.links.iter().filter(has_it).count() > 1
    }

    /// VLANs on this link.
    pub fn vlans_of(&self, at: LinkAt) -> impl Iterator<Item = &str> {
        let on_it = move |n: &LinkAt| matches!(self.network.link(*n).map(|link| link.kind), Some(LinkKind::Vlan { parent, .. }) if parent == at);
        self.network.positions().filter(on_it).filter_map(|n| self.name(n))
    }

    /// Whether the link hears routers: where it is to have an address from them it does, whatever else is said.
    #[must_use]
    pub fn accept_ra(&self, at: LinkAt) -> Option<bool> {
        let needs = [Subnet::Slaac, Subnet::Stateless, Subnet::Stateful];
        let said = self.network.link(at).and_then(|link| link.accept_ra);
        if self.has(at, &needs) { Some(true) } else { said }
    }

    /// True if it has one of these.
    #[must_use]
    pub fn has(&self, at: LinkAt, subnets: &[Subnet]) -> bool {
        self.network.subnets_of(at).any(|subnet| subnets.contains(&subnet))
    }

    /// The bond or bridge that it is a port of, and what that is called.
    #[must_use]
    pub fn master(&self, at: LinkAt) -> Option<(LinkAt, &str)> {
        let master = self.network.link(at)?.master?;
        Some((master, self.name(master)?))
    }

    /// True for a port of a bond or bridge, which has no addresses of its own.
    #[must_use]
    pub fn is_port(&self, at: LinkAt) -> bool {
        self.network.link(at).is_some_and(|link| link.master.is_some())
    }

    /// Its addresses.
    pub fn addresses(&self, at: LinkAt) -> impl Iterator<Item = Prefix> {
        self.network.subnets_of(at).filter_map(|subnet| match subnet {
            Subnet::Static(prefix) => Some(prefix),
            _ => None,
        })
    }
}

fn vlan_name(parent: &str, id: u16) -> Option<LinkName> {
    let mut buf = [0; 20];
    let id = digits(u64::from(id), &mut buf);
    let name = |parts: &[&str]| LinkName::parse(&join(parts).ok()?).ok();
    name(&[parent, ".", id]).or_else(|| name(&["vlan", id]))
}

/// Writes resolv.conf(5), for images where nobody else does: the first three servers, which is all it takes.
///
/// # Errors
/// `TooMany`.
pub fn put_resolv_conf(network: &Network, out: &mut Out<'_>) -> Result<()> {
    out.put(OURS)?;
    if !network.search.is_empty() {
        out.put(b"search ")?;
        put_list(out, b" ", network.search.iter(), |out, row| out.put(row.value.as_str().as_bytes()))?;
        out.put(b"\n")?;
    }
    let is_first = |(n, row): &(usize, &Of<IpAddr>)| {
        network.dns.iter().position(|other| other.value == row.value) == Some(*n)
    };
    for (_, row) in network.dns.iter().enumerate().filter(is_first).take(3) {
        out.put(b"nameserver ")?;
        put_address(out, row.value)?;
        out.put(b"\n")?;
    }
    Ok(())
}

/// Writes an address as RFC 5952 has it.
#[inline(never)]
fn put_address(out: &mut Out<'_>, address: IpAddr) -> Result<()> {
    let mut text = heapless::String::<46>::new();
    // The longest has 45 characters.
    let _ = write!(text, "{address}");
    out.put(text.as_bytes())
}

/// Writes `ADDRESS/LENGTH`.
#[inline(never)]
fn put_prefix(out: &mut Out<'_>, prefix: Prefix) -> Result<()> {
    put_address(out, prefix.address)?;
    out.put(b"/")?;
    out.put_number(prefix.length.into())
}

#[inline(never)]
fn put_mac(out: &mut Out<'_>, mac: MacAddr) -> Result<()> {
    for (i, byte) in mac.0.into_iter().enumerate() {
        if i > 0 {
            out.put(b":")?;
        }
        out.put_hex(byte)?;
    }
    Ok(())
}

/// A line that ends with a number, if there is one.
#[inline(never)]
fn put_number(out: &mut Out<'_>, before: &str, number: Option<u32>) -> Result<()> {
    let Some(number) = number else { return Ok(()) };
    out.put(before.as_bytes())?;
    out.put_number(number.into())?;
    out.put(b"\n")
}

/// Writes a word for each, with `between` between them.
fn put_list<T>(
    out: &mut Out<'_>,
    between: &[u8],
    list: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Out<'_>, T) -> Result<()>,
) -> Result<()> {
    for (i, item) in list.enumerate() {
        if i > 0 {
            out.put(between)?;
        }
        put(out, item)?;
    }
    Ok(())
}

/// A line `KEY VALUE` in the dialect of `before` and `between`.
#[inline(never)]
fn put_pair(out: &mut Out<'_>, before: &str, key: &str, between: &str, value: &str) -> Result<()> {
    [before, key, between, value, "\n"].iter().try_for_each(|part| out.put(part.as_bytes()))
}

/// The kernel's numbers for a bond's modes as words.
fn mode_word(mode: &str) -> &str {
    const MODES: [&str; 7] =
        ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
    let number = super::text::number(mode.as_bytes()).and_then(|n| usize::try_from(n).ok());
    number.and_then(|n| MODES.get(n).copied()).unwrap_or(mode)
}
