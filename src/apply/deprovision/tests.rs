//! Trees with everything in them: what goes, what stays, what a power cut leaves, and where links lead.

use super::{Context, LAST, Purpose, TABLE, Takes, walk};
use crate::error::{Errno, Error, Result};
use crate::facts::UserName;
use crate::format::config::{Config, Place};
use crate::sys::fake::FakeDir;
use crate::sys::{Dir, Owner};
use proptest::prelude::{prop_assert, proptest};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

const ALL: Takes = Takes { user: true, logs: true };
const BASE: Takes = Takes { user: false, logs: false };
const NONE: [&str; 0] = [];
const OPS: Owner = Owner { mode: 0o755, uid: 1000, gid: 1000 };

/// A small Debian that was one VM's.
fn image() -> FakeDir {
    let mut dir = FakeDir::default();
    dir.put("etc/passwd", "root:x:0:0::/root:/bin/sh\nops:x:1000:1000::/home/ops:/bin/bash\nsvc:x:1001:1001::/home/svc:/bin/sh\n")
        .put_owned("etc/shadow", Owner { mode: 0o640, uid: 0, gid: 42 }, "root:$6$r:19000:0:99999:7:::\nops:$6$s$h:20000:0:99999:7:::\n")
        .put("etc/group", "root:x:0:\nsudo:x:27:ops\nops:x:1000:\nsvc:x:1001:\n")
        .put("etc/gshadow", "root:*::\nsudo:*::ops\nops:!::\n")
        .put("etc/subuid", "ops:100000:65536\nsvc:165536:65536\n")
        .put("etc/shadow-", "ops:$6$s$h:20000::::::\n")
        .put("etc/hostname", "web-1\n")
        .put("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tweb-1.example web-1\n10.0.0.9 db\n")
        .put_owned("etc/machine-id", Owner::root(0o444), "8a6e0804d1b14b7e9a4f0b9c6e7d5f3a\n")
        .put("etc/resolv.conf", "nameserver 168.63.129.16\n")
        .put("etc/dhcp/dhclient.conf", "send host-name = gethostname();\nsend host-name \"web-1\";\nrequest routers;\n")
        .put("etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n/dev/disk/cloud/azure_resource-part1 /mnt auto defaults,comment=cloudconfig 0 2\n")
        .put("etc/sudoers.d/90-preroot-ops", "ops ALL=(ALL) ALL\n")
        .put("etc/sudoers.d/README", "#\n")
        .put("etc/sudoers.d/waagent", "ops ALL=(ALL) ALL\nopsy ALL=(ALL) ALL\n")
        .put("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n")
        .put("etc/ssh/ssh_host_rsa_key", "private")
        .put("etc/ssh/ssh_host_rsa_key.pub", "public")
        .put("etc/ssh/sshd_config.d/40-preroot.conf", "PasswordAuthentication no\n")
        .put_owned("home/ops/.bashrc", OPS, "#\n")
        .put_owned("home/ops/.ssh/authorized_keys", OPS, "ssh-ed25519 AAAA ops\n")
        .put_owned("home/svc/.bash_history", OPS, "ls\n")
        .put("root/.bash_history", "passwd\n")
        .put("var/lib/preroot/provisioned", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\n")
        .put("var/lib/preroot/custom-data", "secret")
        .put("var/lib/preroot/user", "ops\n")
        .put("var/lib/dhcp/dhclient.eth0.leases", "lease {}\n")
        .put("var/lib/waagent/ovf-env.xml", "<x/>")
        .put("var/lib/waagent/history/1/a", "")
        .put("var/log/azure/ext/log", "l")
        .put("var/log/waagent.log", "l")
        .put("var/log/syslog", "l")
        .put("var/log/apt/history.log", "l")
        .put("var/log/empty", "")
        .put_owned("var/log/wtmp", Owner { mode: 0o664, uid: 0, gid: 43 }, "w")
        .put("var/log/journal/8a6e/system.journal", "j")
        .put("var/lib/systemd/random-seed", "r")
        .put("var/lib/cloud/instances/i/user-data.txt", "u")
        .put_symlink("var/lib/cloud/instance", "/var/lib/cloud/instances/i")
        .put("var/lib/cloud/scripts/per-boot/mine.sh", "#!/bin/sh\n")
        .put("var/mail/ops", "m")
        .put("var/mail/svc", "m")
        .put("usr/bin/preroot", "binary");
    dir.set_owner("home/ops", OPS).unwrap();
    dir
}

/// What was told, as `path` or `path: failure`, and the outcome.
fn walked(dir: &mut FakeDir, takes: Takes, purpose: Purpose, settings: &str) -> (Vec<String>, Result<()>) {
    let user = UserName::parse("ops").unwrap();
    let mut config = Config::new(true);
    config.read(1, settings.as_bytes(), &mut |_: Place, _| {});
    let mut bytes = Box::new([0; 64 * 1024]);
    let mut told = Vec::new();
    let outcome = Context::observe(dir, &mut bytes[..], &config, Some(&user), takes).and_then(|context| {
        walk(dir, &mut bytes[..], &context, purpose, &mut |found| {
            told.push(match found.failure {
                Some(error) => std::format!("{}: {error}", found.path),
                None => found.path.to_string(),
            });
        })
    });
    (told, outcome)
}

fn act(dir: &mut FakeDir, takes: Takes) -> Result<()> {
    walked(dir, takes, Purpose::Act, "").1
}

fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    before
        .iter()
        .filter(|(path, node)| after.get(*path) != Some(node))
        .map(|(path, _)| path.clone())
        .collect()
}

#[test]
fn a_list_names_every_path_that_acting_changes_and_changes_none() {
    for takes in [BASE, ALL, Takes { user: true, logs: false }, Takes { user: false, logs: true }] {
        let mut dir = image();
        let before = dir.dump();
        let (mut told, outcome) = walked(&mut dir, takes, Purpose::List, "");
        assert_eq!((outcome, dir.dump()), (Ok(()), before.clone()));
        act(&mut dir, takes).unwrap();
        told.sort();
        told.dedup();
        assert_eq!(told, difference(&before, &dir.dump()), "{takes:?}");
        let added: Vec<_> =
            difference(&dir.dump(), &before).into_iter().filter(|p| !before.contains_key(p)).collect();
        assert_eq!(added, ["etc/.pwd.lock"], "nothing is made but the lock");
    }
}

#[test]
fn without_user_and_logs_both_stay() {
    let mut dir = image();
    act(&mut dir, BASE).unwrap();
    assert_eq!(dir.text("etc/hostname").unwrap(), "localhost.localdomain\n");
    assert_eq!(dir.text("etc/hosts").unwrap(), "127.0.0.1\tlocalhost\n10.0.0.9 db\n");
    assert_eq!(
        dir.text("etc/dhcp/dhclient.conf").unwrap(),
        "send host-name = gethostname();\nrequest routers;\n"
    );
    assert_eq!(
        (dir.text("etc/machine-id").unwrap(), dir.owner("etc/machine-id")),
        (String::new(), Some(Owner::root(0o444)))
    );
    for gone in [
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "etc/resolv.conf",
        "root/.bash_history",
        "var/lib/dhcp/dhclient.eth0.leases",
        "var/lib/waagent/ovf-env.xml",
        "var/lib/waagent/history",
        "var/log/azure/ext",
        "var/log/waagent.log",
        "var/lib/systemd/random-seed",
        "var/lib/cloud/instance",
        "var/lib/cloud/instances",
        "var/lib/preroot/provisioned",
        "var/lib/preroot/custom-data",
        "var/lib/preroot/user",
    ] {
        assert!(dir.stat(gone).is_err(), "{gone}");
    }
    for stays in [
        "var/lib/dhcp",
        "var/lib/waagent",
        "var/log/azure",
        "var/lib/preroot",
        "var/lib/cloud/scripts/per-boot/mine.sh",
        "home/ops/.ssh/authorized_keys",
        "var/log/syslog",
        "home/svc/.bash_history",
        "etc/shadow-",
        "usr/bin/preroot",
    ] {
        assert!(dir.stat(stays).is_ok(), "{stays}");
    }
    assert_eq!(dir.text("etc/passwd"), image().text("etc/passwd"));
    assert_eq!(
        dir.text("etc/fstab"),
        image().text("etc/fstab"),
        "no cloud-init: its mounts would not come back"
    );
}

#[test]
fn no_trace_of_the_administrator_is_left() {
    let mut dir = image();
    act(&mut dir, ALL).unwrap();
    for (path, node) in dir.dump() {
        let is_other = node.contains("opsy") || path.starts_with("usr/");
        assert!(!path.contains("ops") && (is_other || !node.contains("ops")), "{path}: {node}");
        assert!(!node.contains("web-1"), "{path}: {node}");
    }
    assert_eq!(dir.text("etc/group").unwrap(), "root:x:0:\nsudo:x:27:\nsvc:x:1001:\n");
    assert_eq!(dir.text("etc/shadow").unwrap(), "root:$6$r:19000:0:99999:7:::\n");
    assert_eq!(dir.owner("etc/shadow").unwrap(), Owner { mode: 0o640, uid: 0, gid: 42 });
    assert_eq!(dir.owner("var/log/wtmp").unwrap(), Owner { mode: 0o664, uid: 0, gid: 43 });
    assert!(dir.stat("var/mail/svc").is_ok() && dir.stat("home/svc").is_ok());
    assert!(dir.stat("var/log/apt").is_ok() && dir.stat("var/log/apt/history.log").is_err());
}

#[test]
fn keys_outside_the_home_and_rules_of_doas_go_too() {
    let mut dir = image();
    dir.put("etc/ssh/sshd_config", "AuthorizedKeysFile /etc/ssh/keys/%u\n")
        .put("etc/ssh/keys/ops", "ssh-ed25519 AAAA ops\n")
        .put("etc/ssh/keys/svc", "ssh-ed25519 AAAA svc\n")
        .put("etc/doas.conf", "permit nopass ops\npermit persist :wheel\n");
    act(&mut dir, ALL).unwrap();
    assert!(dir.stat("etc/ssh/keys/ops").is_err() && dir.stat("etc/ssh/keys/svc").is_ok());
    assert_eq!(dir.text("etc/doas.conf").unwrap(), "permit persist :wheel\n");
}

#[test]
fn a_home_in_which_another_account_lives_stays() {
    for home in ["/home/ops", "/home/ops/svc"] {
        let mut dir = image();
        dir.put("etc/passwd", std::format!("ops:x:1000:1000::/home/ops:/bin/sh\nsvc:x:1001:1001::{home}:/bin/sh\nopsy:x:1002:1002::/home/opsy:/bin/sh\n"));
        assert!(act(&mut dir, ALL).is_err());
        assert!(dir.stat("home/ops/.bashrc").is_ok(), "{home}");
    }
}

#[test]
fn a_second_run_finds_nothing() {
    let mut dir = image();
    act(&mut dir, ALL).unwrap();
    let before = dir.dump();
    let (told, outcome) = walked(&mut dir, ALL, Purpose::List, "");
    assert_eq!((told, outcome), (Vec::new(), Ok(())));
    act(&mut dir, ALL).unwrap();
    assert_eq!(dir.dump(), before);
}

#[test]
fn after_a_power_cut_anywhere_the_next_run_ends_the_same() {
    let mut uncut = image();
    act(&mut uncut, ALL).unwrap();
    for n in 1..=uncut.changes() - image().changes() {
        for keep_names in [false, true] {
            let mut dir = image();
            dir.cut_power_at(n);
            assert!(act(&mut dir, ALL).is_err(), "cut at {n}");
            dir.power_on(keep_names);
            act(&mut dir, ALL).unwrap();
            assert_eq!(difference(&dir.dump(), &uncut.dump()), NONE, "cut at {n}");
            assert_eq!(difference(&uncut.dump(), &dir.dump()), NONE, "cut at {n}");
        }
    }
}

#[test]
fn one_failure_is_told_and_stops_nothing_else() {
    let mut uncut = image();
    act(&mut uncut, ALL).unwrap();
    // The last change is the sync of everything, the first makes the lock file.
    for n in 2..uncut.changes() - image().changes() {
        let mut dir = image();
        dir.fail_at(n, Errno::NOSPC);
        let (told, outcome) = walked(&mut dir, ALL, Purpose::Act, "");
        assert!(outcome.is_err() && !told.is_empty(), "failure at {n}");
        act(&mut dir, ALL).unwrap();
        assert_eq!(difference(&dir.dump(), &uncut.dump()), NONE, "failure at {n}");
        // A record of logins that could not be emptied is a log like any other.
        let mut lost = difference(&uncut.dump(), &dir.dump());
        lost.retain(|path| path != "var/log/wtmp");
        assert_eq!(lost, NONE, "failure at {n}");
    }
}

#[test]
fn links_lead_nowhere_a_user_chose() {
    let mut dir = image();
    dir.put("etc/precious/.bash_history", "keep").put("srv/keep", "keep");
    dir.put_symlink("home/evil", "/etc/precious")
        .put_symlink("home/ops/link", "/srv")
        .put_symlink("var/lib/waagent/out", "/srv")
        .put_symlink("home/svc/.local", "/srv")
        .put_symlink("home/svc/.zsh_history", "/srv/keep");
    act(&mut dir, ALL).unwrap();
    assert_eq!(dir.text("etc/precious/.bash_history").unwrap(), "keep");
    assert_eq!(dir.text("srv/keep").unwrap(), "keep");
    for gone in ["home/ops", "var/lib/waagent/out", "home/svc/.zsh_history"] {
        assert!(dir.stat(gone).is_err(), "{gone}");
    }
    assert!(dir.stat("home/evil").is_ok() && dir.stat("home/svc/.local").is_ok());
}

#[test]
fn a_link_in_a_files_place_is_told_and_kept() {
    let mut dir = image();
    dir.remove("etc/machine-id").unwrap();
    dir.remove("etc/resolv.conf").unwrap();
    dir.put_symlink("etc/machine-id", "/run/machine-id").put_symlink("etc/resolv.conf", "../run/resolv.conf");
    dir.put("run/resolv.conf", "nameserver 127.0.0.53\n");
    let (told, outcome) = walked(&mut dir, BASE, Purpose::Act, "");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("etc/machine-id: ") && told[0].contains("symbolic link"), "{told:?}");
    assert!(outcome.is_err());
    assert!(dir.stat("etc/resolv.conf").is_ok() && dir.stat("run/resolv.conf").is_ok());
}

#[test]
fn host_keys_stay_where_a_line_says_so_and_roots_password_goes_where_one_does() {
    let mut dir = image();
    walked(
        &mut dir,
        BASE,
        Purpose::Act,
        "Provisioning.RegenerateSshHostKeyPair=n\nProvisioning.DeleteRootPassword=y\n",
    )
    .1
    .unwrap();
    assert!(dir.stat("etc/ssh/ssh_host_rsa_key").is_ok());
    let shadow = dir.text("etc/shadow").unwrap();
    assert!(shadow.starts_with("root:*LOCK*:14600::::::\nops:"), "{shadow}");
}

#[test]
fn cloud_inits_own_files_go_only_where_cloud_init_makes_them_anew() {
    for has_it in [false, true] {
        let mut dir = image();
        dir.put("etc/netplan/50-cloud-init.yaml", "network: {}\n");
        if has_it {
            dir.put("usr/bin/cloud-init", "#!/usr/bin/python3\n");
        }
        act(&mut dir, BASE).unwrap();
        assert_eq!(dir.stat("etc/netplan/50-cloud-init.yaml").is_err(), has_it);
        assert_eq!(dir.text("etc/fstab").unwrap().contains("cloudconfig"), !has_it);
    }
}

#[test]
fn a_configured_directory_is_emptied_unless_it_is_near_the_root() {
    let mut dir = image();
    dir.put("opt/agent/state/x", "x");
    walked(&mut dir, BASE, Purpose::Act, "Lib.Dir=/opt/agent/state/\n").1.unwrap();
    assert!(dir.stat("opt/agent/state/x").is_err() && dir.stat("var/lib/waagent/ovf-env.xml").is_ok());
    for near in ["/", "/etc", "/var//lib/", "/var/lib/.", "/./etc/."] {
        let mut dir = image();
        let (told, outcome) = walked(&mut dir, BASE, Purpose::Act, &std::format!("Lib.Dir={near}\n"));
        assert!(outcome.is_err() && told.len() == 1, "{near}: {told:?}");
        assert!(dir.stat("etc/passwd").is_ok() && dir.stat("var/lib/waagent/ovf-env.xml").is_ok(), "{near}");
    }
}

#[test]
fn a_home_that_is_not_the_users_own_stays() {
    for home in ["/", "/home", "/srv/shared"] {
        let mut dir = image();
        dir.put("srv/shared/x", "x");
        dir.put("etc/passwd", std::format!("ops:x:1000:1000::{home}:/bin/sh\n"));
        let (told, outcome) = walked(&mut dir, ALL, Purpose::Act, "");
        assert!(outcome.is_err() || home == "/", "{home}: {told:?}");
        assert!(dir.stat("home/svc").is_ok() && dir.stat("srv/shared/x").is_ok() && dir.stat("usr").is_ok());
    }
}

#[test]
fn system_accounts_are_refused_before_anything_happens() {
    let mut dir = image();
    dir.put("etc/passwd", "ops:x:10:10::/home/ops:/bin/sh\n");
    let before = dir.dump();
    assert!(act(&mut dir, ALL).is_err_and(|error: Error| error.reason().contains("system account")));
    assert_eq!(dir.dump(), before);
}

#[test]
fn an_overview_names_a_tree_once() {
    let mut dir = image();
    let (told, _) = walked(&mut dir, ALL, Purpose::Overview, "");
    assert!(told.contains(&"home/ops".to_string()) && !told.iter().any(|path| path.starts_with("home/ops/")));
}

#[test]
fn more_names_than_a_buffer_holds_all_go() {
    let mut dir = image();
    for n in 0..300 {
        dir.put(&std::format!("var/lib/waagent/Extension-{n:040}"), "x");
    }
    let (told, _) = walked(&mut dir, BASE, Purpose::List, "");
    assert_eq!(told.iter().filter(|path| path.contains("Extension-")).count(), 300);
    act(&mut dir, BASE).unwrap();
    assert!(!dir.dump().keys().any(|path| path.starts_with("var/lib/waagent/")));
}

#[test]
fn the_table_is_written_as_it_is_read() {
    let page = include_str!("../../../docs/deprovision.md");
    for group in TABLE.iter().chain(LAST) {
        assert!(page.contains(&std::format!("\n| {} | ", group.why)), "no row in docs: {}", group.why);
        let names = group.paths.split(' ').filter(|word| !word.ends_with('/') && !word.starts_with('%'));
        for name in names {
            assert!(page.contains(&std::format!("{}`", name.replace('@', "USER"))), "not in docs: {name}");
        }
        for word in group.paths.split(' ').filter(|_| !group.paths.is_empty()) {
            let is_path = !word.is_empty() && (word == "/" || !word.starts_with('/'));
            assert!(is_path && !word.contains("//") && !word.contains(".."), "{word:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_the_table_does_not_name_stays(names in proptest::collection::btree_set("[a-z*@%-]{1,12}", 0..20)) {
        let mut dir = image();
        let paths: Vec<String> = names.iter().map(|name| std::format!("home/svc/{name}")).collect();
        for path in &paths {
            dir.put(path, "mine");
        }
        act(&mut dir, ALL).unwrap();
        for path in &paths {
            prop_assert!(dir.stat(path).is_ok(), "{}", path);
        }
    }
}
