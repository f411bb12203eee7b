//! Drivers, disks, clocks, and room.

use super::{Plant, Rows, imds_says, no_medium, nothing_usable};
use crate::error::Errno;
use crate::stage::faults::{Blocked, Expect, Growth, Sim};
use crate::stage::kvp::tests::offer;
use crate::sys::fake::FakeDir;
use crate::sys::{Dir, Loaded};
use std::format;
use std::rc::Rc;
use std::string::String;

/// Takes a directory away with all that is in it.
pub(super) fn take(host: &mut FakeDir, directory: &str) {
    let below = format!("{directory}/");
    for path in host.dump().keys().rev().filter(|path| *path == directory || path.starts_with(&below)) {
        host.remove(path).or_else(|_| host.remove_dir(path)).unwrap();
    }
}

/// One of Hyper-V's drivers refuses, and what it drives is not there.
fn refuse(sim: &mut Sim, driver: &str, errno: Errno) {
    let (base, host) = ("lib/modules/6.1.0-test", &mut sim.world.host);
    let dep: String = ["hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils"]
        .map(|name| format!("kernel/{name}.ko:\n"))
        .concat();
    host.put(&format!("{base}/modules.dep"), &dep).put(&format!("{base}/modules.alias"), "");
    host.put(&format!("{base}/modules.softdep"), "").put(&format!("{base}/modules.builtin"), "");
    host.put(&format!("{base}/modules.builtin.modinfo"), "").put("sbin/modprobe", "");
    sim.world.system.hyperv = true;
    for line in dep.lines() {
        let path = line.trim_end_matches(':');
        let answer = if path.contains(driver) { Err(errno) } else { Ok(Loaded::Now) };
        sim.world.system.modules.insert(format!("/{base}/{path}"), answer);
    }
}

/// Until the real root, which has the driver.
fn without_card(sim: &mut Sim) {
    const CARD: &str = "sys/class/net/eth0";
    refuse(sim, "hv_netvsc", Errno::NOENT);
    take(&mut sim.world.host, CARD);
    sim.at_switch_root = Some(Rc::new(|machine, _| {
        let mut host = machine.host.clone();
        let values =
            [("type", "1\n"), ("flags", "0x1002\n"), ("address", "00:0d:3a:12:34:56\n"), ("ifindex", "2\n")];
        for (attribute, value) in values {
            host.put(&format!("{CARD}/{attribute}"), value);
        }
        host.put_symlink(&format!("{CARD}/device/driver"), "../../../bus/x/drivers/hv_netvsc");
    }));
}

fn without_kvp(sim: &mut Sim) {
    refuse(sim, "hv_utils", Errno::INVAL);
    sim.world.system.kvp = None;
}

fn without_disks(sim: &mut Sim) {
    refuse(sim, "hv_storvsc", Errno::IO);
    let host = &mut sim.world.host;
    for path in ["sda", "sda1", "sda14", "sda15"] {
        let _ = host.remove(&format!("sys/class/block/{path}"));
    }
    take(host, "sys/devices/vmbus/block/sda");
    take(host, "sys/class/block/sr0");
    sim.world.disks.disks.clear();
    sim.is_mounted = false;
}

pub(super) fn drivers(rows: &mut Rows) {
    let said = Some("modules: ");
    let warned = Expect::Warned("failure to find DHCP interface".into());
    rows.add("driver: hv_netvsc is not loaded", warned, said, without_card);
    rows.add("driver: hv_netvsc is not loaded, no medium", Expect::Ready, said, |sim| {
        without_card(sim);
        no_medium(sim);
    });
    rows.add("driver: hv_utils is not loaded", Expect::Ready, said, without_kvp);
    let fatal = Expect::Fatal("http error 403 querying IMDS".into());
    rows.add("driver: hv_utils is not loaded, a failure", fatal, said, |sim| {
        without_kvp(sim);
        nothing_usable(sim);
    });
    rows.without_kvp();
    rows.add("driver: hv_storvsc is not loaded", Expect::Stuck, said, without_disks);
    rows.grows(Growth::Never);
}

pub(super) fn disks(rows: &mut Rows) {
    let disks: [(&str, Growth, Plant); 4] = [
        ("a table that is nobody's", Growth::Never, |sim| sim.drive.disk.put(446, &[0; 66])),
        ("both tables torn", Growth::Never, |sim| {
            let end = 2 << 30;
            sim.drive.disk.put(512 + 16, &[0xff; 4]);
            sim.drive.disk.put(end - 512 + 16, &[0xff; 4]);
        }),
        ("a root that is not there", Growth::Now, |sim| {
            sim.world.host.put("proc/cmdline", "ro root=UUID=00000000-e4e4-e4e4-e4e4-e4e4e4e4e4e4\n");
        }),
        ("a root= that says nothing", Growth::Now, |sim| {
            _ = sim.world.host.put("proc/cmdline", "ro root=\n")
        }),
    ];
    for (name, growth, plant) in disks {
        rows.add(format!("disk: {name}"), Expect::Ready, None, plant);
        rows.grows(growth);
    }
    let fatal = Expect::Fatal("neither SSH key nor password".into());
    rows.add("disk: no root file system ever", fatal, Some("neither SSH"), |sim| {
        no_medium(sim);
        imds_says(sim, "no-keys");
        sim.is_mounted = false;
    });
    rows.add("disk: a root that is mounted after half a minute", Expect::Ready, None, |sim| {
        sim.mount_ms = 30_000;
    });
    let fatal = Expect::Fatal("neither SSH key nor password".into());
    rows.add("disk: such a root, and no login", fatal, Some("neither SSH"), |sim| {
        sim.mount_ms = 30_000;
        no_medium(sim);
        imds_says(sim, "no-keys");
    });
}

/// What is nobody's fault.
pub(super) fn surroundings(rows: &mut Rows) {
    const REFUSED: &str = "http error 403 querying IMDS";
    rows.add("clock: none", Expect::Ready, None, |sim| sim.wall_s = Some(0));
    rows.add("clock: none, a failure", Expect::Fatal(REFUSED.into()), Some("IMDS: "), |sim| {
        sim.wall_s = Some(0);
        nothing_usable(sim);
    });
    for (name, at, step_s) in [
        ("an hour back in fetch", "lease of", -3600),
        ("an hour back in the real root", "enter apply", -3600),
        ("a day on in the real root", "enter apply", 86_400),
    ] {
        rows.add(format!("clock: {name}"), Expect::Ready, None, move |sim| {
            sim.when(at, 0, move |machine, _| machine.wall_s.set(machine.wall_s.get() + step_s));
        });
        let expect = Expect::Fatal(REFUSED.into());
        rows.add(format!("clock: {name}, a failure"), expect, Some("IMDS: "), move |sim| {
            nothing_usable(sim);
            sim.when(at, 0, move |machine, _| machine.wall_s.set(machine.wall_s.get() + step_s));
        });
    }
    rows.add("card: gone in the middle of the early report", Expect::Ready, None, |sim| {
        sim.cloud.drops_at_post = true;
    });
    let expect = Expect::Fatal(REFUSED.into());
    rows.add("card: gone in the middle of a failure's report", expect, Some("could not be told"), |sim| {
        nothing_usable(sim);
        sim.cloud.drops_at_post = true;
    });
    rows.wire_is_late();
    let nowhere = Blocked { kvp: true, events: true, ..Blocked::default() };
    rows.add("root: read-only in apply", Expect::Failed("hostname: ".into()), Some("apply: "), |sim| {
        sim.when("enter apply", 0, |machine, _| machine.root.clone().set_read_only(true));
    });
    rows.blocked(nowhere);
    let full = |sim: &mut Sim, at| sim.when(at, 0, |machine, _| machine.run.clone().set_full(true));
    for at in ["enter persist", "enter apply"] {
        rows.add(format!("/run: full at {at}"), Expect::Ready, None, move |sim| full(sim, at));
        rows.blocked(Blocked { events: true, ..Blocked::default() });
    }
    // No seed can be written.
    let said = Some("no space left");
    rows.add("/run: full at enter fetch", Expect::Fatal("write".into()), said, move |sim| {
        full(sim, "enter fetch");
        // Nothing at all was found: only the mounted root says that this is a first boot.
        sim.mount_ms = 500;
    });
    rows.blocked(nowhere);
    rows.add("KVP: offered late", Expect::Fatal(REFUSED.into()), Some("IMDS: "), |sim| {
        nothing_usable(sim);
        let channel = "sys/bus/vmbus/devices/242ff919-07db-4180-9c2e-b86cb68c8c55";
        take(&mut sim.world.host, channel);
        sim.when("lease of", 0, |machine, _| {
            let mut world = crate::sys::fake::World { host: machine.host.clone(), ..Default::default() };
            offer(&mut world);
        });
    });
}
