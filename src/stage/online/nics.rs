//! Which interfaces may lead to the platform, and in what order are they tried?

use crate::error::Result;
use crate::limits;
use crate::order::sort_few;
use crate::sys::{Dir, FileType, Links};
use core::str::FromStr as _;

/// include/uapi/linux/if_arp.h
const ARPHRD_ETHER: &str = "1";
/// include/uapi/linux/if.h: loopback, no ARP, slave of another interface.
const UNFIT: u64 = 0x8 | 0x80 | 0x800;

/// An interface's name; the kernel's limit is 15 bytes.
pub(super) type Name = heapless::String<16>;
/// Interfaces in the order to try them.
pub(super) type Nics = heapless::Vec<Nic, { limits::LINKS }>;

/// An Ethernet interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Nic {
    pub(super) name: Name,
    pub(super) mac: [u8; 6],
    /// The kernel's number: it stays when the name changes.
    pub(super) index: u32,
    /// The longest packet it sends.
    pub(super) mtu: u16,
    kind: Kind,
    has_carrier: bool,
}

impl Nic {
    /// A virtual function whose synthetic interface has not appeared yet: drivers come up in any order.
    pub(super) fn is_half(&self) -> bool {
        self.kind == Kind::Function
    }
}

/// What drives it; the order is that of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    /// Hyper-V's own.
    Synthetic,
    /// Other hardware.
    Hardware,
    /// What is a virtual function on Azure (its drivers' names); elsewhere a card like others.
    Function,
    /// Software: bridge, bond, dummy, veth.
    Software,
}

/// Names looked at in one go.
const PORTION: usize = 32;

/// All that may be tried, best first.
///
/// # Errors
/// `Os` when sysfs cannot be listed; `TooMany` interfaces.
pub(super) fn choose(host: &mut dyn Dir, links: &mut dyn Links) -> Result<Nics> {
    let mut nics = Nics::new();
    let mut seen = 0;
    loop {
        // Accelerated networking doubles the names: they are taken in portions.
        let mut names = heapless::Vec::<Name, PORTION>::new();
        let mut at = 0;
        host.list("sys/class/net", &mut |name, file_type| {
            at += 1;
            // `bonding_masters` is a file. No interface name is longer than 15 bytes.
            if let (true, true, Ok(name)) = (at > seen, file_type != FileType::File, Name::try_from(name)) {
                let _ = names.push(name); // it has room
            }
            !names.is_full()
        })?;
        let is_last = !names.is_full();
        for name in names {
            if let Some(nic) = look(host, links, name) {
                add(&mut nics, nic)?;
            }
        }
        if is_last {
            break;
        }
        seen = at;
    }
    drop_unfit(&mut nics);
    sort_few(&mut nics, &|a, b| order(a).cmp(&order(b)).then_with(|| natural(&a.name, &b.name)).is_lt());
    Ok(nics)
}

/// Adds one. A virtual function has the MAC of the synthetic interface above it and is never used itself (cloud-init
/// `filter_hyperv_vf_with_synthetic_interface`), whichever comes first.
fn add(nics: &mut Nics, nic: Nic) -> Result<()> {
    let twin = nics.iter_mut().find(|other| {
        other.mac == nic.mac && (other.kind == Kind::Synthetic) != (nic.kind == Kind::Synthetic)
    });
    match twin {
        Some(twin) if nic.kind == Kind::Synthetic => *twin = nic,
        Some(_) => {}
        None => nics.push(nic).map_err(|_| too_many!("network interfaces", limits::LINKS))?,
    }
    Ok(())
}

/// True when udev has done with all of them, or is not there. An interface that is up cannot be renamed before
/// Linux 6.2, and the OS would then configure a name that does not exist. Source: systemd
/// `src/libsystemd/sd-device/device-private.c` (the database), `src/udev/udev-event.c` (rename, then database).
pub(super) fn are_named(host: &mut dyn Dir, nics: &Nics) -> bool {
    if host.stat("run/udev/control").is_err() {
        return true;
    }
    nics.iter().all(|nic| {
        let mut path = heapless::String::<64>::from_str("run/udev/data/n").unwrap_or_default();
        core::fmt::Write::write_fmt(&mut path, format_args!("{}", nic.index)).is_ok()
            && host.stat(&path).is_ok()
    })
}

/// One interface; `None` when it is not Ethernet, enslaved, or going away as we look.
fn look(host: &mut dyn Dir, links: &mut dyn Links, name: Name) -> Option<Nic> {
    let mut buf = [0; 128];
    let mut text = |attribute| read(host, &name, attribute, &mut buf);
    if text("type")? != ARPHRD_ETHER || hex(&text("flags")?)? & UNFIT != 0 {
        return None;
    }
    let mac = parse_mac(&text("address")?)?;
    let index = text("ifindex")?.parse().ok()?;
    let mtu = text("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(1500);
    if link_target(host, &name, "master", &mut buf).is_some() {
        return None;
    }
    let kind = match link_target(host, &name, "device/driver", &mut buf) {
        Some("hv_netvsc") => Kind::Synthetic,
        Some("mlx4_core" | "mlx5_core" | "mana") => Kind::Function,
        Some(_) => Kind::Hardware,
        None => Kind::Software,
    };
    let has_carrier = links.state(&name).is_ok_and(|state| state.has_carrier);
    Some(Nic { name, mac, index, mtu, kind, has_carrier })
}

/// Software interfaces count only where there is nothing else.
fn drop_unfit(nics: &mut Nics) {
    if nics.iter().any(|nic| nic.kind != Kind::Software) {
        nics.retain(|nic| nic.kind != Kind::Software);
    }
}

/// cloud-init's order: what has a carrier, then `eth0`, then by name.
fn order(nic: &Nic) -> (Kind, bool, bool) {
    (nic.kind, !nic.has_carrier, nic.name != "eth0")
}

/// `eth2` before `eth10`: by the text before the number at the end, then by the number.
fn natural(a: &str, b: &str) -> core::cmp::Ordering {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (stem, name.get(stem..).and_then(|number| number.parse::<u64>().ok()))
    };
    let ((a_stem, a_number), (b_stem, b_number)) = (split(a), split(b));
    a.get(..a_stem).cmp(&b.get(..b_stem)).then(a_number.cmp(&b_number)).then_with(|| a.cmp(b))
}

type Attribute = heapless::String<32>;

/// A short attribute, without its newline.
fn read(host: &mut dyn Dir, name: &str, attribute: &str, buf: &mut [u8; 128]) -> Option<Attribute> {
    let length = host.read(&path(name, attribute)?, buf).ok()?;
    let text = core::str::from_utf8(buf.get(..length)?).ok()?;
    Attribute::try_from(text.trim_ascii()).ok()
}

/// The last component of a symbolic link.
fn link_target<'b>(host: &mut dyn Dir, name: &str, link: &str, buf: &'b mut [u8; 128]) -> Option<&'b str> {
    let length = host.read_link(&path(name, link)?, buf).ok()?;
    core::str::from_utf8(buf.get(..length)?).ok()?.rsplit('/').next()
}

fn path(name: &str, attribute: &str) -> Option<heapless::String<64>> {
    let mut path = heapless::String::new();
    for part in ["sys/class/net/", name, "/", attribute] {
        path.push_str(part).ok()?;
    }
    Some(path)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A unicast address that is not all zero.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut mac {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    let is_unicast = mac[0] & 1 == 0 && mac != [0; 6];
    (pairs.next().is_none() && is_unicast).then_some(mac)
}

#[cfg(test)]
pub(in crate::stage) mod tests {
    use super::{are_named, choose, natural, parse_mac};
    use crate::sys::LinkState;
    use crate::sys::fake::World;
    use std::format;
    use std::vec::Vec;

    /// Adds an interface to sysfs and to the fake kernel.
    pub(crate) fn add(world: &mut World, name: &str, mac: &str, driver: Option<&str>, flags: &str) {
        let base = format!("sys/class/net/{name}");
        let index = format!("{}\n", world.links.states.len() + 2);
        for (attribute, value) in
            [("type", "1\n"), ("flags", flags), ("address", mac), ("ifindex", &index), ("mtu", "1500\n")]
        {
            world.host.put(&format!("{base}/{attribute}"), value.as_bytes());
        }
        if let Some(driver) = driver {
            world
                .host
                .put_symlink(&format!("{base}/device/driver"), &format!("../../../bus/x/drivers/{driver}"));
        }
        let down = LinkState { is_up: false, has_carrier: false, has_address: false };
        world.links.states.insert(name.into(), down);
    }

    fn names(world: &mut World) -> Vec<std::string::String> {
        choose(&mut world.host, &mut world.links)
            .unwrap()
            .iter()
            .map(|nic| nic.name.as_str().into())
            .collect()
    }

    #[test]
    fn a_virtual_function_is_never_used() {
        let mut world = World::new();
        add(&mut world, "eth0", "00:0d:3a:12:34:56\n", Some("mlx5_core"), "0x1002\n");
        add(&mut world, "eth1", "00:0d:3a:12:34:56\n", Some("hv_netvsc"), "0x1002\n");
        add(&mut world, "eth2", "00:0d:3a:00:00:02\n", Some("mana"), "0x1002\n");
        assert_eq!(names(&mut world), ["eth1", "eth2"]);
    }

    #[test]
    fn fifty_interfaces_with_a_virtual_function_each_are_fifty() {
        let mut world = World::new();
        add(&mut world, "lo", "00:00:00:00:00:00\n", None, "0x9\n");
        for n in 0..50 {
            let mac = format!("00:0d:3a:00:00:{n:02x}\n");
            add(&mut world, &format!("eth{n}"), &mac, Some("hv_netvsc"), "0x1002\n");
            add(&mut world, &format!("enP{n}s2"), &mac, Some("mlx5_core"), "0x1002\n");
        }
        let names = names(&mut world);
        assert_eq!(names.len(), 50);
        assert!(names.iter().all(|name| name.starts_with("eth")));
    }

    #[test]
    fn what_is_no_ethernet_of_its_own_is_skipped() {
        let mut world = World::new();
        add(&mut world, "lo", "00:00:00:00:00:00\n", None, "0x9\n");
        add(&mut world, "dummy0", "02:00:00:00:00:09\n", None, "0x82\n");
        add(&mut world, "bond0", "02:00:00:00:00:08\n", None, "0x1402\n");
        add(&mut world, "ens5", "02:00:00:00:00:01\n", Some("virtio_net"), "0x1902\n");
        add(&mut world, "ens6", "02:00:00:00:00:02\n", Some("virtio_net"), "0x1002\n");
        add(&mut world, "ens7", "02:00:00:00:00:03\n", Some("virtio_net"), "0x1002\n");
        world.host.put_symlink("sys/class/net/ens7/master", "../bond0");
        add(&mut world, "ib0", "02:00:00:00:00:04\n", Some("mlx5_core"), "0x1002\n");
        world.host.put("sys/class/net/ib0/type", b"32\n");
        world.host.put("sys/class/net/bonding_masters", b"bond0\n");
        assert_eq!(names(&mut world), ["ens6"]);
    }

    #[test]
    fn software_interfaces_count_where_there_is_nothing_else() {
        let mut world = World::new();
        add(&mut world, "eth0", "00:0d:3a:12:34:56\n", None, "0x1002\n");
        assert_eq!(names(&mut world), ["eth0"]);
    }

    #[test]
    fn carrier_then_eth0_then_natural_order() {
        let mut world = World::new();
        for (name, last) in [("eth10", 1), ("eth2", 2), ("eth0", 3), ("enp1s0", 4), ("eth3", 5)] {
            add(&mut world, name, &format!("00:0d:3a:00:00:0{last}\n"), Some("hv_netvsc"), "0x1002\n");
        }
        world.links.states.get_mut("eth3").unwrap().has_carrier = true;
        assert_eq!(names(&mut world), ["eth3", "eth0", "enp1s0", "eth2", "eth10"]);
        assert!(natural("eth", "eth0").is_lt());
    }

    #[test]
    fn where_udev_runs_it_gives_the_names_first() {
        let mut world = World::new();
        add(&mut world, "eth0", "00:0d:3a:12:34:56\n", Some("virtio_net"), "0x1002\n");
        let nics = choose(&mut world.host, &mut world.links).unwrap();
        assert!(are_named(&mut world.host, &nics));
        world.host.put("run/udev/control", "");
        assert!(!are_named(&mut world.host, &nics));
        world.host.put("run/udev/data/n2", "I:1\n");
        assert!(are_named(&mut world.host, &nics));
    }

    #[test]
    fn only_a_unicast_address_is_one() {
        assert_eq!(parse_mac("00:0d:3a:12:34:56"), Some([0, 0x0d, 0x3a, 0x12, 0x34, 0x56]));
        for bad in [
            "",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "00:0d:3a:12:34",
            "00:0d:3a:12:34:56:78",
            "0:d:3a:12:34:56",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
