//! Do the programs that read our files of a network take them? Debian's netplan, ifquery, nmcli and systemd-networkd,
//! ifupdown-ng's ifquery and busybox' ifup, each where it is installed, or unpacked below `NETWORK_SOFTWARE` (dpkg -x); what is not there is said.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use preroot::error::Result;
use preroot::facts::network::{ALL, LinkName, MacAddr, Network};
use preroot::format::network::{Plan, ifupdown, interfaces, netplan, network_manager, networkd, seed};
use preroot::format::network_data::NetworkDataReader;
use preroot::format::text::Out;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DOCUMENT: &str = r#"{"links":[
  {"id":"tap1","type":"ovs","ethernet_mac_address":"02:00:00:00:00:01","mtu":1450},
  {"id":"i2","type":"phy","ethernet_mac_address":"02:00:00:00:00:02","mtu":9000},
  {"id":"i3","type":"phy","ethernet_mac_address":"02:00:00:00:00:03","mtu":9000,"name":"lan3"},
  {"id":"i4","type":"phy","ethernet_mac_address":"02:00:00:00:00:04"},
  {"id":"i5","type":"phy","ethernet_mac_address":"02:00:00:00:00:05"},
  {"id":"bond0","type":"bond","bond_links":["i2","i3"],"ethernet_mac_address":"02:00:00:00:00:02","bond_mode":"802.3ad",
   "bond_miimon":100,"bond_xmit_hash_policy":"layer3+4","bond_lacp_rate":"fast","mtu":9000},
  {"id":"vlan0","type":"vlan","vlan_link":"bond0","vlan_id":101,"vlan_mac_address":"02:00:00:00:00:72","mtu":1500}],
 "networks":[
  {"type":"ipv4","link":"tap1","ip_address":"10.0.1.17","netmask":"255.255.240.0","dns_search":["example.com"],
   "routes":[{"network":"0.0.0.0","netmask":"0.0.0.0","gateway":"10.0.0.1"},
             {"network":"192.168.0.0","netmask":"255.255.0.0","gateway":"10.0.0.2","metric":50},
             {"network":"172.16.0.0","netmask":"255.240.0.0","gateway":"0.0.0.0"}],"services":[{"type":"dns","address":"10.0.0.53"}]},
  {"type":"ipv4","link":"tap1","ip_address":"10.0.1.18","netmask":"32"},
  {"type":"ipv6","link":"tap1","ip_address":"2001:db8::3257:9652","netmask":"ffff:ffff:ffff:ffff::",
   "routes":[{"network":"::","netmask":"::","gateway":"fe80::1"}]},
  {"type":"ipv4","link":"vlan0","ip_address":"198.51.100.7","netmask":"32",
   "routes":[{"network":"203.0.113.0","netmask":"24","gateway":"203.0.113.1"}]},
  {"type":"ipv4_dhcp","link":"i4"},{"type":"ipv6_dhcpv6-stateful","link":"i4"},
  {"type":"ipv6_slaac","link":"i5"}],
 "services":[{"type":"dns","address":"8.8.8.8"},{"type":"dns","address":"2001:db8::53"}]}"#;

fn network() -> Box<Network> {
    let (mut reader, mut network) = (NetworkDataReader::new(), Box::new(Network::new()));
    reader.push(DOCUMENT.as_bytes(), &mut network).unwrap();
    assert!(reader.finish(&mut network).unwrap().first.is_empty());
    network
}

/// What network_data.json has no words for, as a seed has it: a bridge with a VLAN on it, wake on LAN, what waits for a person, a second
/// card as IMDS describes it.
const SEED: [&str; 7] = [
    "type physical\nname lan6\nmac 02:00:00:00:00:06\ndriver veth\nwakeonlan true\nmaster 2\nparameter bridge_pathcost 50\nparameter bridge_portprio 28\n",
    "type physical\nmac 02:00:00:00:00:07\nmaster 2\n",
    "type bridge\nname br0\nmac 02:00:00:00:00:73\nmtu 1400\nparameter bridge_stp false\nparameter bridge_fd 4\nparameter bridge_bridgeprio 22\nparameter bridge_ageing 250\nsubnet 192.0.2.2/24\nsubnet 2001:db8:1::2/64\nmtu6 1300\nroute 203.0.113.0/24 192.0.2.1 77 1350\n",
    "type vlan 5 2\nsubnet 198.51.100.9/24\n",
    "type physical\nmac 02:00:00:00:00:08\nwakeonlan true\nmanual true\nsubnet 198.51.100.70/26\n",
    "type physical\nmac 02:00:00:00:00:09\ndhcp-metric 200\ndhcp-dns false\nsubnet dhcp4\nsubnet dhcp6\nsubnet 198.51.100.130/26\n",
    "dns 192.0.2.53\nsearch example.com\n",
];

fn bridged() -> Box<Network> {
    let mut network = Box::new(Network::new());
    let (all, links) = SEED.split_last().unwrap();
    for (text, at) in links.iter().zip(0..) {
        seed::parse(text, at, &mut network).unwrap();
    }
    seed::parse(all, ALL, &mut network).unwrap();
    network.check().unwrap();
    network
}

fn plan(network: &Network) -> Plan<'_> {
    Plan::new(network, &mut |mac: MacAddr| LinkName::parse(&format!("eth{}", mac.0[5])).ok())
}

fn text(emit: impl Fn(&mut Out<'_>) -> Result<()>) -> String {
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(&FULL, &mut buf);
    emit(&mut out).unwrap();
    String::from_utf8(out.as_bytes().to_vec()).unwrap()
}
static FULL: preroot::error::Rule = preroot::error::Rule::new(b"ttest\0");

/// A directory of our own below cargo's.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("network").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A program, and what it needs in its environment; `None` where it is not there.
fn program(paths: &[&str]) -> Option<Command> {
    let unpacked = std::env::var("NETWORK_SOFTWARE").unwrap_or_default();
    for (base, path) in
        [unpacked.as_str(), ""].iter().flat_map(|base| paths.iter().map(move |path| (base, path)))
    {
        let full = format!("{base}{path}");
        if Path::new(&full).exists() {
            let mut command = Command::new(full);
            command.env("LC_ALL", "C");
            if !base.is_empty() {
                let libraries = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"]
                    .map(|path| format!("{base}{path}"));
                command.env("LD_LIBRARY_PATH", libraries.join(":"));
            }
            return Some(command);
        }
    }
    println!("network software: {} is not here, and so says nothing", paths[0]);
    None
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    println!("network software: {:?} takes it", command.get_program());
    text
}

#[test]
fn netplan_takes_it() {
    let (network, root) = (network(), directory("netplan"));
    let plan = plan(&network);
    std::fs::create_dir_all(root.join("etc/netplan")).unwrap();
    let file = root.join("etc/netplan/90-preroot.yaml");
    std::fs::write(&file, text(|out| netplan::put(&plan, out))).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let others = root.join("etc/netplan/90-default.yaml");
    std::fs::write(&others, text(|out| interfaces::set_netplan_aside(WILDCARDS.as_bytes(), &plan, out)))
        .unwrap();
    for file in [file, others] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let paths = ["/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate"];
    let Some(mut generate) = program(&paths) else { return };
    generate.arg("--root-dir").arg(&root);
    assert_eq!(output(generate), "", "no word of warning");
    let made = std::fs::read_to_string(root.join("run/systemd/network/10-netplan-eth1.network")).unwrap();
    for line in [
        "Address=10.0.1.17/20",
        "Address=10.0.1.18/32",
        "Gateway=10.0.0.1",
        "DNS=10.0.0.53",
        "IPv6AcceptRA=no",
    ] {
        assert!(made.contains(line), "{line}: {made}");
    }
    let vlan =
        std::fs::read_to_string(root.join("run/systemd/network/10-netplan-bond0.101.network")).unwrap();
    assert!(vlan.contains("GatewayOnLink=true"), "{vlan}");
    // This boot's name of a card that shall have another, and nothing before what is said of it.
    let card = std::fs::read_to_string(root.join("run/systemd/network/10-netplan-eth3.network")).unwrap();
    assert!(!card.contains("lan3"), "{card}");
    let made = std::fs::read_dir(root.join("run/systemd/network")).unwrap();
    let names: Vec<_> = made.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        names.iter().any(|name| name.contains("eth1")) && !names.iter().any(|name| name.contains("all-")),
        "{names:?}"
    );
}

#[test]
fn netplan_takes_a_bridge() {
    let (network, root) = (bridged(), directory("netplan-bridge"));
    let plan = plan(&network);
    std::fs::create_dir_all(root.join("etc/netplan")).unwrap();
    let file = root.join("etc/netplan/90-preroot.yaml");
    std::fs::write(&file, text(|out| netplan::put(&plan, out))).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let paths = ["/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate"];
    let Some(mut generate) = program(&paths) else { return };
    generate.arg("--root-dir").arg(&root);
    assert_eq!(output(generate), "", "no word of warning");
    let made = |name: &str| std::fs::read_to_string(root.join("run/systemd/network").join(name)).unwrap();
    for (name, lines) in [
        (
            "10-netplan-br0.netdev",
            &["STP=false", "ForwardDelaySec=4", "Priority=22", "AgeingTimeSec=250"][..],
        ),
        ("10-netplan-br0.network", &["IPv6MTUBytes=1300", "VLAN=br0.5", "MTUBytes=1350"]),
        ("10-netplan-eth6.network", &["Bridge=br0", "Cost=50", "Priority=28", "Driver=veth"]),
        ("10-netplan-eth8.link", &["WakeOnLan=magic"]),
        ("10-netplan-eth9.network", &["DHCP=yes", "RouteMetric=200", "UseDNS=false", "198.51.100.130/26"]),
    ] {
        let made = made(name);
        for line in lines {
            assert!(made.contains(line), "{name} {line}: {made}");
        }
    }
}

/// As in Debian's cloud images: its pattern would match every card, in a file that sorts before ours.
const WILDCARDS: &str = "network:
    version: 2
    ethernets:
        all-en:
            match:
                name: en*
            dhcp4: true
            dhcp6: true
        all-eth:
            match:
                name: eth*
            dhcp4: true
";

#[test]
fn ifupdown_takes_it() {
    let (network, root) = (network(), directory("ifupdown"));
    let plan = plan(&network);
    let file = root.join("interfaces");
    std::fs::write(&file, text(|out| ifupdown::put(&plan, out))).unwrap();
    let Some(mut list) = program(&["/sbin/ifquery", "/usr/sbin/ifquery"]) else { return };
    list.arg("-i").arg(&file).args(["--list", "--allow=auto"]);
    let listed = output(list);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        ["lo", "eth1", "eth2", "eth3", "eth4", "eth5", "bond0", "bond0.101"]
    );
    for (name, line) in [
        ("eth1", "netmask: 255.255.240.0"),
        ("bond0.101", "vlan-raw-device: bond0"),
        ("eth2", "bond-master: bond0"),
    ] {
        let Some(mut query) = program(&["/sbin/ifquery", "/usr/sbin/ifquery"]) else { return };
        query.arg("-i").arg(&file).arg(name);
        let said = output(query);
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn ifupdown_takes_a_bridge() {
    let (network, root) = (bridged(), directory("ifupdown-bridge"));
    let file = root.join("interfaces");
    std::fs::write(&file, text(|out| ifupdown::put(&plan(&network), out))).unwrap();
    let query = |words: &[&str]| {
        let mut query = program(&["/sbin/ifquery", "/usr/sbin/ifquery"])?;
        query.arg("-i").arg(&file).args(words);
        Some(output(query))
    };
    let Some(listed) = query(&["--list", "--allow=auto"]) else { return };
    // Not eth8, which is a person's.
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["lo", "eth6", "eth7", "eth9", "br0", "br0.5"]);
    for (name, lines) in [
        (
            "br0",
            &[
                "bridge-ports: eth6 eth7",
                "bridge-stp: off",
                "bridge-pathcost: eth6 50",
                "mtu: 1400",
                "mtu: 1300",
            ][..],
        ),
        ("br0.5", &["vlan-raw-device: br0"]),
        ("eth8", &["ethernet-wol: g", "address: 198.51.100.70"]),
        ("eth9", &["metric: 200", "address: 198.51.100.130"]),
    ] {
        let said = query(&[name]).unwrap();
        for line in lines {
            assert!(said.contains(line), "{name} {line}: {said}");
        }
    }
}

/// The image's file, made to read ours: `interfaces`, and `interfaces.d/50-preroot` that it is to read.
fn interfaces_in(root: &Path, plan: &Plan<'_>) -> PathBuf {
    let directory = root.join("interfaces.d");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("50-preroot"), text(|out| ifupdown::put(plan, out))).unwrap();
    let old = b"auto lo\niface lo inet loopback\n\nauto eth1\niface eth1 inet dhcp\n";
    let new = text(|out| interfaces::give_way(old, plan, out));
    let file = root.join("interfaces");
    std::fs::write(&file, new.replace("/etc/network/interfaces.d", directory.to_str().unwrap())).unwrap();
    file
}

/// busybox' ifup says what it would run; at a line that it does not know it runs nothing, not even for `lo`.
#[test]
fn busybox_takes_it() {
    let (network, root) = (network(), directory("busybox"));
    let mut plan = plan(&network);
    plan.is_busybox = true;
    let file = interfaces_in(&root, &plan);
    let Some(mut ifup) = program(&["/bin/busybox"]) else { return };
    ifup.args(["ifup", "-n", "-a", "-i"]).arg(&file);
    let tried = ifup.output().unwrap();
    if [&b"unknown address type"[..], b"applet not found"]
        .iter()
        .any(|why| tried.stderr.windows(why.len()).any(|part| part == *why))
    {
        return println!("network software: this busybox has no ifup for IPv4");
    }
    let said = output(ifup);
    for line in [
        "ip link set lo up",
        "ip addr add 10.0.1.17/20 dev eth1",
        "ip addr add 10.0.1.18/32 dev eth1",
        "ip addr add 2001:db8::3257:9652/64 dev eth1",
        "ip route add default via 10.0.0.1 dev eth1",
        "udhcpc -R -n -p /var/run/udhcpc.eth4.pid -i eth4",
        "ip link set dev eth5 up",
        "addr 02:00:00:00:00:72",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("udhcpc.eth1"), "{said}");
}

#[test]
fn ifupdown_ng_takes_it() {
    use std::os::unix::process::CommandExt as _;
    let (network, root) = (network(), directory("ifupdown-ng"));
    let file = interfaces_in(&root, &plan(&network));
    for (name, lines) in [
        ("lo", &["use loopback"][..]),
        (
            "eth1",
            &["address 10.0.1.17/20", "address 10.0.1.18/32", "address 2001:db8::3257:9652/64", "mtu 1450"],
        ),
        ("eth4", &["use dhcp"]),
        ("bond0.101", &["address 198.51.100.7/32", "hwaddress 02:00:00:00:00:72"]),
    ] {
        let Some(mut query) = program(&["/sbin/ifupdown"]) else { return };
        query.arg0("ifquery").arg("-i").arg(&file).arg(name);
        let said = output(query);
        for line in lines {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
}

#[test]
fn network_manager_takes_it() {
    network_manager_takes(&network());
}

#[test]
fn network_manager_takes_a_bridge() {
    network_manager_takes(&bridged());
}

fn network_manager_takes(network: &Network) {
    let plan = plan(network);
    for at in network.positions() {
        let Some(mut nmcli) = program(&["/usr/bin/nmcli"]) else { return };
        let keyfile = text(|out| network_manager::put(&plan, at, out));
        let path = directory(&format!("network-manager-{}", plan.label(at))).join("keyfile");
        std::fs::write(&path, &keyfile).unwrap();
        nmcli.args(["--offline", "connection", "modify", "connection.autoconnect-retries", "3"]);
        nmcli.stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
        let said = output(nmcli);
        // What it did not understand it leaves out of what it writes.
        for line in keyfile.lines().filter(|line| line.contains('=')) {
            let (key, value) = line.split_once('=').unwrap();
            let is_default = ["may-fail=true"].contains(&line);
            let same = |said: &str| {
                said.split_once('=').is_some_and(|(k, v)| k == key && v.eq_ignore_ascii_case(value))
            };
            let renamed =
                matches!(key, "master" | "slave-type" | "dns" | "dns-search") || key.starts_with("route");
            assert!(is_default || renamed || said.lines().any(same), "{line} of\n{keyfile}\nin\n{said}");
        }
        let routes = |text: &str| text.lines().filter(|line| line.starts_with("route")).count();
        assert_eq!(routes(&keyfile), routes(&said), "{keyfile}\n{said}");
    }
}

/// In a network of its own, without a way out: the addresses are there afterwards.
#[test]
fn networkd_takes_it() {
    let root = directory("networkd");
    for network in [network(), bridged()] {
        put_networkd(&network, &root);
    }
    let Some(_) = program(&["/lib/systemd/systemd-networkd"]) else { return };
    networkd_makes(&root);
}

fn put_networkd(network: &Network, root: &Path) {
    let plan = plan(network);
    for at in network.positions() {
        let label = plan.label(at);
        let put = |suffix: &str, text: String| {
            std::fs::write(root.join(format!("05-preroot-{label}{suffix}")), text).unwrap()
        };
        if networkd::has_netdev(&plan, at) {
            put(".netdev", text(|out| networkd::put_netdev(&plan, at, out)));
        }
        put(".network", text(|out| networkd::put_network(&plan, at, out)));
    }
}

fn networkd_makes(root: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networkd.sh");
    let mut command = Command::new("unshare");
    command.args(["-n", "-m", "--propagation", "private", "sh"]).arg(script).arg(root);
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("NOT HERE") {
        return println!("network software: systemd-networkd cannot run here: {said}");
    }
    println!("network software: systemd-networkd takes it");
    for wrong in ["Unknown", "ignoring", "Failed to parse", "nvalid"] {
        assert!(!said.contains(wrong), "{wrong}: {said}");
    }
    let mut lines = vec![
        "10.0.1.17/20",
        "10.0.1.18/32",
        "2001:db8::3257:9652/64",
        "mtu 1450",
        "default via 10.0.0.1 dev eth1",
        "192.168.0.0/16 via 10.0.0.2 dev eth1 proto static metric 50",
        "172.16.0.0/12 dev eth1 proto static scope link",
        "default via fe80::1 dev eth1",
        "198.51.100.130/26",
    ];
    if !said.contains("NO BONDS") {
        lines.extend(["198.51.100.7/32", "203.0.113.0/24 via 203.0.113.1"]);
    }
    if !said.contains("NO BRIDGES") {
        lines
            .extend(["192.0.2.2/24", "203.0.113.0/24 via 192.0.2.1 dev br0 proto static metric 77 mtu 1350"]);
    }
    for line in lines {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("198.51.100.70"), "a person's: {said}");
}
