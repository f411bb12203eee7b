//! `preroot host-name`: has somebody renamed this machine, and does the platform's DNS know?
//!
//! waagent watches the name every 30 s and restarts the DHCP client (MonitorHostName); here systemd watches /etc/hostname
//! (preroot-host-name.path) and nothing runs meanwhile. The image's own DHCP client sends the name in option 12 when it
//! asks anew: another client beside it would fight over the lease.

use super::apply::configuration;
use super::identity;
use crate::apply::{exists, next_name};
use crate::error::Result;
use crate::event::{Level, Value};
use crate::facts::Hostname;
use crate::format::text::{PathText, join};
use crate::limits;
use crate::seed;
use crate::sys::{Kernel, Owner};

/// The name that was published last.
const PUBLISHED: &str = "var/lib/preroot/published-host-name";
const LIVE: &str = "proc/sys/kernel/hostname";
const LINKS: &str = "sys/class/net";
/// waagent, where it is, does this itself.
const WAAGENT: &[&str] = &["usr/sbin/waagent", "usr/bin/waagent"];

/// Who has the leases: there where this directory is, asked by these words and the link's name.
struct Client {
    runs: &'static str,
    argv: &'static [&'static [&'static str]],
}

const CLIENTS: &[Client] = &[
    Client { runs: "run/systemd/netif/links", argv: &[&["/usr/bin/networkctl", "reconfigure"]] },
    Client { runs: "run/NetworkManager", argv: &[&["/usr/bin/nmcli", "device", "connect"]] },
    Client { runs: "run/network", argv: &[&["/sbin/ifdown", "--force"], &["/sbin/ifup"]] },
];

/// Has the name published if it is another than last time.
///
/// # Errors
/// `NotApplicable` where the configuration does not ask for it, or nobody's machine; `Unsupported` without a client we
/// know; what the client's program said.
#[inline(never)]
pub(super) fn run(kernel: &mut Kernel<'_>, bytes: &mut [u8], is_dry_run: bool) -> Result<()> {
    kernel.log.enter("host-name");
    if identity::observe(kernel).platform.is_none() {
        return Err(not_applicable!("not a platform of ours"));
    }
    let is_asked = configuration(kernel, bytes).monitor_host_name();
    if !is_asked || WAAGENT.iter().any(|path| kernel.root.stat(path).is_ok()) {
        return Err(not_applicable!("Provisioning.MonitorHostName=n, or waagent's own"));
    }
    let mut live = [0; limits::HOSTNAME + 2];
    let n = kernel.host.read(LIVE, &mut live)?;
    let name = core::str::from_utf8(live.get(..n).unwrap_or_default());
    let name = Hostname::parse(name.map_err(|_| malformed!("host name", "host name character", 0))?)?;
    let mut last = [0; limits::HOSTNAME + 2];
    let n = kernel.root.read(PUBLISHED, &mut last).unwrap_or_default();
    if last.get(..n).unwrap_or_default().trim_ascii() == name.as_str().as_bytes() {
        return Ok(());
    }
    if is_dry_run {
        kernel.say(Level::Info, "{} would be published", &[Value::Name(name.as_str())]);
        return Ok(());
    }
    publish(kernel)?;
    kernel.say(Level::Info, "{} is published by the DHCP client", &[Value::Name(name.as_str())]);
    seed::make_state_dir(kernel.root)?;
    let _ = kernel.root.remove(PUBLISHED);
    kernel.root.create_unsynced(PUBLISHED, Owner::root(0o644), name.as_str().as_bytes())
}

/// On every network card: one that has no lease is none of the platform's DNS, and its client knows.
fn publish(kernel: &mut Kernel<'_>) -> Result<()> {
    let mut client = None;
    for known in CLIENTS {
        if client.is_none() && exists(kernel.host, known.runs)? {
            client = Some(known);
        }
    }
    let client = client.ok_or(unsupported!("host name", "no DHCP client that we know has the leases"))?;
    let (mut last, mut outcome) = (PathText::new(), Ok(()));
    while let Some(link) = next_name(kernel.host, LINKS, &last) {
        let is_card = kernel.host.stat(&join(&[LINKS, "/", &link, "/device"])?).is_ok();
        for words in client.argv.iter().filter(|_| is_card) {
            let mut argv = heapless::Vec::<&str, 4>::from_slice(words).unwrap_or_default();
            let _ = argv.push(&link);
            let ended = match kernel.system.run("/", &argv, limits::PROGRAM_MS)? {
                0 => Ok(()),
                status => Err(malformed!(
                    "host name",
                    "the DHCP client refuses",
                    u64::try_from(status).unwrap_or_default()
                )),
            };
            outcome = outcome.and(ended);
        }
        last = link;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::{PUBLISHED, run};
    use crate::error::Kind;
    use crate::sys::fake::World;

    fn world(conf: &str) -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("proc/sys/kernel/hostname", "new\n").put_dir("sys/class/net/lo");
        world.host.put_dir("sys/class/net/eth0/device").put_dir("sys/class/net/eth1/device");
        world.root.put("etc/preroot.conf", conf).put_dir("var/lib");
        for program in ["/usr/bin/networkctl", "/usr/bin/nmcli", "/sbin/ifdown", "/sbin/ifup"] {
            world.system.programs.insert(program.into(), 0);
        }
        world
    }

    fn publish(world: &mut World) -> crate::error::Result<()> {
        run(&mut world.kernel(), &mut [0; 1024], false)
    }

    #[test]
    fn the_images_client_asks_anew_on_every_card_once_per_name() {
        for (directory, expected) in [
            (
                "run/systemd/netif/links",
                ["/usr/bin/networkctl reconfigure eth0", "/usr/bin/networkctl reconfigure eth1"].to_vec(),
            ),
            (
                "run/NetworkManager",
                ["/usr/bin/nmcli device connect eth0", "/usr/bin/nmcli device connect eth1"].to_vec(),
            ),
            (
                "run/network",
                [
                    "/sbin/ifdown --force eth0",
                    "/sbin/ifup eth0",
                    "/sbin/ifdown --force eth1",
                    "/sbin/ifup eth1",
                ]
                .to_vec(),
            ),
        ] {
            let mut world = world("Provisioning.MonitorHostName=y\n");
            world.host.put_dir(directory);
            publish(&mut world).unwrap();
            assert_eq!(world.system.runs, expected);
            assert_eq!(world.root.text(PUBLISHED).unwrap(), "new");
            publish(&mut world).unwrap();
            assert_eq!(world.system.runs.len(), expected.len(), "the same name again");
            world.host.put("proc/sys/kernel/hostname", "newer\n");
            publish(&mut world).unwrap();
            assert_eq!(world.system.runs.len(), 2 * expected.len());
        }
    }

    #[test]
    fn nobody_is_disturbed_who_did_not_ask() {
        for (conf, waagent) in [
            ("", false),
            ("Provisioning.MonitorHostName=n\n", false),
            ("Provisioning.MonitorHostName=y\n", true),
        ] {
            let mut world = world(conf);
            world.host.put_dir("run/systemd/netif/links");
            if waagent {
                world.root.put("usr/sbin/waagent", "");
            }
            assert!(publish(&mut world).unwrap_err().is(Kind::NotApplicable));
            assert!(world.system.runs.is_empty() && world.root.text(PUBLISHED).is_none());
        }
    }

    #[test]
    fn what_failed_is_tried_again() {
        let mut world = world("Provisioning.MonitorHostName=y\n");
        assert!(publish(&mut world).unwrap_err().is(Kind::Unsupported));
        world.host.put_dir("run/systemd/netif/links");
        world.system.programs.insert("/usr/bin/networkctl".into(), 1);
        assert_eq!(publish(&mut world).unwrap_err().reason(), "the DHCP client refuses");
        assert_eq!(world.system.runs.len(), 2, "the other card has its turn");
        assert!(world.root.text(PUBLISHED).is_none());
    }
}
