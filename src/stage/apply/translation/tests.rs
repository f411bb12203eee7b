//! What the translator says reaches the modules, or nothing of it does.

use crate::seed;
use crate::stage::apply::tests::{boot, id, ready_world};
use crate::sys::Owner;
use crate::sys::fake::World;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;

const PROGRAM: &str = "usr/bin/preroot-cloud-config";

/// A machine whose translator says this, and ends so.
fn world(says: &str, code: i32) -> World {
    let mut world = ready_world();
    world.root.put_owned(PROGRAM, Owner::root(0o755), "ELF");
    world.system.programs.insert(std::format!("/{PROGRAM}"), code);
    world.system.says = says.as_bytes().to_vec();
    world
}

fn has(world: &World, text: &str) -> bool {
    world.log.lines.iter().any(|line| line.contains(text))
}

fn entry(name: &str, text: &str) -> String {
    std::format!("entry {name} {}\n{text}\n", text.len())
}

const END: &str = "end - 0\n\n";

fn said(entries: &[(&str, &str)]) -> String {
    entries.iter().map(|(name, text)| entry(name, text)).collect::<Vec<_>>().concat() + END
}

#[test]
fn what_it_says_is_applied_like_any_seed() {
    let says = said(&[
        ("files/0/path", "/etc/motd"),
        ("files/0/content", "hi"),
        ("files/0/content", " there"),
        ("hostname", "vm9"),
        ("users/0", "name bob\nlock_passwd true\n"),
        ("timezone", ""),
    ]);
    let mut world = world(&says, 0);
    world.root.put("etc/os-release", "NAME=x\nID=\"debian\"\n");
    boot(&mut world).unwrap();
    assert_eq!(world.root.text("etc/hostname").unwrap(), "vm9\n");
    assert!(world.root.text("etc/motd").unwrap() == "hi there" && has(&world, "user data translated in"));
    assert!(world.root.text("etc/passwd").unwrap().contains("\nbob:x:"));
    // The administrator of the platform is there all the same.
    assert!(world.root.text("etc/passwd").unwrap().contains("\nops:x:"));
    let heard = String::from_utf8(world.system.heard.clone()).unwrap();
    assert!(heard.starts_with("input user-data 9\n#!canary\n\ninput instance-id 36\n"), "{heard}");
    let facts = "input hostname 3\nvm1\ninput platform 5\nazure\ninput distribution 6\ndebian\nend - 0\n\n";
    assert!(heard.ends_with(facts), "{heard}");
}

#[test]
fn without_it_user_data_are_kept_and_that_is_said() {
    let mut world = ready_world();
    boot(&mut world).unwrap();
    assert!(has(&world, "the image has no preroot-cloud-config"));
    assert_eq!(world.root.text("var/lib/preroot/custom-data").unwrap(), "#!canary\n");
    // A file that others may write is no program.
    let mut world = self::world(&said(&[("timezone", "UTC")]), 0);
    world.root.put_owned(PROGRAM, Owner::root(0o777), "ELF");
    boot(&mut world).unwrap();
    assert!(
        has(&world, "the image has no preroot-cloud-config") && has(&world, "others than root may change it")
    );
    // Who runs it is nobody.
    let mut world = self::world(&said(&[("timezone", "UTC")]), 0);
    world.root.put_owned(PROGRAM, Owner::root(0o700), "ELF");
    boot(&mut world).unwrap();
    assert!(has(&world, "not executable for everybody"));
}

#[test]
fn one_that_fails_lies_or_ends_early_changes_nothing_and_the_boot_goes_on() {
    let good = said(&[("files/0/path", "/etc/motd"), ("files/0/content", "hi")]);
    let flood = entry("files/0/content", &"x".repeat(100_000)).repeat(400);
    for (says, code) in [
        ("", 0),
        (&good[..], 1),
        (&good[..], 159),
        (&good[..good.len() - 1], 0),
        (&good[..good.len() - END.len()], 0),
        (&(entry("user/password-hash", "$6$a$b") + &good), 0),
        (&(entry("../../etc/shadow", "x") + &good), 0),
        (&(entry("files/256/path", "/x") + &good), 0),
        (&(entry("files/00/path", "/x") + &good), 0),
        (&(entry("custom-data", "x") + &good), 0),
        ("garbage\n", 0),
        (&flood, 0),
    ] {
        let mut world = world(says, code);
        boot(&mut world).unwrap();
        assert!(has(&world, "user data were not translated"), "{}", &says[..says.len().min(99)]);
        assert!(
            world.root.text("etc/motd").is_none()
                && world.root.text("etc/passwd").unwrap().contains("ops:x:")
        );
        assert_eq!(world.run.text("seed/failure").unwrap(), "user data were not translated\n");
        assert_eq!(world.run.text("seed/translated").unwrap(), "failed\n");
        assert!(world.run.dump().keys().all(|name| !name.contains("seed.tmp")));
    }
}

#[test]
fn vendor_data_that_break_it_cost_the_users_words_nothing() {
    let mut world = world(&said(&[("hostname", "vm9")]), 0);
    world.run.put("seed/vendor-data/0", "canary");
    world.system.breaks_on = "input vendor-data/0 ";
    boot(&mut world).unwrap();
    assert!(has(&world, "once more, without vendor data"));
    assert_eq!(world.root.text("etc/hostname").unwrap(), "vm9\n");
    assert_eq!(world.run.text("seed/failure").unwrap(), "not all of the user data can be done\n");
    assert_eq!(world.run.text("seed/translated").unwrap(), "true\n");
}

/// Where it cannot be asked with them, what the initrd made of vendor data stays, and comes first.
#[test]
fn a_users_password_wins_over_vendor_data_that_break_the_translator() {
    let person = |hash: &str| std::format!("default true\nhashed_passwd {hash}\n");
    let mut world = world(&said(&[("users/2", &person("$6$a$users"))]), 0);
    world.run.put("seed/asked-by", "vendor-data").put("seed/vendor-data/mapping", "#cloud-config\n{}");
    world.run.put("seed/users/4", "name first\n").put("seed/users/63", person("$6$a$vendors"));
    world.system.breaks_on = "input vendor-data/mapping ";
    boot(&mut world).unwrap();
    let heard = String::from_utf8(world.system.heard.clone()).unwrap();
    assert!(heard.contains("\nusers/0\n") && heard.contains("\nusers/1\n"), "{heard}");
    assert!(!heard.contains("users/4\n") && !heard.contains("users/63\n"), "{heard}");
    assert!(world.root.text("etc/shadow").unwrap().contains("\nops:$6$a$users:"));
    assert!(world.root.text("etc/passwd").unwrap().contains("\nfirst:x:"));
}

#[test]
fn a_host_name_of_vendor_data_gives_way_to_the_mediums() {
    for (says, name) in [("entry vendor 0\n\n", "mediums"), ("", "vm1")] {
        let mut world = world(&(says.to_owned() + END), 0);
        let source = world.run.text("seed/source").unwrap();
        let lines = source.lines().filter(|line| !line.starts_with("hostname "));
        let source = lines.chain(["hostname vendor-data"]).collect::<Vec<_>>().join("\n") + "\n";
        world.run.put("seed/source", &source).put("seed/asked-by", "vendor-data");
        world.run.put("seed/medium-hostname", "mediums");
        boot(&mut world).unwrap();
        assert_eq!(world.root.text("etc/hostname").unwrap(), std::format!("{name}\n"));
    }
}

#[test]
fn vendor_data_of_the_initrd_are_forgotten_where_somebody_merged_them() {
    for replaces in [true, false] {
        let entries = said(&[("vendor/hostname", "vendors"), ("users/1", "name bob\nlock_passwd true\n")]);
        let mut world = world(&(if replaces { "entry vendor 0\n\n" } else { "" }.to_owned() + &entries), 0);
        world.run.put("seed/asked-by", "vendor-data").put("seed/vendor-data/mapping", "#cloud-config\n{}");
        world.run.put("seed/users/63", "name mallory\nlock_passwd true\n").put("seed/timezone", "UTC\n");
        for (n, name) in [("0", "vendors"), ("255", "mediums")] {
            world.run.put(&std::format!("seed/files/{n}/path"), std::format!("/etc/{name}"));
            world.run.put(&std::format!("seed/files/{n}/content"), "x");
        }
        boot(&mut world).unwrap();
        let heard = String::from_utf8(world.system.heard.clone()).unwrap();
        assert!(heard.contains("input vendor-data/mapping 16\n#cloud-config\n{}\n"), "{heard}");
        let people = world.root.text("etc/passwd").unwrap();
        assert!(people.contains("\nbob:x:") && people.contains("\nmallory:x:") != replaces);
        assert_eq!(world.root.text("etc/vendors").is_none(), replaces);
        assert!(world.root.text("etc/mediums").is_some());
        // IMDS knows the name better.
        assert_eq!(world.root.text("etc/hostname").unwrap(), "vm1\n");
    }
    // What comes later would take the others along; nothing but two facts has another rank.
    for says in ["entry users/0 0\n\nentry vendor 0\n\n", "entry vendor/users/0 0\n\n", "entry vendorx 0\n\n"]
    {
        let mut world = world(&(says.to_owned() + END), 0);
        boot(&mut world).unwrap();
        assert!(has(&world, "user data were not translated"), "{says}");
    }
}

#[test]
fn of_vendor_data_that_are_switched_off_nothing_stays() {
    let mut world = world(&("entry vendor 0\n\n".to_owned() + END), 0);
    world.run.put("seed/asked-by", "vendor-data").put("seed/vendor-data/mapping", "#cloud-config\n{}");
    let theirs = ["users/63", "timezone", "storage/swap", "groups", "files/0/path"];
    theirs.iter().for_each(|name| _ = world.run.put(&std::format!("seed/{name}"), "name mallory\n"));
    boot(&mut world).unwrap();
    let left = world.run.dump();
    assert!(theirs.iter().all(|name| !left.contains_key(&std::format!("seed/{name}"))), "{left:?}");
    assert!(!world.root.text("etc/passwd").unwrap().contains("mallory"));
    assert!(left.contains_key("seed/vendor-data/mapping") && left.contains_key("seed/custom-data"));
}

#[test]
fn notes_are_told_with_their_lines_and_make_the_report_a_warning() {
    let mut world = world(&std::format!("note 15.65.0.1.6 0\n\nnote 9.0.2.3.0 0\n\n{END}"), 0);
    boot(&mut world).unwrap();
    assert!(has(&world, "user data, part 1, line 6: snap: a module that preroot does not have"));
    assert!(has(&world, "vendor data, part 3: no YAML"));
    assert_eq!(world.run.text("seed/failure").unwrap(), "not all of the user data can be done\n");
}

#[test]
fn a_seed_is_translated_once_and_after_a_cut_again() {
    let mut world = world(&said(&[("files/0/path", "/etc/motd")]), 0);
    // The power goes: what was in memory is gone, the seed on the root is as it came.
    world.run.power_on(false);
    seed::remove(&mut world.run, seed::SEED).unwrap();
    boot(&mut world).unwrap();
    assert!(world.root.text("etc/motd").is_some());
    let runs = |world: &World| world.system.runs.iter().filter(|run| run.contains("translate")).count();
    assert_eq!(runs(&world), 1);
    let _ = boot(&mut world);
    assert_eq!(runs(&world), 1);
}

#[test]
fn boot_scripts_run_in_each_boot() {
    let mut world = world(END, 0);
    let script = "var/lib/preroot/scripts/boot/bootcmd";
    world.host.put("proc/sys/kernel/random/boot_id", "first");
    world.root.put_owned(script, Owner::root(0o700), "#!/bin/sh\n");
    world.system.programs.insert("/usr/bin/env".into(), 0);
    boot(&mut world).unwrap();
    let runs = |world: &World| world.system.runs.iter().filter(|run| run.contains("bootcmd")).count();
    assert_eq!(runs(&world), 1);
    world.host.put("proc/sys/kernel/random/boot_id", "second");
    assert!(boot(&mut world).is_err());
    assert_eq!(runs(&world), 2);
}

#[test]
fn bootcmd_runs_before_disks_mounts_and_accounts() {
    let says = said(&[
        ("storage/mounts", "vg/data /data\n"),
        ("files/3/path", "/var/lib/preroot/scripts/boot/bootcmd"),
        ("files/3/mode", "0700"),
        ("files/3/content", "#!/bin/sh\n"),
    ]);
    // Also in the boot after a cut, when they have been written.
    for is_cut in [false, true] {
        let mut world = world(&says, 0);
        world.host.put("proc/sys/kernel/random/boot_id", "first");
        for program in ["/usr/bin/env", "/usr/bin/mount"] {
            world.system.programs.insert(program.into(), 0);
        }
        world.root.put("usr/bin/mount", "");
        if is_cut {
            let marks = seed::marks(&id()).unwrap();
            for module in ["old_scripts", "boot_scripts"] {
                world.root.put(&std::format!("{marks}/{module}"), "");
            }
            world.root.put_owned("var/lib/preroot/scripts/boot/bootcmd", Owner::root(0o700), "#!/bin/sh\n");
        }
        boot(&mut world).unwrap();
        let at = |text: &str| world.system.runs.iter().position(|run| run == text).unwrap_or(99);
        let id = id();
        let bootcmd =
            std::format!("/usr/bin/env INSTANCE_ID={} /var/lib/preroot/scripts/boot/bootcmd", id.as_str());
        assert!(at(&bootcmd) < at("/usr/bin/mount /data"), "{:?}", world.system.runs);
        assert_eq!(world.system.runs.iter().filter(|run| **run == bootcmd).count(), 1);
    }
}

#[test]
fn a_translator_that_had_too_little_time_is_asked_once_more() {
    for (lates, is_done) in [(1, true), (2, false)] {
        let mut world = world(&said(&[("files/0/path", "/etc/motd"), ("files/0/content", "hi")]), 0);
        let mut times = 0;
        world.system.acts = Some(std::boxed::Box::new(move |argv: &[&str]| {
            times += i32::from(argv.get(1) == Some(&"translate"));
            if times <= lates { Err(deadline!("program of the image", 30_000)) } else { Ok(0) }
        }));
        boot(&mut world).unwrap();
        assert_eq!(world.root.text("etc/motd").is_some(), is_done);
    }
}

#[test]
fn groups_are_made_before_accounts_and_who_is_there_joins() {
    let says = said(&[("groups", "team root,nobody_here\nempty\n"), ("users/0", "name bob\ngroups team\n")]);
    let mut world = world(&says, 0);
    boot(&mut world).unwrap();
    let groups = world.root.text("etc/group").unwrap();
    let line = |name: &str| groups.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("team:x:").ends_with(":root,bob") && line("empty:x:").ends_with(':'), "{groups}");
    let mut world = self::world(&said(&[("groups", "not:one\n")]), 0);
    boot(&mut world).unwrap();
    assert!(world.root.text("etc/passwd").unwrap().contains("\nops:x:"));
}

#[test]
fn what_user_data_cannot_have_is_a_fault_and_the_vm_is_provisioned() {
    for (entries, why) in [
        (
            &[("files/0/path", "/etc/resolv.conf"), ("files/0/content", "x")][..],
            "write_files: a symbolic link",
        ),
        (
            &[("users/0", "name ghost\nmust_exist true\nhashed_passwd $6$a$b\n")],
            "password: administrator has no account",
        ),
        (&[("users/0", "no such word"), ("users/1", "name bob\n")], "users: "),
        (&[("storage/filesystems", "nonsense")], "data_disks: no entry of fs_setup"),
        (&[("timezone", "No/Where/../..")], "timezone: "),
        (&[("groups", "not:one\n")], "users: "),
    ] {
        let good = [("files/1/path", "/b"), ("files/1/content", "content")];
        let mut world = world(&said(&[entries, &good].concat()), 0);
        world.root.put_symlink("etc/resolv.conf", "../run/resolv.conf");
        boot(&mut world).unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(world.root.text("b").unwrap(), "content");
        assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()), "{why}");
        let told = world.run.text("seed/failure").unwrap_or_default();
        assert!(told.starts_with(&std::format!("user data: {why}")), "{why}: {told}");
        assert!(world.root.text("etc/passwd").unwrap().contains("\nops:x:"));
        assert!(world.run.text(crate::stage::apply::FAILURE).is_none());
    }
}

#[test]
fn scripts_of_another_vm_are_not_this_ones() {
    let place = |name: &str| std::format!("var/lib/preroot/scripts/{name}");
    for was_anothers in [true, false] {
        let says =
            said(&[("files/0/path", &std::format!("/{}", place("user/new"))), ("files/0/mode", "0700")]);
        let mut world = world(&says, 0);
        for name in ["user/runcmd", "vendor/x", "boot/bootcmd", "per-boot/images"] {
            world.root.put_owned(&place(name), Owner::root(0o700), "#!/bin/sh\n");
        }
        if was_anothers {
            world.root.put(seed::PROVISIONED, "11111111-9f02-4cfe-b1f4-a4da7ebac2cf\n");
        }
        let _ = boot(&mut world);
        let is_there = |name: &str| world.root.text(&place(name)).is_some();
        assert!(is_there("per-boot/images") && is_there("user/new"));
        for name in ["user/runcmd", "vendor/x", "boot/bootcmd"] {
            assert_eq!(is_there(name), !was_anothers, "{name}");
        }
    }
}

#[test]
fn the_default_account_is_the_platforms_administrator() {
    let says = said(&[
        ("users/62", "default true\nhashed_passwd $6$a$b\nexpire true\n"),
        ("users/63", "default true\nssh_authorized_keys ssh-ed25519 AAAAC3NzB more\n"),
    ]);
    let mut plain = world(END, 0);
    boot(&mut plain).unwrap();
    let mut world = world(&says, 0);
    boot(&mut world).unwrap();
    let keys = world.root.text("home/ops/.ssh/authorized_keys").unwrap();
    assert!(keys.contains("AAAAC3Nz ops") && keys.contains("AAAAC3NzB more"), "{keys}");
    assert!(world.root.text("root/.ssh/authorized_keys").is_none());
    assert!(world.root.text("etc/shadow").unwrap().contains("\nops:$6$a$b:0:"));
    let sudo = |world: &World| world.root.text("etc/sudoers.d/90-preroot-ops").unwrap();
    assert_eq!(sudo(&world), sudo(&plain));
    assert_eq!(world.root.text("etc/group"), plain.root.text("etc/group"));
    // Named otherwise it is an account of its own.
    let mut world = self::world(&said(&[("users/0", "default true\nname zetta\n")]), 0);
    boot(&mut world).unwrap();
    assert!(world.root.text("etc/sudoers.d/90-preroot-zetta").is_some());
}

#[test]
fn a_full_name_that_is_none_costs_nothing_but_itself() {
    for (name, is_fault) in [("db_1.corp.example", false), ("web.example.com.", false), ("a b.example", true)]
    {
        let mut world = world(&said(&[("hostname", "vm9"), ("fqdn", name)]), 0);
        boot(&mut world).unwrap();
        assert!(world.root.text("etc/hosts").unwrap().contains("\tvm9\n"), "{name}");
        assert_eq!(world.run.text("seed/failure").is_some_and(|text| !text.is_empty()), is_fault, "{name}");
    }
}
