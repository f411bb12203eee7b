//! Which network does IMDS describe, in the model's words?
//!
//! What cloud-init makes of the same document (`generate_network_config_from_instance_network_metadata`): DHCP on each
//! interface that has an address, routes that cost more with each, further addresses as they stand. Other than there the
//! interface over which the platform is reached comes first wherever it stands (the order of the document means
//! nothing), and a VM with one address is left to its image, which asks DHCP anyway.

use crate::error::Result;
use crate::facts::network::{Link, LinkKind, MacAddr, Network, Subnet};
use crate::format::imds::{Interface, Interfaces};

/// Between the metrics of two interfaces; the first has this.
const METRIC: u32 = 100;

/// Writes it into `network`, which is emptied first, and stays so where there is nothing to say. `primary`: the card
/// whose lease leads to the platform, where it is known.
///
/// # Errors
/// `TooMany`: what had room is there, the rest is left to the image.
pub(super) fn describe(
    interfaces: &Interfaces,
    primary: Option<[u8; 6]>,
    network: &mut Network,
) -> Result<()> {
    network.clear();
    let all = interfaces.as_slice();
    let first = all.iter().position(|interface| primary.is_some() && interface.mac == primary);
    let order = first.into_iter().chain((0..all.len()).filter(|at| Some(*at) != first));
    let mut outcome = Ok(());
    // An interface without an address keeps its number, as in cloud-init.
    for (at, metric) in order.zip(1..) {
        let Some(interface) = all.get(at) else { break };
        let mac = interface.mac.map(MacAddr);
        let is_known = network.links.iter().any(|link| link.mac == mac);
        if mac.is_some() && !is_known && interface.has_address() {
            outcome = outcome.and(add(interface, METRIC.saturating_mul(metric), network));
        }
    }
    // After what each needs: there may be hundreds of them.
    for (at, interface) in all.iter().enumerate() {
        let is_it = |link: &Link| link.mac.is_some() && link.mac == interface.mac.map(MacAddr);
        let link = network.positions().find(|link| network.link(*link).is_some_and(is_it));
        let is_it = |other: &Interface| other.mac == interface.mac && other.has_address();
        let is_first = all.iter().position(is_it) == Some(at);
        if let Some(link) = link.filter(|_| is_first) {
            let added = interfaces
                .others_of(at)
                .try_for_each(|prefix| network.add_subnet(link, Subnet::Static(prefix)));
            outcome = outcome.and(added);
        }
    }
    if network.links.len() == 1 && network.subnets.len() == 1 && !has_v6(network) {
        network.clear();
    }
    outcome
}

fn has_v6(network: &Network) -> bool {
    network.subnets.iter().any(|row| row.value.is_v6())
}

fn add(interface: &Interface, metric: u32, network: &mut Network) -> Result<()> {
    let link = network.add_link(Link {
        mac: interface.mac.map(MacAddr),
        dhcp_metric: Some(metric),
        // Azure's name server answers on the first alone.
        dhcp_dns: (metric > METRIC).then_some(false),
        ..Link::new(LinkKind::Physical)
    })?;
    network.add_subnet(link, Subnet::Dhcp4)?;
    if interface.families[1].addresses > 0 {
        network.add_subnet(link, Subnet::Dhcp6)?;
    }
    Ok(())
}
