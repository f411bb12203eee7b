//! The client against servers, time and whoever else is on the link.

use super::{Client, IMDS, Lease, Route, message};
use crate::facts::Hostname;
use crate::format::dhcp::tests::{AZURE, MAC, azure, foreign, plain, stack_hub};
use proptest::prelude::{any, prop};
use proptest::{prop_assert, proptest};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr,
    UdpPacket,
};
use std::format;
use std::string::String;
use std::vec::Vec;

const S: u64 = 1_000_000;

/// A server's frame around `message`.
pub(crate) fn served(message: &[u8], destination: [u8; 6]) -> Vec<u8> {
    let mut bytes = std::vec![0; 42 + message.len()];
    bytes[42..].copy_from_slice(message);
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.set_dst_addr(EthernetAddress(destination));
    ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    let repr = Ipv4Repr {
        src_addr: Ipv4Address::from(AZURE),
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: 8 + message.len(),
        hop_limit: 64,
    };
    repr.emit(&mut ip, &ChecksumCapabilities::default());
    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    udp.set_src_port(67);
    udp.set_dst_port(68);
    udp.set_len(u16::try_from(8 + message.len()).unwrap());
    bytes
}

/// What a client's frame says, in one line.
pub(crate) fn said(frame: &[u8]) -> String {
    let message = &frame[42..];
    let kind = match message[242] {
        1 => "DISCOVER",
        3 => "REQUEST",
        _ => "?",
    };
    let broadcast = if message[10] & 0x80 == 0 { "unicast" } else { "broadcast" };
    format!("{kind} {broadcast}")
}

/// A conversation, written down as it happens.
struct Diagram {
    client: Client,
    now_us: u64,
    lines: Vec<String>,
    lease: Option<Lease>,
}

impl Diagram {
    fn new() -> Self {
        let name = Hostname::parse("edge-vm-01.example").unwrap();
        let client = Client::new(MAC, Some(&name), 42, 0);
        Self { client, now_us: 0, lines: Vec::new(), lease: None }
    }

    /// Lets time pass; what the client sends is written down with its time to half a second.
    fn until(&mut self, us: u64) -> &mut Self {
        let mut out = [0; 1514];
        while self.now_us <= us {
            if let Some(length) = self.client.next_frame(self.now_us, &mut out).unwrap() {
                let line = said(&out[..length]);
                self.lines.push(format!("{}.{} {line} ->", self.now_us / S, self.now_us % S / 500_000 * 5));
            }
            let next = self.client.next_deadline_us();
            assert!(next > self.now_us, "it would spin");
            if next > us {
                break;
            }
            self.now_us = next;
        }
        self.now_us = us;
        self
    }

    fn server(&mut self, name: &str, message: &dyn Fn(u32) -> Vec<u8>) -> &mut Self {
        let frame = served(&message(self.client.transaction), MAC);
        self.lines.push(format!("<- {name}"));
        self.client.on_frame(&frame, true, self.now_us).unwrap();
        if let (None, Some(lease)) = (&self.lease, self.client.lease()) {
            self.lines.push(format!("lease of {:?}", lease.server));
            self.lease = Some(lease.clone());
        }
        self
    }
}

#[test]
fn an_azure_lease_takes_four_messages() {
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| azure(2, x)).until(2).server("ACK", &|x| azure(5, x));
    assert_eq!(
        talk.lines,
        [
            "0.0 DISCOVER unicast ->",
            "<- OFFER",
            "0.0 REQUEST broadcast ->",
            "<- ACK",
            "lease of [168, 63, 129, 16]"
        ]
    );
    assert!(talk.lease.as_ref().unwrap().is_primary());
    assert_eq!(talk.lease.as_ref().unwrap().lease_s, None, "for ever");
}

#[test]
fn silence_is_answered_slower_and_slower() {
    let mut talk = Diagram::new();
    talk.until(16 * S);
    let kinds: Vec<&str> = talk.lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        kinds[..5],
        [
            "DISCOVER unicast ->",
            "DISCOVER broadcast ->",
            "DISCOVER unicast ->",
            "DISCOVER broadcast ->",
            "DISCOVER unicast ->"
        ]
    );
    assert!((16..=19).contains(&kinds.len()), "0, 0.25, 0.75, 1.75, 2.75 ...: {:?}", talk.lines);
}

#[test]
fn a_server_that_goes_silent_after_its_offer_is_left() {
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| azure(2, x)).until(4 * S);
    let kinds: Vec<&str> = talk.lines.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        kinds,
        ["DISCOVER", "OFFER", "REQUEST", "REQUEST", "REQUEST", "REQUEST", "DISCOVER", "DISCOVER", "DISCOVER"]
    );
}

#[test]
fn a_refusal_starts_anew_but_not_at_once() {
    let nak = |x: u32| {
        let mut message = plain(6, x, AZURE);
        message[16..20].fill(0);
        message
    };
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| azure(2, x)).until(2).server("NAK", &nak).until(S / 4);
    assert_eq!(talk.lines.last().unwrap(), "<- NAK");
    talk.until(S).server("OFFER", &|x| azure(2, x)).until(S + 1).server("ACK", &|x| azure(5, x));
    assert!(talk.lease.is_some(), "{:?}", talk.lines);
}

#[test]
fn an_offer_that_reaches_azure_wins_over_one_that_came_first() {
    let other = [10, 0, 0, 2];
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER of another", &|x| plain(2, x, other));
    talk.until(50_000).server("OFFER", &|x| azure(2, x)).until(50_001);
    talk.server("ACK of another", &|x| plain(5, x, other));
    assert!(talk.lease.is_none(), "its offer was not taken");
    talk.server("ACK", &|x| azure(5, x));
    assert_eq!(talk.lease.as_ref().unwrap().server, AZURE);
}

/// WALinuxAgent#1159, #680.
#[test]
fn a_wireserver_that_is_not_azures_is_refused_unless_it_is_to_be_believed() {
    for believes in [false, true] {
        let mut talk = Diagram::new();
        if believes {
            talk.client.believe();
        }
        talk.until(1).server("OFFER", &|x| foreign(2, x)).until(2).server("ACK", &|x| foreign(5, x));
        let lease = talk.lease.unwrap();
        let other = [10, 0, 0, 66];
        assert_eq!(lease.wireserver, believes.then_some(other));
        assert_eq!(lease.routes.iter().any(|route| route.network == other), believes);
        assert_eq!(talk.client.refused(), (!believes).then_some(other));
        assert!(lease.is_primary() && lease.has_imds());
    }
}

#[test]
fn a_lease_tells_whether_there_is_an_imds() {
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| stack_hub(2, x)).until(2).server("ACK", &|x| stack_hub(5, x));
    let lease = talk.lease.unwrap();
    assert!(lease.is_primary() && !lease.has_imds());
    assert_eq!((lease.wireserver, talk.client.refused()), (Some(AZURE), None));
}

#[test]
fn a_better_offer_that_comes_late_is_still_taken() {
    let other = [10, 0, 0, 2];
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER of another", &|x| plain(2, x, other)).until(150_000);
    assert_eq!(talk.lines.last().unwrap(), "0.0 REQUEST broadcast ->");
    talk.server("OFFER", &|x| azure(2, x)).until(150_001);
    talk.server("ACK of another", &|x| plain(5, x, other));
    assert!(talk.lease.is_none(), "its offer was left");
    talk.server("OFFER of another", &|x| plain(2, x, other)).server("ACK", &|x| azure(5, x));
    assert_eq!(talk.lease.as_ref().unwrap().server, AZURE);
}

#[test]
fn a_request_says_the_same_seconds_as_its_discover() {
    let mut talk = Diagram::new();
    let mut out = [0; 1514];
    talk.until(4 * S).server("OFFER", &|x| azure(2, x));
    talk.client.next_frame(4 * S, &mut out).unwrap().unwrap();
    let first = out[42 + 8..42 + 10].to_vec();
    assert_ne!(first, [0, 0]);
    talk.client.next_frame(7 * S, &mut out).unwrap().unwrap();
    assert_eq!(out[42 + 8..42 + 10], first);
}

#[test]
fn the_end_of_a_lease_is_known() {
    let ack = |x| {
        let mut bytes = azure(5, x);
        let at = bytes.windows(6).position(|w| w == [51, 4, 255, 255, 255, 255]).unwrap();
        bytes[at + 2..at + 6].copy_from_slice(&60_u32.to_be_bytes());
        bytes
    };
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| azure(2, x)).until(S).server("ACK", &ack);
    assert_eq!(talk.lease.unwrap().until_s, Some(61));
}

/// CVE-2020-13529, and what other servers, clients and relays say.
#[test]
fn a_forcerenew_is_passed_over() {
    let mut talk = Diagram::new();
    talk.until(1);
    for kind in [1, 3, 4, 7, 8, 9] {
        talk.server("other", &|x| azure(kind, x));
    }
    talk.server("OFFER", &|x| azure(2, x)).until(2).server("FORCERENEW", &|x| azure(9, x));
    assert!(talk.server("ACK", &|x| azure(5, x)).lease.is_some());
}

#[test]
fn the_only_offer_is_taken_after_a_moment() {
    let other = [10, 0, 0, 2];
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| plain(2, x, other)).until(99_999);
    assert_eq!(talk.lines.len(), 2);
    talk.until(200_000).server("ACK", &|x| plain(5, x, other));
    assert!(!talk.lease.as_ref().unwrap().is_primary());
}

#[test]
fn what_is_not_for_us_changes_nothing() {
    let mut talk = Diagram::new();
    talk.until(1);
    let transaction = talk.client.transaction;
    let offer = azure(2, transaction);
    let good = served(&offer, MAC);
    let mut frames = std::vec![
        served(&azure(2, transaction ^ 1), MAC),
        served(&offer, [2; 6]),
        served(&azure(5, transaction), MAC), // an ACK nobody asked for
    ];
    // Destination port, source port, IP checksum, protocol, EtherType, more fragments, chaddr.
    for at in [37, 35, 24, 23, 12, 20, 42 + 28] {
        let mut frame = good.clone();
        frame[at] ^= 0x20;
        frames.push(frame);
    }
    for frame in frames {
        assert_eq!(talk.client.on_frame(&frame, true, 2), Ok(()));
        assert_eq!(talk.client.next_frame(2, &mut [0; 1514]), Ok(None));
    }
    assert_eq!(talk.client.on_frame(&good, true, 2), Ok(()));
    assert!(talk.client.next_frame(2, &mut [0; 1514]).unwrap().is_some(), "the REQUEST");
}

/// smoltcp 0.13.1, and the last bytes of a message.
#[test]
fn an_answer_cut_anywhere_or_with_any_header_length_is_survived() {
    for end in 0..served(&azure(2, 0), MAC).len() {
        let mut talk = Diagram::new();
        talk.until(1);
        let _ = talk.client.on_frame(&served(&azure(2, talk.client.transaction), MAC)[..end], true, 2);
    }
    for at in [14, 38, 39] {
        for value in 0..=255 {
            let mut talk = Diagram::new();
            talk.until(1);
            let mut frame = served(&azure(2, talk.client.transaction), MAC);
            frame[at] = value;
            Ipv4Packet::new_unchecked(&mut frame[14..]).set_checksum(0);
            if value & 15 == 5 {
                Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
            }
            let _ = talk.client.on_frame(&frame, false, 2);
        }
    }
}

#[test]
fn a_flipped_bit_is_seen_unless_the_kernel_vouches_for_the_checksum() {
    let mut talk = Diagram::new();
    talk.until(1);
    let mut frame = served(&azure(2, talk.client.transaction), MAC);
    let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
    let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
    UdpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&from, &to);
    assert!(message(&frame, MAC, false).is_some());
    frame[60] ^= 1;
    assert!(message(&frame, MAC, false).is_none() && message(&frame, MAC, true).is_some());
}

#[test]
fn a_query_is_a_valid_frame_with_the_short_host_name() {
    let mut out = [0; 1514];
    let name = Hostname::parse("edge-vm-01.example").unwrap();
    let length = Client::new(MAC, Some(&name), 7, 0).next_frame(0, &mut out).unwrap().unwrap();
    let mut frame = out[..length].to_vec();
    let text = String::from_utf8_lossy(&frame).into_owned();
    assert!(text.contains("\u{c}\u{a}edge-vm-01") && !text.contains("example"));
    let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    assert!(ip.verify_checksum());
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    // Turned around, it is what the client itself would read.
    frame.swap(35, 37);
    assert!(message(&frame, MAC, false).is_some());
}

#[test]
fn the_next_hop_is_the_most_specific_route() {
    let mut talk = Diagram::new();
    talk.until(1).server("OFFER", &|x| azure(2, x)).until(2).server("ACK", &|x| azure(5, x));
    let mut lease = talk.lease.unwrap();
    assert_eq!(lease.next_hop(IMDS), [10, 0, 0, 1]);
    assert_eq!(lease.next_hop([10, 0, 0, 9]), [10, 0, 0, 9]);
    lease.routes.push(Route { network: [169, 254, 0, 0], prefix: 16, gateway: [10, 0, 0, 7] }).unwrap();
    assert_eq!(lease.next_hop(IMDS), [10, 0, 0, 1], "a host route beats a network");
    lease.routes.retain(|route| route.prefix == 16);
    assert_eq!(lease.next_hop([169, 254, 1, 1]), [10, 0, 0, 7]);
    lease.routes[0].gateway = [0; 4];
    assert_eq!(lease.next_hop(IMDS), IMDS, "on the link");
    assert_eq!(lease.next_hop([8, 8, 8, 8]), [8, 8, 8, 8], "option 121 hides option 3");
    lease.router = Some([10, 0, 0, 1]);
    assert_eq!(lease.next_hop([8, 8, 8, 8]), [10, 0, 0, 1]);
    (lease.address, lease.prefix) = ([169, 254, 9, 9], 16);
    lease.routes[0] = Route { network: IMDS, prefix: 32, gateway: [169, 254, 0, 1] };
    assert_eq!(lease.next_hop(IMDS), [169, 254, 0, 1], "and our own network");
}

proptest! {
    #[test]
    fn no_frame_panics(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..4)) {
        let mut client = Client::new(MAC, None, 1, 0);
        for frame in &frames {
            let _ = client.on_frame(frame, true, 5);
        }
    }

    #[test]
    fn no_damaged_answer_panics_or_spins(damage in prop::collection::vec((42usize..400, any::<u8>()), 0..6), seed: u64) {
        let mut client = Client::new(MAC, None, seed, 0);
        let mut out = [0; 1514];
        let mut now = 0;
        for kind in [2, 5, 6, 2, 5] {
            let mut frame = served(&azure(kind, client.transaction), MAC);
            for (at, byte) in &damage {
                if let Some(place) = frame.get_mut(*at) {
                    *place = *byte;
                }
            }
            let _ = client.on_frame(&frame, true, now);
            let _ = client.next_frame(now, &mut out);
            if client.lease().is_some() {
                break;
            }
            prop_assert!(client.next_deadline_us() > now);
            now = client.next_deadline_us();
        }
    }
}
