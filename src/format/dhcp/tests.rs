//! Messages of real servers and of bad ones, and what is made of them.

use super::{
    CLASSLESS_ROUTES, COOKIE, DNS, END, HOST_NAME, IMDS, Ipv4, LEASE_TIME, Lease, MESSAGE_TYPE,
    MICROSOFT_ROUTES, MTU, OVERLOAD, PAD, Query, ROUTER, Reply, Route, SERVER_ID, SUBNET_MASK,
    WIRESERVER_ADDRESS,
};
use crate::error::Kind;
use proptest::prelude::{any, prop};
use proptest::{prop_assert_eq, proptest};
use std::vec::Vec;

pub(crate) const MAC: [u8; 6] = [0x00, 0x0d, 0x3a, 0x12, 0x34, 0x56];
pub(crate) const AZURE: Ipv4 = [168, 63, 129, 16];
/// Option 121 of a real Azure lease (cloud-init PR 4560): default, wireserver and IMDS via the gateway.
const ROUTES_121: [u8; 23] =
    [0, 10, 0, 0, 1, 32, 168, 63, 129, 16, 10, 0, 0, 1, 32, 169, 254, 169, 254, 10, 0, 0, 1];

/// A server's message with these options, in this order.
pub(crate) fn message(transaction: u32, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = std::vec![0; 236];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&transaction.to_be_bytes());
    bytes[16..20].copy_from_slice(&[10, 0, 0, 4]);
    bytes[28..34].copy_from_slice(&MAC);
    bytes.extend(COOKIE);
    for (code, value) in options {
        bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
        bytes.extend(*value);
    }
    bytes.push(END);
    bytes
}

/// Offer (2) or acknowledgement (5) as Azure sends it to the primary interface.
pub(crate) fn azure(kind: u8, transaction: u32) -> Vec<u8> {
    message(
        transaction,
        &[
            (MESSAGE_TYPE, &[kind]),
            (SERVER_ID, &AZURE),
            (LEASE_TIME, &[255; 4]),
            (58, &[255; 4]),
            (SUBNET_MASK, &[255, 255, 255, 0]),
            (ROUTER, &[10, 0, 0, 1]),
            (DNS, &AZURE),
            (15, b"abcdefghijklmnopqrstuvwxyz.internal.cloudapp.net"),
            (CLASSLESS_ROUTES, &ROUTES_121),
            (WIRESERVER_ADDRESS, &AZURE),
        ],
    )
}

/// The same with these routes of option 121 and this option 245.
fn azure_but(kind: u8, transaction: u32, routes: &[u8], wireserver: &[u8]) -> Vec<u8> {
    let options: [(u8, &[u8]); 6] = [
        (MESSAGE_TYPE, &[kind]),
        (SERVER_ID, &AZURE),
        (SUBNET_MASK, &[255, 255, 255, 0]),
        (ROUTER, &[10, 0, 0, 1]),
        (CLASSLESS_ROUTES, routes),
        (WIRESERVER_ADDRESS, wireserver),
    ];
    message(transaction, &options)
}

/// From an Azure Stack Hub without IMDS: no route to it.
pub(crate) fn stack_hub(kind: u8, transaction: u32) -> Vec<u8> {
    azure_but(kind, transaction, &ROUTES_121[..14], &AZURE)
}

/// From somebody who names another wireserver, and a route to it.
pub(crate) fn foreign(kind: u8, transaction: u32) -> Vec<u8> {
    let routes = [&ROUTES_121[..], &[32, 10, 0, 0, 66, 10, 0, 0, 1]].concat();
    azure_but(kind, transaction, &routes, &[10, 0, 0, 66])
}

/// The same for an interface that is not primary: no 121, no 245, another server.
pub(crate) fn plain(kind: u8, transaction: u32, server: Ipv4) -> Vec<u8> {
    let options: [(u8, &[u8]); 4] = [
        (MESSAGE_TYPE, &[kind]),
        (SERVER_ID, &server),
        (SUBNET_MASK, &[255, 255, 255, 0]),
        (ROUTER, &[10, 0, 0, 1]),
    ];
    message(transaction, &options)
}

#[test]
fn an_azure_lease_is_understood() {
    let reply = Reply::parse(&azure(5, 7)).unwrap();
    let lease = reply.lease.unwrap();
    assert_eq!((reply.kind, reply.transaction, reply.server), (super::Kind::Ack, 7, AZURE));
    assert_eq!((lease.address, lease.prefix, lease.router), ([10, 0, 0, 4], 24, None), "121 hides 3");
    assert_eq!((lease.wireserver, lease.lease_s, lease.mtu), (Some(AZURE), None, None));
    assert_eq!(&lease.dns[..], &[AZURE]);
    let gateway = [10, 0, 0, 1];
    assert_eq!(
        &lease.routes[..],
        &[Route { network: IMDS, prefix: 32, gateway }, Route { network: AZURE, prefix: 32, gateway },]
    );
}

#[test]
fn option_249_stands_in_for_121() {
    let base: [(u8, &[u8]); 3] =
        [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE), (SUBNET_MASK, &[255, 255, 0, 0])];
    let only_249 = [&base[..], &[(MICROSOFT_ROUTES, &ROUTES_121[..])]].concat();
    assert_eq!(Reply::parse(&message(1, &only_249)).unwrap().lease.unwrap().routes.len(), 2);
    let both = [&only_249[..], &[(CLASSLESS_ROUTES, &[0, 10, 0, 0, 9][..])]].concat();
    assert_eq!(Reply::parse(&message(1, &both)).unwrap().lease.unwrap().routes.len(), 1);
}

#[test]
fn split_options_are_joined_in_the_order_of_rfc_3396() {
    let mut bytes = message(
        1,
        &[
            (CLASSLESS_ROUTES, &ROUTES_121[..7]),
            (MESSAGE_TYPE, &[2]),
            (PAD, &[]), // its length byte is another pad
            (OVERLOAD, &[3]),
            (SERVER_ID, &AZURE),
            (SUBNET_MASK, &[255; 4]),
            (CLASSLESS_ROUTES, &ROUTES_121[7..12]),
        ],
    );
    let file = [&[CLASSLESS_ROUTES, 6], &ROUTES_121[12..18], &[END]].concat();
    bytes[108..108 + file.len()].copy_from_slice(&file);
    let sname = [&[CLASSLESS_ROUTES, 5], &ROUTES_121[18..]].concat();
    bytes[44..44 + sname.len()].copy_from_slice(&sname);
    let routes = Reply::parse(&bytes).unwrap().lease.unwrap().routes;
    assert_eq!(routes, Reply::parse(&azure(2, 1)).unwrap().lease.unwrap().routes);
}

#[test]
fn sname_and_file_are_not_options_unless_the_server_says_so() {
    let mut bytes = azure(2, 1);
    bytes[44..54].copy_from_slice(b"RD00155D\xff\xff"); // Azure puts a host id here
    bytes[108..111].copy_from_slice(&[CLASSLESS_ROUTES, 200, 1]);
    assert_eq!(Reply::parse(&bytes).unwrap().lease.unwrap().routes.len(), 2);
}

#[test]
fn a_message_that_breaks_a_rule_is_refused() {
    let base: [(u8, &[u8]); 3] =
        [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE), (SUBNET_MASK, &[255, 255, 0, 0])];
    assert!(Reply::parse(&message(1, &base)).is_ok());
    for missing in 0..2 {
        let mut options = base.to_vec();
        options.remove(missing);
        assert!(Reply::parse(&message(1, &options)).is_err());
    }
    let good = message(1, &base);
    let mask = good.len() - 7; // without it the message is whole
    for end in (0..mask).chain(mask + 1..good.len() - 1) {
        assert!(Reply::parse(&good[..end]).is_err(), "{end}");
    }
    for (at, value) in [(0, 1), (1, 6), (2, 16), (16, 0), (16, 127), (16, 224), (16, 255), (239, 0), (19, 0)]
    {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(Reply::parse(&bytes).is_err(), "{at}");
    }
}

/// An offer with these options behind type and server.
fn offered(options: &[(u8, &[u8])]) -> Lease {
    let base: [(u8, &[u8]); 2] = [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE)];
    Reply::parse(&message(1, &[&base, options].concat())).unwrap().lease.unwrap()
}

#[test]
fn an_option_that_we_can_do_without_may_be_broken_or_absent() {
    let mask: (u8, &[u8]) = (SUBNET_MASK, &[255, 255, 255, 0]);
    let router: (u8, &[u8]) = (ROUTER, &[10, 0, 0, 1]);
    for broken in [
        &[33, 1, 2, 3, 4, 5, 10, 0, 0, 1][..],
        &[32, 1, 2, 3],
        &[0, 1, 2, 3],
        &[0, 224, 0, 0, 1], // via a gateway that is none
        &[0, 10, 0, 0, 4],  // via ourselves
        &[255; 255],
    ] {
        let lease = offered(&[mask, router, (CLASSLESS_ROUTES, broken)]);
        assert_eq!((lease.router, lease.routes.len()), (Some([10, 0, 0, 1]), 0), "{broken:?}");
    }
    for (mask, prefix) in [(&[255, 0, 255, 0][..], 32), (&[0; 4], 32), (&[255], 32), (&[255, 255, 0, 0], 16)]
    {
        assert_eq!(offered(&[(SUBNET_MASK, mask), router]).prefix, prefix);
    }
    assert_eq!(offered(&[router]).prefix, 32);
}

#[test]
fn of_many_routes_those_to_the_platform_are_kept() {
    let mut value: Vec<u8> = (0..40).flat_map(|n| [32, 10, 1, 1, n, 10, 0, 0, 1]).collect();
    value.extend(ROUTES_121);
    let lease = offered(&[(CLASSLESS_ROUTES, &value[..255]), (CLASSLESS_ROUTES, &value[255..])]);
    assert_eq!(lease.routes, Reply::parse(&azure(2, 1)).unwrap().lease.unwrap().routes);
    // CVE-2024-3661: half of the world each, and nothing of ours.
    let hop = [10, 0, 0, 66];
    let lease = offered(&[(CLASSLESS_ROUTES, &[1, 0, 10, 0, 0, 66, 1, 128, 10, 0, 0, 66])]);
    assert_eq!(&lease.routes[..], [Route { network: [128, 0, 0, 0], prefix: 1, gateway: hop }]);
}

#[test]
fn an_address_that_no_host_can_have_is_refused() {
    for (last, mask, router, fits) in [
        (4, 24, 1, true),
        (0, 24, 1, false),
        (255, 24, 1, false),
        (4, 24, 4, false),
        (0, 31, 1, true),
        (0, 32, 1, true),
        (4, 30, 5, false),
    ] {
        let mask = (u32::MAX << (32 - mask)).to_be_bytes();
        let router = [10, 0, 0, router];
        let options: [(u8, &[u8]); 4] =
            [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE), (SUBNET_MASK, &mask), (ROUTER, &router)];
        let mut bytes = message(1, &options);
        bytes[19] = last;
        assert_eq!(Reply::parse(&bytes).is_ok(), fits, "{last} {mask:?} {router:?}");
    }
}

#[test]
fn a_kind_of_message_that_is_not_for_clients_is_no_error() {
    for kind in [1, 3, 4, 7, 8, 9, 10, 13, 255] {
        let reply = Reply::parse(&message(1, &[(MESSAGE_TYPE, &[kind]), (SERVER_ID, &AZURE)])).unwrap();
        assert_eq!((reply.kind, reply.lease), (super::Kind::Other, None));
    }
}

/// CVE-2018-15688 and its kind: a length byte that lies, in each option and in each area.
#[test]
fn any_length_byte_of_any_option_is_survived() {
    let mut overloaded = azure(2, 1);
    overloaded.splice(240..240, [OVERLOAD, 1, 3]);
    overloaded[44..52].copy_from_slice(&[121, 6, 0, 10, 0, 0, 1, 255]);
    overloaded[108..116].copy_from_slice(&[12, 4, b'e', b'd', b'g', b'e', 255, 0]);
    for good in [azure(2, 1), azure(5, 1), overloaded] {
        for at in (44..236).chain(240..good.len()) {
            for value in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = Reply::parse(&bytes);
            }
        }
    }
}

/// smoltcp#305: option 6 of 0, 1, 3, 4, 63 and 64 bytes.
#[test]
fn name_servers_of_any_length() {
    for (length, servers) in [(0, 0), (1, 0), (3, 0), (4, 1), (63, 4), (64, 4)] {
        assert_eq!(offered(&[(DNS, &[10; 64][..length])]).dns.len(), servers, "{length}");
    }
}

/// smoltcp#1029: times in any order.
#[test]
fn times_of_a_lease_in_any_order() {
    let times = [0_u32, 1, 60, 1 << 31, u32::MAX].map(u32::to_be_bytes);
    for lease in &times {
        for (t1, t2) in times.iter().flat_map(|t1| times.iter().map(move |t2| (t1, t2))) {
            let lease_s = offered(&[(59, t2), (58, t1), (LEASE_TIME, lease)]).lease_s;
            assert_eq!(lease_s, Some(u32::from_be_bytes(*lease)).filter(|s| *s != u32::MAX));
        }
    }
    assert_eq!(offered(&[]).lease_s, None);
}

#[test]
fn a_name_from_the_server_is_validated() {
    for (name, valid) in [
        (&b"edge-vm-01"[..], true),
        (b"edge-vm-01\0", true),
        (b"a\nb", false),
        (b"", false),
        (b"$(reboot)", false),
        (b"`reboot`", false),
        (b"a\0b", false),
        (b"\xff\xfe", false),
        (&[b'a'; 255], false),
    ] {
        let options: [(u8, &[u8]); 4] =
            [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE), (SUBNET_MASK, &[255; 4]), (HOST_NAME, name)];
        let lease = Reply::parse(&message(1, &options)).unwrap().lease.unwrap();
        assert_eq!(lease.hostname.is_some(), valid, "{name:?}");
    }
}

#[test]
fn a_query_says_who_asks_and_what_is_wanted() {
    let mut out = [0; 576];
    let query = Query {
        transaction: 0x0102_0304,
        mac: MAC,
        elapsed_s: 3,
        broadcast: true,
        hostname: Some("edge-vm-01"),
        take: Some(([10, 0, 0, 4], AZURE)),
    };
    let length = query.emit(&mut out).unwrap();
    assert_eq!(length, 300);
    assert_eq!(out[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0x80, 0]);
    assert_eq!(out[28..34], MAC);
    let options = &out[240..length];
    assert!(options.starts_with(&[53, 1, 3, 50, 4, 10, 0, 0, 4, 54, 4, 168, 63, 129, 16, 12, 10, b'e']));
    let place = |code: u8| super::WANTED.iter().position(|wanted| *wanted == code).unwrap();
    assert!(place(CLASSLESS_ROUTES) < place(ROUTER), "RFC 3442");
    for code in [1, 3, 6, 12, 15, 26, 51, 54, 58, 59, 121, 245, 249] {
        place(code);
    }
    assert!(matches!(query.emit(&mut out[..299]), Err(error) if error.is(Kind::TooMany)));
}

#[test]
fn a_route_contains_what_its_prefix_says() {
    let route = |prefix| Route { network: [10, 1, 2, 128], prefix, gateway: [0; 4] };
    assert!(route(0).contains([1, 2, 3, 4]));
    assert!(route(25).contains([10, 1, 2, 255]) && !route(25).contains([10, 1, 2, 127]));
    assert!(route(32).contains([10, 1, 2, 128]) && !route(32).contains([10, 1, 2, 129]));
}

proptest! {
    #[test]
    fn no_message_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..600), cut in any::<bool>()) {
        let _ = Reply::parse(&bytes);
        if bytes.len() > 240 && cut {
            bytes[..3].copy_from_slice(&[2, 1, 6]);
            bytes[236..240].copy_from_slice(&COOKIE);
        }
        let _ = Reply::parse(&bytes);
    }

    #[test]
    fn no_options_panic(options in prop::collection::vec(
        (prop::sample::select(std::vec![0, 1, 3, 6, 12, 26, 51, 52, 53, 54, 121, 245, 249, 255]), prop::collection::vec(any::<u8>(), 0..40)), 0..12))
    {
        let base: [(u8, &[u8]); 3] = [(MESSAGE_TYPE, &[2]), (SERVER_ID, &AZURE), (SUBNET_MASK, &[255, 255, 0, 0])];
        let mut all = base.to_vec();
        all.extend(options.iter().map(|(code, value)| (*code, &value[..])));
        let _ = Reply::parse(&message(1, &all));
    }

    #[test]
    fn an_option_split_anywhere_reads_the_same(cuts in prop::collection::vec(0usize..24, 0..6), mtu in any::<u16>()) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(23)).collect();
        cuts.extend([0, 23]);
        cuts.sort_unstable();
        let mtu = mtu.to_be_bytes();
        let mut options: Vec<(u8, &[u8])> = std::vec![(MESSAGE_TYPE, &[2][..]), (SERVER_ID, &AZURE), (SUBNET_MASK, &[255; 4])];
        for pair in cuts.windows(2) {
            options.push((CLASSLESS_ROUTES, &ROUTES_121[pair[0]..pair[1]]));
            options.push((MTU, &mtu));
        }
        let lease = Reply::parse(&message(1, &options)).unwrap().lease.unwrap();
        prop_assert_eq!(lease.routes, Reply::parse(&azure(2, 1)).unwrap().lease.unwrap().routes);
        prop_assert_eq!(lease.mtu, Some(u16::from_be_bytes(mtu)));
    }
}
