//! Can any network break a file or a seed? And what each software's files say of one network.

use super::super::{Plan, networkd};
use super::meaning::ini;
use super::{of_seed, rendered, seed_files, text};
use crate::facts::network::{
    ALL, Domain, Driver, Link, LinkKind, LinkName, MacAddr, Network, Parameter, Prefix, Route, Subnet,
};
use crate::format::network_data::tests::read;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, proptest};
use std::string::String;
use std::vec;
use std::vec::Vec;

/// What the document's reader makes of this, in one file of each software.
fn file_of(document: &str, known: &[(&str, &str)], renderer: &str, name: &str) -> String {
    let (network, _) = read(document);
    let find = |mac: MacAddr| {
        let name = known.iter().find(|(text, _)| MacAddr::parse(text) == Ok(mac))?.1;
        LinkName::parse(name).ok()
    };
    let plan = Plan::new(&network, &mut { find });
    rendered(&plan, renderer).remove(name).unwrap()
}

/// A VLAN without an address of its own takes the card's, and so would match the card's file.
#[test]
fn what_stands_on_a_card_is_not_taken_for_it() {
    let document = r#"{"links":[{"id":"a","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:01","name":"wan0"},
        {"id":"v","type":"vlan","vlan_link":"a","vlan_id":7},
        {"id":"b","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:02"},
        {"id":"c","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:03"},
        {"id":"bond0","type":"bond","bond_links":["b"],"bond_mode":"active-backup"}],"networks":[{"link":"a","type":"ipv4_dhcp"}]}"#;
    let known = [("fa:16:3e:00:00:01", "eth0")];
    let matched = |name| ini(&file_of(document, &known, "networkd", name)).remove(0).1;
    let pair = |key: &str, value: &str| (String::from(key), String::from(value));
    assert_eq!(matched("eth0.network"), [pair("MACAddress", "fa:16:3e:00:00:01"), pair("Name", "eth0 wan0")]);
    // Not there, without a name, and in a bond.
    assert_eq!(
        matched("fa163e000002.network"),
        [pair("MACAddress", "fa:16:3e:00:00:02"), pair("Type", "ether")]
    );
    assert_eq!(matched("fa163e000003.network"), [pair("MACAddress", "fa:16:3e:00:00:03")]);
    let (network, _) = read(document);
    let plan = Plan::new(&network, &mut |_| None);
    assert!(text(&|out| networkd::put_link(&plan, 0, out)).contains("\nType=ether\n"));
}

#[test]
fn network_manager_is_told_the_servers_of_a_family_without_addresses() {
    let document = r#"{"links":[{"id":"a","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:01"}],
        "networks":[{"link":"a","type":"ipv4","ip_address":"10.0.0.2","netmask":"24"}],
        "services":[{"type":"dns","address":"2001:db8::53"}]}"#;
    let keyfile = file_of(document, &[("fa:16:3e:00:00:01", "eth0")], "network_manager", "eth0.nmconnection");
    assert!(keyfile.ends_with("[ipv6]\nmethod=auto\nmay-fail=true\ndns=2001:db8::53;\n"), "{keyfile}");
}

fn address() -> impl Strategy<Value = core::net::IpAddr> {
    proptest::prop_oneof![any::<[u8; 4]>().prop_map(Into::into), any::<[u8; 16]>().prop_map(Into::into)]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0..=32u8).prop_map(|(address, length)| Prefix::new(address, length).unwrap())
}

fn link(n: u8) -> impl Strategy<Value = Link> {
    let kind = proptest::prop_oneof![
        Just(LinkKind::Physical),
        Just(LinkKind::Bond),
        Just(LinkKind::Bridge),
        (0..4095u16, 0..n.max(1)).prop_map(|(id, parent)| LinkKind::Vlan { id, parent })
    ];
    let name = prop::option::of("[a-z][a-z0-9._-]{0,14}");
    let driver = prop::option::of("[a-z][a-z0-9_]{0,14}");
    let master = prop::option::weighted(0.3, 0..n.max(1));
    let numbers = any::<(Option<u16>, Option<u16>)>();
    let words = any::<(Option<bool>, Option<bool>, Option<bool>, Option<u32>, bool)>();
    (kind, name, any::<Option<[u8; 6]>>(), numbers, words, driver, master).prop_map(
        |(
            kind,
            name,
            mac,
            (mtu, mtu6),
            (accept_ra, wakeonlan, dhcp_dns, dhcp_metric, is_manual),
            driver,
            master,
        )| Link {
            kind,
            name: name.map(|name| LinkName::parse(&name).unwrap()),
            mac: mac.map(MacAddr),
            driver: driver.map(|driver| Driver::parse(&driver).unwrap()),
            mtu: mtu.map(u32::from),
            mtu6: mtu6.map(u32::from),
            accept_ra,
            dhcp_metric,
            dhcp_dns,
            wakeonlan,
            is_manual,
            master,
        },
    )
}

/// Networks whose references lead somewhere, mostly.
pub(super) fn network() -> impl Strategy<Value = Network> {
    let subnet = proptest::prop_oneof![
        prefix().prop_map(Subnet::Static),
        prop::sample::select(vec![
            Subnet::Dhcp4,
            Subnet::Dhcp6,
            Subnet::Slaac,
            Subnet::Stateless,
            Subnet::Stateful,
            Subnet::Manual
        ])
    ];
    let links = (0..4u8, link(1), link(1), link(2), link(2))
        .prop_map(|(n, a, b, c, d)| [a, b, c, d].into_iter().take(usize::from(n) + 1).collect::<Vec<_>>());
    let row = |n: u8| prop::sample::select((0..n).chain([ALL]).collect::<Vec<_>>());
    let route = (prefix(), address(), any::<bool>(), any::<(Option<u32>, Option<u16>)>());
    (
        links,
        prop::collection::vec((0..4u8, subnet), 0..8),
        prop::collection::vec((0..4u8, route), 0..8),
        prop::collection::vec((row(4), address()), 0..8),
        prop::collection::vec((row(4), "[a-z][a-z0-9.-]{0,20}"), 0..4),
        prop::collection::vec(
            (0..4u8, "(mode|miimon|xmit_hash_policy|bridge_fd|bridge_pathcost)", "[a-z0-9+.]{1,12}"),
            0..4,
        ),
    )
        .prop_map(|(links, subnets, routes, dns, search, parameters)| {
            let mut network = Network::new();
            let count = u8::try_from(links.len()).unwrap();
            links.into_iter().for_each(|link| _ = network.add_link(link));
            let is_there = |at: &u8| *at == ALL || *at < count;
            for (at, subnet) in subnets.into_iter().filter(|(at, _)| is_there(at)) {
                network.add_subnet(at, subnet).unwrap();
            }
            for (at, (to, via, has_via, (metric, mtu))) in routes.into_iter().filter(|(at, _)| is_there(at)) {
                network
                    .add_route(at, Route { to, via: has_via.then_some(via), metric, mtu: mtu.map(u32::from) })
                    .unwrap();
            }
            for (at, address) in dns.into_iter().filter(|(at, _)| is_there(at)) {
                network.add_dns(at, address).unwrap();
            }
            for (at, domain) in search.into_iter().filter(|(at, _)| is_there(at)) {
                network.add_search(at, Domain::parse(&domain).unwrap()).unwrap();
            }
            for (at, key, value) in parameters.into_iter().filter(|(at, ..)| is_there(at)) {
                network.add_parameter(at, Parameter::parse(&key, &value).unwrap()).unwrap();
            }
            network.drop_lost();
            if network.check().is_err() {
                network.links.iter_mut().for_each(|link| link.master = None);
            }
            if network.check().is_err() {
                network.clear();
            }
            network
        })
}

/// Rows in the order of their links, as files have them.
fn in_order(mut network: Network) -> Network {
    fn sort<T: Clone, const N: usize>(rows: &mut heapless::Vec<crate::facts::network::Of<T>, N>) {
        let mut sorted: Vec<_> = rows.iter().cloned().collect();
        sorted.sort_by_key(|row| row.link);
        *rows = sorted.into_iter().collect();
    }
    sort(&mut network.subnets);
    sort(&mut network.routes);
    sort(&mut network.dns);
    sort(&mut network.search);
    sort(&mut network.parameters);
    network
}

proptest! {
    #[test]
    fn a_network_comes_back_from_a_seed(network in network()) {
        prop_assert_eq!(of_seed(&seed_files(&network)).unwrap(), in_order(network));
    }

    #[test]
    fn any_text_of_a_seed_is_read_or_refused(text in "((type|name|mac|driver|route|subnet|dns|master|mtu|manual|x) ?[a-z0-9./: -]{0,20}\n){0,6}", other in any::<String>()) {
        let _ = of_seed(&[text, other.clone()]);
        let _ = of_seed(&[other]);
    }

    /// No name or address can add a line, a section or a stanza.
    #[test]
    fn files_have_no_more_than_was_asked(network in network()) {
        let plan = Plan::new(&network, &mut |_| None);
        for renderer in ["networkd", "network_manager"] {
            for text in rendered(&plan, renderer).values() {
                ini(text);
            }
        }
        let addresses = network.subnets.iter().filter(|row| matches!(row.value, Subnet::Static(_))).count();
        let netplan = &rendered(&plan, "netplan")["etc/netplan/90-preroot.yaml"];
        prop_assert_eq!(netplan.lines().all(|line| line.starts_with([' ', '#', 'n'])), true);
        prop_assert_eq!(rendered(&plan, "eni").values().next().unwrap().matches("    address ").count() <= addresses, true);
    }
}

#[test]
fn a_seed_is_as_the_documentation_says() {
    let (network, _) = read(
        r#"{"links":[{"id":"a","type":"phy","ethernet_mac_address":"fa:16:3e:69:b0:58","mtu":1500},{"id":"v","type":"vlan","vlan_link":"a","vlan_id":7}],
        "networks":[{"link":"a","type":"ipv4","ip_address":"10.0.1.17","netmask":"20","gateway":"10.0.0.1"},{"link":"v","type":"ipv4_dhcp"}],"services":[{"type":"dns","address":"10.0.0.53"}]}"#,
    );
    let files = seed_files(&network);
    assert_eq!(
        files,
        [
            "type physical\nmac fa:16:3e:69:b0:58\nmtu 1500\nsubnet 10.0.1.17/20\nroute 0.0.0.0/0 10.0.0.1\n",
            "type vlan 7 0\nsubnet dhcp4\n",
            "dns 10.0.0.53\n"
        ]
    );
}
