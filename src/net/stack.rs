//! How does one HTTP exchange go over our own TCP/IP, one step at a time?
//!
//! Nothing here waits: [`Stack::step`] does what can be done now and says when to come back.

use super::device::Device;
use super::http_client::{Outcome, Request, Response};
use super::neighbour::Path;
use crate::error::{Errno, Error, Result};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};

/// Packets of the connection taken in one step.
const BURST: usize = 64;
/// smoltcp repeats a segment after a second at the earliest. Its clock goes four times as fast as ours, which makes that
/// 250 ms; Linux has 200.
const FASTER: u64 = 4;
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
    /// Starts the connection that `device` is for. The request must fit in `tcp_tx`. `seed` makes the sequence number.
    ///
    /// # Errors
    /// `Os` when smoltcp cannot reach the destination at all.
    pub fn connect(
        room: &'b mut [Room<'b>; 1],
        (tcp_rx, tcp_tx): (&'b mut [u8], &'b mut [u8]),
        device: &mut Device<'_>,
        seed: u64,
        now_us: u64,
    ) -> Result<Self> {
        const UNREACHABLE: Error = os!("connect", Errno::NETUNREACH);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, device, instant(now_us));
        let Path { ours, port, peer, hop, .. } = *device.path();
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(ours.into(), 32))); // the list is empty and holds one
        });
        // It needs to hear of one; the device knows the way itself.
        let route = interface.routes_mut().add_default_ipv4_route(Ipv4Address::from(hop));
        route.map_err(|_| UNREACHABLE)?;
        let mut sockets = SocketSet::new(&mut room[..]);
        let mut tcp = Socket::new(SocketBuffer::new(tcp_rx), SocketBuffer::new(tcp_tx));
        tcp.set_nagle_enabled(false);
        let peer = (IpAddress::Ipv4(peer.into()), 80);
        tcp.connect(interface.context(), peer, port).map_err(|_| UNREACHABLE)?;
        let socket = sockets.add(tcp);
        Ok(Self { interface, sockets, socket, was_open: false, was_sent: false })
    }

    /// True once the server has answered at all.
    #[must_use]
    pub const fn was_open(&self) -> bool {
        self.was_open
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
        let until_us = device.begin(now_us);
        if let Some(error) = device.failed() {
            return Err(error);
        }
        if let Some(until_us) = until_us {
            return Ok(Step::Wait { until_us });
        }
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
        let next_us = next.and_then(|next| u64::try_from(next.total_micros()).ok()).map(|us| us / FASTER);
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

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us.saturating_mul(FASTER)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Room, Stack, Step};
    use crate::error::{Errno, Result};
    use crate::format::dhcp::{Ipv4, Lease, Reply, tests::azure};
    use crate::net::device::Device;
    use crate::net::far::{Far, GATEWAY_MAC};
    use crate::net::http_client::{Method, Outcome, Request, Response};
    use crate::net::lease::IMDS;
    use crate::net::neighbour::{ARP_FRAME, Neighbour};
    use crate::sys::{Frame, Frames, Only};
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, proptest};
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    };
    use std::collections::VecDeque;
    use std::vec::Vec;

    const REQUEST: Request<'_> = Request {
        method: Method::Get,
        path: "/m",
        host: "169.254.169.254",
        headers: &[("Metadata", "true")],
        body: b"",
    };
    const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const PORT: u16 = 50_000;

    fn lease() -> Lease {
        Reply::parse(&azure(5, 1)).unwrap().lease.unwrap()
    }

    /// Our end of a wire in memory. Frames of ours whose number is in `lost` vanish.
    #[derive(Default)]
    struct Wire {
        to_us: VecDeque<Vec<u8>>,
        from_us: VecDeque<Vec<u8>>,
        lost: Vec<usize>,
        sent: usize,
        gone: bool,
    }

    impl Frames for Wire {
        fn send(&mut self, _: u32, frame: &[u8]) -> Result<()> {
            self.sent += 1;
            if !self.lost.contains(&self.sent) {
                self.from_us.push_back(frame.to_vec());
            }
            if self.gone { Err(os!("send a frame", Errno::NODEV)) } else { Ok(()) }
        }
        fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
            let Some(bytes) = self.to_us.pop_front() else { return Ok(None) };
            frame[..bytes.len()].copy_from_slice(&bytes);
            Ok(Some(Frame { length: bytes.len(), index: 2, is_intact: false }))
        }
        fn wait(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
        fn narrow(&mut self, _: &Only) -> Result<()> {
            Ok(())
        }
    }

    /// One exchange with a server behind the gateway.
    struct Talk {
        lease: Lease,
        wire: Wire,
        far: Far,
        /// Put before every frame of the far end, while it is not empty.
        noise: Vec<Vec<u8>>,
        mtu: usize,
        body: Vec<u8>,
        now_us: u64,
    }

    impl Talk {
        fn new(answer: Option<&[u8]>) -> Self {
            let mut far = Far::new(&[GATEWAY]);
            far.answer = answer.map(<[u8]>::to_vec);
            Self {
                lease: lease(),
                wire: Wire::default(),
                far,
                noise: Vec::new(),
                mtu: 1500,
                body: Vec::new(),
                now_us: 0,
            }
        }

        fn run(&mut self, limit_us: u64) -> Result<Outcome> {
            let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 14 + self.mtu]);
            let (mut a, mut b, mut head) = ([0; 4096], [0; 1024], [0; 1024]);
            let mut room = [Room::EMPTY];
            let mut neighbour = Neighbour::default();
            let path = self.lease.path(IMDS, PORT)?;
            let mut stack = {
                let mut device =
                    Device::new(&mut self.wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
                Stack::connect(&mut room, (&mut a, &mut b), &mut device, 99, 0)?
            };
            let mut response = Response::new(&mut head, 60_000);
            while self.now_us < limit_us {
                let mut device =
                    Device::new(&mut self.wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
                let body = &mut self.body;
                let step = stack.step(self.now_us, &mut device, &REQUEST, &mut response, &mut |bytes| {
                    body.extend_from_slice(bytes);
                    Ok(())
                });
                let next_us = match step? {
                    Step::Done(outcome) => return Ok(outcome),
                    Step::Wait { until_us } => until_us,
                };
                self.far.inbox.append(&mut self.wire.from_us);
                self.far.poll(self.now_us);
                for frame in self.far.outbox.drain(..) {
                    self.wire.to_us.extend(self.noise.iter().cloned());
                    self.wire.to_us.push_back(frame);
                }
                self.now_us = if self.wire.to_us.is_empty() {
                    next_us.clamp(self.now_us + 1000, self.now_us + 20_000)
                } else {
                    self.now_us + 100
                };
            }
            Err(deadline!("test", limit_us / 1000))
        }
    }

    const GATEWAY: Ipv4 = [10, 0, 0, 1];

    #[test]
    fn an_exchange_crosses_the_gateway() {
        let mut talk = Talk::new(Some(HELLO));
        assert_eq!((talk.run(5_000_000).unwrap().status, &talk.body[..]), (200, &b"hello"[..]));
        assert!(talk.far.asked.starts_with("GET /m HTTP/1.1\r\nHost: 169.254.169.254\r\n"));
    }

    #[test]
    fn a_body_far_above_the_window_arrives_whole() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.extend((0..50_000_u32).map(|i| (i % 251) as u8));
        let mut talk = Talk::new(Some(&answer));
        assert_eq!(talk.run(20_000_000).unwrap().body_bytes, 50_000);
        assert_eq!(talk.body, answer[19..]);
    }

    /// One byte at a time, for ever.
    #[test]
    fn a_slow_loris_costs_the_deadline_and_no_more() {
        let mut talk = Talk::new(Some(&[b"HTTP/1.1 200 OK\r\nX: ", &[b'y'; 900][..]].concat()));
        talk.far.a_byte_every_us = Some(100_000);
        assert!(talk.run(5_000_000).is_err());
        assert!((5_000_000..5_200_000).contains(&talk.now_us));
    }

    #[test]
    fn a_close_before_the_end_is_cut_short() {
        let mut talk = Talk::new(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"));
        assert_eq!(talk.run(5_000_000).unwrap_err().reason(), "HTTP response cut short");
    }

    #[test]
    fn a_closed_port_is_refused_at_once() {
        let mut talk = Talk::new(None);
        assert_eq!(talk.run(5_000_000).unwrap_err().errno(), Some(Errno::CONNREFUSED));
        assert!(talk.now_us < 100_000);
    }

    #[test]
    fn a_link_that_goes_away_is_an_error_of_the_kernel() {
        let mut talk = Talk::new(Some(HELLO));
        talk.wire.gone = true;
        assert_eq!(talk.run(5_000_000).unwrap_err().errno(), Some(Errno::NODEV));
    }

    /// The far end answers ARP for the hop only: whatever is sent to another card is lost.
    #[test]
    fn the_next_hop_is_used_wherever_it_is() {
        for (address, prefix, hop) in [
            ([10, 0, 0, 4], 24, [10, 0, 0, 1]),
            ([10, 128, 0, 2], 32, [10, 128, 0, 1]),
            ([172, 16, 0, 4], 32, [169, 254, 1, 1]),
            ([10, 0, 0, 4], 32, [192, 0, 2, 1]),
            ([10, 0, 0, 4], 24, IMDS),
            ([169, 254, 9, 9], 16, [169, 254, 0, 1]),
        ] {
            let mut talk = Talk::new(Some(HELLO));
            talk.far = Far::new(&[hop]);
            talk.far.answer = Some(HELLO.to_vec());
            (talk.lease.address, talk.lease.prefix) = (address, prefix);
            talk.lease.routes.iter_mut().for_each(|route| route.gateway = hop);
            assert_eq!(talk.run(2_000_000).unwrap().status, 200, "{address:?} {hop:?}");
        }
    }

    #[test]
    fn the_mtu_of_the_lease_is_told_to_the_server() {
        let mut talk = Talk::new(Some(HELLO));
        talk.mtu = 1400;
        talk.run(1_000_000).unwrap();
        assert!(talk.far.syn_mss == Some(1360), "{:?}", talk.far.syn_mss);
    }

    /// An option 121 that names such a gateway made smoltcp panic.
    #[test]
    fn a_gateway_that_is_no_host_panics_nothing() {
        for first in [10, 172, 192, 223] {
            let ours = [first, 0, 0, 4];
            let hops = [[224, 0, 0, 1], [239, 255, 255, 255], [255; 4], [127, 0, 0, 1], [240, 0, 0, 1], ours];
            for hop in hops {
                let mut talk = Talk::new(Some(HELLO));
                talk.lease.address = ours;
                talk.lease.routes.iter_mut().for_each(|route| route.gateway = hop);
                assert_eq!(talk.run(1000).unwrap_err().errno(), Some(Errno::NETUNREACH));
            }
            for hop in [[first, 0, 0, 255], [first, 0, 0, 0]] {
                let mut talk = Talk::new(Some(HELLO));
                talk.lease.address = ours;
                talk.lease.routes.iter_mut().for_each(|route| route.gateway = hop);
                assert!(talk.run(1_000_000).unwrap_err().is(crate::error::Kind::Deadline), "nobody is there");
            }
        }
    }

    /// A segment from `peer` with good checksums.
    fn segment(peer: Ipv4, ours: Ipv4, ports: (u16, u16), tcp: &TcpRepr<'_>) -> Vec<u8> {
        let tcp = TcpRepr { src_port: ports.0, dst_port: ports.1, ..*tcp };
        let mut frame = std::vec![0; 34 + tcp.buffer_len()];
        frame[..14].copy_from_slice(&[&lease().mac[..], &GATEWAY_MAC, &[8, 0]].concat());
        let ip = Ipv4Repr {
            src_addr: peer.into(),
            dst_addr: ours.into(),
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        ip.emit(&mut packet, &checksums);
        let (from, to) = (IpAddress::Ipv4(peer.into()), IpAddress::Ipv4(ours.into()));
        tcp.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &from, &to, &checksums);
        frame
    }

    const PLAIN: TcpRepr<'_> = TcpRepr {
        src_port: 80,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(0),
        ack_number: None,
        window_len: 100,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: b"",
    };

    /// Frames that nobody should answer: from neighbours that do not exist, to other ports, of other protocols.
    fn hostile() -> Vec<Vec<u8>> {
        let ours = lease().address;
        let mut frames = Vec::new();
        for n in 0..13 {
            let stranger = [10, 0, 0, 70 + n];
            frames.push(segment(stranger, ours, (80, PORT), &PLAIN));
            frames.push(segment(IMDS, ours, (81, PORT), &PLAIN));
            let mut udp = segment(stranger, ours, (67, 68), &PLAIN);
            udp[23] = 17;
            Ipv4Packet::new_unchecked(&mut udp[14..]).fill_checksum();
            frames.push(udp);
            let mut arp = std::vec![0; ARP_FRAME];
            arp[..22].copy_from_slice(&[
                255, 255, 255, 255, 255, 255, 2, 9, 9, 9, 9, n, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
            ]);
            arp[22..28].copy_from_slice(&[2, 9, 9, 9, 9, n]);
            arp[28..32].copy_from_slice(&stranger);
            arp[38..42].copy_from_slice(&ours);
            frames.push(arp.clone());
            arp[21] = 2; // an answer nobody asked for
            frames.push(arp);
        }
        frames
    }

    #[test]
    fn a_flood_from_neighbours_that_do_not_exist_does_not_hold_the_exchange_up() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.extend([b'x'; 20_000]);
        let mut talk = Talk::new(Some(&answer));
        talk.noise = hostile();
        talk.run(5_000_000).unwrap();
        assert!(talk.wire.sent < 50, "{} frames sent", talk.wire.sent);
        // A million while nothing else comes: no answer is tried, and our own questions go out.
        let mut talk = Talk::new(Some(HELLO));
        let noise = hostile();
        talk.wire.to_us = noise.iter().cycle().take(1_000_000).cloned().collect();
        talk.run(60_000_000).unwrap();
        assert!(talk.wire.sent < 50, "{} frames sent", talk.wire.sent);
    }

    proptest! {
        #[test]
        fn lost_frames_cost_time_and_nothing_else(lost in prop::collection::vec(1usize..12, 0..4)) {
            let mut talk = Talk::new(Some(HELLO));
            talk.wire.lost = lost;
            prop_assert_eq!(talk.run(60_000_000).unwrap().status, 200);
            prop_assert_eq!(&talk.body[..], &b"hello"[..]);
        }

        /// smoltcp#489, #1079: windows that shrink, segments outside of them, SACK that wraps, storms of RST.
        #[test]
        fn no_segments_of_an_open_connection_panic(segments in prop::collection::vec(
            (any::<i32>(), any::<Option<i32>>(), any::<u16>(), 0..6_u8, 0..200_usize, any::<[Option<(u32, u32)>; 3]>(), any::<bool>()), 0..20),
            seed: u64, is_near: bool)
        {
            let (mut rx, mut tx) = (std::vec![0; 65_600], std::vec![0; 1514]);
            let (mut a, mut b, mut head) = ([0; 4096], [0; 1024], [0; 256]);
            let mut room = [Room::EMPTY];
            let (mut neighbour, mut wire) = (Neighbour::default(), Wire::default());
            let mut lease = lease();
            lease.routes.clear();
            let path = lease.path(IMDS, PORT).unwrap();
            let _ = neighbour.ask(&path, 0);
            neighbour.learn(path.hop, GATEWAY_MAC);
            let mut device = Device::new(&mut wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
            let mut stack = Stack::connect(&mut room, (&mut a, &mut b), &mut device, seed, 0).unwrap();
            let mut response = Response::new(&mut head, 1000);
            let mut step = |wire: &mut Wire, us| {
                let mut device = Device::new(wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
                stack.step(us, &mut device, &REQUEST, &mut response, &mut |_| Ok(())).is_ok()
            };
            step(&mut wire, 0);
            let syn = wire.from_us.pop_front().unwrap();
            let ours = TcpPacket::new_unchecked(&syn[34..]).seq_number() + 1;
            let theirs = TcpSeqNumber(if is_near { i32::MAX } else { -3 });
            let accept = TcpRepr { seq_number: theirs, ack_number: Some(ours), window_len: 9000, sack_permitted: true, ..PLAIN };
            wire.to_us.push_back(segment(IMDS, path.ours, (80, PORT), &accept));
            step(&mut wire, 1000);
            let payload = [b'H'; 200];
            for (n, (seq, ack, window_len, control, length, sacks, is_close)) in segments.into_iter().enumerate() {
                let near = |base: TcpSeqNumber, by: i32| base + 1 + usize::try_from(by.rem_euclid(3000)).unwrap();
                let tcp = TcpRepr {
                    control: [TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst, TcpControl::None][usize::from(control)],
                    seq_number: if is_close { near(theirs, seq) } else { TcpSeqNumber(seq) },
                    ack_number: ack.map(|ack| if is_close { near(ours, ack) } else { TcpSeqNumber(ack) }),
                    window_len,
                    sack_ranges: if ack.is_some() { sacks } else { [None; 3] },
                    payload: if control < 2 { &payload[..length] } else { b"" },
                    ..PLAIN
                };
                wire.to_us.push_back(segment(IMDS, path.ours, (80, PORT), &tcp));
                if !step(&mut wire, 2000 + n as u64 * 400_000) {
                    break;
                }
            }
        }
    }
}
