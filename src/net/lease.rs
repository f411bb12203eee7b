//! How is an address obtained, and over which next hop is a destination reached from it?
//!
//! A DHCP client (RFC 2131, 4.4) that does no I/O: frames in, frames out, time as an argument. It takes a lease
//! and is done: no renewal (the OS makes its own), no release (Azure ties the address to the interface, other clouds
//! too, and a server knows us again by the MAC: no client identifier is sent), no ARP probe (a second per try that no
//! cloud needs).

pub use crate::format::dhcp::{IMDS, Ipv4, Lease, Route, WIRESERVER, is_unicast};

use super::neighbour::{self, BROADCAST, HEADER, IPV4, Mac, Path};
use crate::error::{Errno, Result};
use crate::facts::Hostname;
use crate::format::dhcp::{Kind, Query, Reply};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Ethernet, IPv4 and UDP headers before the message.
const HEADERS: usize = HEADER + 20 + 8;
/// First interval between tries; doubled up to `LONGEST_US`, give or take an eighth.
/// RFC 2131 speaks of four seconds, for a hundred machines that share a cable; a platform that lost our frame answers
/// the next, and a boot waits for it.
const FIRST_US: u64 = 250_000;
const LONGEST_US: u64 = 1_000_000;
/// Requests for one offer before asking anew.
const REQUESTS: u32 = 4;
/// Before anything is asked anew after a refusal.
const REFUSED_US: u64 = 500_000;
/// An offer without routes to Azure's services waits this long for a better one.
const BETTER_OFFER_US: u64 = 100_000;

impl Lease {
    /// True for the one interface on which Azure's services answer: only its lease has routes to them
    /// (cloud-init `_check_if_primary`). All leases are given by 168.63.129.16, so the server tells nothing.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        let is_service = |network| [IMDS, WIRESERVER, self.wireserver.unwrap_or(IMDS)].contains(&network);
        self.routes.iter().any(|route| route.prefix == 32 && is_service(route.network))
    }

    /// True where the metadata service has a route of its own. Azure's leases always have it; of Azure Stack Hub it is the
    /// only sign that there is such a service (canonical/cloud-init#4560).
    #[must_use]
    pub fn has_imds(&self) -> bool {
        self.routes.iter().any(|route| route.prefix == 32 && route.network == IMDS)
    }

    /// Forgets a wireserver that is not Azure's, and the routes to it; returns it.
    fn refuse_foreign(&mut self) -> Option<Ipv4> {
        let foreign = self.wireserver.take_if(|address| *address != WIRESERVER)?;
        self.routes.retain(|route| route.contains(IMDS) || route.contains(WIRESERVER));
        Some(foreign)
    }

    /// The next hop to `destination`: itself when it is on the link. The longest prefix wins, our own network's too.
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4) -> Ipv4 {
        let own = Route { network: self.address, prefix: self.prefix, gateway: [0; 4] };
        let rest = Route { network: [0; 4], prefix: 0, gateway: self.router.unwrap_or_default() };
        let routes = [&rest, &own].into_iter().chain(&self.routes);
        let best = routes.filter(|route| route.contains(destination)).max_by_key(|route| route.prefix);
        best.map(|route| route.gateway).filter(|gateway| *gateway != [0; 4]).unwrap_or(destination)
    }

    /// The way of a TCP connection from our `port` to `peer`.
    ///
    /// # Errors
    /// `Os(NETUNREACH)` where an address on it is no other host's.
    pub fn path(&self, peer: Ipv4, port: u16) -> Result<Path> {
        let (ours, hop) = (self.address, self.next_hop(peer));
        let is_host = |address| is_unicast(address) && address != ours;
        if !is_unicast(ours) || !is_host(peer) || !is_host(hop) {
            return Err(os!("connect", Errno::NETUNREACH));
        }
        Ok(Path { mac: self.mac, ours, port, peer, hop })
    }
}

/// Where the conversation stands.
enum State {
    /// Discover is sent until an offer comes.
    Selecting,
    /// An offer is there; a better one may come until then.
    Offered { offer: Lease, until_us: u64 },
    /// Request is sent until the server answers.
    Requesting { offer: Lease },
    /// That is it.
    Bound { lease: Lease },
}

/// The client's side of one conversation.
pub struct Client {
    mac: [u8; 6],
    hostname: Option<Hostname>,
    random: u64,
    transaction: u32,
    state: State,
    /// Frames sent in this state.
    tries: u32,
    /// Frames sent in all; the broadcast flag alternates with it.
    sent: u32,
    next_us: u64,
    started_us: u64,
    /// What the Discover said; its Request says the same (RFC 2131, 4.4.1).
    elapsed_s: u16,
    /// Option 245 may name any host.
    believes: bool,
    /// The one that it named and must not.
    refused: Option<Ipv4>,
}

impl Client {
    /// Starts at `now_us`. `seed` makes transactions and jitter; it need not be secret, but differ.
    #[must_use]
    pub fn new(mac: [u8; 6], hostname: Option<&Hostname>, seed: u64, now_us: u64) -> Self {
        let hostname = hostname.cloned();
        let mut client = Self {
            mac,
            hostname,
            random: seed | 1, // xorshift stays at zero for ever
            transaction: 0,
            state: State::Selecting,
            tries: 0,
            sent: 0,
            next_us: now_us,
            started_us: now_us,
            elapsed_s: 0,
            believes: false,
            refused: None,
        };
        client.restart(now_us);
        client
    }

    /// A conversation that is over: with this lease.
    #[must_use]
    pub fn bound(lease: &Lease) -> Self {
        let mut client = Self::new(lease.mac, None, 0, 0);
        client.state = State::Bound { lease: lease.clone() };
        client
    }

    /// From now on option 245 may name any host as wireserver. Otherwise it is Azure's or none: whoever gives a lease must
    /// not choose who hears how this VM is (WALinuxAgent#1159).
    pub fn believe(&mut self) {
        self.believes = true;
    }

    /// The wireserver that a lease named and that is not used.
    #[must_use]
    pub const fn refused(&self) -> Option<Ipv4> {
        self.refused
    }

    /// The lease, once there is one.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease } => Some(lease),
            _ => None,
        }
    }

    /// When [`Self::next_frame`] has something to do next.
    #[must_use]
    pub fn next_deadline_us(&self) -> u64 {
        match self.state {
            State::Offered { until_us, .. } => until_us,
            State::Bound { .. } => u64::MAX,
            _ => self.next_us,
        }
    }

    /// Takes a frame from the link. Frames that are not for this conversation change nothing. `is_intact`: the kernel
    /// vouches for the checksum.
    ///
    /// # Errors
    /// A message of our server for us that breaks a rule; the conversation goes on.
    #[inline(never)]
    pub fn on_frame(&mut self, frame: &[u8], is_intact: bool, now_us: u64) -> Result<()> {
        let Some(message) = message(frame, self.mac, is_intact) else { return Ok(()) };
        if !self.is_ours(message) {
            return Ok(());
        }
        let mut reply = Reply::parse(message)?;
        if let Some(lease) = reply.lease.as_mut().filter(|_| !self.believes) {
            self.refused = lease.refuse_foreign();
        }
        match (&self.state, reply.kind, reply.lease) {
            (State::Selecting | State::Offered { .. }, Kind::Offer, Some(offer)) => {
                self.on_offer(offer, now_us);
            }
            // Late, but better than the one that was taken.
            (State::Requesting { offer }, Kind::Offer, Some(better))
                if better.is_primary() && !offer.is_primary() =>
            {
                self.request(better, now_us);
            }
            (State::Requesting { offer }, Kind::Ack, Some(lease)) if offer.server == reply.server => {
                let until_s = lease.lease_s.map(|s| (now_us / 1_000_000).saturating_add(s.into()));
                self.state = State::Bound { lease: Lease { until_s, ..lease } };
            }
            (State::Requesting { offer }, Kind::Nak, _) if offer.server == reply.server => {
                self.restart(now_us.saturating_add(REFUSED_US));
            }
            _ => {}
        }
        Ok(())
    }

    /// Transaction and client match. Looked at before anything else, so that nobody else's malformed message
    /// is our error.
    fn is_ours(&self, message: &[u8]) -> bool {
        message.get(4..8) == Some(&self.transaction.to_be_bytes()[..])
            && message.get(28..34) == Some(&self.mac[..])
    }

    fn on_offer(&mut self, offer: Lease, now_us: u64) {
        if offer.is_primary() {
            self.request(offer, now_us);
        } else if matches!(self.state, State::Selecting) {
            self.state = State::Offered { offer, until_us: now_us.saturating_add(BETTER_OFFER_US) };
        }
    }

    fn request(&mut self, offer: Lease, now_us: u64) {
        self.state = State::Requesting { offer };
        self.tries = 0;
        self.next_us = now_us;
    }

    /// Asks anew, as a new transaction, from `at_us` on.
    fn restart(&mut self, at_us: u64) {
        self.transaction = (self.next_random() >> 32) as u32;
        self.state = State::Selecting;
        self.tries = 0;
        self.next_us = at_us;
    }

    /// Writes the next frame to send into `out`, if one is due.
    ///
    /// # Errors
    /// `TooMany` when `out` is smaller than a frame.
    #[inline(never)]
    pub fn next_frame(&mut self, now_us: u64, out: &mut [u8]) -> Result<Option<usize>> {
        if now_us < self.next_deadline_us() {
            return Ok(None);
        }
        self.advance(now_us);
        if now_us < self.next_us {
            return Ok(None);
        }
        let take = match &self.state {
            State::Requesting { offer } => Some((offer.address, offer.server)),
            _ => None,
        };
        if take.is_none() {
            let elapsed_s = now_us.saturating_sub(self.started_us) / 1_000_000;
            self.elapsed_s = u16::try_from(elapsed_s).unwrap_or(u16::MAX);
        }
        let query = Query {
            transaction: self.transaction,
            mac: self.mac,
            elapsed_s: self.elapsed_s,
            // Clear at first: an answer by unicast passes more switches; set next, as waagent does.
            broadcast: self.sent % 2 == 1,
            hostname: self.hostname.as_ref().map(Hostname::short),
            take,
        };
        let length = frame(&query, out)?;
        self.next_us = now_us.saturating_add(self.interval_us());
        self.tries = self.tries.saturating_add(1);
        self.sent = self.sent.saturating_add(1);
        Ok(Some(length))
    }

    /// Changes of state that time alone brings.
    fn advance(&mut self, now_us: u64) {
        match core::mem::replace(&mut self.state, State::Selecting) {
            State::Offered { offer, .. } => self.request(offer, now_us),
            State::Requesting { .. } if self.tries >= REQUESTS => self.restart(now_us),
            state => self.state = state,
        }
    }

    /// 0.25 s, 0.5 s, 1 s, 1 s ..., each up to an eighth shorter or longer.
    fn interval_us(&mut self) -> u64 {
        let interval = FIRST_US.checked_shl(self.tries).unwrap_or(LONGEST_US).clamp(FIRST_US, LONGEST_US);
        let eighth = interval / 8;
        interval - eighth + self.next_random() % (2 * eighth)
    }

    /// xorshift64: spreads a seed, hides nothing.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// The DHCP message in a frame, if it is one from a server to `mac` or to all.
fn message(frame: &[u8], mac: Mac, is_intact: bool) -> Option<&[u8]> {
    let (to, ether_type, packet) = neighbour::open(frame)?;
    if (to != mac && to != BROADCAST) || ether_type != IPV4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let is_whole = !ip.more_frags() && ip.frag_offset() == 0;
    if ip.version() != 4 || !is_whole || !ip.verify_checksum() || ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let is_dhcp = udp.src_port() == SERVER_PORT && udp.dst_port() == CLIENT_PORT;
    // A peer on the same machine leaves the checksum to an offload that never happens; the kernel knows.
    let is_sound = is_intact || udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into());
    (is_dhcp && is_sound).then(|| udp.payload())
}

/// Writes the frame around a query, from nobody to all.
fn frame(query: &Query<'_>, out: &mut [u8]) -> Result<usize> {
    let full = too_many!("DHCP frame", out.len());
    let length = query.emit(out.get_mut(HEADERS..).ok_or(full)?)?;
    let whole = out.get_mut(..HEADERS + length).ok_or(full)?;
    let checksums = ChecksumCapabilities::default();
    let (source, destination) = (Ipv4Address::UNSPECIFIED, Ipv4Address::BROADCAST);
    neighbour::seal(whole, BROADCAST, query.mac, IPV4);
    let mut ip = Ipv4Packet::new_unchecked(whole.get_mut(HEADER..).ok_or(full)?);
    let repr = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: 8 + length,
        hop_limit: 64,
    };
    repr.emit(&mut ip, &checksums);
    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    let repr = UdpRepr { src_port: CLIENT_PORT, dst_port: SERVER_PORT };
    let addresses = (IpAddress::Ipv4(source), IpAddress::Ipv4(destination));
    // The payload is in its place already.
    repr.emit(&mut udp, &addresses.0, &addresses.1, length, |_| {}, &checksums);
    Ok(HEADERS + length)
}

#[cfg(test)]
pub(crate) mod tests;
