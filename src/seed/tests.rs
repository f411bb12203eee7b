//! Is a seed whole or not there, and do its values come back as they were?

use super::{Context, SEED, begin, is_marked, load, load_context, mark, pending, persist, publish};
use crate::facts::{
    DeviceName, Fact, Facts, Hostname, InstanceId, PasswordHash, Provenance, SshKey, SshKeys, UserName,
};
use crate::format::dhcp::{Lease, Route};
use crate::limits;
use crate::sys::fake::FakeDir;
use std::boxed::Box;
use std::vec;

fn fact<T>(value: T, from: Provenance) -> Option<Fact<T>> {
    Some(Fact { value, from })
}

fn sample() -> (Box<Facts>, Context) {
    let mut keys = SshKeys::new();
    keys.push(SshKey::parse("ssh-ed25519 AAAAC3Nz a@b").unwrap()).unwrap();
    let facts = Facts {
        instance_id: fact(
            InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap(),
            Provenance::Dmi,
        ),
        hostname: fact(Hostname::parse("edge").unwrap(), Provenance::Imds),
        user: fact(UserName::parse("ops").unwrap(), Provenance::OvfMedium),
        password: fact(PasswordHash::parse("$6$a$b").unwrap(), Provenance::OvfMedium),
        password_login: fact(false, Provenance::Imds),
        keys: fact(keys, Provenance::Imds),
        ..Facts::default()
    };
    let route = |network, prefix| Route { network, prefix, gateway: [10, 0, 0, 1] };
    let lease = Lease {
        mac: [0, 13, 58, 1, 2, 255],
        address: [10, 0, 0, 4],
        prefix: 24,
        router: Some([10, 0, 0, 1]),
        server: [0; 4],
        dns: heapless::Vec::new(),
        routes: [route([0; 4], 0), route([168, 63, 129, 16], 32)].into_iter().collect(),
        wireserver: Some([168, 63, 129, 16]),
        mtu: Some(1400),
        lease_s: None,
        until_s: Some(99),
        hostname: None,
    };
    let medium = Some(DeviceName::parse("sr0").unwrap());
    (Box::new(facts), Context { medium, lease: Some(lease), ..Context::default() })
}

fn run() -> FakeDir {
    let mut run = FakeDir::default();
    run.in_memory = true;
    run
}

fn loaded(dir: &mut FakeDir, base: &str) -> Box<Facts> {
    let mut facts = Box::new(Facts::default());
    super::verify(dir, base).unwrap();
    load(dir, base, &mut vec![0; limits::SSH_KEYS], &mut facts).unwrap();
    facts
}

#[test]
fn what_is_published_is_loaded_with_its_provenance() {
    let (facts, context) = sample();
    let mut run = run();
    begin(&mut run).unwrap();
    super::spool(&mut run, super::CUSTOM_DATA, b"#!/bin/sh\n").unwrap();
    super::spool(&mut run, super::CUSTOM_DATA, b"true\n").unwrap();
    publish(&mut run, &facts, &context).unwrap();
    let back = loaded(&mut run, SEED);
    assert_eq!(back.hostname, facts.hostname);
    assert_eq!(back.keys, facts.keys);
    assert_eq!(back.password_login, facts.password_login);
    assert_eq!(back.custom_data.as_ref().unwrap().value, 15);
    assert_eq!(back.password.as_ref().unwrap().from, Provenance::OvfMedium);
    assert_eq!(load_context(&mut run, SEED).unwrap(), context);
    assert_eq!(run.text("seed/hostname").unwrap(), "edge\n");
    assert_eq!(run.owner("seed").unwrap().mode, 0o700);
    assert_eq!(run.owner("seed/user/password-hash").unwrap().mode, 0o600);
}

#[test]
fn a_second_publish_replaces_in_one_step_and_keeps_custom_data() {
    let (mut facts, context) = sample();
    let mut run = run();
    begin(&mut run).unwrap();
    super::spool(&mut run, super::CUSTOM_DATA, b"data").unwrap();
    publish(&mut run, &facts, &context).unwrap();
    facts.custom_data = fact(4, Provenance::OvfMedium);
    facts.hostname = fact(Hostname::parse("two").unwrap(), Provenance::Imds);
    begin(&mut run).unwrap();
    publish(&mut run, &facts, &context).unwrap();
    assert_eq!(run.text("seed/hostname").unwrap(), "two\n");
    assert_eq!(run.text("seed/custom-data").unwrap(), "data");
    assert!(run.dump().keys().all(|k| !k.starts_with("seed.tmp")));
}

#[test]
fn a_secret_is_not_put_on_a_disk() {
    let mut run = FakeDir::default();
    assert!(begin(&mut run).is_err());
    assert!(run.dump().is_empty());
}

#[test]
fn seed_is_whole_or_absent_at_every_power_cut() {
    let (facts, context) = sample();
    let id = facts.instance_id.as_ref().unwrap().value.clone();
    let pending = pending(&id).unwrap();
    let mut run = run();
    begin(&mut run).unwrap();
    super::spool(&mut run, super::CUSTOM_DATA, &[b'x'; 5000]).unwrap();
    publish(&mut run, &facts, &context).unwrap();
    run.put("seed/users/0", "name a\n").put("seed/users/63", "name b\n").put("seed/ntp", "server a\n");
    run.put("seed/files/0/path", "/a")
        .put("seed/files/0/content", "x".repeat(3000))
        .put("seed/files/255/path", "/b");
    let mut uncut = FakeDir::default();
    persist(&mut run, &mut uncut, &id).unwrap();
    assert_eq!(uncut.text(&std::format!("{pending}/users/63")).unwrap(), "name b\n");
    let (whole, changes) = (uncut.dump(), uncut.changes());
    let mut cuts = 0;
    for n in 1..=changes {
        for keep_names in [false, true] {
            let mut root = FakeDir::default();
            root.cut_power_at(n);
            assert!(persist(&mut run, &mut root, &id).is_err() || n == changes);
            root.power_on(keep_names);
            if root.owner(&pending).is_some() {
                assert_eq!(
                    *loaded(&mut root, &pending).hostname.as_ref().unwrap(),
                    *facts.hostname.as_ref().unwrap()
                );
                assert!(loaded(&mut root, &pending).keys.is_some(), "cut at {n}");
                assert_eq!(
                    loaded(&mut root, &pending).custom_data.as_ref().unwrap().value,
                    5000,
                    "cut at {n}"
                );
            }
            persist(&mut run, &mut root, &id).unwrap();
            assert_eq!(root.dump(), whole, "cut at {n}");
            cuts += 1;
        }
    }
    assert!(cuts >= 50, "{cuts}");
}

/// /run is memory: power takes all of it. What ends a publish in the middle is a stage that is stopped or fails.
#[test]
fn a_second_publish_keeps_every_entry_of_others_or_fails_and_changes_nothing() {
    let (facts, context) = sample();
    let entries = [
        ("users/0", "name a\n"),
        ("users/63", "name b\n"),
        ("files/0/path", "/a"),
        ("files/0/content", "x"),
        ("files/200/path", "/b"),
        ("storage/disks", "a"),
        ("storage/swap", "b"),
        ("ntp", "server a"),
        ("timezone", "UTC"),
        ("locale", "C"),
        ("fqdn", "a.b"),
        ("preserve-hostname", "true"),
        ("hosts/manage", "true"),
        ("resolv-conf", "domain a"),
        ("asked-by", "imds"),
    ];
    let first = || {
        let mut run = run();
        begin(&mut run).unwrap();
        for (name, text) in entries {
            super::spool(&mut run, name, text.as_bytes()).unwrap();
        }
        publish(&mut run, &facts, &context).unwrap();
        run
    };
    let uncut = first().dump();
    let second = |run: &mut FakeDir| begin(run).and_then(|()| publish(run, &facts, &context));
    let mut whole = first();
    let before = whole.changes();
    second(&mut whole).unwrap();
    assert_eq!(whole.dump(), uncut);
    for n in 1..=whole.changes() - before {
        let mut run = first();
        run.fail_at(n, crate::error::Errno::NOSPC);
        let _ = second(&mut run);
        for (name, text) in entries {
            assert_eq!(run.text(&std::format!("seed/{name}")).as_deref(), Some(text), "failure at {n}");
        }
        second(&mut run).unwrap();
        assert_eq!(run.dump(), uncut, "failure at {n}");
    }
}

#[test]
fn what_is_numbered_comes_together_or_not_at_all() {
    let (facts, context) = sample();
    let mut run = run();
    for spooled in [
        &[("users/0", "a"), ("users/1", "b"), ("files/0/path", "/a"), ("ntp", "old")],
        &[("users/0", "c"), ("ntp", "new"), ("ntp", "er"), ("locale", "C")],
    ] {
        begin(&mut run).unwrap();
        for (name, text) in spooled {
            super::spool(&mut run, name, text.as_bytes()).unwrap();
        }
        publish(&mut run, &facts, &context).unwrap();
    }
    assert_eq!((run.text("seed/users/0").unwrap(), run.text("seed/users/1")), ("c".into(), None));
    assert_eq!(
        (run.text("seed/ntp").unwrap(), run.text("seed/files/0/path").unwrap()),
        ("newer".into(), "/a".into())
    );
}

#[test]
fn what_the_medium_said_outlives_it_at_every_power_cut() {
    let (facts, context) = sample();
    let mut first = run();
    begin(&mut first).unwrap();
    super::spool(&mut first, super::CUSTOM_DATA, b"data").unwrap();
    publish(&mut first, &facts, &context).unwrap();
    for has_fault in [false, true] {
        outlives(&first, has_fault);
    }
}

/// The next boot finds no medium, or one that cannot be read; another address and no password.
fn outlives(first: &FakeDir, has_fault: bool) {
    let (facts, context) = sample();
    let id = facts.instance_id.as_ref().unwrap().value.clone();
    let pending = pending(&id).unwrap();
    let poorer = || {
        let mut lease = context.lease.clone().unwrap();
        lease.address = [10, 9, 8, 7];
        let (medium, lease) = (context.medium.clone().filter(|_| has_fault), Some(lease));
        let verdict = if has_fault { super::Verdict::Fail } else { super::Verdict::Provision };
        let context = Context { medium, lease, verdict, ..context.clone() };
        let mut facts = sample().0;
        (facts.password, facts.custom_data) = (None, None);
        let mut run = run();
        begin(&mut run).unwrap();
        publish(&mut run, &facts, &context).unwrap();
        run
    };
    let kept = || {
        let mut root = FakeDir::default();
        persist(&mut first.clone(), &mut root, &id).unwrap();
        root
    };
    let mut uncut = kept();
    let before = uncut.changes();
    let mut second = poorer();
    persist(&mut second, &mut uncut, &id).unwrap();
    for (dir, base) in [(&mut second, SEED), (&mut uncut, &*pending)] {
        assert!(loaded(dir, base).password == facts.password);
        assert_eq!(loaded(dir, base).custom_data.as_ref().unwrap().value, 4);
        let context = load_context(dir, base).unwrap();
        assert_eq!(
            (context.lease.unwrap().address, context.verdict),
            ([10, 9, 8, 7], super::Verdict::Provision)
        );
    }
    for n in 1..=uncut.changes() - before {
        for keep_names in [false, true] {
            let mut root = kept();
            root.cut_power_at(n);
            let _ = persist(&mut poorer(), &mut root, &id);
            root.power_on(keep_names);
            assert!(loaded(&mut root, &pending).password == facts.password, "cut at {n}");
            persist(&mut poorer(), &mut root, &id).unwrap();
            assert_eq!(root.dump(), uncut.dump(), "cut at {n}");
        }
    }
}

#[test]
fn a_mark_is_of_one_vm_in_either_spelling() {
    let mut root = FakeDir::default();
    let id = InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap();
    mark(&mut root, super::PROVISIONED, &id).unwrap();
    assert!(is_marked(&mut root, super::PROVISIONED, &id));
    assert!(is_marked(&mut root, super::PROVISIONED, &id.swapped().unwrap()));
    assert!(!is_marked(&mut root, super::PROVISIONED, &InstanceId::parse("i-1").unwrap()));
    assert!(!is_marked(&mut root, super::REPORTED, &id));
}

#[test]
fn a_seed_that_others_can_read_is_refused() {
    let (facts, context) = sample();
    let mut run = run();
    begin(&mut run).unwrap();
    publish(&mut run, &facts, &context).unwrap();
    use crate::sys::{Dir, Owner};
    run.set_owner(SEED, Owner::root(0o755)).unwrap();
    assert!(super::verify(&mut run, SEED).is_err());
    run.set_owner(SEED, Owner { mode: 0o700, uid: 1000, gid: 0 }).unwrap();
    assert!(super::verify(&mut run, SEED).is_err());
}
