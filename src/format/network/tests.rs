//! What cloud-init's renderers made of the same networks, compared by meaning; and: a seed's form loses nothing.

use super::{Plan, ifupdown, mode_word, netplan, network_manager, networkd, seed};
use crate::facts::network::{
    ALL, Domain, Link, LinkKind, LinkName, MacAddr, Network, Parameter, Prefix, Route, Subnet,
};
use crate::format::cases::Case;
use crate::format::network_data::tests::{plan_of, read};
use crate::format::text::Out;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

type Emit<'e> = &'e dyn Fn(&mut Out<'_>) -> crate::error::Result<()>;

pub(crate) fn text(emit: Emit<'_>) -> String {
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(too_many!("test"), &mut buf);
    emit(&mut out).unwrap();
    String::from_utf8(out.as_bytes().to_vec()).unwrap()
}

/// Sections with their pairs, in order; a section may come several times.
fn ini(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix('['), line.split_once('=')) {
            (Some(name), _) => sections.push((name.trim_end_matches(']').into(), Vec::new())),
            (None, Some((key, value))) => sections.last_mut().unwrap().1.push((key.into(), value.into())),
            _ => panic!("{line:?}"),
        }
    }
    sections
}

type Files = BTreeMap<String, String>;

fn sorted(list: impl Iterator<Item = String>) -> Vec<String> {
    let mut list: Vec<_> = list.collect();
    list.sort();
    list
}

/// `NAME.network` and so on, and in each: `Section key=value ...`, sorted.
fn networkd_meaning(files: &Files) -> Value {
    let mut all = Map::new();
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap().replace("10-cloud-init-", "").replace("05-preroot-", "");
        let sections = ini(text).into_iter().map(|(section, pairs)| {
            let has_mac = pairs.iter().any(|(key, _)| key == "MACAddress");
            let pairs = pairs.iter().filter(|(key, _)| !(section == "Match" && has_mac && key == "Name"));
            let pairs = pairs.flat_map(|(key, value)| match key.as_str() {
                "DNS" | "Domains" => {
                    value.split(' ').map(|word| format!("{key}={}", word.to_lowercase())).collect()
                }
                _ => vec![format!("{key}={}", value.to_lowercase())],
            });
            format!("{section} {}", sorted(pairs).join(" "))
        });
        all.insert(name, json!(sorted(sections)));
    }
    Value::Object(all)
}

/// Connections by name; what they refer to by name, too.
fn network_manager_meaning(files: &Files) -> Value {
    let files: Vec<_> =
        files.iter().filter(|(path, _)| path.ends_with(".nmconnection")).map(|(_, text)| ini(text)).collect();
    let value = |sections: &[(String, Vec<(String, String)>)], wanted: &str| -> String {
        let pairs = &sections.iter().find(|(name, _)| name == "connection").unwrap().1;
        pairs.iter().find(|(key, _)| key == wanted).unwrap().1.clone()
    };
    let names: BTreeMap<_, _> = files
        .iter()
        .map(|file| (value(file, "uuid"), value(file, "id").rsplit(' ').next().unwrap().to_string()))
        .collect();
    let mut all = Map::new();
    for file in &files {
        let sections = file.iter().filter(|(section, _)| section != "user").map(|(section, pairs)| {
            let pairs =
                pairs.iter().filter(|(key, _)| key != "uuid" && key != "id").flat_map(|(key, value)| {
                    let value = names.get(value).cloned().unwrap_or_else(|| value.to_lowercase());
                    let key = if key.ends_with("_options") {
                        key
                    } else {
                        key.trim_end_matches(|c: char| c.is_ascii_digit())
                    };
                    let everything = if section == "ipv6" { "::/0" } else { "0.0.0.0/0" };
                    let parts: Vec<_> = value.split(',').collect();
                    match (key, parts.as_slice()) {
                        // Ours is above the reference's 120 on purpose: its files may be in the image.
                        ("autoconnect-priority", _) => vec![],
                        ("mode", _) => vec![format!("mode={}", mode_word(&value))],
                        ("gateway", _) => vec![format!("route={everything},{value}")],
                        ("route", [to, via, metric]) if *to == everything => {
                            vec![format!("route={to},{via}"), format!("route-metric={metric}")]
                        }
                        _ => vec![format!("{key}={value}")],
                    }
                });
            format!("{section} {}", sorted(pairs).join(" "))
        });
        let sections = sections.filter(|section| !section.ends_with(' '));
        all.insert(names[&value(file, "uuid")].clone(), json!(sorted(sections)));
    }
    Value::Object(all)
}

/// Stanzas by interface: `family method option ...`. Name servers of the whole file: the reference has them on `lo`.
fn ifupdown_meaning(files: &Files) -> Value {
    let file = files.iter().find(|(path, _)| path.contains("network/interfaces")).unwrap().1;
    let (mut stanzas, mut names): (BTreeMap<String, Vec<Vec<String>>>, Vec<String>) = Default::default();
    let mut current = String::new();
    for line in file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["iface", name, how @ ..] => {
                current = (*name).into();
                stanzas.entry(current.clone()).or_default().push(vec![how.join(" ")]);
            }
            ["auto" | "source", ..] => {}
            [key @ ("dns-nameservers" | "dns-search"), values @ ..] => {
                names.extend(values.iter().map(|value| format!("{key} {}", value.to_lowercase())));
            }
            ["gateway", via] => {
                let family = if via.contains(':') { "-family inet6 " } else { "" };
                let stanza = stanzas.get_mut(&current).unwrap().last_mut().unwrap();
                stanza.push(format!("post-up ip {family}route add default via {via} || true"));
                stanza.push(format!("pre-down ip {family}route del default via {via} || true"));
            }
            words => {
                let line = words
                    .join(" ")
                    .to_lowercase()
                    .replace(&format!(" dev {current}"), "")
                    .replace(" onlink", "");
                let line = line
                    .replace("hwaddress ether ", "hwaddress ")
                    .replace("bond-mode 4", "bond-mode 802.3ad");
                stanzas.get_mut(&current).unwrap().last_mut().unwrap().push(line);
            }
        }
    }
    stanzas.remove("lo");
    names.sort();
    names.dedup();
    for stanza in stanzas.values_mut().flatten() {
        stanza[1..].sort();
    }
    json!({ "stanzas": stanzas, "names": names })
}

/// YAML as netplan's files have it: mappings and lists by indentation, lists in brackets, scalars.
fn yaml(text: &str) -> Value {
    let lines: Vec<(usize, String)> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#') && line.trim() != "---")
        .map(|line| (line.len() - line.trim_start().len(), line.trim().to_string()))
        .collect();
    let mut at = 0;
    yaml_block(&lines, &mut at, 0)
}

fn yaml_block(lines: &[(usize, String)], at: &mut usize, least: usize) -> Value {
    let Some((indent, first)) = lines.get(*at).filter(|(indent, _)| *indent >= least).cloned() else {
        return Value::Null;
    };
    if first.starts_with("- ") {
        let mut list = Vec::new();
        while let Some((_, line)) =
            lines.get(*at).filter(|(n, line)| *n == indent && line.starts_with("- ")).cloned()
        {
            let inner = line[1..].trim_start();
            let column = indent + line.len() - inner.len();
            if inner.starts_with(['"', '\'']) || !(inner.contains(": ") || inner.ends_with(':')) {
                *at += 1;
                list.push(yaml_scalar(inner));
            } else {
                let mut rest = lines.to_vec();
                rest[*at] = (column, inner.to_string());
                list.push(yaml_block(&rest, at, column));
            }
        }
        return Value::Array(list);
    }
    let mut map = Map::new();
    while let Some((_, line)) =
        lines.get(*at).filter(|(n, line)| *n == indent && !line.starts_with("- ")).cloned()
    {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| (line.strip_suffix(':').unwrap(), ""));
        *at += 1;
        // A list may stand under its key without more indentation.
        let is_list = lines.get(*at).is_some_and(|(n, line)| *n == indent && line.starts_with("- "));
        let value = match value.trim() {
            "" => yaml_block(lines, at, if is_list { indent } else { indent + 1 }),
            value => yaml_scalar(value),
        };
        map.insert(key.trim_matches(['"', '\'']).into(), value);
    }
    Value::Object(map)
}

fn yaml_scalar(text: &str) -> Value {
    let text = text.trim();
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(yaml_scalar).collect();
    }
    match text {
        "{}" => json!({}),
        text => json!(text.trim_matches(['"', '\''])),
    }
}

/// What is off or empty is left out; names of cards are what they are called by.
fn netplan_meaning(files: &Files) -> Value {
    let mut value = yaml(files.iter().find(|(path, _)| path.ends_with(".yaml")).unwrap().1)["network"].take();
    for (section, links) in value.as_object_mut().unwrap() {
        for (_, link) in links.as_object_mut().into_iter().flatten() {
            let Some(link) = link.as_object_mut() else { continue };
            // Ours says it in a `.link` file.
            link.remove("set-name");
            if let Some(names) = link.get_mut("nameservers").and_then(Value::as_object_mut) {
                names.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
            }
            for key in ["dhcp4", "dhcp6"] {
                if link.get(key) == Some(&json!("false")) {
                    link.remove(key);
                }
            }
            if let Some(mode) = link.get_mut("parameters").and_then(|parameters| parameters.get_mut("mode")) {
                *mode = json!(mode_word(mode.as_str().unwrap()));
            }
            for route in link.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
                if route["to"] == "default" {
                    route["to"] = json!(if route["via"].as_str().unwrap().contains(':') {
                        "::/0"
                    } else {
                        "0.0.0.0/0"
                    });
                }
            }
        }
        assert!(["version", "ethernets", "bonds", "vlans"].contains(&section.as_str()), "{section}");
    }
    value
}

/// All files for one software.
fn rendered(plan: &Plan<'_>, renderer: &str) -> Files {
    let mut files = Files::new();
    let mut add = |name: String, emit: Emit<'_>| _ = files.insert(name, text(emit));
    match renderer {
        "eni" => add("etc/network/interfaces".into(), &|out| ifupdown::put(plan, out)),
        "netplan" => add("etc/netplan/90-preroot.yaml".into(), &|out| netplan::put(plan, out)),
        _ => {
            for at in plan.network.positions() {
                let label = plan.label(at);
                match renderer {
                    "network_manager" => {
                        add(format!("{label}.nmconnection"), &|out| network_manager::put(plan, at, out))
                    }
                    _ => {
                        if networkd::has_netdev(plan, at) {
                            add(format!("{label}.netdev"), &|out| networkd::put_netdev(plan, at, out));
                        }
                        add(format!("{label}.network"), &|out| networkd::put_network(plan, at, out));
                    }
                }
            }
        }
    }
    files
}

fn meaning(renderer: &str, files: &Files) -> Value {
    match renderer {
        "networkd" => networkd_meaning(files),
        "network_manager" => network_manager_meaning(files),
        "eni" => ifupdown_meaning(files),
        _ => netplan_meaning(files),
    }
}

/// Why ours is another, where it is on purpose.
fn reason(case: &str, renderer: &str) -> Option<&'static str> {
    match (renderer, case) {
        ("networkd", "synthetic_slaac_and_stateful") => Some(
            "SLAAC says IPv6AcceptRA=yes and its name servers, stateful DHCPv6 says DHCP=ipv6: the reference loses the one and says DHCP=no for the other",
        ),
        ("netplan", "three_dhcp_links") => {
            Some("the name servers of all links are not lost where DHCP is asked, too")
        }
        ("netplan", "synthetic_slaac_and_stateful") => {
            Some("SLAAC is accept-ra: true, not dhcp6: true; its name servers and route are kept")
        }
        ("networkd", "bond_with_two_vlans") => {
            Some("the bond's transmit hash policy is kept; its members have no name servers")
        }
        ("network_manager", "bond_with_two_vlans" | "vlan_on_phy") => Some(
            "a bond's and a VLAN's MAC address is kept (cloned-mac-address); a VLAN's parent asks for no address",
        ),
        ("networkd", "vlan_on_phy") => Some("what has no addresses has no name servers"),
        ("eni", "v4_v6_static_tap_and_null") => {
            Some("the document's accept-ra: false is written, as for networkd; the reference loses it here")
        }
        _ => None,
    }
}

#[test]
fn rendered_networks_mean_what_the_references_do() {
    let path = format!("{}/tests/fixtures/cases/network_data_rendered.json", env!("CARGO_MANIFEST_DIR"));
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::<&str, (u32, Vec<&str>)>::new());
    for case in document["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let case =
            Case { name: name.into(), input: case["input"].clone(), expected: case["expected"].clone() };
        let (network, notes) = read(&case.input["network_data"].to_string());
        assert!(notes.first.is_empty());
        let plan = plan_of(&case, &network);
        for renderer in ["networkd", "network_manager", "eni", "netplan"] {
            let theirs = case.expected["rendered"][renderer].as_object().unwrap();
            let theirs: Files =
                theirs.iter().map(|(path, text)| (path.clone(), text.as_str().unwrap().into())).collect();
            let (ours, theirs) = (meaning(renderer, &rendered(&plan, renderer)), meaning(renderer, &theirs));
            let count = counts.entry(renderer).or_default();
            match reason(name, renderer) {
                _ if ours == theirs => count.0 += 1,
                Some(reason) => count.1.push(reason),
                None => wrong.push(format!("{name} {renderer}\n  ours     {ours}\n  expected {theirs}")),
            }
        }
    }
    for (renderer, (equal, reasons)) in counts {
        std::println!(
            "cases network_data_rendered {renderer}: {equal} equal, {} different on purpose {reasons:?}",
            reasons.len()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Why ours is another than what cloud-init makes of its own configuration.
fn matrix_reason(case: &str, renderer: &str) -> Option<&'static str> {
    let starts = |names: &[&str]| names.iter().any(|name| case.starts_with(name));
    Some(match renderer {
        "network_manager" if starts(&["small", "vlan", "v2-dns-no-dhcp"]) => {
            "a link without addresses asks nobody for one, and a VLAN's MTU is kept"
        }
        "network_manager" if starts(&["dhcpv6_only"]) => "IPv6 alone does not ask for IPv4",
        "network_manager" if starts(&["bond_v1"]) => {
            "the bond's MAC address and miimon are kept; a gateway outside is on the link"
        }
        "network_manager" if starts(&["v2-mixed"]) => {
            "a route of a family without addresses makes that family one that may fail"
        }
        "netplan" if starts(&["ipv6_slaac", "dhcpv6_stateless"]) => {
            "SLAAC is accept-ra: true, not dhcp6: true"
        }
        "netplan" if starts(&["bond_v1"]) => {
            "a gateway outside of the link's networks is on the link; routes in another order"
        }
        "eni" if starts(&["ipv6_slaac"]) => "dhcp 0 is what auto does anyway",
        "eni" if starts(&["dhcpv6_stateful"]) => "a stateful address needs a router: accept-ra 1",
        "eni" if starts(&["small"]) => {
            "routes stand with the first stanza of their family; servers of all are for links without their own"
        }
        "eni" if starts(&["v2-mixed"]) => {
            "a route of a family without addresses stands with the first stanza"
        }
        "eni" if starts(&["v2-dns-no"]) => "name servers of a link that has no static address are kept",
        _ if starts(&["small_v1", "v1-dns", "v1_eni"]) => "servers of all are for links without their own",
        _ => return None,
    })
}

#[test]
fn cloud_inits_own_configurations_mean_the_same() {
    let path = format!("{}/tests/fixtures/network/matrix.json", env!("CARGO_MANIFEST_DIR"));
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::<String, (u32, Vec<&str>)>::new());
    let mut unsupported = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if let Some(why) = case["unsupported"].as_str() {
            unsupported.push(why);
            continue;
        }
        let files: Vec<String> =
            case["seed"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().into()).collect();
        let network = of_seed(&files).unwrap();
        let asked =
            |mac| network.links.iter().find(|link| link.mac == Some(mac)).and_then(|link| link.name.clone());
        let plan = Plan::new(&network, &mut |mac| asked(mac));
        for (renderer, theirs) in case["expected"].as_object().unwrap() {
            let theirs: Files = theirs
                .as_object()
                .unwrap()
                .iter()
                .map(|(path, text)| (path.clone(), text.as_str().unwrap().into()))
                .collect();
            let (ours, theirs) = (meaning(renderer, &rendered(&plan, renderer)), meaning(renderer, &theirs));
            let count = counts.entry(renderer.clone()).or_default();
            match matrix_reason(name, renderer) {
                _ if ours == theirs => count.0 += 1,
                Some(reason) => count.1.push(reason),
                None => wrong.push(format!("{name} {renderer}\n  ours     {ours}\n  expected {theirs}")),
            }
        }
    }
    for (renderer, (equal, reasons)) in &mut counts {
        let different = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        std::println!(
            "cases network_config_render_matrix {renderer}: {equal} equal, {different} different on purpose {reasons:?}"
        );
    }
    std::println!(
        "cases network_config_render_matrix: {} configurations not supported {unsupported:?}",
        unsupported.len()
    );
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

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
        (0..4095u16, 0..n.max(1)).prop_map(|(id, parent)| LinkKind::Vlan { id, parent })
    ];
    let name = prop::option::of("[a-z][a-z0-9._-]{0,14}");
    (kind, name, any::<Option<[u8; 6]>>(), any::<Option<u16>>(), any::<Option<bool>>()).prop_map(
        |(kind, name, mac, mtu, accept_ra)| Link {
            kind,
            name: name.map(|name| LinkName::parse(&name).unwrap()),
            mac: mac.map(MacAddr),
            mtu: mtu.map(u32::from),
            accept_ra,
            bond: None,
        },
    )
}
use proptest::prelude::Just;

/// Networks whose references lead somewhere, mostly.
pub(crate) fn network() -> impl Strategy<Value = Network> {
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
    let route = (prefix(), address(), any::<bool>(), any::<Option<u32>>());
    (
        links,
        prop::collection::vec((0..4u8, subnet), 0..8),
        prop::collection::vec((0..4u8, route), 0..8),
        prop::collection::vec((row(4), address()), 0..8),
        prop::collection::vec((row(4), "[a-z][a-z0-9.-]{0,20}"), 0..4),
        prop::collection::vec((0..4u8, "(mode|miimon|xmit_hash_policy)", "[a-z0-9+.]{1,12}"), 0..4),
    )
        .prop_map(|(links, subnets, routes, dns, search, parameters)| {
            let mut network = Network::new();
            let count = u8::try_from(links.len()).unwrap();
            links.into_iter().for_each(|link| _ = network.add_link(link));
            let is_there = |at: &u8| *at == ALL || *at < count;
            for (at, subnet) in subnets.into_iter().filter(|(at, _)| is_there(at)) {
                network.add_subnet(at, subnet).unwrap();
            }
            for (at, (to, via, has_via, metric)) in routes.into_iter().filter(|(at, _)| is_there(at)) {
                network.add_route(at, Route { to, via: has_via.then_some(via), metric }).unwrap();
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
                network.clear();
            }
            network
        })
}

fn seed_files(network: &Network) -> Vec<String> {
    let file = |at| {
        let mut text = String::new();
        seed::emit(network, at, &mut |line| {
            text.push_str(core::str::from_utf8(line).unwrap());
            Ok(())
        })
        .unwrap();
        text
    };
    network.positions().chain([ALL]).map(file).collect()
}

fn of_seed(files: &[String]) -> crate::error::Result<Network> {
    let mut network = Network::new();
    let (all, links) = files.split_last().unwrap();
    for (file, at) in links.iter().zip(0..) {
        seed::parse(file, at, &mut network)?;
    }
    seed::parse(all, ALL, &mut network)?;
    network.check().map(|()| network)
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
    fn any_text_of_a_seed_is_read_or_refused(text in "((type|name|mac|route|subnet|dns|bond|mtu|x) ?[a-z0-9./: -]{0,20}\n){0,6}", other in any::<String>()) {
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
