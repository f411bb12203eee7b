//! The far end of a wire in memory: a gateway with ARP of its own, and behind it a server for every address.

use crate::format::dhcp::Ipv4;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr, TcpPacket};
use std::boxed::Box;
use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec::Vec;

/// The gateway's card.
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Its repeats come as fast as Linux's, not as smoltcp's.
const FASTER: u64 = 4;

/// One connection at a time is enough, but a lost RST leaves the one before behind.
const CONNECTIONS: usize = 8;

struct Connection {
    socket: SocketHandle,
    asked: Vec<u8>,
    pending: VecDeque<u8>,
    is_answered: bool,
    /// The answer began with `~`: nothing more comes, and no end either.
    is_endless: bool,
    next_us: u64,
}

/// A request with all of its body.
pub(crate) fn is_whole(asked: &[u8]) -> bool {
    let text = core::str::from_utf8(asked).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

pub(crate) struct Far {
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    hop: Ipv4,
    /// Frames for it.
    pub(crate) inbox: VecDeque<Vec<u8>>,
    /// Frames from it.
    pub(crate) outbox: VecDeque<Vec<u8>>,
    /// What every request gets; `None`: nobody listens.
    pub(crate) answer: Option<Vec<u8>>,
    /// Between a request and its answer.
    pub(crate) delay_us: u64,
    /// The answer comes in drops.
    pub(crate) a_byte_every_us: Option<u64>,
    /// The last request.
    pub(crate) asked: String,
    /// Maximum segment size in the last SYN.
    pub(crate) syn_mss: Option<u16>,
}

/// The far end's link: two queues.
struct Queues<'q>(&'q mut VecDeque<Vec<u8>>, &'q mut VecDeque<Vec<u8>>);

struct Token<'q>(&'q mut VecDeque<Vec<u8>>);

struct Came(Vec<u8>);

impl phy::RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Token<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = std::vec![0; length];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Queues<'_> {
    type RxToken<'a>
        = Came
    where
        Self: 'a;
    type TxToken<'a>
        = Token<'a>
    where
        Self: 'a;
    fn receive(&mut self, _: Instant) -> Option<(Came, Token<'_>)> {
        Some((Came(self.0.pop_front()?), Token(self.1)))
    }
    fn transmit(&mut self, _: Instant) -> Option<Token<'_>> {
        Some(Token(self.1))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities.checksum.tcp = Checksum::Both;
        capabilities
    }
}

impl Far {
    /// It answers ARP for `hops` (one), and takes packets for any address.
    pub(crate) fn new(hops: &[Ipv4; 1]) -> Self {
        let (mut a, mut b) = (VecDeque::new(), VecDeque::new());
        let config = Config::new(EthernetAddress(GATEWAY_MAC).into());
        let mut interface = Interface::new(config, &mut Queues(&mut a, &mut b), Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // All the world is on its link: it finds us wherever we are.
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(hops[0].into(), 0))).unwrap();
        });
        interface.set_any_ip(true);
        for hop in hops {
            interface.routes_mut().add_default_ipv4_route((*hop).into()).unwrap();
        }
        let buffer = |size| SocketBuffer::new(Box::leak(std::vec![0; size].into_boxed_slice()));
        let storage: Vec<SocketStorage<'static>> = (0..CONNECTIONS).map(|_| SocketStorage::EMPTY).collect();
        let mut sockets = SocketSet::new(Box::leak(storage.into_boxed_slice()));
        let connections = (0..CONNECTIONS)
            .map(|_| Connection {
                socket: sockets.add(Socket::new(buffer(2048), buffer(8192))),
                asked: Vec::new(),
                pending: VecDeque::new(),
                is_answered: false,
                is_endless: false,
                next_us: 0,
            })
            .collect();
        Self {
            interface,
            sockets,
            connections,
            hop: hops[0],
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            answer: None,
            delay_us: 0,
            a_byte_every_us: None,
            asked: String::new(),
            syn_mss: None,
        }
    }

    /// Handles what came, every request with the one answer.
    pub(crate) fn poll(&mut self, now_us: u64) {
        let answer = self.answer.clone();
        self.poll_with(now_us, &mut |_| answer.clone().unwrap_or_default());
    }

    /// Handles what came; `answer` says what a path gets.
    pub(crate) fn poll_with(&mut self, now_us: u64, answer: &mut dyn FnMut(&str) -> Vec<u8>) {
        let now = Instant::from_micros(i64::try_from(now_us * FASTER).unwrap());
        // Having any address it would say so of any.
        let hop = self.hop;
        self.inbox.retain(|frame| frame[12..14] != [8, 6] || frame[20..22] != [0, 1] || frame[38..42] == hop);
        for frame in &self.inbox {
            if frame.len() > 54 && frame[12..14] == [8, 0] && frame[23] == 6 {
                let tcp = TcpPacket::new_unchecked(&frame[34..]);
                if tcp.syn() && tcp.header_len() > 20 && tcp.options()[0] == 2 {
                    self.syn_mss = Some(u16::from_be_bytes([tcp.options()[2], tcp.options()[3]]));
                }
            }
        }
        for _ in 0..2 {
            let mut device = Queues(&mut self.inbox, &mut self.outbox);
            let listens = self.answer.is_some();
            for connection in &mut self.connections {
                let socket = self.sockets.get_mut::<Socket<'_>>(connection.socket);
                if matches!(socket.state(), State::Closed | State::TimeWait) && listens {
                    socket.abort();
                    socket.listen(80).unwrap();
                    (connection.asked, connection.is_answered) = (Vec::new(), false);
                    connection.pending.clear();
                }
            }
            self.interface.poll(now, &mut device, &mut self.sockets);
            for connection in &mut self.connections {
                let socket = self.sockets.get_mut::<Socket<'_>>(connection.socket);
                if socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), connection.asked.extend_from_slice(bytes))).unwrap();
                }
                if is_whole(&connection.asked) && !connection.is_answered {
                    self.asked = String::from_utf8(connection.asked.clone()).unwrap();
                    let path = self.asked.split(' ').nth(1).unwrap().to_string();
                    let answer = answer(&path);
                    let (start, is_endless) =
                        answer.strip_prefix(b"~").map_or((&answer[..], false), |b| (b, true));
                    connection.pending.extend(start);
                    connection.is_endless = is_endless;
                    connection.is_answered = true;
                    connection.next_us = now_us + self.delay_us;
                }
                if connection.is_answered && now_us >= connection.next_us && socket.may_send() {
                    let most = if self.a_byte_every_us.is_some() { 1 } else { usize::MAX };
                    connection.next_us = now_us + self.a_byte_every_us.unwrap_or_default();
                    let bytes: Vec<u8> = connection.pending.iter().copied().take(most).collect();
                    let sent = socket.send_slice(&bytes).unwrap();
                    connection.pending.drain(..sent);
                    if connection.pending.is_empty() && !connection.is_endless {
                        socket.close();
                    }
                }
            }
            self.interface.poll(now, &mut device, &mut self.sockets);
        }
    }

    /// When it has something to do by itself.
    pub(crate) fn next_us(&mut self, now_us: u64) -> u64 {
        let now = Instant::from_micros(i64::try_from(now_us * FASTER).unwrap());
        let next = self.interface.poll_at(now, &self.sockets);
        let next = next.map_or(u64::MAX, |next| u64::try_from(next.total_micros()).unwrap() / FASTER);
        let waiting = self.connections.iter().filter(|c| c.is_answered && !c.pending.is_empty());
        waiting.map(|c| c.next_us.max(now_us + 1)).min().unwrap_or(u64::MAX).min(next)
    }
}
