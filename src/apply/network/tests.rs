//! Which files come about in which image, and which go?

use super::{apply, check};
use crate::apply::{Buffers, Root, SeedPlace, State};
use crate::facts::{Facts, InstanceId};
use crate::format::config::Config;
use crate::format::network_data::tests::read;
use crate::sys::fake::{FakeClock, FakeDir, FakeDisks, FakeSystem};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

const DOCUMENT: &str = r#"{"links":[{"id":"a","type":"phy","name":"wan0","ethernet_mac_address":"fa:16:3e:69:b0:58","mtu":1500},
    {"id":"b","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:02"},{"id":"v","type":"vlan","vlan_link":"a","vlan_id":7}],
    "networks":[{"link":"a","type":"ipv4","ip_address":"10.0.1.17","netmask":"20","gateway":"10.0.0.1"},
    {"link":"b","type":"ipv4_dhcp"},{"link":"v","type":"ipv4","ip_address":"192.0.2.1/30"}],
    "services":[{"type":"dns","address":"10.0.0.53"}]}"#;

struct World {
    root: FakeDir,
    host: FakeDir,
    system: FakeSystem,
    config: Config,
    facts: Box<Facts>,
}

impl World {
    fn new(files: &[&str], config: &str) -> Self {
        let mut root = FakeDir::default();
        root.put_dir("etc");
        files.iter().for_each(|path| _ = root.put(path, ""));
        let mut host = FakeDir::default();
        host.put("sys/class/net/eth0/address", "fa:16:3e:69:b0:58\n")
            .put_dir("sys/class/net/eth0/device")
            .put("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        let mut settled = Config::new(false);
        settled.read(1, config.as_bytes(), &mut |_, fault| panic!("{fault}"));
        let mut facts = Box::new(Facts::new());
        facts.network = *read(DOCUMENT).0;
        Self { root, host, system: FakeSystem::default(), config: settled, facts }
    }

    fn run<T>(&mut self, work: impl Fn(&Facts, &mut Root<'_>) -> T) -> T {
        let (mut run, mut disks, mut clock) =
            (FakeDir::default(), FakeDisks::default(), FakeClock::default());
        let id = InstanceId::parse("i-1").unwrap();
        let mut bytes = std::vec![0; 128 * 1024];
        let mut root = Root {
            dir: &mut self.root,
            run: &mut run,
            host: &mut self.host,
            disks: &mut disks,
            system: &mut self.system,
            clock: &mut clock,
            until_us: u64::MAX,
            is_switched_off: false,
            is_last_try: false,
            partly: None,
            path: "/",
            seed: SeedPlace::Run("seed"),
            config: &self.config,
            id: &id,
            wall_s: 0,
            buffers: Buffers::halves_of(&mut bytes),
        };
        work(&self.facts, &mut root)
    }

    fn apply(&mut self) -> Vec<String> {
        assert_eq!(self.run(check).unwrap(), State::Missing);
        self.run(apply).unwrap();
        assert_eq!(self.run(check).unwrap(), State::Satisfied);
        let dump = self.root.dump();
        dump.keys().filter(|path| path.contains("preroot") || *path == "etc/resolv.conf").cloned().collect()
    }
}

const NETWORKD: &str = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
const NETWORK_MANAGER: &str = "etc/systemd/system/multi-user.target.wants/NetworkManager.service";

/// As Azure's accelerated networking has it: the function has the card's address, and comes first by name.
#[test]
fn a_card_of_hyper_v_is_told_from_the_function_behind_it() {
    let mut world = World::new(&[NETWORKD, "etc/resolv.conf"], "");
    world.host.put_symlink("sys/class/net/eth0/device/driver", "../../../bus/vmbus/drivers/hv_netvsc");
    world.host.put("sys/class/net/enP1s0/address", "fa:16:3e:69:b0:58\n");
    world.host.put_symlink("sys/class/net/enP1s0/device/driver", "../../../bus/pci/drivers/mlx5_core");
    world.apply();
    let text = world.root.text("etc/systemd/network/05-preroot-eth0.network").unwrap();
    assert!(text.contains("[Match]\nMACAddress=fa:16:3e:69:b0:58\nDriver=hv_netvsc\n"), "{text}");
    let text = world.root.text("etc/systemd/network/05-preroot-fa163e000002.network").unwrap();
    assert!(!text.contains("Driver"), "{text}");
}

#[test]
fn each_image_gets_the_files_that_it_reads() {
    let mut networkd = World::new(&[NETWORKD, "etc/resolv.conf"], "");
    assert_eq!(
        networkd.apply(),
        [
            "etc/resolv.conf",
            "etc/systemd/network/05-preroot-eth0.7.netdev",
            "etc/systemd/network/05-preroot-eth0.7.network",
            "etc/systemd/network/05-preroot-eth0.link",
            "etc/systemd/network/05-preroot-eth0.network",
            "etc/systemd/network/05-preroot-fa163e000002.network"
        ]
    );
    assert!(networkd.root.text("etc/resolv.conf").unwrap().ends_with("nameserver 10.0.0.53\n"));
    let mut manager = World::new(&[NETWORK_MANAGER, "etc/NetworkManager/NetworkManager.conf"], "");
    assert_eq!(
        manager.apply(),
        [
            "etc/NetworkManager/system-connections/preroot-eth0.7.nmconnection",
            "etc/NetworkManager/system-connections/preroot-eth0.nmconnection",
            "etc/NetworkManager/system-connections/preroot-fa163e000002.nmconnection",
            "etc/systemd/network/05-preroot-eth0.link"
        ]
    );
    let keyfile = "etc/NetworkManager/system-connections/preroot-eth0.nmconnection";
    assert_eq!(manager.root.owner(keyfile).unwrap().mode, 0o600);
    let mut ifupdown = World::new(&["usr/sbin/ifup", "etc/network/interfaces", "sbin/resolvconf"], "");
    ifupdown.root.put("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n");
    assert_eq!(ifupdown.apply(), ["etc/network/interfaces.d/50-preroot"]);
    assert_eq!(
        ifupdown.root.text("etc/network/interfaces").unwrap(),
        "#preroot# auto eth0\n#preroot# iface eth0 inet dhcp\n#preroot+\nsource-directory /etc/network/interfaces.d\n"
    );
    let text = ifupdown.root.text("etc/network/interfaces.d/50-preroot").unwrap();
    assert!(text.contains("iface eth0 inet static") && !text.contains("wan0") && !text.contains("inet dhcp"));
}

#[test]
fn busybox_is_known_by_its_link_or_its_twin() {
    let text = |world: &mut World| {
        world.apply();
        world.root.text("etc/network/interfaces.d/50-preroot").unwrap()
    };
    let asks = "subnet slaac";
    let mut link = World::new(&["etc/network/interfaces"], "");
    link.root.put_symlink("sbin/ifup", "/bin/busybox");
    let mut twin = World::new(&["etc/network/interfaces", "bin/busybox", "sbin/ifup"], "");
    let mut other = World::new(&["etc/network/interfaces", "bin/busybox"], "");
    other.root.put("sbin/ifup", "another");
    for (world, is_busybox) in [(&mut link, true), (&mut twin, true), (&mut other, false)] {
        crate::format::network::seed::parse(
            &std::format!("type physical\nname eth9\n{asks}"),
            3,
            &mut world.facts.network,
        )
        .unwrap();
        assert_eq!(text(world).contains("iface eth9 inet6 manual"), is_busybox);
    }
}

#[test]
fn other_files_of_the_same_links_are_set_aside_and_come_back() {
    let baked = "auto eth0\niface eth0 inet dhcp\n";
    let mut ifupdown = World::new(&["usr/sbin/ifup", "etc/network/interfaces"], "");
    ifupdown
        .root
        .put("etc/network/interfaces.d/50-cloud-init", baked)
        .put("etc/network/interfaces.d/lo", "auto lo\n");
    ifupdown.apply();
    assert_eq!(
        ifupdown.root.text("etc/network/interfaces.d/50-cloud-init").unwrap(),
        "#preroot# auto eth0\n#preroot# iface eth0 inet dhcp\n"
    );
    ifupdown.facts.network.clear();
    ifupdown.apply();
    assert_eq!(ifupdown.root.text("etc/network/interfaces.d/50-cloud-init").unwrap(), baked);
    // As in Debian's cloud images.
    let debian = "network:\n    version: 2\n    ethernets:\n        all-en:\n            match:\n                name: en*\n            dhcp4: true\n";
    let mut netplan = World::new(&["usr/sbin/netplan", NETWORKD], "");
    netplan.system.programs.insert("/usr/sbin/netplan".into(), 0);
    netplan.root.put("etc/netplan/90-default.yaml", debian).put("etc/netplan/README", debian);
    netplan.apply();
    let aside = netplan.root.text("etc/netplan/90-default.yaml").unwrap();
    assert_eq!(
        aside.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
        ["network:", "    version: 2"]
    );
    assert_eq!(netplan.root.text("etc/netplan/README").unwrap(), debian);
    netplan.facts.network.clear();
    netplan.apply();
    assert_eq!(netplan.root.text("etc/netplan/90-default.yaml").unwrap(), debian);
}

#[test]
fn resolv_conf_of_ours_follows_and_goes() {
    let mut world = World::new(&[NETWORKD, "etc/resolv.conf"], "");
    world.apply();
    world.facts.network.dns.clear();
    world.facts.network.add_dns(0, "10.0.0.54".parse().unwrap()).unwrap();
    world.apply();
    assert!(world.root.text("etc/resolv.conf").unwrap().ends_with(".\nnameserver 10.0.0.54\n"));
    world.facts.network.dns.clear();
    world.apply();
    assert!(world.root.text("etc/resolv.conf").is_none());
    let mut others = World::new(&[NETWORKD], "");
    others.root.put("etc/resolv.conf", "nameserver 192.0.2.1\n");
    others.apply();
    assert_eq!(others.root.text("etc/resolv.conf").unwrap(), "nameserver 192.0.2.1\n");
}

#[test]
fn netplan_looks_again_and_may_refuse() {
    let mut world = World::new(&["usr/sbin/netplan", NETWORKD, "etc/systemd/x"], "");
    world.system.programs.insert("/usr/sbin/netplan".into(), 0);
    assert_eq!(world.apply(), ["etc/netplan/90-preroot.yaml", "etc/systemd/network/05-preroot-eth0.link"]);
    assert!(!world.root.text("etc/netplan/90-preroot.yaml").unwrap().contains("set-name"));
    assert_eq!(world.root.owner("etc/netplan/90-preroot.yaml").unwrap().mode, 0o600);
    world.system.programs.insert("/usr/sbin/netplan".into(), 1);
    assert!(world.run(apply).is_err());
}

#[test]
fn who_says_so_keeps_the_network() {
    let foreign = |world: &mut World| matches!(world.run(check).unwrap(), State::Foreign { .. });
    assert!(foreign(&mut World::new(&[], "")), "nothing is installed");
    assert!(foreign(&mut World::new(&[NETWORKD], "Network.Config=disabled")));
    let mut world = World::new(&[NETWORKD], "");
    world.root.put("etc/cloud/cloud.cfg.d/99-x.cfg", "network: {config: disabled}\n");
    assert!(foreign(&mut world));
    world = World::new(&[NETWORKD], "Network.Config=ifupdown");
    world.root.put("etc/cloud/cloud.cfg", "network:\n  config: disabled\n").put_dir("etc/network");
    assert!(
        world.apply().contains(&"etc/network/interfaces.d/50-preroot".into()),
        "the image's maker knows better"
    );
    world = World::new(&[NETWORKD], "");
    world.host.put("proc/cmdline", "ro network-config=disabled\n");
    assert!(foreign(&mut world));
}

#[test]
fn files_of_another_vm_go_and_the_images_come_back() {
    let mut world = World::new(&["usr/sbin/ifup", NETWORKD, "etc/resolv.conf"], "Network.Config=ifupdown");
    world.root.put("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n");
    world.apply();
    world.config = Config::new(false);
    assert!(world.apply().contains(&"etc/systemd/network/05-preroot-eth0.network".into()));
    world
        .root
        .put("etc/systemd/network/05-preroot-gone.network", "")
        .put("etc/systemd/network/10-mine.network", "");
    let left = world.apply();
    assert!(!left.iter().any(|path| path.contains("interfaces.d") || path.contains("gone")));
    world.facts.network.clear();
    assert!(world.apply().is_empty());
    assert_eq!(world.root.text("etc/network/interfaces").unwrap(), "auto eth0\niface eth0 inet dhcp\n");
    assert!(world.root.text("etc/systemd/network/10-mine.network").is_some());
}

#[test]
fn a_card_that_is_not_there_is_told() {
    let mut world = World::new(&[NETWORKD], "");
    let mut told = Vec::new();
    super::missing(&world.facts.network, &mut world.host, &mut |mac| told.push(mac.0));
    assert_eq!(told, [[0xfa, 0x16, 0x3e, 0, 0, 2]]);
}
