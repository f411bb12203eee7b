//! What does a DHCP message say? Own codec: smoltcp's joins no split options and keeps neither 121 nor 245.
//!
//! Sources: RFC 2131 (message), RFC 2132 (options), RFC 3396 (split options, overload), RFC 3442 (option 121);
//! option 245 is Azure's wireserver address, 249 is Microsoft's older number for 121.

use crate::error::Result;
use crate::facts::Hostname;

/// Azure's metadata service.
pub const IMDS: Ipv4 = [169, 254, 169, 254];
/// Azure's wireserver where option 245 does not name another.
pub const WIRESERVER: Ipv4 = [168, 63, 129, 16];
/// Routes kept of option 121: the most specific one to each of those two and to the wireserver of option 245. No
/// other route concerns us, however many there are (CVE-2024-3661).
pub const ROUTES: usize = 3;

const WHAT: &str = "DHCP message";
/// RFC 2131, figure 1: fixed part, then the magic cookie, then options.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's smallest message; relays and servers may drop shorter ones (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// Longest value we join: more does not come in one frame, and fragments are not taken.
const JOINED: usize = 1500;

const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const MTU: u8 = 26;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const PARAMETER_LIST: u8 = 55;
const MAXIMUM_SIZE: u8 = 57;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
const CLASSLESS_ROUTES: u8 = 121;
const WIRESERVER_ADDRESS: u8 = 245;
const MICROSOFT_ROUTES: u8 = 249;
const END: u8 = 255;

/// What a client wants to know. 121 comes before 3 (RFC 3442: MUST); a server sends only what is named here. 15, 58 and
/// 59 are named as every client does, and not read: the lease is never renewed.
const WANTED: [u8; 13] = [
    SUBNET_MASK,
    CLASSLESS_ROUTES,
    MICROSOFT_ROUTES,
    ROUTER,
    DNS,
    HOST_NAME,
    DOMAIN_NAME,
    MTU,
    LEASE_TIME,
    SERVER_ID,
    RENEWAL_TIME,
    REBINDING_TIME,
    WIRESERVER_ADDRESS,
];

/// Message types (option 53) that a client sends or understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who is there?
    Discover = 1,
    /// A server's proposal.
    Offer = 2,
    /// The client takes it.
    Request = 3,
    /// The server agrees.
    Ack = 5,
    /// The server does not.
    Nak = 6,
    /// Anything else: relays', other clients', or FORCERENEW (RFC 3203), which nobody may ask of us (CVE-2020-13529).
    Other = 255,
}

/// An IPv4 address in network order.
pub type Ipv4 = [u8; 4];

/// A route of option 121.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destination network.
    pub network: Ipv4,
    /// Its prefix length, 0 to 32.
    pub prefix: u8,
    /// Next hop; 0.0.0.0 means on the link itself (RFC 3442).
    pub gateway: Ipv4,
}

impl Route {
    /// True when `address` lies in its network.
    #[must_use]
    pub fn contains(&self, address: Ipv4) -> bool {
        let differing = u32::from_be_bytes(self.network) ^ u32::from_be_bytes(address);
        differing.checked_shr(32_u32.saturating_sub(self.prefix.into())).unwrap_or_default() == 0
    }
}

/// What a server gives: our address and how to reach others from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The interface it was given to.
    pub mac: [u8; 6],
    /// Our address.
    pub address: Ipv4,
    /// Its prefix length.
    pub prefix: u8,
    /// First of option 3, unless option 121 stands in for it (RFC 3442).
    pub router: Option<Ipv4>,
    /// Who gave it (option 54).
    pub server: Ipv4,
    /// The first four name servers.
    pub dns: heapless::Vec<Ipv4, 4>,
    /// The routes of option 121, else 249, that lead to the platform: see [`ROUTES`].
    pub routes: heapless::Vec<Route, ROUTES>,
    /// Option 245: Azure's wireserver.
    pub wireserver: Option<Ipv4>,
    /// Option 26.
    pub mtu: Option<u16>,
    /// Seconds it lasts; `None` is for ever (Azure sends 4294967295).
    pub lease_s: Option<u32>,
    /// When that is over, seconds since boot; whoever took the lease knows.
    pub until_s: Option<u64>,
    /// Option 12, where it is a valid name.
    pub hostname: Option<Hostname>,
}

/// A server's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Offer, Ack or Nak.
    pub kind: Kind,
    /// The transaction.
    pub transaction: u32,
    /// The client it is for.
    pub mac: [u8; 6],
    /// Option 54.
    pub server: Ipv4,
    /// What is given; nothing but in an Offer or an Ack.
    pub lease: Option<Lease>,
}

/// A client's message.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The transaction.
    pub transaction: u32,
    /// Who asks.
    pub mac: [u8; 6],
    /// Seconds since the first try.
    pub elapsed_s: u16,
    /// Asks for answers by broadcast.
    pub broadcast: bool,
    /// Option 12; the platform's DNS registers it.
    pub hostname: Option<&'a str>,
    /// Address and server of the offer that is taken: makes this a Request. `None`: a Discover.
    pub take: Option<(Ipv4, Ipv4)>,
}

impl Query<'_> {
    /// Writes the message (the payload of UDP), returns its length.
    ///
    /// # Errors
    /// `TooMany` when `out` is too small; 576 bytes always suffice.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize> {
        let mut out = Writer { out, at: 0 };
        let flags = if self.broadcast { 0x80 } else { 0 };
        let [s0, s1] = self.elapsed_s.to_be_bytes();
        out.bytes(&[1, 1, 6, 0])?; // BOOTREQUEST, Ethernet
        out.bytes(&self.transaction.to_be_bytes())?;
        out.bytes(&[s0, s1, flags, 0])?;
        out.bytes(&[0; 16])?; // ciaddr yiaddr siaddr giaddr
        out.bytes(&self.mac)?;
        out.bytes(&[0; 10 + 64 + 128])?; // rest of chaddr, sname, file
        out.bytes(&COOKIE)?;
        match self.take {
            None => out.option(MESSAGE_TYPE, &[Kind::Discover as u8])?,
            Some((address, server)) => {
                out.option(MESSAGE_TYPE, &[Kind::Request as u8])?;
                out.option(REQUESTED_ADDRESS, &address)?;
                out.option(SERVER_ID, &server)?;
            }
        }
        if let Some(name) = self.hostname {
            out.option(HOST_NAME, name.as_bytes())?;
        }
        out.option(MAXIMUM_SIZE, &1500_u16.to_be_bytes())?;
        out.option(PARAMETER_LIST, &WANTED)?;
        out.bytes(&[END])?;
        while out.at < SHORTEST {
            out.bytes(&[PAD])?;
        }
        Ok(out.at)
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let full = too_many!(WHAT, self.out.len());
        let end = self.at.checked_add(bytes.len()).ok_or(full)?;
        self.out.get_mut(self.at..end).ok_or(full)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn option(&mut self, code: u8, value: &[u8]) -> Result<()> {
        let length = u8::try_from(value.len()).map_err(|_| too_many!(WHAT, 255))?;
        self.bytes(&[code, length])?;
        self.bytes(value)
    }
}

impl Reply {
    /// Reads the payload of UDP. Of options that we could do without, those that break a rule count as absent.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    #[inline(never)]
    pub fn parse(message: &[u8]) -> Result<Self> {
        let view = View::new_checked(message)?;
        let kind = match view.first(MESSAGE_TYPE) {
            Some([2]) => Kind::Offer,
            Some([5]) => Kind::Ack,
            Some([6]) => Kind::Nak,
            Some([_]) => Kind::Other,
            None => return Err(malformed!(WHAT, "DHCP message type", 0)),
        };
        let server = view.first(SERVER_ID).ok_or(malformed!(WHAT, "DHCP server identifier", 0))?;
        let lease = match kind {
            Kind::Offer | Kind::Ack => Some(view.lease(server)?),
            _ => None,
        };
        Ok(Self { kind, transaction: view.transaction()?, mac: view.mac()?, server, lease })
    }
}

/// A message whose fixed part is there.
struct View<'a> {
    message: &'a [u8],
    /// The areas that hold options, in the order of RFC 3396: options, file, sname.
    areas: [&'a [u8]; 3],
}

impl<'a> View<'a> {
    fn new_checked(message: &'a [u8]) -> Result<Self> {
        let (fixed, rest) =
            message.split_at_checked(FIXED).ok_or(malformed!(WHAT, "DHCP message too short", 0))?;
        let options = rest.strip_prefix(&COOKIE).ok_or(malformed!(WHAT, "DHCP magic cookie", 0))?;
        if !fixed.starts_with(&[2, 1, 6]) {
            return Err(malformed!(WHAT, "DHCP reply to an Ethernet client", 0));
        }
        let mut view = Self { message, areas: [options, &[], &[]] };
        let [overload] = view.first(OVERLOAD).unwrap_or_default();
        let [_, file, sname] = &mut view.areas;
        if overload & 1 != 0 {
            *file = fixed.get(108..236).unwrap_or_default();
        }
        if overload & 2 != 0 {
            *sname = fixed.get(44..108).unwrap_or_default();
        }
        for area in view.areas {
            let mut rest = area;
            while let Some((_, next)) = next_option(rest)? {
                rest = next;
            }
        }
        Ok(view)
    }

    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let field = self.message.get(at..).and_then(|bytes| bytes.first_chunk());
        field.copied().ok_or(malformed!(WHAT, "DHCP message too short", 0))
    }

    fn transaction(&self) -> Result<u32> {
        self.field(4).map(u32::from_be_bytes)
    }

    fn mac(&self) -> Result<[u8; 6]> {
        self.field(28)
    }

    /// Copies the value of an option, its parts joined, as far as `out` holds it; returns its whole length.
    #[inline(never)]
    fn option(&self, code: u8, out: &mut [u8]) -> usize {
        let mut length = 0_usize;
        for mut rest in self.areas {
            while let Ok(Some((part, next))) = next_option(rest) {
                rest = next;
                if part.code == code {
                    let place = out.get_mut(length..).unwrap_or_default();
                    place.iter_mut().zip(part.value).for_each(|(to, from)| *to = *from);
                    length = length.saturating_add(part.value.len());
                }
            }
        }
        length
    }

    /// The first bytes of an option; a server that sends an option twice means the first.
    fn first<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        let mut value = [0; N];
        (self.option(code, &mut value) >= N).then_some(value)
    }

    /// An option that is the address of a host.
    fn host(&self, code: u8) -> Option<Ipv4> {
        self.first(code).filter(|address| is_unicast(*address))
    }

    #[inline(never)]
    fn lease(&self, server: Ipv4) -> Result<Lease> {
        let address: Ipv4 = self.field(16)?;
        let prefix = self.first(SUBNET_MASK).and_then(prefix).unwrap_or(32);
        let (mut router, wireserver) = (self.host(ROUTER), self.host(WIRESERVER_ADDRESS));
        if !is_unicast(address) || router == Some(address) || is_edge(address, prefix) {
            return Err(malformed!(WHAT, "DHCP address", 0));
        }
        let targets = [IMDS, WIRESERVER, wireserver.unwrap_or(WIRESERVER)];
        let routes = |code| self.routes(code, address, &targets);
        let routes = routes(CLASSLESS_ROUTES).or_else(|| routes(MICROSOFT_ROUTES));
        if routes.is_some() {
            router = None;
        }
        let mut dns = [0; 16];
        let length = self.option(DNS, &mut dns);
        let dns = dns.get(..length).unwrap_or(&dns);
        let lease_s = self.first(LEASE_TIME).map(u32::from_be_bytes);
        Ok(Lease {
            mac: self.mac()?,
            address,
            prefix,
            router,
            server,
            dns: dns.as_chunks().0.iter().copied().collect(),
            routes: routes.unwrap_or_default(),
            wireserver,
            mtu: self.first(MTU).map(u16::from_be_bytes),
            lease_s: lease_s.filter(|s| *s != u32::MAX),
            until_s: None,
            hostname: self.hostname(),
        })
    }

    /// Some servers count the NUL in.
    fn hostname(&self) -> Option<Hostname> {
        let mut name = [0; 255];
        let length = self.option(HOST_NAME, &mut name);
        let name = core::str::from_utf8(name.get(..length)?).ok()?;
        Hostname::parse(name.trim_end_matches('\0')).ok()
    }

    /// What an option of RFC 3442 says of the way to `targets`; `None` where it has no route, or is broken.
    #[inline(never)]
    fn routes(&self, code: u8, own: Ipv4, targets: &[Ipv4; 3]) -> Option<heapless::Vec<Route, ROUTES>> {
        let mut joined = [0; JOINED];
        let length = self.option(code, &mut joined);
        let mut rest = joined.get(..length)?;
        let mut best: [Option<Route>; ROUTES] = [None; ROUTES];
        let mut has_route = false;
        while !rest.is_empty() {
            let (route, next) = next_route(rest)?;
            rest = next;
            // A gateway that no host can have, or that we are ourselves, leads nowhere.
            if (route.gateway != [0; 4] && !is_unicast(route.gateway)) || route.gateway == own {
                continue;
            }
            has_route = true;
            for (best, target) in best.iter_mut().zip(targets) {
                if route.contains(*target) && best.is_none_or(|best| best.prefix < route.prefix) {
                    *best = Some(route);
                }
            }
        }
        let mut routes = heapless::Vec::new();
        for route in best.into_iter().flatten() {
            if !routes.contains(&route) {
                let _ = routes.push(route); // one for each target: it has room
            }
        }
        has_route.then_some(routes)
    }
}

/// The prefix length that a mask means; nothing where it is none, or all the world.
fn prefix(mask: Ipv4) -> Option<u8> {
    let mask = u32::from_be_bytes(mask);
    let ones = mask.leading_ones();
    (mask.count_ones() == ones && ones > 0).then(|| u8::try_from(ones).unwrap_or(32))
}

/// The network's own address, or that of all its hosts.
fn is_edge(address: Ipv4, prefix: u8) -> bool {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or_default();
    let host = u32::from_be_bytes(address) & hosts;
    prefix < 31 && (host == 0 || host == hosts)
}

struct Part<'a> {
    code: u8,
    value: &'a [u8],
}

/// Splits the first option off; `None` at END, or where the area ends without one.
fn next_option(mut area: &[u8]) -> Result<Option<(Part<'_>, &[u8])>> {
    let bad = malformed!(WHAT, "DHCP option longer than its message", 0);
    while let [PAD, rest @ ..] = area {
        area = rest;
    }
    let Some((code, rest)) = area.split_first().filter(|(code, _)| **code != END) else {
        return Ok(None);
    };
    let (length, rest) = rest.split_first().ok_or(bad)?;
    let (value, rest) = rest.split_at_checked(usize::from(*length)).ok_or(bad)?;
    Ok(Some((Part { code: *code, value }, rest)))
}

/// RFC 3442: width, as many bytes of the network as it needs, gateway.
fn next_route(value: &[u8]) -> Option<(Route, &[u8])> {
    let (prefix, rest) = value.split_first().filter(|(prefix, _)| **prefix <= 32)?;
    let (significant, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
    let mut network = [0; 4];
    network.iter_mut().zip(significant).for_each(|(to, from)| *to = *from);
    let (gateway, rest) = rest.split_first_chunk()?;
    Some((Route { network, prefix: *prefix, gateway: *gateway }, rest))
}

/// Neither "this network", loopback, multicast nor reserved.
#[must_use]
pub const fn is_unicast(address: Ipv4) -> bool {
    !matches!(address, [0 | 127 | 224.., ..])
}

#[cfg(test)]
pub(crate) mod tests;
