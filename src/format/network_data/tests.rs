//! One table of recorded documents, and: no cut changes anything.

use super::{NetworkDataReader, Notes};
use crate::error::{Kind, Result};
use crate::facts::network::{ALL, LinkKind, LinkName, MacAddr, Network, Prefix, Route, Subnet};
use crate::format::cases::{self, Answer, Case};
use crate::format::network::Plan;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

/// Reads a document in pieces of this size.
pub(crate) fn read_by(text: &[u8], size: usize) -> (Box<Network>, Result<Notes>) {
    let (mut reader, mut network) = (Box::new(NetworkDataReader::new()), Box::new(Network::new()));
    let pushed = text.chunks(size).try_for_each(|chunk| reader.push(chunk, &mut network));
    let result = pushed.and_then(|()| reader.finish(&mut network));
    (network, result)
}

pub(crate) fn read(text: &str) -> (Box<Network>, Notes) {
    let (network, notes) = read_by(text.as_bytes(), 4096);
    (network, notes.unwrap())
}

/// A case's network on its machine: cards have the names that are asked for, as if udev had given them already.
pub(crate) fn plan_of<'n>(case: &Case, network: &'n Network) -> Plan<'n> {
    Plan::new(network, &mut |mac| {
        let asked =
            network.links.iter().find(|link| link.kind == LinkKind::Physical && link.mac == Some(mac));
        let macs = case.input["known_macs"].as_object().into_iter().flatten();
        // One case names them only in what the reference made of the machine it ran on.
        let entries = case.expected["config"].as_array().into_iter().flatten();
        let theirs = entries.map(|entry| (&entry["mac_address"], &entry["name"]));
        let mut all = macs
            .map(|(text, name)| (text.as_str(), name))
            .chain(theirs.filter_map(|(mac, name)| Some((mac.as_str()?, name))));
        let found = all.find_map(|(text, name)| (MacAddr::parse(text) == Ok(mac)).then_some(name.as_str()?));
        asked.and_then(|link| link.name.clone()).or_else(|| LinkName::parse(found?).ok())
    })
}

fn mac(mac: MacAddr) -> String {
    mac.0.map(|byte| std::format!("{byte:02x}")).join(":")
}

fn prefix(prefix: Prefix) -> String {
    std::format!("{}/{}", prefix.address, prefix.length)
}

fn route(route: Route) -> Value {
    json!([prefix(route.to), route.via.map(|via| via.to_string()), route.metric])
}

/// A network in words that both sides can be brought to.
pub(crate) fn meaning(network: &Network, plan: &Plan<'_>) -> Value {
    let links = network.positions().map(|at| {
        let link = network.link(at).unwrap();
        let (mut bond, mut vlan) = (Value::Null, Value::Null);
        match link.kind {
            LinkKind::Bond => {
                let parameters: serde_json::Map<_, _> =
                    network.parameters_of(at).map(|p| (p.names()[0].into(), json!(p.value.as_str()))).collect();
                let members: Vec<_> = network.ports_of(at).map(|at| plan.name(at)).collect();
                bond = json!([members, parameters]);
            }
            LinkKind::Vlan { id, parent } => vlan = json!([id, plan.name(parent)]),
            LinkKind::Physical | LinkKind::Bridge => {}
        }
        let subnets = network.subnets_of(at).map(|subnet| match subnet {
            Subnet::Static(address) => prefix(address),
            other => std::format!("{other:?}"),
        });
        let own = |at| network.dns.iter().filter(move |row| row.link == at).map(|row| row.value.to_string());
        let search = network.search.iter().filter(|row| row.link == at).map(|row| row.value.as_str());
        json!({ "name": plan.name(at), "mac": link.mac.map(mac), "mtu": link.mtu, "accept-ra": link.accept_ra,
            "bond": bond, "vlan": vlan, "subnets": subnets.collect::<Vec<_>>(), "dns": own(at).collect::<Vec<_>>(),
            "search": search.collect::<Vec<_>>(), "routes": network.routes_of(at).map(route).collect::<Vec<_>>() })
    });
    let dns: Vec<_> =
        network.dns.iter().filter(|row| row.link == ALL).map(|row| row.value.to_string()).collect();
    let search: Vec<_> =
        network.search.iter().filter(|row| row.link == ALL).map(|row| row.value.as_str()).collect();
    json!({ "links": links.collect::<Vec<_>>(), "dns": dns, "search": search })
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => std::vec![text.clone()],
        Value::Array(list) => list.iter().map(|text| text.as_str().unwrap().into()).collect(),
        _ => Vec::new(),
    }
}

fn addresses(value: &Value) -> Vec<String> {
    texts(value).iter().map(|text| text.parse::<core::net::IpAddr>().unwrap().to_string()).collect()
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    for text in list {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    kept
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn subnet_of_v1(subnet: &Value) -> String {
    let kind = subnet["type"].as_str().unwrap();
    match kind {
        "static" | "static6" => {
            let (address, length) = super::build::tests::address(subnet["address"].as_str().unwrap());
            let mask = Some(plain(&subnet["netmask"])).filter(|mask| !["null", ""].contains(&mask.as_str()));
            let length = length.or_else(|| mask.map(|mask| super::build::tests::mask(&mask)));
            std::format!("{address}/{}", length.unwrap_or(if address.is_ipv4() { 24 } else { 64 }))
        }
        "dhcp4" | "dhcp" => "Dhcp4".into(),
        "dhcp6" => "Dhcp6".into(),
        "ipv6_slaac" => "Slaac".into(),
        "ipv6_dhcpv6-stateless" => "Stateless".into(),
        "ipv6_dhcpv6-stateful" => "Stateful".into(),
        _ => "Manual".into(),
    }
}

fn routes_of_v1(subnet: &Value) -> Vec<Value> {
    let mut routes: Vec<Value> = Vec::new();
    for route in subnet["routes"].as_array().into_iter().flatten() {
        let (address, length) = super::build::tests::address(route["network"].as_str().unwrap());
        let length = length.unwrap_or_else(|| super::build::tests::mask(&plain(&route["netmask"])));
        let via = route["gateway"].as_str().map(|via| via.parse::<core::net::IpAddr>().unwrap().to_string());
        routes.push(json!([std::format!("{address}/{length}"), via, route["metric"]]));
    }
    if let Some(via) = subnet["gateway"].as_str() {
        routes.push(json!([if via.contains(':') { "::/0" } else { "0.0.0.0/0" }, via, null]));
    }
    routes
}

/// What cloud-init's network configuration version 1 says, in those words.
fn meaning_of_v1(config: &Value) -> Value {
    let (mut links, mut dns, mut search) = (Vec::new(), Vec::new(), Vec::new());
    for entry in config["config"].as_array().unwrap() {
        if entry["type"] == "nameserver" {
            dns.extend(addresses(&entry["address"]));
            search.extend(texts(&entry["search"]));
            continue;
        }
        let subnets = entry["subnets"].as_array().cloned().unwrap_or_default();
        let all = |key: &str| -> Vec<String> {
            unique(subnets.iter().flat_map(|subnet| texts(&subnet[key])).collect())
        };
        let bond = entry["bond_interfaces"].is_array().then(|| {
            let parameters: serde_json::Map<_, _> = entry["params"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.trim_start_matches("bond-").replace('-', "_"), json!(plain(value))))
                .collect();
            json!([entry["bond_interfaces"], parameters])
        });
        let vlan = entry["vlan_id"].as_u64().map(|id| json!([id, entry["vlan_link"]]));
        let mac = entry["mac_address"].as_str().map(str::to_lowercase);
        links.push(
            json!({ "name": entry["name"], "mac": mac, "mtu": entry["mtu"], "accept-ra": entry["accept-ra"],
            "bond": bond, "vlan": vlan, "subnets": subnets.iter().map(subnet_of_v1).collect::<Vec<_>>(),
            "dns": unique(all("dns_nameservers")), "search": all("dns_search"),
            "routes": subnets.iter().flat_map(routes_of_v1).collect::<Vec<_>>() }),
        );
    }
    json!({ "links": links, "dns": dns, "search": search })
}

fn answer(case: &Case) -> Answer {
    let (network, _) = read(&case.input["network_json"].to_string());
    let plan = plan_of(case, &network);
    if case.expected.is_null() {
        assert!(plan.missing != 0);
        return Answer::Differs(
            "the card that is not there is left to itself; the reference refuses the whole document",
        );
    }
    if case.name.starts_with("test_invalid_network_mask") {
        return Answer::Differs(
            "a route whose mask is none is left out; the reference hands it on and stops where it renders it",
        );
    }
    let (ours, theirs) = (meaning(&network, &plan), meaning_of_v1(&case.expected));
    Answer::Is(if ours == theirs { case.expected.clone() } else { json!([ours, theirs]) })
}

#[test]
fn recorded_documents_mean_what_the_reference_reads() {
    cases::run("network_data_to_v1", answer);
    cases::run("network_data_to_v1_openstack_ds", answer);
}

/// afterburn's NoCloud trees hold cloud-init's own network configuration, which is another format; what the initrd of a
/// kernel's `ip=` left behind (klibc_net_conf) is nothing that preroot or its initrd makes.
#[test]
fn afterburn_reads_the_same_interfaces() {
    cases::run("afterburn_network", |case| {
        let (network, notes) = read(&case.input["network_data"].to_string());
        assert!(notes.first.is_empty());
        let interfaces = network.positions().map(|at| {
            let link = network.link(at).unwrap();
            let has = |kind| network.subnets_of(at).any(|subnet| subnet == kind);
            let addresses: Vec<_> = network.subnets_of(at).filter_map(|subnet| match subnet {
                Subnet::Static(address) => Some(prefix(address)),
                _ => None,
            }).collect();
            let routes: Vec<_> = network.routes_of(at).map(|route| json!({"to": prefix(route.to), "via": route.via.unwrap().to_string()})).collect();
            let mut all = json!({"addresses": addresses, "nameservers": network.dns_of(at).map(|dns| dns.to_string()).collect::<Vec<_>>()});
            match &link.name {
                Some(name) => all["name"] = json!(name.as_str()),
                None => all["mac"] = json!(mac(link.mac.unwrap())),
            }
            if !routes.is_empty() {
                all["routes"] = json!(routes);
            }
            match (has(Subnet::Dhcp4), has(Subnet::Dhcp6)) {
                (true, true) => all["dhcp"] = json!("both"),
                (true, false) => all["dhcp"] = json!("v4"),
                _ => {}
            }
            all
        });
        Answer::Is(interfaces.collect())
    });
}

const SAMPLE: &str = r#"{"networks":[
  {"id":"network0","type":"ipv4","services":[{"address":"10.0.0.53","type":"dns"},{"type":"ntp","address":"10.0.0.54"}],
   "routes":[{"netmask":"0.0.0.0","network":"0.0.0.0","gateway":"10.0.0.1"},{"destination":"192.168.0.0/16","gateway":"10.0.0.2","metric":50},
             {"network":"172.16.0.9","netmask":"12","gateway":"0.0.0.0"}],
   "ip_address":"10.0.1.17","netmask":"255.255.240.0","link":"tap1"},
  {"link":"tap1","type":"ipv6","ip_address":"2001:db8::9/64","gateway":"fe80::1"},
  {"link":"gone","type":"ipv4","ip_address":"10.9.9.9"},
  {"link":"bond","type":"ipv4_dhcp"},
  {"link":"vlan0","type":"ipv6_dhcpv6-stateful"}],
 "links":[
  {"mtu":null,"ethernet_mac_address":"FA:16:3E:69:B0:58","type":null,"id":"tap1"},
  {"id":"vlan0","vlan_id":"101","vlan_link":"bond","vlan_mac_address":"a0:36:9f:2c:e8:72","type":"vlan"},
  {"id":"bond","bond_links":["i2","i3"],"bond_miimon":100,"bond-xmit-hash-policy":"layer3+4","bond_weird":"x","type":"bond"},
  {"id":"i2","type":"phy","ethernet_mac_address":"a0:36:9f:2c:e8:70","mtu":9000},
  {"id":"i3","type":"future","ethernet_mac_address":"a0:36:9f:2c:e8:71","mtu":"9000"},
  {"id":"lost","type":"vlan","vlan_id":7,"vlan_link":"nothing"},
  {"id":"bad","type":"phy","ethernet_mac_address":"x"}],
 "services":[{"type":"dns","address":"8.8.8.8"},{"type":"ntp","address":"10.0.0.123"}],"future":{"links":[{"id":1}]}}"#;

#[test]
fn keys_and_lists_come_in_any_order_and_what_is_bad_goes_alone() {
    let (network, notes) = read(SAMPLE);
    let reasons: Vec<_> = notes.first.iter().map(crate::error::Error::reason).collect();
    assert_eq!(
        reasons,
        [
            "unknown parameter of a bond",
            "unknown type of link, taken as a network card",
            "MAC address",
            "a network card without MAC address and name",
            "a VLAN on a link that is not there"
        ]
    );
    assert_eq!(network.links.len(), 5);
    let all =
        |at| (network.subnets_of(at).count(), network.routes_of(at).count(), network.dns_of(at).count());
    assert_eq!((all(0), all(1), all(2), all(3)), ((2, 4, 1), (1, 0, 1), (1, 0, 1), (0, 0, 0)));
    assert_eq!(network.ports_of(2).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(network.link(1).unwrap().kind, LinkKind::Vlan { id: 101, parent: 2 });
    assert_eq!(
        (network.link(0).unwrap().accept_ra, network.link(1).unwrap().accept_ra),
        (Some(false), Some(true))
    );
    let routes: Vec<_> = network.routes_of(0).map(route).collect();
    assert_eq!(
        json!(routes),
        json!([
            ["0.0.0.0/0", "10.0.0.1", null],
            ["192.168.0.0/16", "10.0.0.2", 50],
            ["172.16.0.0/12", null, null],
            ["::/0", "fe80::1", null]
        ])
    );
}

#[test]
fn more_than_fits_is_an_error_and_leaves_nothing() {
    let link = |n: usize| {
        std::format!(r#"{{"id":"{n}","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:{n:02x}"}}"#)
    };
    let document =
        |n: usize| std::format!(r#"{{"links":[{}]}}"#, (0..n).map(link).collect::<Vec<_>>().join(","));
    assert_eq!(read(&document(16)).0.links.len(), 16);
    let (network, result) = read_by(document(17).as_bytes(), 100);
    assert_eq!((result.unwrap_err().kind(), network.is_empty()), (Kind::TooMany, true));
    let (network, result) = read_by(b"{\"links\":[", 3);
    assert_eq!((result.unwrap_err().what(), network.is_empty()), ("network_data.json", true));
}

proptest! {
    #[test]
    fn no_cut_changes_anything(size in 1..64usize) {
        let (whole, _) = read(SAMPLE);
        let (network, notes) = read_by(SAMPLE.as_bytes(), size);
        prop_assert_eq!((network, notes.unwrap().first.len()), (whole, 5));
    }

    #[test]
    fn any_document_is_read_or_refused(text in document()) {
        let (network, result) = read_by(text.as_bytes(), 7);
        if result.is_ok() {
            prop_assert_eq!(network.check(), Ok(()));
        } else {
            prop_assert_eq!(network.is_empty(), true);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        let _ = read_by(&bytes, 5);
    }
}

/// Documents of known keys with values that mostly do not fit.
fn document() -> impl Strategy<Value = String> {
    let key = prop::sample::select(std::vec![
        "links",
        "networks",
        "services",
        "routes",
        "id",
        "type",
        "link",
        "name",
        "mtu",
        "ethernet_mac_address",
        "bond_links",
        "bond_mode",
        "vlan_link",
        "vlan_id",
        "ip_address",
        "netmask",
        "network",
        "gateway",
        "address",
        "search"
    ]);
    let value = prop::sample::select(std::vec![
        "a",
        "b",
        "vlan",
        "bond",
        "phy",
        "ipv4",
        "ipv6",
        "ipv6_slaac",
        "dns",
        "10.0.0.1",
        "fe80::1",
        "255.255.0.0",
        "24",
        "fa:16:3e:69:b0:58",
        "x y",
        "10.0.0.1/8",
        "999"
    ])
    .prop_map(|text| json!(text));
    value
        .prop_recursive(5, 64, 6, move |inner| {
            let object = prop::collection::vec((key.clone(), inner.clone()), 0..6);
            let object = object.prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
            });
            let list = prop::collection::vec(inner, 0..4).prop_map(Value::Array);
            proptest::prop_oneof![3 => object, 2 => list]
        })
        .prop_map(|value| value.to_string())
}
