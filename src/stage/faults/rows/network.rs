//! Networks: no carrier, no lease, no answer, or a wrong one.

use super::{Plant, Rows, machine, no_medium};
use crate::stage::faults::cloud::Mangle;
use crate::stage::faults::{Blocked, Expect};
use std::vec::Vec;

fn is_arp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6]
}
fn is_dhcp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 17
}
fn is_tcp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 6
}

/// Without a lease, each twice: beside a good medium, and alone.
pub(super) fn network(rows: &mut Rows) {
    let mangled: [(&str, Mangle); 12] = [
        ("DHCP: silence", |_, frame| if is_dhcp(&frame) { Vec::new() } else { std::vec![frame] }),
        ("DHCP: refused", |_, mut frame| {
            if is_dhcp(&frame) {
                frame[42 + 242] = 6;
            }
            std::vec![frame]
        }),
        ("DHCP: of another transaction", |_, mut frame| {
            if is_dhcp(&frame) {
                frame[46] ^= 1;
            }
            std::vec![frame]
        }),
        ("DHCP: for another card", |_, mut frame| {
            if is_dhcp(&frame) {
                frame[42 + 28 + 5] ^= 1;
            }
            std::vec![frame]
        }),
        ("DHCP: cut short", |_, mut frame| {
            if is_dhcp(&frame) {
                frame.truncate(42 + 240);
            }
            std::vec![frame]
        }),
        ("DHCP: without its cookie", |_, mut frame| {
            if is_dhcp(&frame) {
                frame[42 + 236] = 0;
            }
            std::vec![frame]
        }),
        ("DHCP: options that lie about their length", |_, mut frame| {
            if is_dhcp(&frame) {
                frame[42 + 244] = 200;
            }
            std::vec![frame]
        }),
        ("ARP: silence", |_, frame| if is_arp(&frame) { Vec::new() } else { std::vec![frame] }),
        ("ARP: of somebody else", |_, mut frame| {
            if is_arp(&frame) {
                frame[28..32].copy_from_slice(&[10, 0, 0, 99]);
            }
            std::vec![frame]
        }),
        ("TCP: silence", |_, frame| if is_tcp(&frame) { Vec::new() } else { std::vec![frame] }),
        ("TCP: nothing but the first answer", |_, frame| {
            let is_data = is_tcp(&frame) && frame[14 + 20 + 13] & 2 == 0;
            if is_data { Vec::new() } else { std::vec![frame] }
        }),
        ("TCP: cut short", |_, mut frame| {
            if is_tcp(&frame) {
                frame.truncate(40);
            }
            std::vec![frame]
        }),
    ];
    for (name, mangle) in mangled {
        let reason = match name.split(':').next() {
            Some("DHCP") => "failure to obtain DHCP lease",
            _ if name.contains("first answer") => "read timeout querying IMDS",
            _ => "connection timeout querying IMDS",
        };
        // The wireserver takes the report, and its answer is lost.
        let blocked = Blocked { answers: name == "TCP: nothing but the first answer", ..Blocked::default() };
        rows.add(name, Expect::Warned(reason.into()), Some("fetch: "), move |sim| {
            sim.cloud.mangle = Some(mangle)
        });
        rows.blocked(blocked);
        rows.add(
            format!("{name}, no medium"),
            Expect::Waited(reason.into()),
            Some("not provisioned"),
            move |sim| {
                sim.cloud.mangle = Some(mangle);
                no_medium(sim);
            },
        );
        rows.blocked(blocked);
    }
    let harmless: [(&str, Mangle); 3] = [
        (
            "frames: each seventh is lost",
            |n, frame| if n.is_multiple_of(7) { Vec::new() } else { std::vec![frame] },
        ),
        ("frames: each twice", |_, frame| std::vec![frame.clone(), frame]),
        ("frames: noise between", |_, frame| std::vec![std::vec![0xff; 60], frame, std::vec![0; 14]]),
    ];
    for (name, mangle) in harmless {
        rows.add(name, Expect::Ready, None, move |sim| sim.cloud.mangle = Some(mangle));
    }
    let links: [(&str, Plant); 3] = [
        ("card: none", |sim| machine::take(&mut sim.world.host, "sys/class/net/eth0")),
        ("card: no answer from it", |sim| sim.cloud.is_silent = true),
        ("card: gone", |sim| sim.cloud.card = None),
    ];
    for (name, plant) in links {
        let reason = if name == "card: none" { "find DHCP interface" } else { "obtain DHCP lease" };
        let reason = format!("failure to {reason}");
        // What has no carrier is waited for longer than `persist` waits.
        let (expect, said) = match name {
            "card: gone" => (Expect::Ready, "fetch has not ended after"),
            _ => (Expect::Warned(reason.clone()), "fetch: "),
        };
        rows.add(name, expect, Some(said), plant);
        rows.add(format!("{name}, no medium"), Expect::Waited(reason), Some("not provisioned"), move |sim| {
            plant(sim);
            no_medium(sim);
        });
    }
}
