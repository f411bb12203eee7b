//! The whole stage: refusals, marks, boots that do not finish, and every power cut.

use super::run;
use crate::cli::{Command, Verb};
use crate::error::{Errno, Kind};
use crate::facts::{
    Fact, Facts, Hostname, InstanceId, PasswordHash, PreProvisioning, Provenance, SshKey, SshKeys, UserName,
};
use crate::net::Buffers;
use crate::seed::{self, Context};
use crate::sys::fake::World;
use crate::sys::{Dir, Owner};
use std::boxed::Box;
use std::string::String;

const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const PENDING: &str = "var/lib/preroot/pending-91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const HASH: &str = "$6$canary$hash";

pub(super) fn id() -> InstanceId {
    InstanceId::parse(ID).unwrap()
}

fn fact<T>(value: T) -> Option<Fact<T>> {
    Some(Fact { value, from: Provenance::Imds })
}

pub(in crate::stage) fn facts() -> Box<Facts> {
    let mut keys = SshKeys::new();
    keys.push(SshKey::parse("ssh-ed25519 AAAAC3Nz ops").unwrap()).unwrap();
    Box::new(Facts {
        instance_id: fact(id()),
        hostname: fact(Hostname::parse("vm1").unwrap()),
        user: fact(UserName::parse("ops").unwrap()),
        password: fact(PasswordHash::parse(HASH).unwrap()),
        password_login: fact(true),
        keys: fact(keys),
        ..Facts::default()
    })
}

/// An Azure VM after switch-root; the seed is in memory, and on the root when `is_kept`.
pub(in crate::stage) fn world(facts: &Facts, context: &Context, is_kept: bool) -> World {
    let mut world = World::new();
    world.clock.wall = 1_750_000_000;
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
    world.root.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
    world.root.put_owned("etc/shadow", Owner::root(0o600), "root:*:19000:0:99999:7:::\n");
    world.root.put("etc/group", "root:x:0:\nsudo:x:27:\n").put("etc/hosts", "127.0.0.1 localhost\n");
    world.root.put("etc/skel/.profile", "# profile\n").put_dir("home").put_dir("var/lib");
    world.root.put_owned("etc/sudoers", Owner::root(0o440), "@includedir /etc/sudoers.d\n");
    world.root.put("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n");
    world.root.put("etc/ssh/ssh_host_ed25519_key", "key").put("var/lib/preroot/host-keys", ID);
    world.root.put("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA root@image\n");
    seed::begin(&mut world.run).unwrap();
    seed::spool(&mut world.run, seed::CUSTOM_DATA, b"#!canary\n").unwrap();
    seed::publish(&mut world.run, facts, context).unwrap();
    if is_kept {
        seed::persist(&mut world.run, &mut world.root, &id()).unwrap();
        world.root.power_on(true);
    }
    world
}

pub(super) fn ready_world() -> World {
    world(&facts(), &Context::default(), true)
}

fn command(dry_run: bool) -> Command {
    let root = "/";
    Command { dry_run, root, ..crate::cli::parse(&mut [Some("apply")].into_iter()).unwrap() }
}

pub(super) fn boot(world: &mut World) -> crate::error::Result<()> {
    let mut facts = Box::new(Facts::new());
    let mut bytes = std::vec![0; 256 * 1024];
    assert_eq!(command(false).verb, Verb::Apply);
    run(&mut world.kernel(), &mut facts, &mut bytes, &mut Box::new(Buffers::new()), &command(false))
}

/// The next boot after a power cut: memory is gone.
fn reboot(world: &mut World, keep_names: bool) {
    world.root.power_on(keep_names);
    world.run = crate::sys::fake::FakeDir::default();
    world.run.in_memory = true;
}

fn said(world: &World, text: &str) -> bool {
    world.log.lines.iter().any(|line| line.contains(text))
}

#[test]
fn a_seed_becomes_a_system_and_only_once() {
    let mut world = ready_world();
    boot(&mut world).unwrap();
    assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()));
    assert!(world.root.text("etc/shadow").unwrap().contains(HASH));
    assert_eq!(world.root.text(seed::USER).unwrap(), "ops\n");
    assert!(said(&world, "apply: users: applied in"));
    assert!(said(&world, "apply: ssh_host_keys: as it should be"));
    assert!(said(&world, "apply: this VM is provisioned"));
    assert!(said(&world, "apply: SSH host key: SHA256:"), "{:?}", world.log.lines);
    assert!(!world.log.lines.concat().contains("canary"));
    let before = world.root.dump();
    assert!(before.keys().all(|path| !path.contains("marks-") && !path.contains("boots-")));
    reboot(&mut world, true);
    let changes = world.root.changes();
    assert!(matches!(boot(&mut world), Err(error) if error.is(Kind::NotApplicable)));
    assert_eq!(world.root.changes(), changes);
}

#[test]
fn another_agents_system_is_left_as_it_is_and_its_secrets_go() {
    const CLOUD_INIT: &str = "etc/systemd/system/cloud-init.target.wants/cloud-init-local.service";
    for (conf, has_cloud_init, word) in [
        ("Provisioning.Agent=waagent\n", false, "preroot.conf names another agent"),
        ("Provisioning.Agent=cloud-init\n", false, "preroot.conf names another agent"),
        ("", true, "cloud-init is enabled"),
    ] {
        let mut world = ready_world();
        world.root.put("etc/preroot.conf", conf);
        if has_cloud_init {
            world.root.put_symlink(CLOUD_INIT, "/lib/systemd/system/cloud-init-local.service");
            world.root.put("usr/lib/systemd/system/cloud-init-local.service", "");
        }
        let before = world.root.dump();
        let error = boot(&mut world).unwrap_err();
        assert!(error.is(Kind::NotApplicable) && std::format!("{error}").contains(word), "{error}");
        let mut after = before.clone();
        after.retain(|path, _| !path.starts_with(PENDING));
        assert_eq!(world.root.dump(), after, "nothing but the seed changed");
        assert!(world.run.text("seed/user/password-hash").is_none());
    }
}

#[test]
fn preroot_provisions_beside_an_enabled_cloud_init_only_when_told_so() {
    let mut world = ready_world();
    world.root.put("etc/preroot.conf", "Provisioning.Agent=preroot\n");
    world.root.put("etc/runlevels/boot/cloud-init-local", "").put("etc/init.d/cloud-init-local", "");
    boot(&mut world).unwrap();
    assert!(said(&world, "cloud-init is enabled too") && said(&world, "this VM is provisioned"));
}

#[test]
fn a_waagent_conf_does_not_keep_preroot_from_provisioning() {
    let mut world = ready_world();
    world.root.put("etc/waagent.conf", "Provisioning.Agent=waagent\n");
    boot(&mut world).unwrap();
}

#[test]
fn disabled_means_marked_and_nothing_touched() {
    let mut world = ready_world();
    world.root.put("etc/preroot.conf", "Provisioning.Agent=disabled\nResourceDisk.Swap=y\n");
    boot(&mut world).unwrap();
    assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()));
    assert!(!world.root.text("etc/passwd").unwrap().contains("ops"));
    assert!(world.root.text(seed::USER).is_none());
    assert!(said(&world, "1 lines of the configuration do not count"));
}

#[test]
fn the_swapped_spelling_of_the_id_is_this_vm_and_another_id_is_not() {
    let mut world = ready_world();
    seed::mark(&mut world.root, seed::PROVISIONED, &id().swapped().unwrap()).unwrap();
    assert!(matches!(boot(&mut world), Err(error) if error.is(Kind::NotApplicable)));
    let mut world = ready_world();
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse("i-template").unwrap()).unwrap();
    boot(&mut world).unwrap();
    assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()));
}

#[test]
fn a_seed_that_is_not_ours_is_refused() {
    let refused = |world: &mut World| {
        let before = world.root.dump();
        let error = boot(world).unwrap_err();
        assert_eq!(world.root.dump(), before);
        error.reason()
    };
    let mut open = ready_world();
    open.run.set_owner("seed", Owner::root(0o755)).unwrap();
    assert_eq!(refused(&mut open), "seed is not root's alone");

    let mut other = facts();
    other.instance_id = fact(InstanceId::parse("00000000-0000-0000-0000-000000000001").unwrap());
    assert_eq!(refused(&mut world(&other, &Context::default(), false)), "names another VM");

    let context = Context { verdict: seed::Verdict::Fail, ..Context::default() };
    let mut gave_up = world(&facts(), &context, false);
    assert_eq!(refused(&mut gave_up), "the initrd gave up, and the report says why");

    let mut none = ready_world();
    seed::remove(&mut none.run, seed::SEED).unwrap();
    seed::remove(&mut none.root, PENDING).unwrap();
    assert_eq!(refused(&mut none), "no seed for this VM");

    let mut foreign = ready_world();
    foreign.host.put("sys/class/dmi/id/chassis_asset_tag", "other\n");
    assert!(matches!(boot(&mut foreign), Err(error) if error.is(Kind::NotApplicable)));
}

#[test]
fn a_seed_in_memory_only_is_put_on_the_root_first() {
    let mut world = world(&facts(), &Context::default(), false);
    boot(&mut world).unwrap();
    assert!(world.root.text(&std::format!("{PENDING}/hostname")).is_some());
}

#[test]
fn one_failing_module_stops_no_other_and_leaves_no_mark() {
    let mut world = ready_world();
    world.root.put("usr/sbin/visudo", "");
    world.system.programs.insert("/usr/sbin/visudo".into(), 1);
    assert_eq!(boot(&mut world).unwrap_err().reason(), "visudo refuses the rule");
    assert!(said(&world, "apply: sudo: failed: "));
    assert!(said(&world, "apply: sshd: applied"));
    assert_eq!(world.run.text(super::FAILURE).unwrap(), "sudo: visudo refuses the rule");
    assert!(!seed::is_marked(&mut world.root, seed::PROVISIONED, &id()));
    // A person repairs the image and changes something that was done already: that stays.
    world.system.programs.insert("/usr/sbin/visudo".into(), 0);
    world.root.put("etc/hostname", "mine\n");
    reboot(&mut world, true);
    boot(&mut world).unwrap();
    assert_eq!(world.root.text("etc/hostname").unwrap(), "mine\n");
    assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()));
}

#[test]
fn after_three_boots_it_is_given_up_without_secrets() {
    let mut world = ready_world();
    world.root.put("usr/sbin/visudo", "");
    world.system.programs.insert("/usr/sbin/visudo".into(), 1);
    world.run.put("seed/storage/mounts", "//host/share /mnt cifs password=canary\n");
    seed::remove(&mut world.root, PENDING).unwrap();
    seed::persist(&mut world.run, &mut world.root, &id()).unwrap();
    let secrets =
        ["scripts/user/runcmd", "scripts/first/00-packages", "scripts/vendor/x", "deferred/files/0/content"];
    for name in secrets {
        world.root.put(&std::format!("var/lib/preroot/{name}"), "canary");
    }
    let image = ["scripts/boot/bootcmd", "scripts/per-boot/image"];
    image.iter().for_each(|name| _ = world.root.put(&std::format!("var/lib/preroot/{name}"), "#!/bin/sh\n"));
    for _ in 0..3 {
        assert_eq!(boot(&mut world).unwrap_err().reason(), "visudo refuses the rule");
        world.root.put("var/lib/preroot/deferred/files/0/content", "canary");
        reboot(&mut world, true);
    }
    let marks = seed::marks(&id()).unwrap();
    let is_done = |world: &World, module| world.root.owner(&std::format!("{marks}/{module}")).is_some();
    assert!(is_done(&world, "write_files") && is_done(&world, "users"));
    assert_eq!(boot(&mut world).unwrap_err().reason(), "too many boots ended inside apply");
    assert!(said(&world, "apply: given up after 3 boots"));
    // Who removes the counter has them written once more.
    assert!(!is_done(&world, "write_files") && !is_done(&world, "custom_data") && is_done(&world, "users"));
    assert!(image.iter().all(|name| world.root.owner(&std::format!("var/lib/preroot/{name}")).is_some()));
    let left = world.root.dump();
    assert!(
        left.iter().all(|(path, text)| !path.contains("lib/preroot/") || !text.contains("canary")),
        "{left:?}"
    );
    let failed = PENDING.replace("pending", "failed");
    assert_eq!(world.root.text(&std::format!("{failed}/hostname")).unwrap(), "vm1\n");
    let dump = world.root.dump();
    let secrets: String = dump
        .iter()
        .filter(|(path, _)| path.starts_with(&failed))
        .map(|(_, content)| content.as_str())
        .collect();
    assert!(!secrets.contains("canary"));
    assert!(dump.keys().all(|path| !path.contains("pending-")));
    // The initrd fetched again: still not applied.
    seed::begin(&mut world.run).unwrap();
    seed::publish(&mut world.run, &facts(), &Context::default()).unwrap();
    assert_eq!(boot(&mut world).unwrap_err().reason(), "too many boots ended inside apply");
}

#[test]
fn however_often_it_runs_in_one_boot_that_is_one_boot() {
    let mut world = ready_world();
    world.root.put("usr/sbin/visudo", "");
    world.system.programs.insert("/usr/sbin/visudo".into(), 1);
    for _ in 0..6 {
        assert_eq!(boot(&mut world).unwrap_err().reason(), "visudo refuses the rule");
    }
    assert_eq!(world.root.text(&std::format!("{PENDING}/user/password-hash")).unwrap().trim(), HASH);
    // Repaired by a person, and run once more.
    world.system.programs.insert("/usr/sbin/visudo".into(), 0);
    boot(&mut world).unwrap();
}

#[test]
fn the_platform_hears_of_an_apply_that_takes_long() {
    let lease = crate::format::dhcp::Lease {
        mac: [0, 13, 58, 1, 2, 3],
        address: [10, 0, 0, 4],
        prefix: 24,
        router: Some([10, 0, 0, 1]),
        server: [0; 4],
        dns: heapless::Vec::new(),
        routes: heapless::Vec::new(),
        wireserver: None,
        lease_s: None,
        until_s: None,
        mtu: None,
        hostname: None,
    };
    for (tick_us, wants_proxy_agent, is_kept_alone, times) in [
        (1000, false, false, 0),
        (4_000_000, false, false, 1),
        (4_000_000, true, false, 0),
        (4_000_000, false, true, 0),
    ] {
        let mut facts = facts();
        facts.wants_proxy_agent = fact(wants_proxy_agent);
        let context = Context { lease: Some(lease.clone()), ..Context::default() };
        let mut world = world(&facts, &context, true);
        if is_kept_alone {
            reboot(&mut world, true);
        }
        world.clock.tick_us = tick_us;
        boot(&mut world).unwrap();
        let told = world.log.lines.iter().filter(|line| line.contains("the platform may wonder")).count();
        assert!(told.min(1) == times, "{tick_us} {wants_proxy_agent} {is_kept_alone}: {:?}", world.log.lines);
    }
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let mut world = ready_world();
    let changes = world.root.changes();
    let mut facts = Box::new(Facts::new());
    run(
        &mut world.kernel(),
        &mut facts,
        &mut std::vec![0; 256 * 1024],
        &mut Box::new(Buffers::new()),
        &command(true),
    )
    .unwrap();
    assert_eq!(world.root.changes(), changes);
    assert!(said(&world, "apply: hostname: would be applied"));
    assert!(world.system.hostname.is_none());
}

#[test]
fn every_power_cut_converges_on_the_next_boot() {
    let mut uncut = ready_world();
    let before = uncut.root.changes();
    boot(&mut uncut).unwrap();
    let changes = uncut.root.changes() - before;
    let whole = uncut.root.dump();
    for n in 1..=changes {
        for keep_names in [false, true] {
            let mut world = ready_world();
            world.root.cut_power_at(n);
            let _ = boot(&mut world);
            reboot(&mut world, keep_names);
            let is_done = seed::is_marked(&mut world.root, seed::PROVISIONED, &id());
            match boot(&mut world) {
                Err(error) if error.is(Kind::NotApplicable) => assert!(is_done, "cut at {n}"),
                outcome => outcome.unwrap(),
            }
            assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()), "cut at {n}");
            let is_ours = |path: &String| path.contains("lib/preroot/") || path.ends_with(".pwd.lock");
            let mut system = world.root.dump();
            let mut expected = whole.clone();
            system.retain(|path, _| !is_ours(path));
            expected.retain(|path, _| !is_ours(path));
            assert_eq!(system, expected, "cut at {n}, names kept: {keep_names}");
        }
    }
    assert!(changes > 80, "{changes}");
}

#[test]
fn what_is_said_of_a_vm_of_a_pool_is_not_applied() {
    let facts = Box::new(Facts { pre_provisioning: fact(PreProvisioning::Savable), ..*facts() });
    let mut world = world(&facts, &Context::default(), true);
    let before = world.root.dump();
    let (mut loaded, mut bytes) = (Box::new(Facts::new()), std::vec![0; 256 * 1024]);
    let outcome =
        run(&mut world.kernel(), &mut loaded, &mut bytes, &mut Box::new(Buffers::new()), &command(true));
    assert!(outcome.unwrap_err().is(Kind::NotApplicable) && world.run.text("pool").is_none());
    assert_eq!(world.root.dump(), before);
    assert!(boot(&mut world).unwrap_err().is(Kind::NotApplicable) && world.run.text("pool").is_some());
    assert!(world.root.owner(PENDING).is_none());
    assert!(!world.root.dump().values().any(|node| node.contains("ops") || node.contains("canary")));
}

/// With a bootcmd of the VM that the image was captured from; true if that was run.
fn runs_anothers(mut world: World) -> bool {
    world.host.put("proc/sys/kernel/random/boot_id", "first");
    world.root.put(seed::PROVISIONED, "00000000-0000-0000-0000-0000000000aa\n");
    world.root.put_owned("var/lib/preroot/scripts/boot/bootcmd", Owner::root(0o700), "#!/bin/sh\n");
    world.system.programs.insert("/usr/bin/env".into(), 0);
    let _ = boot(&mut world);
    world.system.runs.iter().any(|run| run.contains("bootcmd"))
}

#[test]
fn another_vms_bootcmd_is_not_run_wherever_this_one_fails() {
    let fail = Context { verdict: seed::Verdict::Fail, ..Context::default() };
    assert!(!runs_anothers(world(&facts(), &fail, true)));
    let mut without_seed = world(&facts(), &fail, false);
    without_seed.run = crate::sys::fake::FakeDir::default();
    assert!(!runs_anothers(without_seed));
    for n in 1..40 {
        let mut world = ready_world();
        let changes = world.root.changes();
        world.root.fail_at(changes + n, Errno::IO);
        assert!(!runs_anothers(world), "{n}");
    }
}

#[test]
fn nothing_is_left_of_what_the_image_was_before() {
    let mut world = ready_world();
    for name in ["marks-aa/users", "boots-aa", "pending-aa/hostname", "failed-aa/format", "marks-00/dir/x"] {
        world.root.put(&std::format!("var/lib/preroot/{name}"), "x\n");
    }
    boot(&mut world).unwrap();
    let dump = world.root.dump();
    assert!(dump.keys().all(|path| !path.contains("-aa")), "{:?}", dump.keys());
    assert!(said(&world, "marks of the modules stay"), "what cannot go keeps no other");
}
