//! A network in the files of the image's own network software: systemd-networkd, NetworkManager, ifupdown, netplan.
//! And: what is every interface called?

use crate::facts::network::{LinkAt, LinkKind, LinkName, MacAddr, Network};
use crate::format::text::{digits, join};
use crate::limits;

/// What each link is called in files; `None` for a card that is not there and has no name, and for what is made of one.
pub type Names = heapless::Vec<Option<LinkName>, { limits::NETWORK_LINKS }>;

/// The name each link has now, or gets: of a card the one that `find` knows by its MAC address, else the one asked for;
/// of a bond the one asked for; of a VLAN `PARENT.ID` as cloud-init and ifupdown call it, `vlanID` where that is longer
/// than the kernel takes.
#[inline(never)]
pub fn names(network: &Network, find: &mut dyn FnMut(MacAddr) -> Option<LinkName>) -> Names {
    let mut names: Names = network
        .links
        .iter()
        .map(|link| {
            let found = link.mac.filter(|_| link.kind == LinkKind::Physical).and_then(&mut *find);
            found.or_else(|| link.name.clone())
        })
        .collect();
    // A VLAN of a VLAN is behind its parent in the second round.
    for _ in 0..2 {
        for (at, link) in network.links.iter().enumerate() {
            if let LinkKind::Vlan { id, parent } = link.kind {
                let name = name_of(&names, parent).and_then(|parent| vlan_name(parent, id));
                if let Some(slot) = names.get_mut(at) {
                    *slot = name;
                }
            }
        }
    }
    names
}

/// A link's name.
#[must_use]
pub fn name_of(names: &Names, at: LinkAt) -> Option<&str> {
    names.get(usize::from(at)).and_then(|name| name.as_ref().map(LinkName::as_str))
}

fn vlan_name(parent: &str, id: u16) -> Option<LinkName> {
    let mut buf = [0; 20];
    let id = digits(u64::from(id), &mut buf);
    let name = |parts: &[&str]| LinkName::parse(&join(parts).ok()?).ok();
    name(&[parent, ".", id]).or_else(|| name(&["vlan", id]))
}
