//! The stage in a fake kernel: order, absence, soft dependencies.

use super::run;
use crate::error::Errno;
use crate::event::Level;
use crate::sys::Loaded;
use crate::sys::fake::World;
use std::string::{String, ToString};
use std::vec::Vec;

const BASE: &str = "lib/modules/6.1.0-test";

/// In the grammar and with the edges of Debian's 6.12 cloud kernel.
const DEP: &str = "\
kernel/drivers/hv/hv_vmbus.ko.xz:
kernel/drivers/hv/hv_utils.ko.xz: kernel/drivers/hv/hv_vmbus.ko.xz
kernel/drivers/scsi/hv_storvsc.ko.xz: kernel/drivers/scsi/scsi_mod.ko.xz kernel/drivers/scsi/scsi_common.ko.xz kernel/drivers/hv/hv_vmbus.ko.xz
kernel/drivers/net/hyperv/hv_netvsc.ko.xz: kernel/drivers/hv/hv_vmbus.ko.xz
kernel/drivers/pci/controller/pci-hyperv.ko.xz: kernel/drivers/hv/hv_vmbus.ko.xz
kernel/drivers/scsi/scsi_mod.ko.xz: kernel/drivers/scsi/scsi_common.ko.xz
kernel/drivers/scsi/scsi_common.ko.xz:
kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko.xz kernel/drivers/scsi/scsi_common.ko.xz
kernel/drivers/scsi/sr_mod.ko.xz: kernel/drivers/cdrom/cdrom.ko.xz kernel/drivers/scsi/scsi_mod.ko.xz kernel/drivers/scsi/scsi_common.ko.xz
kernel/drivers/cdrom/cdrom.ko.xz:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/core/failover.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/crypto/crc32c_generic.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/sound/snd.ko:
";
const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias vmbus:1df6c444444400449d52802e27ede19f pci_hyperv
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio_net
alias pci:v*d*sv*sd*bc04sc*i* snd
alias crypto-crc32c crc32c_generic
alias crypto-crc32c crc32c_intel
";
const SOFT: &str = "softdep ext4 pre: crypto-crc32c\nsoftdep jbd2 pre: crypto-sha9\n";

fn world() -> World {
    let mut world = World::new();
    for (file, content) in [("modules.dep", DEP), ("modules.alias", ALIAS), ("modules.softdep", SOFT)] {
        world.host.put(&[BASE, "/", file].concat(), content);
    }
    world.host.put(&[BASE, "/modules.builtin"].concat(), "kernel/net/packet/af_packet.ko\n");
    world
        .host
        .put(&[BASE, "/modules.builtin.modinfo"].concat(), "sha9.license=GPL\0sha9.alias=crypto-sha9\0");
    world.host.put("sbin/modprobe", "");
    for line in DEP.lines() {
        let path = line.split(':').next().unwrap();
        world.system.modules.insert(["/", BASE, "/", path].concat(), Ok(Loaded::Now));
    }
    world
}

fn answer(world: &mut World, name: &str, answer: Result<Loaded, Errno>) {
    let found = world.system.modules.iter_mut().find(|(path, _)| path.contains(&["/", name, ".ko"].concat()));
    *found.unwrap().1 = answer;
}

/// Runs the stage; the names of what was given to the kernel, in order.
fn names(world: &mut World) -> Vec<String> {
    let _ = run(&mut world.kernel(), &mut std::vec![0; 64 * 1024]);
    let file = |load: &String| load.split(' ').next().unwrap().rsplit('/').next().unwrap().to_string();
    world.system.loads.iter().map(|load| file(load).split('.').next().unwrap().to_string()).collect()
}

#[test]
fn hyperv_drivers_come_by_name_and_in_order() {
    let mut world = world();
    world.system.hyperv = true;
    let order = names(&mut world);
    let expected = [
        "hv_vmbus",
        "scsi_common",
        "scsi_mod",
        "hv_storvsc",
        "hv_netvsc",
        "hv_utils",
        "sd_mod",
        "cdrom",
        "sr_mod",
    ];
    assert_eq!(order, expected);
    assert_eq!(world.log.worst, Some(Level::Info));
    let summary = "modules: 9 modules loaded in 10 ms, 0 were there, 1 built in, 0 without hardware";
    assert_eq!(world.log.lines.last().unwrap(), summary);
}

#[test]
fn nothing_that_needs_vmbus_is_tried_after_it_found_no_hardware() {
    let mut world = world();
    world.system.hyperv = true;
    answer(&mut world, "hv_vmbus", Ok(Loaded::NoHardware));
    let order = names(&mut world);
    assert_eq!(order, ["hv_vmbus", "scsi_common", "scsi_mod", "sd_mod", "cdrom", "sr_mod"]);
    assert_eq!(world.log.worst, Some(Level::Info), "absent hardware is no fault: {:?}", world.log.lines);
    assert!(world.log.lines.last().unwrap().ends_with("4 without hardware"), "{:?}", world.log.lines);
}

#[test]
fn a_driver_that_udev_loaded_first_is_no_fault() {
    let mut world = world();
    world.system.hyperv = true;
    answer(&mut world, "hv_storvsc", Ok(Loaded::Before));
    assert!(names(&mut world).contains(&"hv_netvsc".to_string()));
    assert_eq!(world.log.worst, Some(Level::Info));
    assert!(world.log.lines.last().unwrap().contains("1 were there"), "{:?}", world.log.lines);
}

#[test]
fn where_everything_is_loaded_nothing_is_read_or_waited_for() {
    let mut world = world();
    world.system.hyperv = true;
    for name in ["hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils", "sd_mod", "sr_mod", "af_packet"] {
        world.host.put_dir(&["sys/module/", name].concat());
    }
    // A table with this line would stop the stage.
    world.host.put(&[BASE, "/modules.dep"].concat(), "x".repeat(40_000));
    assert_eq!(names(&mut world), [""; 0]);
    assert_eq!((world.log.worst, world.clock.sleeps.len()), (Some(Level::Info), 0));
}

#[test]
fn a_driver_that_is_neither_here_nor_built_in_is_named() {
    let mut world = world();
    world.system.hyperv = true;
    let dep = DEP.replace("kernel/drivers/hv/hv_utils.ko.xz: kernel/drivers/hv/hv_vmbus.ko.xz\n", "");
    world.host.put(&[BASE, "/modules.dep"].concat(), dep);
    assert!(names(&mut world).contains(&"hv_netvsc".to_string()));
    let line = "modules: driver hv_utils is neither here nor built in".to_string();
    assert_eq!(world.log.lines.iter().filter(|said| **said == line).count(), 1);
}

#[test]
fn soft_dependencies_load_first_through_their_aliases() {
    let mut world = world();
    world.host.put("proc/cmdline", "ro rootfstype=ext4\n");
    assert_eq!(names(&mut world), ["crc32c_generic", "crc32c-intel", "jbd2", "ext4"]);
    assert_eq!(world.log.worst, Some(Level::Info), "a built-in alias is no fault: {:?}", world.log.lines);
}

#[test]
fn ext4_comes_where_the_kernel_cannot_ask_modprobe() {
    let mut world = world();
    crate::sys::Dir::remove(&mut world.host, "sbin/modprobe").unwrap();
    assert_eq!(names(&mut world).last().unwrap(), "ext4");
}

#[test]
fn devices_without_a_driver_bring_theirs_and_others_are_left() {
    let mut world = world();
    for (path, modalias) in [
        ("pci/devices/0000:00:02.0", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00\n"),
        ("pci/devices/0000:00:03.0", "pci:v00008086d00002668sv00001AF4sd00001100bc04sc03i00\n"),
        ("virtio/devices/virtio0", "virtio:d00000001v00001AF4\n"),
    ] {
        world.host.put(&["sys/bus/", path, "/modalias"].concat(), modalias);
    }
    assert_eq!(names(&mut world), ["virtio_ring", "virtio_pci", "failover", "virtio_net"]);
    assert_eq!(world.clock.sleeps, [10], "one pause, because new drivers may bring new devices");
}

#[test]
fn a_module_gets_its_parameters_and_compression_is_the_kernels_business() {
    let mut world = world();
    world.system.hyperv = true;
    world.host.put("proc/cmdline", "hv_storvsc.storvsc_ringbuffer_size=262144");
    names(&mut world);
    let load = "/lib/modules/6.1.0-test/kernel/drivers/scsi/hv_storvsc.ko.xz storvsc_ringbuffer_size=262144";
    assert!(world.system.loads.iter().any(|said| said == load), "{:?}", world.system.loads);
}

#[test]
fn a_plain_copy_is_loaded_where_the_kernel_cannot_decompress() {
    let mut world = world();
    world.system.hyperv = true;
    answer(&mut world, "hv_utils", Err(Errno::INVAL));
    names(&mut world);
    assert!(
        world.system.loads.iter().any(|said| said.trim_end().ends_with("/hv_utils.ko")),
        "{:?}",
        world.system.loads
    );
}

#[test]
fn a_blacklisted_driver_is_not_loaded() {
    let mut world = world();
    world.system.hyperv = true;
    world.host.put("proc/cmdline", "modprobe.blacklist=floppy,hv-utils");
    assert!(!names(&mut world).contains(&"hv_utils".to_string()));
}

#[test]
fn one_refusal_does_not_stop_the_others() {
    let mut world = world();
    world.system.hyperv = true;
    answer(&mut world, "scsi_mod", Err(Errno::INVAL));
    let order = names(&mut world);
    assert!(order.contains(&"hv_netvsc".to_string()) && !order.contains(&"hv_storvsc".to_string()));
    assert_eq!(world.log.worst, Some(Level::Warning));
    assert!(run(&mut world.kernel(), &mut std::vec![0; 64 * 1024]).is_err());
}

#[test]
fn a_kernel_without_modules_is_fine() {
    let mut world = World::new();
    world.system.hyperv = true;
    run(&mut world.kernel(), &mut std::vec![0; 64 * 1024]).unwrap();
    assert_eq!(world.log.worst, Some(Level::Info));
    assert!(run(&mut world.kernel(), &mut [0; 1024]).is_err());
}
