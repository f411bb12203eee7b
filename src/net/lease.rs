//! Which address do we have, and over which next hop is a destination reached?

pub use crate::format::dhcp::{Ipv4, Lease, Route};

/// Azure's metadata service.
pub const IMDS: Ipv4 = [169, 254, 169, 254];
/// Azure's wireserver where option 245 does not name another.
pub const WIRESERVER: Ipv4 = [168, 63, 129, 16];

impl Lease {
    /// True for the one interface on which Azure's services answer: only its lease has routes to them
    /// (cloud-init `_check_if_primary`).
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.routes
            .iter()
            .any(|route| route.prefix == 32 && (route.network == WIRESERVER || route.network == IMDS))
    }

    /// The next hop to `destination`: itself when it is on the link.
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4) -> Ipv4 {
        let own = Route { network: self.address, prefix: self.prefix, gateway: [0; 4] };
        if own.contains(destination) {
            return destination;
        }
        let routes = self.routes.iter().filter(|route| route.contains(destination));
        let gateway = match routes.max_by_key(|route| route.prefix) {
            Some(route) => route.gateway,
            None if self.routes.is_empty() => self.router.unwrap_or_default(),
            None => [0; 4],
        };
        if gateway == [0; 4] { destination } else { gateway }
    }
}
