//! Which scripts run, in which order, how often, and what is left of what they said.

use super::{LOG, RECORDS, run};
use crate::error::{Errno, Kind, Result};
use crate::facts::InstanceId;
use crate::seed;
use crate::sys::fake::World;
use crate::sys::{Dir as _, Owner};
use std::string::String;

const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const PROGRAM: Owner = Owner::root(0o755);

fn world() -> World {
    let mut world = World::new();
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
    world.host.put("proc/sys/kernel/random/boot_id", "11111111-1111-1111-1111-111111111111\n");
    world.host.put("dev/console", "");
    world.root.put_dir("var/lib");
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
    world
}

/// A script that ends with `code`.
fn put(world: &mut World, path: &str, code: i32) {
    world.root.put_owned(&std::format!("var/lib/{path}"), PROGRAM, "#!/bin/sh\n");
    world.system.programs.insert(std::format!("/var/lib/{path}"), code);
}

fn boot(world: &mut World) -> (Result<()>, std::vec::Vec<String>) {
    world.system.runs.clear();
    let outcome = run(&mut world.kernel(), &mut [0; 64], "/", false);
    let runs = world.system.runs.iter().map(|run| run.replace("/var/lib/", "")).collect();
    (outcome, runs)
}

#[test]
fn two_at_once_do_not_both_run_them() {
    let mut world = world();
    put(&mut world, "preroot/scripts/first/00-packages", 0);
    world.root.put(&std::format!("{RECORDS}/first.00-packages"), std::format!("{ID}\nstarted\n"));
    let mut run = world.run.clone();
    run.lock(super::LOCK, 0, &mut |_| {
        let (outcome, runs) = boot(&mut world);
        assert!(outcome.unwrap_err().is(Kind::NotApplicable) && runs.is_empty());
        assert!(world.log.lines.iter().any(|line| line.contains("another `preroot scripts` is at work")));
        Ok(())
    })
    .unwrap();
    // Who was killed holds it no longer, though the file is there.
    assert!(world.run.owner(super::LOCK).is_some());
    assert_eq!(boot(&mut world).1.len(), 1);
}

fn record(world: &World, name: &str) -> String {
    let text = world.root.text(&std::format!("{RECORDS}/{name}")).unwrap_or_default();
    text.lines().nth(1).unwrap_or_default().into()
}

#[test]
fn scripts_run_in_cloud_inits_order_each_as_often_as_its_directory_says() {
    let mut world = world();
    for path in [
        "preroot/scripts/user/runcmd",
        "cloud/scripts/per-instance/10-b",
        "cloud/scripts/per-instance/10-a",
        "cloud/scripts/per-boot/boot",
        "preroot/scripts/per-boot/boot",
        "cloud/scripts/per-once/once",
    ] {
        put(&mut world, path, 0);
    }
    let all = [
        "cloud/scripts/per-once/once",
        "cloud/scripts/per-boot/boot",
        "preroot/scripts/per-boot/boot",
        "cloud/scripts/per-instance/10-a",
        "cloud/scripts/per-instance/10-b",
        "preroot/scripts/user/runcmd",
    ];
    assert_eq!(boot(&mut world), (Ok(()), all.map(String::from).to_vec()));
    // Again in the same boot: nothing.
    assert!(boot(&mut world).1.is_empty());
    world.host.put("proc/sys/kernel/random/boot_id", "22222222-2222-2222-2222-222222222222\n");
    assert_eq!(boot(&mut world).1, ["cloud/scripts/per-boot/boot", "preroot/scripts/per-boot/boot"]);
    // The same disk in another VM: once stays once.
    const OTHER: &str = "00000000-9f02-4cfe-b1f4-a4da7ebac2cf";
    world.host.put("sys/class/dmi/id/product_uuid", std::format!("{OTHER}\n"));
    assert!(boot(&mut world).0.unwrap_err().is(Kind::NotApplicable), "not before it is provisioned");
    seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(OTHER).unwrap()).unwrap();
    let runs = boot(&mut world).1;
    assert_eq!(runs, all[3..].to_vec());
}

#[test]
fn packages_come_first_then_vendors_scripts_and_what_was_cut_is_installed_again() {
    let mut world = world();
    let all = [
        "preroot/scripts/first/00-packages",
        "preroot/scripts/vendor/x",
        "cloud/scripts/per-once/once",
        "preroot/scripts/per-boot/boot",
        "preroot/scripts/user/runcmd",
    ];
    all.iter().rev().for_each(|path| put(&mut world, path, 0));
    assert_eq!(boot(&mut world), (Ok(()), all.map(String::from).to_vec()));
    for (name, again) in [("user.runcmd", false), ("first.00-packages", true)] {
        world.root.put(&std::format!("{RECORDS}/{name}"), std::format!("{ID}\nstarted\n"));
        assert_eq!(!boot(&mut world).1.is_empty(), again);
    }
}

#[test]
fn a_file_that_waits_for_packages_is_written_behind_them_and_before_other_scripts() {
    let kept = |name: &str| std::format!("var/lib/preroot/deferred/files/{name}");
    let with_files = || {
        let mut world = world();
        world.root.put("etc/group", "root:x:0:\nnginx:x:990:\n").put_dir("etc/nginx");
        world.root.put("etc/passwd", "root:x:0:0::/root:/bin/sh\nnginx:x:990:990::/:/bin/sh\n");
        world.root.put("etc/env", "old\n");
        for (name, text) in [
            ("0/path", "/etc/nginx/x.conf"),
            ("0/owner", "nginx:nginx"),
            ("0/content", "conf"),
            ("1/path", "/etc/env"),
            ("1/append", "true"),
            ("1/content", "new\n"),
            ("2/path", "/etc/never"),
            ("2/owner", "nobodyelse"),
        ] {
            world.root.put(&kept(name), text);
        }
        put(&mut world, "preroot/scripts/first/00-packages", 0);
        put(&mut world, "preroot/scripts/user/runcmd", 0);
        world.root.power_on(true);
        world
    };
    let is_whole = |world: &World| {
        let owner = world.root.owner("etc/nginx/x.conf").unwrap();
        assert_eq!((owner.uid, owner.gid, owner.mode), (990, 990, 0o644));
        assert_eq!(world.root.text("etc/env").unwrap(), "old\nnew\n");
        assert!(
            world.root.owner("var/lib/preroot/deferred").is_none() && world.root.owner("etc/never").is_none()
        );
    };
    let mut uncut = with_files();
    let before = uncut.root.changes();
    assert_eq!(boot_in(&mut uncut).unwrap_err().reason(), "a script failed");
    is_whole(&uncut);
    for n in 1..=uncut.root.changes() - before {
        let mut world = with_files();
        world.root.cut_power_at(n);
        let _ = boot_in(&mut world);
        world.root.power_on(false);
        let _ = boot_in(&mut world);
        is_whole(&world);
    }
}

fn boot_in(world: &mut World) -> Result<()> {
    run(&mut world.kernel(), &mut std::vec![0; 64 * 1024], "/", false)
}

#[test]
fn a_failure_is_recorded_and_stops_no_other() {
    let mut world = world();
    put(&mut world, "preroot/scripts/per-boot/1", 3);
    put(&mut world, "preroot/scripts/per-boot/2", 0);
    world.root.put_owned("var/lib/preroot/scripts/per-boot/3", PROGRAM, "#!/no/such");
    let (outcome, runs) = boot(&mut world);
    assert_eq!((outcome.unwrap_err().reason(), runs.len()), ("a script failed", 3));
    let words = ["1", "2", "3"].map(|name| record(&world, &std::format!("per-boot.{name}")));
    assert_eq!(words, ["3", "0", "failed"]);
    assert!(world.log.lines.iter().any(|line| line == "scripts: per-boot/1: ended with 3"));
}

/// A script that reboots the machine must not do so for ever.
#[test]
fn a_script_runs_at_most_once_and_at_last_whenever_the_power_goes() {
    let with_script = || {
        let mut world = world();
        put(&mut world, "preroot/scripts/user/custom-data", 0);
        world.root.power_on(true);
        world
    };
    let mut uncut = with_script();
    let before = uncut.root.changes();
    boot(&mut uncut).0.unwrap();
    let (mut lost, changes) = (0, uncut.root.changes() - before);
    for n in 1..=changes {
        let mut world = with_script();
        world.root.cut_power_at(n);
        let first = boot(&mut world).1.len();
        world.root.power_on(false);
        let second = boot(&mut world).1.len();
        assert!(first + second <= 1, "cut at {n}: run twice");
        lost += usize::from(first + second == 0);
        // A third boot changes nothing.
        assert_eq!(boot(&mut world).1.len(), 0, "cut at {n}");
    }
    // Between the mark and the start: the log's changes.
    assert!(lost <= 4, "{lost} of {changes} cuts lose the script");
}

#[test]
fn what_is_no_script_is_not_run() {
    let mut world = world();
    let base = "var/lib/preroot/scripts/";
    for (path, owner, text) in [
        ("user/cloud-config", PROGRAM, "#cloud-config\nhostname: x\n"),
        ("user/mime", PROGRAM, "Content-Type: multipart/mixed"),
        ("per-boot/notes", Owner::root(0o644), "#!/bin/sh\n"),
        ("per-boot/anybodys", Owner::root(0o777), "#!/bin/sh\n"),
        ("per-boot/users", Owner { mode: 0o755, uid: 1000, gid: 0 }, "#!/bin/sh\n"),
        ("per-boot/.hidden", PROGRAM, "#!/bin/sh\n"),
        ("per-boot/directory/script", PROGRAM, "#!/bin/sh\n"),
    ] {
        world.root.put_owned(&std::format!("{base}{path}"), owner, text);
    }
    world.system.programs.insert("/bin/sh".into(), 0);
    assert!(boot(&mut world).1.is_empty());
    // waagent ran customData through a shell, which takes what has no first line of its own.
    world.root.put_owned(&std::format!("{base}user/plain"), PROGRAM, "echo x\n");
    assert_eq!(boot(&mut world).1, ["/bin/sh preroot/scripts/user/plain"]);
}

#[test]
fn where_cloud_init_is_its_scripts_are_its_own() {
    let mut world = world();
    put(&mut world, "cloud/scripts/per-boot/boot", 0);
    world.root.put("usr/bin/cloud-init", "");
    assert_eq!(boot(&mut world), (Ok(()), std::vec![]));
    // The command that stands in for it is ours.
    world.root.put("usr/bin/cloud-init", include_str!("../../../packaging/cloud-init/cloud-init"));
    assert_eq!(boot(&mut world), (Ok(()), std::vec!["cloud/scripts/per-boot/boot".to_string()]));
}

#[test]
fn output_is_in_the_log_and_line_by_line_on_the_console() {
    let mut world = world();
    put(&mut world, "preroot/scripts/per-boot/hello", 0);
    world.root.put("var/log/preroot-scripts.log", "old\n");
    let long = "x".repeat(100);
    let output = std::format!("one\n\x1b[2Jtwo\n{long}\nend");
    world.system.output = Some((world.root.clone(), output.clone()));
    boot(&mut world).0.unwrap();
    assert_eq!(world.root.text(LOG).unwrap(), std::format!("old\npreroot: hello\n{output}"));
    let console = world.host.text("dev/console").unwrap();
    // Longer than the window: in two pieces, nothing lost.
    let (first, second) = long.split_at(64);
    let expected =
        ["one", "?[2Jtwo", first, second, "end"].map(|line| std::format!("hello: {line}\r\n")).concat();
    assert_eq!(console, expected);
}

#[test]
fn a_console_that_takes_nothing_costs_a_second() {
    let mut world = world();
    put(&mut world, "preroot/scripts/per-boot/hello", 0);
    world.system.output = Some((world.root.clone(), "a\n".repeat(100)));
    world.host.appends = Some(Errno::AGAIN);
    boot(&mut world).0.unwrap();
    assert_eq!(world.clock.sleeps.iter().sum::<u64>(), 1000);
}

#[test]
fn without_a_log_scripts_run_all_the_same() {
    let mut world = world();
    put(&mut world, "preroot/scripts/per-boot/hello", 0);
    world.root.put_dir("var/log/preroot-scripts.log");
    assert_eq!(boot(&mut world).1.len(), 1);
}

#[test]
fn a_dry_run_runs_nothing() {
    let mut world = world();
    put(&mut world, "preroot/scripts/per-boot/hello", 0);
    let before = world.root.dump();
    run(&mut world.kernel(), &mut [0; 64], "/", true).unwrap();
    assert!(world.system.runs.is_empty() && world.root.dump() == before);
    assert!(world.log.lines.iter().any(|line| line == "scripts: per-boot/hello: would be run"));
}

/// It was marked all the same; what is there was another VM's.
#[test]
fn where_another_agent_provisions_no_scripts_of_user_data_run() {
    for (agent, is_run) in [("auto", true), ("preroot", true), ("disabled", false), ("waagent", false)] {
        let mut world = world();
        world.root.put("etc/preroot.conf", std::format!("Provisioning.Agent={agent}\n"));
        for path in ["first/00-packages", "vendor/x", "user/runcmd"] {
            put(&mut world, &std::format!("preroot/scripts/{path}"), 0);
        }
        put(&mut world, "preroot/scripts/per-boot/image", 0);
        put(&mut world, "preroot/scripts/per-boot/user-data.each", 0);
        world.root.put("var/lib/preroot/deferred/files/0/path", "/etc/another");
        let mut bytes = std::vec![0; 64 * 1024];
        run(&mut world.kernel(), &mut bytes, "/", false).unwrap();
        assert_eq!(world.system.runs.len(), if is_run { 5 } else { 1 }, "{agent}: {:?}", world.system.runs);
        assert_eq!(world.root.text("etc/another").is_some(), is_run, "{agent}");
    }
}

#[test]
fn file_systems_of_other_machines_are_mounted_once_behind_what_waited_for_packages() {
    const MOUNT: &str = "mount -a";
    for (code, told) in [
        (Some(0), "scripts: file systems of other machines: mounted"),
        (Some(32), "scripts: file systems of other machines: mount -a ended with 32"),
        (None, "scripts: file systems of other machines: mount -a ended with "),
    ] {
        let mut world = world();
        put(&mut world, "preroot/scripts/first/00-packages", 0);
        put(&mut world, "preroot/scripts/user/runcmd", 0);
        world.run.put(crate::apply::data_disks::REMOTE, "");
        if let Some(code) = code {
            world.system.programs.insert("/bin/sh".into(), code);
        }
        let (outcome, runs) = boot(&mut world);
        assert_eq!(outcome.is_ok(), code == Some(0), "{code:?}");
        assert!(runs[1].ends_with(MOUNT) && runs[2].ends_with("runcmd"), "{runs:?}");
        assert!(world.log.lines.iter().any(|line| line.starts_with(told)), "{:?}", world.log.lines);
        // Nobody asked in the next boot.
        assert!(boot(&mut world).1.is_empty());
    }
    let mut world = world();
    world.run.put(crate::apply::data_disks::REMOTE, "");
    run(&mut world.kernel(), &mut [0; 64], "/", true).unwrap();
    assert!(world.system.runs.is_empty() && world.run.text(crate::apply::data_disks::REMOTE).is_some());
}
