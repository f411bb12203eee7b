//! What did cloud-init's renderers make of the same networks? Every line that differs needs a rule that says why.

use super::super::Plan;
use super::meaning::meaning;
use super::{Files, of_seed, rendered};
use crate::format::cases::Case;
use crate::format::network_data::tests::{plan_of, read};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

/// Whose doing a difference is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// The reference loses, or breaks, what it was told.
    Fault,
    /// We want it so.
    Choice,
    /// We cannot.
    Missing,
    /// What was recorded is of another input.
    Record,
}
use Doing::{Choice, Fault, Missing, Record};

/// Which lines differ in which cases, and why.
struct Rule {
    renderer: &'static str,
    /// How names of cases begin.
    cases: &'static [&'static str],
    /// What lines of ours have.
    ours: &'static [&'static str],
    /// What lines of the reference have.
    theirs: &'static [&'static str],
    doing: Doing,
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        renderer: "network_manager",
        cases: &["large_v"],
        ours: &[],
        theirs: &["ib0 "],
        doing: Missing,
        why: "InfiniBand is not supported",
    },
    Rule {
        renderer: "eni",
        cases: &["large_v"],
        ours: &[],
        theirs: &["ib0"],
        doing: Missing,
        why: "InfiniBand is not supported",
    },
    Rule {
        renderer: "eni",
        cases: &["large_v"],
        ours: &[],
        theirs: &["10.0.0.0/8 via 11.0.0.1 metric 3"],
        doing: Missing,
        why: "a route of no link; the reference loses it for netplan and NetworkManager",
    },
    Rule {
        renderer: "eni",
        cases: &["large_v"],
        ours: &[],
        theirs: &["bridge-gcint", "bridge-waitport"],
        doing: Choice,
        why: "bridge-gcint does nothing since Linux 2.6; ifupdown alone waits for ports",
    },
    Rule {
        renderer: "eni",
        cases: &["large_v2"],
        ours: &["auto eth5"],
        theirs: &[],
        doing: Record,
        why: "the files recorded are large_v1's, whose input says control: manual",
    },
    Rule {
        renderer: "network_manager",
        cases: &["large_v2"],
        ours: &[],
        theirs: &["dns=", "dns-search="],
        doing: Record,
        why: "the files recorded are large_v1's, whose input has name servers of the whole machine",
    },
    Rule {
        renderer: "network_manager",
        cases: &["large_v"],
        ours: &[
            "bridge ageing-time=",
            "bridge forward-delay=",
            "bridge hello-time=",
            "bridge max-age=",
            "bridge-port ",
        ],
        theirs: &[],
        doing: Fault,
        why: "what a bridge is told, but for stp and priority, and what its ports are told, is lost",
    },
    Rule {
        renderer: "network_manager",
        cases: &["large_v1", "manual"],
        ours: &["connection autoconnect=false"],
        theirs: &[],
        doing: Fault,
        why: "control: manual is lost",
    },
    Rule {
        renderer: "network_manager",
        cases: &["v1_ipv4_and_ipv6_static"],
        ours: &["ipv6 mtu=1500"],
        theirs: &[],
        doing: Fault,
        why: "the MTU of IPv6 is lost",
    },
    Rule {
        renderer: "networkd",
        cases: &["v1_ipv4_and_ipv6_static"],
        ours: &["MTUBytes=9000", "IPv6MTUBytes=1500"],
        theirs: &["MTUBytes=8999"],
        doing: Fault,
        why: "MTUs of subnets are lost, which they are not for netplan and ifupdown",
    },
    Rule {
        renderer: "eni",
        cases: &["v2-mixed-routes"],
        ours: &[" mtu 100 ", " mtu 200 ", " mtu 300 ", " mtu 400 "],
        theirs: &["eth0 post-up ip ", "eth0 pre-down ip "],
        doing: Fault,
        why: "the MTU of a route is lost",
    },
    Rule {
        renderer: "network_manager",
        cases: &[
            "small_v",
            "vlan_v",
            "vlan_on_phy",
            "v2-dns-no-dhcp",
            "large_v",
            "manual",
            "v2-bridges-set-name",
        ],
        ours: &["ipv4 method=disabled", "ipv6 method=disabled"],
        theirs: &["method=auto", "may-fail=true"],
        doing: Fault,
        why: "a link without addresses asks nobody for one: a keyfile that says nothing of a family asks for DHCP (nmcli --offline prints method=auto)",
    },
    Rule {
        renderer: "network_manager",
        cases: &["dhcpv6_only"],
        ours: &["iface0 ipv4 method=disabled"],
        theirs: &["iface0 ipv4 method=auto", "iface0 ipv4 may-fail=true"],
        doing: Fault,
        why: "dhcp6 alone does not ask for IPv4: as above (canonical/cloud-init#6685)",
    },
    Rule {
        renderer: "network_manager",
        cases: &["bond_with_two_vlans", "vlan_on_phy", "bond_v", "large_v"],
        ours: &["ethernet cloned-mac-address="],
        theirs: &[],
        doing: Fault,
        why: "the MAC address of a bond or VLAN is lost: a port of the cloud's network takes no other",
    },
    Rule {
        renderer: "network_manager",
        cases: &["bond_v", "large_v1"],
        ours: &["bond0 bond miimon=100", "bond0 bond xmit_hash_policy=layer3+4"],
        theirs: &[],
        doing: Fault,
        why: "miimon, and in version 2 the hash policy, is lost: no link of the bond would ever be found down",
    },
    Rule {
        renderer: "network_manager",
        cases: &["vlan_v", "large_v", "bond_v2"],
        ours: &["en0.99 ethernet mtu=2222", "eth0.101 ethernet mtu=1500", "bond0 ethernet mtu=9000"],
        theirs: &[],
        doing: Fault,
        why: "the MTU of a VLAN, and in version 2 a bond's, is lost",
    },
    Rule {
        renderer: "network_manager",
        cases: &["v2-mixed-routes-no-ipv6-addr"],
        ours: &["eth0 ipv6 may-fail=true", "eth0 ipv6 method=auto"],
        theirs: &[],
        doing: Fault,
        why: "a family without a method voids the whole keyfile (nmcli --offline: ipv6.method: property is missing)",
    },
    Rule {
        renderer: "network_manager",
        cases: &["bond_v", "large_v"],
        ours: &["onlink=true"],
        theirs: &[],
        doing: Fault,
        why: "a gateway outside of the link's networks is on the link, or the kernel refuses the route",
    },
    Rule {
        renderer: "netplan",
        cases: &["bond_v", "large_v1"],
        ours: &["\"on-link\":\"true\""],
        theirs: &[
            "\"via\":\"2001:67c:1562::1\"",
            "\"via\":\"3001:67c:15::1\"",
            "\"via\":\"2001:4800:78ff:1b::1\"",
        ],
        doing: Fault,
        why: "a gateway outside of the link's networks is on the link, or the kernel refuses the route",
    },
    Rule {
        renderer: "eni",
        cases: &["bond_v", "large_v"],
        ours: &[" onlink "],
        theirs: &[
            "via 2001:67c:1562::1 || true",
            "via 3001:67c:15::1 metric 10000 || true",
            "via 2001:4800:78ff:1b::1 || true",
        ],
        doing: Fault,
        why: "a gateway outside of the link's networks is on the link, or the kernel refuses the route",
    },
    Rule {
        renderer: "netplan",
        cases: &["three_dhcp_links", "large_v1"],
        ours: &["nameservers addresses = ", "nameservers search = "],
        theirs: &[],
        doing: Fault,
        why: "the machine's name servers are lost where DHCP is asked, too",
    },
    Rule {
        renderer: "netplan",
        cases: &["synthetic_slaac_and_stateful"],
        ours: &[
            "enp0s1 nameservers addresses = 2001:db8::53",
            "enp0s1 route {\"to\":\"::/0\",\"via\":\"2001:db8::1\"}",
        ],
        theirs: &[],
        doing: Fault,
        why: "name servers and route of a network with SLAAC are lost",
    },
    Rule {
        renderer: "networkd",
        cases: &["synthetic_slaac_and_stateful"],
        ours: &["enp0s1.network Network DNS=2001:db8::53"],
        theirs: &[],
        doing: Fault,
        why: "name servers of a network with SLAAC are lost",
    },
    Rule {
        renderer: "networkd",
        cases: &["synthetic_slaac_and_stateful"],
        ours: &["enp0s1.network Network IPv6AcceptRA=yes", "enp0s2.network Network DHCP=ipv6"],
        theirs: &[],
        doing: Choice,
        why: "who needs routers hears them whatever the kernel's default is, and stateful DHCPv6 is asked for",
    },
    Rule {
        renderer: "networkd",
        cases: &["bond_with_two_vlans"],
        ours: &["Bond Mode=802.3ad", "Bond TransmitHashPolicy=layer3+4"],
        theirs: &["Bond Mode=4"],
        doing: Fault,
        why: "systemd knows no numbers of modes; the hash policy is lost",
    },
    Rule {
        renderer: "networkd",
        cases: &["v1-dns"],
        ours: &["Network DNS=2.2.2.2", "Network DNS=fedc::1", "Network Domains=bbbb"],
        theirs: &[],
        doing: Fault,
        why: "the machine's name servers are lost where a link has its own, which they are not where a subnet has (small_v1)",
    },
    Rule {
        renderer: "eni",
        cases: &["v4_v6_static_tap_and_null"],
        ours: &["accept-ra 0"],
        theirs: &[],
        doing: Fault,
        why: "the document's accept-ra: false is lost, which it is not for networkd and netplan",
    },
    Rule {
        renderer: "eni",
        cases: &["v2-mixed-routes-no-ipv6-addr"],
        ours: &[],
        theirs: &["eth0 inet6 static"],
        doing: Fault,
        why: "a static stanza without an address keeps the interface from coming up",
    },
    Rule {
        renderer: "eni",
        cases: &["v2-dns-no-if-ips"],
        ours: &["dns-nameservers ", "dns-search "],
        theirs: &[],
        doing: Fault,
        why: "name servers of a link with DHCP are lost",
    },
    Rule {
        renderer: "eni",
        cases: &["v1_eni_ipv4_and_ipv6_static_dns_only_ipv6", "v1_eni_ipv4_and_ipv6_static_dns_both"],
        ours: &["dns-nameservers 2001:3db::2a", "dns-search cafe"],
        theirs: &[],
        doing: Fault,
        why: "the machine's name servers of IPv6 are lost, which they are not in v1-dns",
    },
];

/// The lines of one that the other does not have as often.
fn without<'l>(lines: &'l [String], other: &[String]) -> Vec<&'l str> {
    let mut rest: Vec<&String> = other.iter().collect();
    let is_alone = |line: &&String| match rest.iter().position(|other| other == line) {
        Some(n) => {
            rest.swap_remove(n);
            false
        }
        None => true,
    };
    lines.iter().filter(is_alone).map(String::as_str).collect()
}

/// The positions of the rules that explain all differences, or what nobody explains.
fn explained(
    case: &str,
    renderer: &str,
    ours: &[String],
    theirs: &[String],
) -> Result<BTreeSet<usize>, String> {
    let (mut used, mut lost) = (BTreeSet::new(), String::new());
    let (ours, theirs) = (without(ours, theirs), without(theirs, ours));
    for (sign, line, is_ours) in
        ours.iter().map(|line| ('+', line, true)).chain(theirs.iter().map(|line| ('-', line, false)))
    {
        let explains = |rule: &&Rule| {
            let fragments = if is_ours { rule.ours } else { rule.theirs };
            rule.renderer == renderer
                && rule.cases.iter().any(|name| case.starts_with(name))
                && fragments.iter().any(|fragment| line.contains(fragment))
        };
        match RULES.iter().position(|rule| explains(&rule)) {
            Some(n) => _ = used.insert(n),
            None => lost += &format!("  {sign} {line}\n"),
        }
    }
    if lost.is_empty() { Ok(used) } else { Err(lost) }
}

/// How many files are as the reference's, and how many not for which reason, the worst first that is in them.
#[derive(Default, Clone, Copy)]
struct Count {
    equal: u32,
    missing: u32,
    record: u32,
    choice: u32,
    fault: u32,
}

impl Count {
    fn add(&mut self, rules: &BTreeSet<usize>) {
        let has = |doing| rules.iter().any(|n| RULES[*n].doing == doing);
        let slot = match () {
            () if rules.is_empty() => &mut self.equal,
            () if has(Record) => &mut self.record,
            () if has(Missing) => &mut self.missing,
            () if has(Choice) => &mut self.choice,
            () => &mut self.fault,
        };
        *slot += 1;
    }

    fn words(self) -> String {
        let Self { equal, missing, record, choice, fault } = self;
        format!(
            "{equal} equal, {fault} but for faults of the reference, {choice} different on purpose, {missing} not supported, {record} recorded of another input"
        )
    }
}

#[derive(Default)]
struct Tally {
    all: Count,
    wrong: String,
    used: BTreeSet<usize>,
    by_renderer: BTreeMap<String, (Count, BTreeSet<usize>)>,
}

impl Tally {
    fn count(&mut self, case: &str, plan: &Plan<'_>, renderer: &str, theirs: &Value) {
        let theirs: Files = theirs
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, text)| (path.clone(), text.as_str().unwrap().into()))
            .collect();
        let (ours, theirs) = (meaning(renderer, &rendered(plan, renderer)), meaning(renderer, &theirs));
        let row = self.by_renderer.entry(renderer.into()).or_default();
        match explained(case, renderer, &ours, &theirs) {
            Err(lost) => self.wrong += &format!("{case} {renderer}\n{lost}"),
            Ok(rules) => {
                row.0.add(&rules);
                self.all.add(&rules);
                row.1.extend(rules);
            }
        }
    }

    fn print(&mut self, file: &str) {
        for (renderer, (count, rules)) in core::mem::take(&mut self.by_renderer) {
            let reasons: BTreeSet<_> = rules.iter().map(|n| RULES[*n].why).collect();
            std::println!("cases {file} {renderer}: {} {reasons:?}", count.words());
            self.used.extend(rules);
        }
    }
}

fn fixture(path: &str) -> Value {
    let path = format!("{}/tests/fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn network_data(tally: &mut Tally) {
    for case in fixture("cases/network_data_rendered.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let case =
            Case { name: name.into(), input: case["input"].clone(), expected: case["expected"].clone() };
        let (network, notes) = read(&case.input["network_data"].to_string());
        assert!(notes.first.is_empty());
        let plan = plan_of(&case, &network);
        for renderer in ["networkd", "network_manager", "eni", "netplan"] {
            tally.count(name, &plan, renderer, &case.expected["rendered"][renderer]);
        }
    }
    tally.print("network_data_rendered");
}

fn matrix(tally: &mut Tally) {
    for case in fixture("network/matrix.json")["cases"].as_array().unwrap() {
        assert!(case["unsupported"].is_null(), "{case}");
        let files: Vec<String> =
            case["seed"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().into()).collect();
        let network = of_seed(&files).unwrap();
        let asked =
            |mac| network.links.iter().find(|link| link.mac == Some(mac)).and_then(|link| link.name.clone());
        let plan = Plan::new(&network, &mut |mac| asked(mac));
        for (renderer, theirs) in case["expected"].as_object().unwrap() {
            tally.count(case["name"].as_str().unwrap(), &plan, renderer, theirs);
        }
    }
    tally.print("network_config_render_matrix");
}

#[test]
fn rendered_networks_mean_what_the_references_do() {
    let mut tally = Tally::default();
    network_data(&mut tally);
    matrix(&mut tally);
    std::println!("cases of rendered networks: {}", tally.all.words());
    assert!(tally.wrong.is_empty(), "nobody explains\n{}", tally.wrong);
    for (n, rule) in RULES.iter().enumerate() {
        assert!(tally.used.contains(&n), "a rule that explains nothing: {}", rule.why);
    }
}
