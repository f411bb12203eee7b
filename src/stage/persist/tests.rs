//! Does what was learnt reach the root, whatever fetch does and wherever the power goes?

use super::run;
use crate::error::Kind;
use crate::facts::{Facts, InstanceId};
use crate::seed;
use crate::sys::fake::World;

const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";

fn azure() -> World {
    let mut world = World::new();
    on_azure(&mut world);
    world.system.read_only.insert("/sysroot".into());
    world
}

fn on_azure(world: &mut World) {
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
}

fn publish(world: &mut World) {
    seed::begin(&mut world.run).unwrap();
    seed::publish(&mut world.run, &Facts::new(), &seed::Context::default()).unwrap();
}

#[test]
fn a_provisioned_vm_waits_for_nothing_and_stops_fetch() {
    let mut world = azure();
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
    publish(&mut world);
    let before = world.root.dump();
    assert!(
        matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(error) if error.is(Kind::NotApplicable))
    );
    assert!(world.clock.sleeps.is_empty());
    assert!(world.run.text(crate::sys::CANCEL).is_some());
    assert!(world.run.owner(seed::SEED).is_none());
    assert_eq!(world.root.dump(), before);
}

/// What becomes of fetch and the boot where Debian's cloud-init is enabled.
fn beside_cloud_init(agent: &str, cmdline: &str, more: &[(&str, &str)]) -> World {
    let mut world = azure();
    world.host.put("proc/cmdline", cmdline);
    world
        .root
        .put("etc/preroot.conf", std::format!("Provisioning.Agent={agent}\n"))
        .put("etc/systemd/system/cloud-init.target.wants/cloud-init-local.service", "")
        .put("usr/lib/systemd/system/cloud-init-local.service", "")
        .put("etc/cloud/cloud.cfg", "# datasource_list: [ Ec2 ]\nusers:\n  - default\n")
        .put("etc/cloud/cloud.cfg.d/90_dpkg.cfg", "datasource_list: [ NoCloud, Azure, Ec2, None ]\n")
        .put_dir("var/lib");
    for (path, text) in more {
        world.root.put(path, *text);
    }
    world.run.put(super::FETCH_ENDED, "");
    publish(&mut world);
    let _ = run(&mut world.kernel(), &mut [0; 256], "/sysroot");
    assert!(world.clock.sleeps.is_empty() && world.system.read_only.contains("/sysroot"));
    world
}

#[test]
fn another_agents_vm_waits_for_nothing_and_tells_nothing() {
    for (agent, is_stopped) in
        [("waagent", true), ("cloud-init", true), ("auto", true), ("preroot", false), ("disabled", false)]
    {
        let world = beside_cloud_init(agent, "root=/dev/sda1 ro\n", &[]);
        assert_eq!(world.run.text(crate::sys::CANCEL).is_some(), is_stopped, "{agent}");
        assert_eq!(world.run.owner(seed::SEED).is_none(), is_stopped, "{agent}");
        let may_tell = world.run.text(super::FIRST_BOOT).is_some();
        assert_eq!(may_tell, agent == "preroot", "{agent}: cloud-init may do it");
        assert_eq!(world.root.text(crate::config::NO_CLOUD_INIT).is_some(), agent == "preroot", "{agent}");
    }
}

#[test]
fn without_a_config_drive_nobody_waits() {
    use crate::stage::persist::{FETCH_BEGUN, FETCH_ENDED, GROW_LATER, join_unsure};
    let cloud_init = "etc/systemd/system/cloud-init.target.wants/cloud-init-local.service";
    for (has_cloud_init, has_ended) in [(true, false), (false, true)] {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_name", "OpenStack Nova\n").put("proc/cmdline", "ro\n");
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
        world.run.put(FETCH_BEGUN, "").put(GROW_LATER, "");
        if has_cloud_init {
            world.root.put(cloud_init, "").put("etc/cloud/cloud.cfg", "");
            world.root.put("usr/lib/systemd/system/cloud-init-local.service", "");
        }
        if has_ended {
            world.run.put(FETCH_ENDED, "");
        }
        // Only where we provision is another look worth it.
        assert_eq!(join_unsure(&mut world.kernel(), &mut [0; 256]), has_ended);
        let outcome = run(&mut world.kernel(), &mut [0; 256], "/sysroot");
        assert!(outcome.is_err_and(|error| error.is(Kind::NotApplicable)));
        assert!(world.clock.sleeps.is_empty() && world.run.text(GROW_LATER).is_none());
        assert_eq!(world.run.text(crate::sys::CANCEL).is_some(), has_cloud_init);
    }
}

#[test]
fn a_cloud_init_that_may_find_nothing_to_do_is_asked_later() {
    let nowhere = ("etc/cloud/cloud.cfg.d/99.cfg", "datasource_list: [ Ec2 ]\n");
    let policy = ("etc/cloud/ds-identify.cfg", "policy: disabled\n");
    for (cmdline, more, is_asked_later) in [
        ("cloud-init=disabled", &[][..], true),
        ("ro ds=nocloud", &[], true),
        ("ci.di.policy=disabled", &[], true),
        ("cc:", &[], true),
        ("ro dsx=1 cloud-init", &[], false),
        ("ro", &[nowhere], true),
        ("ro", &[policy], true),
        ("ro", &[("etc/cloud/cloud.cfg.d/README", "datasource_list: [ Ec2 ]\n")], false),
        ("ro", &[("etc/cloud/cloud.cfg.d/50.cfg", "datasource_list:\n- Azure\n")], true),
    ] {
        let world = beside_cloud_init("auto", cmdline, more);
        assert_eq!(world.run.owner(seed::SEED).is_some(), is_asked_later, "{cmdline} {more:?}");
        assert_eq!(world.run.text(crate::sys::CANCEL).is_none(), is_asked_later, "{cmdline} {more:?}");
    }
}

#[test]
fn apply_and_report_are_not_started_when_they_have_nothing_to_do() {
    let id = InstanceId::parse(ID).unwrap();
    let is_settled = |is_reported: bool, is_kept: bool, mib: u64| {
        let mut world = crate::disk::filesystem::tests::mounted(25600, mib, 1);
        on_azure(&mut world);
        seed::mark(&mut world.root, seed::PROVISIONED, &id).unwrap();
        if is_reported {
            seed::mark(&mut world.root, seed::REPORTED, &id).unwrap();
        }
        if is_kept {
            world.root.put_dir(&seed::pending(&id).unwrap());
        }
        assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
        world.run.text(super::SETTLED).is_some()
    };
    assert!(is_settled(true, false, 100));
    assert!(!is_settled(false, false, 100), "the platform does not know yet");
    assert!(!is_settled(true, true, 100), "a cut came before the secrets were dropped");
    assert!(!is_settled(true, false, 200), "the disk was made larger");
}

#[test]
fn a_fetch_that_nobody_can_stop_leaves_no_seed() {
    let mut world = azure();
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
    seed::begin(&mut world.run).unwrap();
    assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
    // it comes late, in an initrd that is gone
    seed::begin(&mut world.run).unwrap();
    let published = seed::publish(&mut world.run, &Facts::new(), &seed::Context::default());
    assert_eq!(published, Err(crate::error::Error::STOPPED));
    assert!(world.run.owner(seed::SEED).is_none() && world.run.owner("seed.tmp").is_none());
}

#[test]
fn a_state_directory_that_is_not_mounted_yet_hides_no_mark() {
    let mut world = azure();
    world.root.put("etc/fstab", "UUID=b /var ext4 defaults 0 2\n").put(seed::PROVISIONED_HERE, ID);
    publish(&mut world);
    assert!(run(&mut world.kernel(), &mut [0; 512], "/sysroot").is_err());
    assert!(world.clock.sleeps.is_empty() && world.run.owner(seed::SEED).is_none());
    assert!(world.run.text(super::FIRST_BOOT).is_none() && world.run.text(super::SETTLED).is_none());
}

#[test]
fn the_seed_is_copied_and_the_root_is_read_only_again() {
    let mut world = azure();
    publish(&mut world);
    world.run.put(super::FETCH_ENDED, "");
    run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
    assert!(world.root.owner(&seed::pending(&InstanceId::parse(ID).unwrap()).unwrap()).is_some());
    assert!(world.system.read_only.contains("/sysroot"));
}

#[test]
fn the_images_machine_id_goes_where_preroot_provisions() {
    const IMAGES: &str = "0123456789abcdef0123456789abcdef\n";
    for (conf, is_emptied) in [("", true), ("Provisioning.Agent=disabled\n", false)] {
        let mut world = azure();
        publish(&mut world);
        world.run.put(super::FETCH_ENDED, "");
        world
            .root
            .put("usr/lib/systemd/systemd", "")
            .put("etc/machine-id", IMAGES)
            .put("etc/preroot.conf", conf);
        run(&mut world.kernel(), &mut [0; 512], "/sysroot").unwrap();
        assert_eq!(world.root.text("etc/machine-id").unwrap(), if is_emptied { "" } else { IMAGES });
        assert!(world.system.read_only.contains("/sysroot"));
    }
}

#[test]
fn a_second_boot_waits_for_nothing_but_a_link_that_is_up() {
    let mut world = azure();
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
    world.run.put(super::ON_LINE, "");
    assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
    assert_eq!(world.clock.sleeps.iter().sum::<u64>(), crate::limits::STOP_MS);
}

#[test]
fn a_seed_is_not_written_below_a_mount_that_is_still_to_come() {
    for (fstab, is_kept) in [
        ("UUID=a / ext4 defaults 0 1\n#UUID=b /var ext4 defaults 0 2\n", false),
        ("UUID=a / ext4 defaults 0 1\nUUID=b\t/var\text4 defaults 0 2\n", true),
        ("/dev/mapper/x /var/lib/ xfs defaults 0 0", true),
        ("UUID=b /var ext4 noauto,ro 0 2\nUUID=c /var/log ext4 defaults\n", false),
    ] {
        let mut world = azure();
        publish(&mut world);
        world.run.put(super::FETCH_ENDED, "");
        world.root.put("etc/fstab", fstab);
        world.root.put_dir("var/lib");
        run(&mut world.kernel(), &mut [0; 512], "/sysroot").unwrap();
        assert_eq!(world.root.owner("var/lib/preroot").is_none(), is_kept, "{fstab}");
        assert!(world.run.owner(seed::SEED).is_some());
    }
}

#[test]
fn a_fetch_that_hangs_is_left_behind_after_the_deadline() {
    let mut world = azure();
    publish(&mut world);
    world.clock.tick_us = 10;
    run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
    let waited: u64 = world.clock.sleeps.iter().sum();
    assert!((9_000..=11_100).contains(&waited), "{waited}");
    assert!(world.log.lines.iter().any(|line| line.contains("has not ended")));
    assert!(world.run.text(crate::sys::CANCEL).is_some());
}

#[test]
fn another_platform_is_not_applicable() {
    let mut world = World::new();
    assert!(
        matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(error) if error.is(Kind::NotApplicable))
    );
    assert!(world.log.lines.is_empty());
}

#[test]
fn a_fetch_that_systemd_has_ended_is_not_waited_for() {
    for (began, waits) in [("", false), ("7", true)] {
        let mut world = azure();
        world.run.put(super::FETCH_BEGUN, "").put(crate::stage::beside::FETCH, "4242 7");
        world.host.put("proc/4242/stat", std::format!("4242 (preroot) S{} {began}", " 0".repeat(18)));
        super::end_early(&mut world.kernel());
        assert_eq!((world.clock.sleeps.is_empty(), world.system.killed.is_empty()), (!waits, !waits));
        assert!(world.run.text(crate::sys::CANCEL).is_some());
    }
}
