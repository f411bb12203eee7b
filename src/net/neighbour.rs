//! What carries our packets over Ethernet, and which card on the link has the next hop's address?
//!
//! ARP (RFC 826) for one address. smoltcp's cache would ask once a second, for whoever sends us something, and let
//! eight strangers push the next hop out.

use super::lease::Ipv4;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;
/// Bytes of a frame with an ARP message for IPv4 in it.
pub const ARP_FRAME: usize = HEADER + 28;
/// All cards of a link.
pub const BROADCAST: Mac = [255; 6];
/// EtherType.
pub const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
/// Ethernet, IPv4, their lengths: the first bytes of an ARP message.
const ARP_START: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Between two questions: doubled from the first to the longest.
const FIRST_US: u64 = 100_000;
const LONGEST_US: u64 = 800_000;
/// Who asks for our address is answered this often at most: a flood of questions is not turned into one of answers.
const ANSWER_US: u64 = 100_000;

/// Destination, EtherType and payload of a frame.
#[must_use]
pub fn open(frame: &[u8]) -> Option<(Mac, [u8; 2], &[u8])> {
    let ([d0, d1, d2, d3, d4, d5, _, _, _, _, _, _, t0, t1], payload) =
        frame.split_first_chunk::<HEADER>()?;
    Some(([*d0, *d1, *d2, *d3, *d4, *d5], [*t0, *t1], payload))
}

/// Writes the header of a frame.
pub fn seal(frame: &mut [u8], to: Mac, from: Mac, ether_type: [u8; 2]) {
    let bytes = to.into_iter().chain(from).chain(ether_type);
    frame.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
}

/// An ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    is_answer: bool,
    /// Whose addresses these are.
    from: (Mac, Ipv4),
    /// Whom it is for.
    to: (Mac, Ipv4),
}

impl Arp {
    fn parse(message: &[u8]) -> Option<Self> {
        let rest = message.strip_prefix(&ARP_START)?;
        let (operation, rest) = rest.split_first_chunk()?;
        let (from_mac, rest) = rest.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to_mac, rest) = rest.split_first_chunk()?;
        let is_answer = match operation {
            [0, 1] => false,
            [0, 2] => true,
            _ => return None,
        };
        Some(Self { is_answer, from: (*from_mac, *from), to: (*to_mac, *rest.first_chunk()?) })
    }

    /// The frame around it.
    fn frame(&self) -> [u8; ARP_FRAME] {
        let mut frame = [0; ARP_FRAME];
        let to = if self.is_answer { self.to.0 } else { BROADCAST };
        seal(&mut frame, to, self.from.0, ARP);
        let operation = [0, 1 + u8::from(self.is_answer)];
        let ((from_mac, from), (to_mac, to)) = (self.from, self.to);
        let message =
            ARP_START.into_iter().chain(operation).chain(from_mac).chain(from).chain(to_mac).chain(to);
        frame.iter_mut().skip(HEADER).zip(message).for_each(|(place, byte)| *place = byte);
        frame
    }
}

/// The two ends of one TCP connection, and the hop between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Our card.
    pub mac: Mac,
    /// Our address.
    pub ours: Ipv4,
    /// Our port.
    pub port: u16,
    /// The server; its port is 80.
    pub peer: Ipv4,
    /// Where its packets go first: a gateway, or itself.
    pub hop: Ipv4,
}

/// What a frame means to one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning<'f> {
    /// Its packet is a segment of the connection.
    Segment(&'f [u8]),
    /// Somebody asks who has our address.
    Asked(Arp),
    /// The next hop says which card it is.
    Answered(Mac),
    /// Nothing. All else is dropped here: whatever smoltcp saw it would answer.
    Nothing,
}

impl Path {
    /// Weighs a frame. `is_intact`: the kernel vouches for the checksum of its segment.
    #[must_use]
    pub fn weigh<'f>(&self, frame: &'f [u8], is_intact: bool) -> Meaning<'f> {
        match open(frame) {
            Some((to, IPV4, packet)) if to == self.mac && self.is_segment(packet, is_intact) => {
                Meaning::Segment(packet)
            }
            Some((to, ARP, message)) if to == self.mac || to == BROADCAST => match Arp::parse(message) {
                Some(arp) if arp.to.1 != self.ours || arp.from.0[0] & 1 != 0 => Meaning::Nothing,
                Some(Arp { is_answer: true, from: (mac, from), .. }) if from == self.hop && mac != [0; 6] => {
                    Meaning::Answered(mac)
                }
                Some(arp) if !arp.is_answer && arp.from.1 != self.ours => Meaning::Asked(arp),
                _ => Meaning::Nothing,
            },
            _ => Meaning::Nothing,
        }
    }

    fn is_segment(&self, packet: &[u8], is_intact: bool) -> bool {
        let Ok(ip) = Ipv4Packet::new_checked(packet) else { return false };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return false };
        let ends = (ip.src_addr().octets(), ip.dst_addr().octets());
        let is_whole = !ip.more_frags() && ip.frag_offset() == 0 && u8::from(ip.next_header()) == 6;
        ip.version() == 4
            && is_whole
            && ends == (self.peer, self.ours)
            && (tcp.src_port(), tcp.dst_port()) == (80, self.port)
            && (is_intact || tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()))
    }
}

/// The next hop's card, once it is known. Kept from one connection to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Neighbour {
    known: Option<(Ipv4, Mac)>,
    tries: u32,
    next_us: u64,
    answered_us: Option<u64>,
}

impl Neighbour {
    /// The card to send to.
    #[must_use]
    pub fn of(&self, hop: Ipv4) -> Option<Mac> {
        self.known.filter(|(known, _)| *known == hop).map(|(_, mac)| mac)
    }

    /// When [`Self::ask`] has something to do next.
    #[must_use]
    pub const fn next_us(&self) -> u64 {
        self.next_us
    }

    /// It did not lead anywhere: it is asked for again.
    pub fn forget(&mut self) {
        *self = Self { answered_us: self.answered_us, ..Self::default() };
    }

    /// The question to send now, if one is due.
    pub fn ask(&mut self, path: &Path, now_us: u64) -> Option<[u8; ARP_FRAME]> {
        if now_us < self.next_us {
            return None;
        }
        let pause_us = FIRST_US.checked_shl(self.tries).unwrap_or(LONGEST_US).min(LONGEST_US);
        self.tries = self.tries.saturating_add(1);
        self.next_us = now_us.saturating_add(pause_us);
        let arp = Arp { is_answer: false, from: (path.mac, path.ours), to: ([0; 6], path.hop) };
        Some(arp.frame())
    }

    /// The answer to our question. Only one is taken: who comes later may be anybody.
    pub fn learn(&mut self, hop: Ipv4, mac: Mac) {
        if self.of(hop).is_none() && self.tries > 0 {
            self.known = Some((hop, mac));
            (self.tries, self.next_us) = (0, 0);
        }
    }

    /// The answer to somebody else's question.
    pub fn answer(&mut self, path: &Path, asked: Arp, now_us: u64) -> Option<[u8; ARP_FRAME]> {
        if self.answered_us.is_some_and(|at_us| now_us < at_us.saturating_add(ANSWER_US)) {
            return None;
        }
        self.answered_us = Some(now_us);
        Some(Arp { is_answer: true, from: (path.mac, path.ours), to: asked.from }.frame())
    }
}

#[cfg(test)]
mod tests {
    use super::{Arp, BROADCAST, IPV4, Meaning, Neighbour, Path, open, seal};
    use proptest::prelude::{any, prop};
    use proptest::proptest;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        ArpOperation, ArpPacket, ArpRepr, IpAddress, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
        TcpSeqNumber,
    };
    use std::vec::Vec;

    const PATH: Path = Path {
        mac: [2, 0, 0, 0, 0, 4],
        ours: [10, 0, 0, 4],
        port: 50_000,
        peer: [169, 254, 169, 254],
        hop: [10, 0, 0, 1],
    };
    const HOP: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// A segment of the connection, checksums and all.
    fn segment() -> Vec<u8> {
        let (from, to) = (IpAddress::Ipv4(PATH.peer.into()), IpAddress::Ipv4(PATH.ours.into()));
        let tcp = TcpRepr {
            src_port: 80,
            dst_port: PATH.port,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(1),
            ack_number: Some(TcpSeqNumber(1)),
            window_len: 100,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: b"hello",
        };
        let mut frame = std::vec![0; 14 + 20 + tcp.buffer_len()];
        seal(&mut frame, PATH.mac, HOP, IPV4);
        let ip = Ipv4Repr {
            src_addr: PATH.peer.into(),
            dst_addr: PATH.ours.into(),
            next_header: smoltcp::wire::IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
        ip.emit(&mut packet, &checksums);
        tcp.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &from, &to, &checksums);
        frame
    }

    #[test]
    fn nothing_but_our_own_connection_passes() {
        let good = segment();
        assert_eq!(PATH.weigh(&good, false), Meaning::Segment(&good[14..]));
        // Destination card, EtherType, version, fragment, protocol, source, destination, ports.
        for at in [0, 12, 13, 14, 20, 21, 23, 26, 30, 35, 37] {
            let mut frame = good.clone();
            frame[at] ^= 0x20;
            assert_eq!(PATH.weigh(&frame, true), Meaning::Nothing, "{at}");
        }
        for end in 0..good.len() {
            assert_eq!(PATH.weigh(&good[..end], true), Meaning::Nothing, "{end}");
        }
    }

    /// Damage that Ethernet did not see: it may be in the name of the machine, or in a key.
    #[test]
    fn a_flipped_bit_is_seen_unless_the_kernel_vouches_for_the_checksum() {
        for at in 34..segment().len() {
            let mut frame = segment();
            frame[at] ^= 0x10;
            assert_eq!(PATH.weigh(&frame, false), Meaning::Nothing, "{at}");
        }
        let mut frame = segment();
        *frame.last_mut().unwrap() ^= 1;
        assert!(matches!(PATH.weigh(&frame, true), Meaning::Segment(_)), "an offload fills it in later");
    }

    /// smoltcp 0.13.1: header lengths that lie.
    #[test]
    fn any_header_length_is_survived() {
        for at in [14, 46] {
            for value in 0..=255 {
                let mut frame = segment();
                frame[at] = value;
                for end in 0..=frame.len() {
                    let _ = PATH.weigh(&frame[..end], true);
                }
            }
        }
    }

    #[test]
    fn the_question_and_the_answer_are_those_of_rfc_826() {
        let mut neighbour = Neighbour::default();
        let question = neighbour.ask(&PATH, 5).unwrap();
        let (to, _, message) = open(&question).unwrap();
        let ArpRepr::EthernetIpv4 { operation, source_protocol_addr, target_protocol_addr, .. } =
            ArpRepr::parse(&ArpPacket::new_checked(message).unwrap()).unwrap()
        else {
            panic!()
        };
        assert_eq!((to, operation), (BROADCAST, ArpOperation::Request));
        assert_eq!((source_protocol_addr.octets(), target_protocol_addr.octets()), (PATH.ours, PATH.hop));

        let from_hop = Arp { is_answer: true, from: (HOP, PATH.hop), to: (PATH.mac, PATH.ours) };
        assert_eq!(PATH.weigh(&from_hop.frame(), false), Meaning::Answered(HOP));
        neighbour.learn(PATH.hop, HOP);
        neighbour.learn(PATH.hop, [2; 6]);
        assert_eq!(neighbour.of(PATH.hop), Some(HOP), "the first");
        assert_eq!(neighbour.of([10, 0, 0, 2]), None);
        for wrong in [
            Arp { from: (HOP, [10, 0, 0, 2]), ..from_hop },
            Arp { from: ([0; 6], PATH.hop), ..from_hop },
            Arp { from: (BROADCAST, PATH.hop), ..from_hop },
            Arp { to: (PATH.mac, [10, 0, 0, 5]), ..from_hop },
            Arp { is_answer: false, from: (PATH.mac, PATH.ours), ..from_hop },
        ] {
            assert_eq!(PATH.weigh(&wrong.frame(), false), Meaning::Nothing, "{wrong:?}");
        }
    }

    #[test]
    fn questions_come_fast_then_slower() {
        let mut neighbour = Neighbour::default();
        let mut at = Vec::new();
        for ms in 0..3000 {
            if neighbour.ask(&PATH, ms * 1000).is_some() {
                at.push(ms);
            }
        }
        assert_eq!(at, [0, 100, 300, 700, 1500, 2300]);
    }

    #[test]
    fn who_asks_for_our_address_is_answered_but_no_flood_is() {
        let asked = Arp { is_answer: false, from: (HOP, PATH.hop), to: ([0; 6], PATH.ours) };
        assert_eq!(PATH.weigh(&asked.frame(), false), Meaning::Asked(asked));
        let mut neighbour = Neighbour::default();
        let answer = neighbour.answer(&PATH, asked, 0).unwrap();
        assert_eq!(answer[..6], HOP);
        assert_eq!(answer[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
        let answers = (1..1_000_000).filter(|us| neighbour.answer(&PATH, asked, *us).is_some()).count();
        assert_eq!(answers, 9);
    }

    proptest! {
        #[test]
        fn no_frame_panics(mut frame in prop::collection::vec(any::<u8>(), 0..100), is_arp: bool) {
            if let Some(header) = frame.first_chunk_mut::<14>() {
                seal(header, PATH.mac, HOP, if is_arp { [8, 6] } else { IPV4 });
            }
            let _ = PATH.weigh(&frame, true);
            let _ = PATH.weigh(&frame, false);
        }
    }
}
