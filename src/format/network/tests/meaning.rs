//! What do the files of a software say? One line for each thing said, in an order of its own, so that two can be compared.

use super::super::mode_word;
use super::Files;
use crate::facts::network::Prefix;
use core::net::IpAddr;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// What the files of this software say.
pub(super) fn meaning(renderer: &str, files: &Files) -> Vec<String> {
    let mut lines = match renderer {
        "networkd" => networkd(files),
        "network_manager" => network_manager(files),
        "eni" => ifupdown(files),
        _ => netplan(files),
    };
    lines.sort();
    lines
}

/// Sections with their pairs, in order; a section may come several times.
pub(super) fn ini(text: &str) -> Vec<(String, Vec<(String, String)>)> {
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

fn value<'p>(pairs: &'p [(String, String)], wanted: &str) -> Option<&'p str> {
    pairs.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str())
}

fn everything(address: &str) -> &'static str {
    if address.contains(':') { "::/0" } else { "0.0.0.0/0" }
}

/// A network as the kernel takes it: of IPv6, without the bits of a host.
fn masked(text: &str) -> String {
    match Prefix::parse(text) {
        Ok(Prefix { address: IpAddr::V6(address), length }) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            format!("{}/{length}", core::net::Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        _ => text.into(),
    }
}

/// `NAME.network Section key=value`; addresses and routes whole.
fn networkd(files: &Files) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap().replace("10-cloud-init-", "").replace("05-preroot-", "");
        let sections = ini(text);
        // Who is a port of another has no addresses, and so no servers.
        let is_port =
            sections.iter().any(|(_, pairs)| value(pairs, "Bond").or(value(pairs, "Bridge")).is_some());
        for (section, pairs) in &sections {
            let has_mac = value(pairs, "MACAddress").is_some();
            let mut said = Vec::new();
            for (key, value) in pairs {
                match (section.as_str(), key.as_str()) {
                    ("Match", "Name") if has_mac => {}
                    // The default.
                    ("Network", "DHCP") if value == "no" => {}
                    (_, "DNS" | "Domains") if is_port => {}
                    (_, "DNS" | "Domains") => {
                        said.extend(value.split(' ').map(|word| format!("{key}={}", word.to_lowercase())))
                    }
                    _ => said.push(format!("{key}={}", value.to_lowercase())),
                }
            }
            if let ("Route", Some(via), None) =
                (section.as_str(), value(pairs, "Gateway"), value(pairs, "Destination"))
            {
                said.push(format!("Destination={}", everything(via)));
            }
            said.sort();
            if ["Route", "Address"].contains(&section.as_str()) {
                lines.push(format!("{name} {section} {}", said.join(" ")));
            } else {
                lines.extend(said.iter().map(|said| format!("{name} {section} {said}")));
            }
        }
    }
    lines
}

/// `NAME section key=value`; what refers to another connection does so by its name. What a keyfile leaves out is what
/// NetworkManager takes it for (`nmcli --offline` prints it).
fn network_manager(files: &Files) -> Vec<String> {
    let files: Vec<_> =
        files.iter().filter(|(path, _)| path.ends_with(".nmconnection")).map(|(_, text)| ini(text)).collect();
    let connection = |file: &[(String, Vec<(String, String)>)], wanted: &str| -> String {
        let pairs = &file.iter().find(|(name, _)| name == "connection").unwrap().1;
        value(pairs, wanted).unwrap_or_default().into()
    };
    let names: BTreeMap<_, _> = files
        .iter()
        .map(|file| {
            (connection(file, "uuid"), connection(file, "id").rsplit(' ').next().unwrap().to_string())
        })
        .collect();
    let mut lines = Vec::new();
    for file in &files {
        let name = &names[&connection(file, "uuid")];
        let is_port = !connection(file, "slave-type").is_empty();
        for family in ["ipv4", "ipv6"] {
            if !is_port && !file.iter().any(|(section, _)| section == family) {
                lines.push(format!("{name} {family} method=auto"));
                lines.push(format!("{name} {family} may-fail=true"));
            }
        }
        for (section, pairs) in file.iter().filter(|(section, _)| section != "user") {
            let is_family = ["ipv4", "ipv6"].contains(&section.as_str());
            // A port's are dropped.
            if is_family && is_port {
                continue;
            }
            let is_off = value(pairs, "method") == Some("disabled");
            for (key, value) in pairs {
                let value = names.get(value).cloned().unwrap_or_else(|| value.to_lowercase());
                let is_route = key.starts_with("route");
                let parts: Vec<_> = value.split(',').collect();
                let said = match (key.trim_end_matches(|c: char| c.is_ascii_digit()), parts.as_slice()) {
                    ("uuid" | "id", _) => continue,
                    // Ours is above the reference's 120 on purpose: its files may be in the image.
                    ("autoconnect-priority", _) => continue,
                    ("may-fail", _) if is_off => continue,
                    ("wake-on-lan", ["64"]) => "wake-on-lan=magic".into(),
                    ("dns" | "dns-search", _) => {
                        let words = value.split_terminator(';');
                        lines.extend(words.map(|word| format!("{name} {section} {key}={word}")));
                        continue;
                    }
                    ("mode", _) => format!("mode={}", mode_word(&value)),
                    ("gateway", [via]) => format!("route={},{via}", everything(via)),
                    // Which route of the connection an option is about, not its number.
                    (_, [..]) if is_route && key.ends_with("_options") => {
                        let route =
                            self::value(pairs, key.trim_end_matches("_options")).unwrap().to_lowercase();
                        let (to, rest) = route.split_once(',').unwrap();
                        format!("route={},{rest} {value}", masked(to))
                    }
                    ("route", [to, via, metric]) if *to == everything(via) => {
                        lines.push(format!("{name} {section} route-metric={metric}"));
                        format!("route={to},{via}")
                    }
                    ("route", [to, via @ ..]) => format!("route={},{}", masked(to), via.join(",")),
                    (key, _) => format!("{key}={value}"),
                };
                lines.push(format!("{name} {section} {said}"));
            }
        }
    }
    lines
}

/// `auto NAME`, `NAME family method ADDRESS` and what is said there; routes by interface: all its stanzas are brought up.
/// Name servers of the whole file: the reference has them on `lo`.
fn ifupdown(files: &Files) -> Vec<String> {
    let file = files.iter().find(|(path, _)| path.contains("network/interfaces")).unwrap().1;
    let (mut lines, mut names) = (Vec::new(), BTreeSet::new());
    let mut stanza: Option<(String, Vec<String>)> = None;
    let mut count = 0;
    let mut end = |stanza: Option<(String, Vec<String>)>, lines: &mut Vec<String>| {
        let Some((head, said)) = stanza else { return };
        let address = said.iter().find(|said| said.starts_with("address ")).cloned().unwrap_or_default();
        let head = if address.is_empty() { head } else { format!("{head} {address}") };
        count += 1;
        lines.extend(said.iter().filter(|said| **said != address).map(|said| format!("{head}: {said}")));
        lines.push(head);
    };
    let mut current = String::new();
    for line in file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["iface", name, how @ ..] => {
                end(stanza.take(), &mut lines);
                current = (*name).into();
                stanza = Some((format!("{name} {}", how.join(" ")), Vec::new()));
            }
            ["auto", name] => lines.push(format!("auto {name}")),
            ["source", ..] => {}
            [key @ ("dns-nameservers" | "dns-search"), values @ ..] => {
                names.extend(values.iter().map(|value| format!("{key} {}", value.to_lowercase())));
            }
            ["gateway", via] => {
                let family = if via.contains(':') { "-family inet6 " } else { "" };
                lines.push(format!("{current} post-up ip {family}route add default via {via} || true"));
                lines.push(format!("{current} pre-down ip {family}route del default via {via} || true"));
            }
            [when @ ("post-up" | "pre-down"), ..] => {
                assert!(when.len() > 1);
                let line = line.to_lowercase().replace(&format!(" dev {current}"), "");
                let words: Vec<_> = line.split(' ').map(masked).collect();
                lines.push(format!("{current} {}", words.join(" ")));
            }
            words => {
                let line = words.join(" ").to_lowercase().replace("bond_", "bond-");
                let head = &stanza.as_ref().unwrap().0;
                let is_default = match line.as_str() {
                    // interfaces(5).
                    "dhcp 0" => head.ends_with("inet6 auto"),
                    "accept-ra 1" => head.ends_with("inet6 dhcp"),
                    _ => false,
                };
                let line = line.replace("bond-mode 4", "bond-mode 802.3ad");
                // Ports of a bridge are brought up by it, and so is what a VLAN stands on.
                match words {
                    ["vlan-raw-device", name] => lines.push(format!("auto {name}")),
                    ["bridge-ports", ports @ ..] => {
                        lines.extend(ports.iter().map(|name| format!("auto {name}")))
                    }
                    _ => {}
                }
                if !is_default {
                    stanza.as_mut().unwrap().1.push(line);
                }
            }
        }
    }
    end(stanza, &mut lines);
    assert!(count > 0);
    lines.extend(names);
    lines.retain(|line| !line.starts_with("lo ") && line != "auto lo");
    let autos: BTreeSet<_> = lines.iter().filter(|line| line.starts_with("auto ")).cloned().collect();
    lines.retain(|line| !line.starts_with("auto "));
    lines.extend(autos);
    lines
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

/// `section NAME key=value`, routes whole. What is off or empty is left out; names of cards are what they are called by.
fn netplan(files: &Files) -> Vec<String> {
    let mut document =
        yaml(files.iter().find(|(path, _)| path.ends_with(".yaml")).unwrap().1)["network"].take();
    let mut lines = Vec::new();
    for (section, links) in document.as_object_mut().unwrap() {
        assert!(
            ["version", "ethernets", "bonds", "bridges", "vlans"].contains(&section.as_str()),
            "{section}"
        );
        for (name, link) in links.as_object_mut().into_iter().flatten() {
            let link = link.as_object_mut().unwrap();
            // Ours says it in a `.link` file.
            link.remove("set-name");
            for key in ["dhcp4", "dhcp6"] {
                if link.get(key) == Some(&json!("false")) {
                    link.remove(key);
                }
            }
            if let Some(mode) = link.get_mut("parameters").and_then(|parameters| parameters.get_mut("mode")) {
                *mode = json!(mode_word(mode.as_str().unwrap()));
            }
            lines.push(format!("{section} {name}"));
            for route in link.remove("routes").iter().flat_map(|routes| routes.as_array().unwrap()) {
                let mut route = route.clone();
                if route["to"] == "default" {
                    route["to"] = json!(everything(route["via"].as_str().unwrap()));
                }
                lines.push(format!("{section} {name} route {route}"));
            }
            flatten(&format!("{section} {name} "), &Value::Object(core::mem::take(link)), &mut lines);
        }
    }
    lines
}

fn flatten(before: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&format!("{before}{key} "), value, lines);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| flatten(before, item, lines)),
        Value::String(text) => lines.push(format!("{before}= {}", text.to_lowercase())),
        other => panic!("{other}"),
    }
}
