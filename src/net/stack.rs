//! How does one HTTP exchange go over our own TCP/IP, one step at a time?
//!
//! Nothing here waits: [`Stack::step`] does what can be done now and says when to come back.

use super::device::Device;
use super::http_client::{Outcome, Request, Response};
use super::lease::{Ipv4, Lease, is_unicast};
use crate::error::{Errno, Error, Result};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};

/// Frames read in one step: a flood must not keep us from the deadline.
const BURST: usize = 64;
/// Longest pause when smoltcp waits for nothing but a frame.
const IDLE_US: u64 = 1_000_000;

/// Room for the one socket, to be kept by the caller: `let mut room = Room::EMPTY`.
pub type Room<'b> = SocketStorage<'b>;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Come back when a frame is there, or at this time.
    Wait {
        /// Microseconds since boot.
        until_us: u64,
    },
    /// The exchange is over.
    Done(Outcome),
}

/// One connection to one server.
pub struct Stack<'b> {
    interface: Interface,
    sockets: SocketSet<'b>,
    socket: SocketHandle,
    was_open: bool,
    was_sent: bool,
}

impl<'b> Stack<'b> {
    /// Starts a connection to port 80 of `destination`. The request must fit in `tcp_tx`. `seed` makes port
    /// and sequence number.
    ///
    /// # Errors
    /// `Os` when smoltcp cannot reach the destination at all.
    pub fn connect(
        room: &'b mut [Room<'b>; 1],
        (tcp_rx, tcp_tx): (&'b mut [u8], &'b mut [u8]),
        device: &mut Device<'_>,
        lease: &Lease,
        destination: Ipv4,
        seed: u64,
        now_us: u64,
    ) -> Result<Self> {
        const UNREACHABLE: Error = os!("connect", Errno::NETUNREACH);
        let hop = lease.next_hop(destination);
        if ![destination, hop].into_iter().all(|place| is_unicast(place) && place != lease.address) {
            return Err(UNREACHABLE);
        }
        let mut config = Config::new(EthernetAddress(lease.mac).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, device, instant(now_us));
        let cidr = cidr_towards(lease, hop);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(cidr)); // the list is empty and holds one
        });
        if hop != destination {
            let route = interface.routes_mut().add_default_ipv4_route(Ipv4Address::from(hop));
            route.map_err(|_| UNREACHABLE)?;
        }
        let mut sockets = SocketSet::new(&mut room[..]);
        let mut tcp = Socket::new(SocketBuffer::new(tcp_rx), SocketBuffer::new(tcp_tx));
        tcp.set_nagle_enabled(false);
        let port = 49_152 + (seed >> 48) as u16 % 16_384;
        let peer = (IpAddress::Ipv4(Ipv4Address::from(destination)), 80);
        tcp.connect(interface.context(), peer, port).map_err(|_| UNREACHABLE)?;
        let socket = sockets.add(tcp);
        Ok(Self { interface, sockets, socket, was_open: false, was_sent: false })
    }

    /// Reads the frames that are there, moves the exchange on, sends what is due.
    ///
    /// # Errors
    /// `Os` (refused, reset, link gone) and whatever [`Response::push`] returns.
    pub fn step(
        &mut self,
        now_us: u64,
        device: &mut Device<'_>,
        request: &Request<'_>,
        response: &mut Response<'_>,
        body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Step> {
        let now = instant(now_us);
        for _ in 0..BURST {
            let ingress = self.interface.poll_ingress_single(now, device, &mut self.sockets);
            if ingress == smoltcp::iface::PollIngressSingleResult::None {
                break;
            }
        }
        let outcome = self.exchange(request, response, body);
        if let Ok(Some(_)) | Err(_) = outcome {
            self.close();
        }
        self.interface.poll_egress(now, device, &mut self.sockets);
        if let Some(outcome) = outcome? {
            return Ok(Step::Done(outcome));
        }
        if let Some(error) = device.failed() {
            return Err(error);
        }
        let next = self.interface.poll_at(now, &self.sockets);
        let next_us = next.and_then(|next| u64::try_from(next.total_micros()).ok());
        Ok(Step::Wait { until_us: next_us.unwrap_or(u64::MAX).min(now_us.saturating_add(IDLE_US)) })
    }

    /// Sends the request once the connection is open, takes what came.
    fn exchange(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
        body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<Outcome>> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if !self.was_sent && socket.can_send() {
            self.was_open = true;
            self.was_sent = true;
            // The buffer is empty, so that its whole length is offered.
            let emitted = socket.send(|buffer| match request.emit(buffer) {
                Ok(length) => (length, Ok(())),
                Err(error) => (0, Err(error)),
            });
            emitted.unwrap_or(Err(os!("send", Errno::CONNRESET)))?;
        }
        while socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), response.push(bytes, body)));
            taken.unwrap_or(Err(os!("receive", Errno::CONNRESET)))?;
        }
        if let Some(outcome) = response.outcome() {
            return Ok(Some(outcome));
        }
        match socket.state() {
            State::Closed if self.was_open => Err(os!("receive", Errno::CONNRESET)),
            State::Closed => Err(os!("connect", Errno::CONNREFUSED)),
            // The peer will send no more: that is the end of some bodies, and cuts others short.
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => {
                response.finish().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// FIN to a peer that has sent its own, RST to one that has not: either way it may forget us.
    fn close(&mut self) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if socket.state() == State::CloseWait { socket.close() } else { socket.abort() }
    }
}

/// Our address with a prefix short enough that the next hop is on the link: smoltcp ignores ARP answers from
/// elsewhere, and a lease may have a /32 and a gateway beyond it.
fn cidr_towards(lease: &Lease, hop: Ipv4) -> Ipv4Cidr {
    let (address, hop) = (Ipv4Address::from(lease.address), Ipv4Address::from(hop));
    let mut prefix = lease.prefix.min(32);
    loop {
        let cidr = Ipv4Cidr::new(address, prefix);
        let reaches = cidr.contains_addr(&hop) && cidr.broadcast() != Some(hop);
        match prefix.checked_sub(1) {
            Some(shorter) if !reaches => prefix = shorter,
            _ => return cidr,
        }
    }
}

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Room, Stack, Step, cidr_towards};
    use crate::error::{Errno, Result};
    use crate::format::dhcp::{Lease, Reply, tests::azure};
    use crate::net::device::Device;
    use crate::net::http_client::{Method, Outcome, Request, Response};
    use crate::net::lease::IMDS;
    use crate::sys::Link;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, proptest};
    use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
    use smoltcp::socket::tcp::{Socket, SocketBuffer};
    use smoltcp::time::Instant;
    use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
    use std::collections::VecDeque;
    use std::vec::Vec;

    const REQUEST: Request<'_> = Request {
        method: Method::Get,
        path: "/m",
        host: "169.254.169.254",
        headers: &[("Metadata", "true")],
        body: b"",
    };

    fn lease() -> Lease {
        Reply::parse(&azure(5, 1)).unwrap().lease.unwrap()
    }

    /// One end of a wire in memory. Frames whose number is in `lost` vanish.
    #[derive(Default)]
    struct Wire {
        to_us: VecDeque<Vec<u8>>,
        from_us: VecDeque<Vec<u8>>,
        lost: Vec<usize>,
        sent: usize,
        gone: bool,
    }

    impl Link for Wire {
        fn mac(&self) -> [u8; 6] {
            lease().mac
        }
        fn index(&self) -> u32 {
            2
        }
        fn carrier_changes(&self) -> Option<u32> {
            None
        }
        fn send(&mut self, frame: &[u8]) -> Result<()> {
            self.sent += 1;
            if !self.lost.contains(&self.sent) {
                self.from_us.push_back(frame.to_vec());
            }
            if self.gone { Err(os!("send a frame", Errno::NODEV)) } else { Ok(()) }
        }
        fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>> {
            let Some(bytes) = self.to_us.pop_front() else { return Ok(None) };
            frame[..bytes.len()].copy_from_slice(&bytes);
            Ok(Some(bytes.len()))
        }
        fn wait(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
    }

    /// The far end of the wire sees it the other way round.
    struct Far<'w>(&'w mut Wire);

    impl Link for Far<'_> {
        fn mac(&self) -> [u8; 6] {
            [2, 0, 0, 0, 0, 1]
        }
        fn index(&self) -> u32 {
            2
        }
        fn carrier_changes(&self) -> Option<u32> {
            None
        }
        fn send(&mut self, frame: &[u8]) -> Result<()> {
            self.0.to_us.push_back(frame.to_vec());
            Ok(())
        }
        fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>> {
            let Some(bytes) = self.0.from_us.pop_front() else { return Ok(None) };
            frame[..bytes.len()].copy_from_slice(&bytes);
            Ok(Some(bytes.len()))
        }
        fn wait(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
    }

    /// A server on `IMDS` behind the gateway that answers every request with `answer`; none listens on 80
    /// when it is `None`.
    fn talk(answer: Option<&[u8]>, lost: &[usize], limit_us: u64) -> (Result<Outcome>, Vec<u8>, u64) {
        let mut wire = Wire { lost: lost.to_vec(), ..Wire::default() };
        let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
        let (mut far_rx, mut far_tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
        let (mut a, mut b, mut c, mut d) = ([0; 4096], [0; 1024], [0; 1024], [0; 65_536]);
        let mut far = {
            let mut link = Far(&mut wire);
            let mut device = Device::new(&mut link, &mut far_rx, &mut far_tx);
            let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
            Interface::new(config, &mut device, Instant::ZERO)
        };
        far.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, 1), 24))).unwrap();
        });
        // There is room for one address: a router that answers for every address behind it.
        far.set_any_ip(true);
        far.routes_mut().add_default_ipv4_route(Ipv4Address::new(10, 0, 0, 1)).unwrap();
        let mut storage = [SocketStorage::EMPTY];
        let mut far_sockets = SocketSet::new(&mut storage[..]);
        let server =
            far_sockets.add(Socket::new(SocketBuffer::new(&mut c[..]), SocketBuffer::new(&mut d[..])));
        if answer.is_some() {
            far_sockets.get_mut::<Socket<'_>>(server).listen(80).unwrap();
        }
        let mut room = [Room::EMPTY];
        let mut stack = {
            let mut device = Device::new(&mut wire, &mut rx, &mut tx);
            Stack::connect(&mut room, (&mut a, &mut b), &mut device, &lease(), IMDS, 99, 0).unwrap()
        };
        let mut head = [0; 1024];
        let mut response = Response::new(&mut head, 60_000);
        let (mut body, mut asked, mut now_us) = (Vec::new(), Vec::new(), 0);
        let mut is_answered = false;
        while now_us < limit_us {
            let mut device = Device::new(&mut wire, &mut rx, &mut tx);
            let step = stack.step(now_us, &mut device, &REQUEST, &mut response, &mut |bytes| {
                body.extend_from_slice(bytes);
                Ok(())
            });
            let next_us = match step {
                Ok(Step::Done(outcome)) => {
                    return (Ok(outcome), body, now_us);
                }
                Err(error) => return (Err(error), body, now_us),
                Ok(Step::Wait { until_us }) => until_us,
            };
            let mut link = Far(&mut wire);
            let mut device = Device::new(&mut link, &mut far_rx, &mut far_tx);
            far.poll(Instant::from_micros(i64::try_from(now_us).unwrap()), &mut device, &mut far_sockets);
            let socket = far_sockets.get_mut::<Socket<'_>>(server);
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), asked.extend_from_slice(bytes))).unwrap();
            }
            if asked.ends_with(b"\r\n\r\n") && !is_answered {
                assert!(asked.starts_with(b"GET /m HTTP/1.1\r\nHost: 169.254.169.254\r\n"));
                socket.send_slice(answer.unwrap()).unwrap();
                socket.close();
                is_answered = true;
            }
            far.poll(Instant::from_micros(i64::try_from(now_us).unwrap()), &mut device, &mut far_sockets);
            now_us = if wire.to_us.is_empty() {
                next_us.clamp(now_us + 1000, now_us + 20_000)
            } else {
                now_us + 100
            };
        }
        (Err(deadline!("test", limit_us / 1000)), body, now_us)
    }

    #[test]
    fn an_exchange_crosses_the_gateway() {
        let (outcome, body, _) =
            talk(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), &[], 5_000_000);
        assert_eq!((outcome.unwrap().status, &body[..]), (200, &b"hello"[..]));
    }

    #[test]
    fn a_body_far_above_the_window_arrives_whole() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.extend((0..50_000_u32).map(|i| (i % 251) as u8));
        let (outcome, body, _) = talk(Some(&answer), &[], 20_000_000);
        assert_eq!(outcome.unwrap().body_bytes, 50_000);
        assert_eq!(body, answer[19..]);
    }

    #[test]
    fn a_close_before_the_end_is_cut_short() {
        let (outcome, ..) = talk(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), &[], 5_000_000);
        assert_eq!(outcome.unwrap_err().reason(), "HTTP response cut short");
    }

    #[test]
    fn a_closed_port_is_refused_at_once() {
        let (outcome, _, now_us) = talk(None, &[], 5_000_000);
        assert_eq!(outcome.unwrap_err().errno(), Some(Errno::CONNREFUSED));
        assert!(now_us < 100_000);
    }

    #[test]
    fn a_link_that_goes_away_is_an_error_of_the_kernel() {
        let mut wire = Wire { gone: true, ..Wire::default() };
        let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
        let (mut a, mut b, mut head) = ([0; 4096], [0; 1024], [0; 256]);
        let mut room = [Room::EMPTY];
        let mut device = Device::new(&mut wire, &mut rx, &mut tx);
        let mut stack =
            Stack::connect(&mut room, (&mut a, &mut b), &mut device, &lease(), IMDS, 1, 0).unwrap();
        let step = stack.step(0, &mut device, &REQUEST, &mut Response::new(&mut head, 10), &mut |_| Ok(()));
        assert_eq!(step.unwrap_err().errno(), Some(Errno::NODEV));
    }

    #[test]
    fn a_gateway_beyond_the_prefix_is_reached() {
        let mut lease = lease();
        for (address, prefix, hop, wanted) in [
            ([10, 0, 0, 4], 24, [10, 0, 0, 1], 24),
            ([10, 128, 0, 2], 32, [10, 128, 0, 1], 30),
            ([10, 0, 0, 4], 32, [10, 0, 0, 7], 28), // the broadcast address of /30 and of /29
            ([10, 0, 0, 4], 24, IMDS, 0),
        ] {
            (lease.address, lease.prefix) = (address, prefix);
            let cidr = cidr_towards(&lease, hop);
            assert_eq!(cidr.prefix_len(), wanted, "{cidr}");
        }
    }

    /// An option 121 that names such a gateway made smoltcp panic.
    #[test]
    fn a_gateway_that_is_no_host_panics_nothing() {
        let mut lease = lease();
        for first in [10, 172, 192, 223] {
            lease.address[0] = first;
            let broadcast = [first, 0, 0, 255];
            let hops = [[224, 0, 0, 1], [239, 255, 255, 255], [255; 4], [127, 0, 0, 1], [240, 0, 0, 1]];
            for hop in hops.into_iter().chain([lease.address, broadcast, [first, 0, 0, 0]]) {
                lease.routes.iter_mut().for_each(|route| route.gateway = hop);
                let mut wire = Wire::default();
                let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
                let (mut a, mut b, mut head) = ([0; 4096], [0; 1024], [0; 256]);
                let mut room = [Room::EMPTY];
                let mut device = Device::new(&mut wire, &mut rx, &mut tx);
                let Ok(mut stack) =
                    Stack::connect(&mut room, (&mut a, &mut b), &mut device, &lease, IMDS, 1, 0)
                else {
                    continue;
                };
                let response = &mut Response::new(&mut head, 10);
                stack.step(0, &mut device, &REQUEST, response, &mut |_| Ok(())).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn lost_frames_cost_time_and_nothing_else(lost in prop::collection::vec(1usize..12, 0..4)) {
            let (outcome, body, _) = talk(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), &lost, 60_000_000);
            prop_assert_eq!(outcome.unwrap().status, 200);
            prop_assert_eq!(&body[..], &b"hello"[..]);
        }

        #[test]
        fn no_frames_panic(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..8), mode: u8) {
            let mut wire = Wire::default();
            let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
            let (mut a, mut b, mut head) = ([0; 4096], [0; 1024], [0; 256]);
            for mut frame in frames {
                if let Some(header) = frame.first_chunk_mut::<15>() {
                    header[..6].copy_from_slice(&lease().mac);
                    header[12..].copy_from_slice(if mode % 2 == 0 { &[8, 0, 0x45] } else { &[8, 6, 0] });
                }
                wire.to_us.push_back(frame);
            }
            let mut room = [Room::EMPTY];
            let mut device = Device::new(&mut wire, &mut rx, &mut tx);
            let mut stack = Stack::connect(&mut room, (&mut a, &mut b), &mut device, &lease(), IMDS, 1, 0).unwrap();
            let _ = stack.step(5, &mut device, &REQUEST, &mut Response::new(&mut head, 10), &mut |_| Ok(()));
        }
    }
}
