//! Documents come, or do not, and what they add is done once.

use crate::apply::include::{LIST, PLACE};
use crate::error::{Kind, Result};
use crate::facts::Facts;
use crate::limits;
use crate::net::Buffers;
use crate::seed;
use crate::stage::apply::tests::{boot, id, ready_world};
use crate::sys::fake::World;
use crate::sys::{Dir, Owner};
use std::boxed::Box;
use std::string::String;

const PROGRAM: &str = "usr/bin/preroot-cloud-config";
const CURL: &str = "/usr/bin/curl";
const URL: &str = "https://x.example/y?sig=canary";
const END: &str = "end - 0\n\n";

fn entry(name: &str, text: &str) -> String {
    std::format!("entry {name} {}\n{text}\n", text.len())
}

fn translator_says(world: &mut World, says: &str) {
    world.system.answers.insert(std::format!("/{PROGRAM}"), (String::from(says) + END).into_bytes());
}

/// A VM that is provisioned but for one document; `curl` would end so.
fn world(code: i32) -> World {
    let mut world = ready_world();
    world.root.put("etc/preroot.conf", "Provisioning.Include=y\n");
    world.root.put_owned(PROGRAM, Owner::root(0o755), "ELF").put_owned(&CURL[1..], Owner::root(0o755), "ELF");
    world.system.programs.insert(std::format!("/{PROGRAM}"), 0);
    world.system.programs.insert(CURL.into(), code);
    world.system.answers.insert(CURL.into(), b"#cloud-config\n".to_vec());
    translator_says(&mut world, &entry("include", &std::format!("0 1 2 {URL}\n")));
    boot(&mut world).unwrap();
    translator_says(&mut world, &(entry("files/7/path", "/etc/motd") + &entry("files/7/content", "hi")));
    world
}

fn include(world: &mut World) -> Result<()> {
    let mut bytes = std::vec![0; 256 * 1024];
    let command = crate::cli::parse(&mut [Some("include")].into_iter()).unwrap();
    super::run(
        &mut world.kernel(),
        &mut Box::new(Facts::new()),
        &mut bytes,
        &mut Box::new(Buffers::new()),
        &command,
    )
}

fn has(world: &World, text: &str) -> bool {
    world.log.lines.iter().any(|line| line.contains(text))
}

fn tries(world: &World) -> usize {
    world.system.told.iter().filter(|(program, _)| program == CURL).count()
}

#[test]
fn a_document_is_fetched_and_what_it_adds_is_done_once() {
    let mut world = world(0);
    let (_, heard) = world.system.told.last().unwrap();
    assert!(heard.contains("input include 1\n3\n"), "{heard}");
    assert!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()), "nothing waits for it");
    assert_eq!(world.root.stat(PLACE).unwrap().mode, 0o700);
    assert_eq!(world.root.stat(LIST).unwrap().mode, 0o600);
    assert!(world.root.dump().keys().all(|name| !name.contains("include/user/password-hash")));
    let seed = world.run.text("seed/source").unwrap();
    include(&mut world).unwrap();
    assert_eq!(world.root.text("etc/motd").unwrap(), "hi");
    let told = &world.system.told[1..];
    assert!(told[0].1.starts_with("proto = \"=http,https\"\nproto-redir = \"=http,https\"\n"), "{told:?}");
    assert!(told[0].1.ends_with(&std::format!("\nurl = \"{URL}\"\n")), "{told:?}");
    let page = std::format!("{URL}\n#cloud-config\n");
    let frame = std::format!("input include 1\n2\ninput included/0 {}\n{page}\n", page.len());
    assert!(told[1].1.contains(&frame) && told[1].1.starts_with("input user-data 9\n"), "{told:?}");
    // Of nobody's business: the report's seed, and what is secret.
    assert_eq!(world.run.text("seed/source").unwrap(), seed);
    assert!(world.system.runs.iter().chain(&world.log.lines).all(|line| !line.contains("canary")));
    assert!(world.root.dump().keys().all(|name| !name.starts_with("var/lib/preroot/include")));
    assert!(world.run.dump().keys().all(|name| !name.starts_with("include/seed")));
    assert!(world.root.dump().keys().all(|name| !name.contains("marks-")));
    assert!(include(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
}

#[test]
fn where_nobody_allowed_it_nothing_is_wanted() {
    let mut world = ready_world();
    world.root.put_owned(PROGRAM, Owner::root(0o755), "ELF");
    world.system.programs.insert(std::format!("/{PROGRAM}"), 0);
    translator_says(&mut world, &entry("include", &std::format!("0 1 2 {URL}\n")));
    boot(&mut world).unwrap();
    assert!(!world.system.told[0].1.contains("input include"));
    assert!(has(&world, "user data were not translated") && world.root.stat(PLACE).is_err());
    // Or not any more.
    let mut world = self::world(0);
    world.root.put("etc/preroot.conf", "");
    assert!(include(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
    assert!(world.root.stat(PLACE).is_err() && tries(&world) == 0);
}

#[test]
fn what_cannot_be_had_is_tried_again_in_some_boots() {
    let mut world = world(22);
    assert!(include(&mut world).is_err());
    assert_eq!(tries(&world), 10);
    assert!(has(&world, "user data, part 1, line 2: #include: not fetched: "), "{:?}", world.log.lines);
    assert!(has(&world, "in the next 4 boots") && world.root.text("etc/motd").is_none());
    world.system.programs.insert(CURL.into(), 0);
    include(&mut world).unwrap();
    assert!(world.root.text("etc/motd").is_some() && world.root.stat(PLACE).is_err());
    let mut world = self::world(22);
    for _ in 0..limits::INCLUDE_BOOTS {
        assert!(include(&mut world).is_err_and(|error| !error.is(Kind::NotApplicable)));
    }
    assert!(world.root.stat(PLACE).is_err());
    // A boot that ends in it counts, too.
    let mut world = self::world(0);
    world.root.put("var/lib/preroot/include/boots", "5");
    assert!(include(&mut world).is_err() && world.root.stat(PLACE).is_err() && tries(&world) == 0);
}

#[test]
fn one_that_cannot_be_had_costs_no_other_and_is_not_done_twice() {
    let mut world = world(0);
    world.root.put(LIST, std::format!("0 1 2 {URL}\n0 1 3 https://z.example/\n"));
    world.system.breaks_on = "url = \"https://z.example/";
    assert!(include(&mut world).is_err());
    assert!(has(&world, "line 3: #include: not fetched") && world.root.text("etc/motd").unwrap() == "hi");
    world.system.breaks_on = "";
    include(&mut world).unwrap();
    let (_, heard) = world.system.told.last().unwrap();
    assert!(heard.contains("input included/1 ") && heard.contains("input included-before/0 "), "{heard}");
}

#[test]
fn one_that_fails_keeps_no_other_waiting() {
    let mut world = world(0);
    world.root.put(LIST, std::format!("0 1 2 https://z.example/\n0 1 3 {URL}\n"));
    world.system.breaks_on = "url = \"https://z.example/";
    assert!(include(&mut world).is_err());
    let asked = |n: usize| world.system.told[1 + n].1.contains("z.example");
    assert!(asked(0) && !asked(1) && asked(2) && tries(&world) == 11);
}

#[test]
fn documents_in_documents_are_fetched_in_rounds() {
    let mut world = world(0);
    let more = entry("include", "0 1 9 http://z.example/\n") + &entry("files/0/path", "/etc/motd");
    translator_says(&mut world, &more);
    include(&mut world).unwrap();
    assert_eq!(tries(&world), 2);
    let rounds: std::vec::Vec<bool> = ["1\n2\n", "1\n1\n"]
        .iter()
        .map(|text| {
            world.system.told.iter().any(|(_, heard)| heard.contains(&std::format!("input include {text}")))
        })
        .collect();
    assert_eq!(rounds, [true, true]);
    assert!(world.system.told.last().unwrap().1.contains("input included/1 "));
}

#[test]
fn without_curl_or_with_one_of_others_that_is_said() {
    let mut world = world(0);
    world.root.put_owned(&CURL[1..], Owner::root(0o777), "ELF");
    assert!(include(&mut world).is_err());
    assert!(has(&world, "the image has no curl") && has(&world, "others than root may change it"));
}

#[test]
fn a_document_that_is_too_large_is_not_asked_for_again() {
    let mut world = world(0);
    world.system.answers.insert(CURL.into(), std::vec![b'x'; 17 << 20]);
    assert!(include(&mut world).is_err());
    assert_eq!(tries(&world), 1);
    assert!(world.root.dump().keys().all(|name| !name.contains("include/documents/")));
}

#[test]
fn whom_the_platform_named_and_what_waits_for_packages_stays_as_it_is() {
    let mut world = world(0);
    let shadow = world.root.text("etc/shadow").unwrap().replace("ops:", "ops:$6$changed$");
    world.root.put_owned("etc/shadow", Owner::root(0o640), &shadow);
    let sudoers = world.root.text("etc/sudoers.d/ops");
    world
        .root
        .put("var/lib/preroot/deferred/files/7/path", "/late")
        .put("var/lib/preroot/ran/user.runcmd", "x");
    translator_says(
        &mut world,
        &(entry("files/0/path", "/var/lib/preroot/scripts/user/runcmd")
            + &entry("users/0", "default true\nssh_authorized_keys ssh-ed25519 AAAAC3NzaC1l two\n")),
    );
    include(&mut world).unwrap();
    assert!(world.system.told.last().unwrap().1.contains("input taken 7\nfiles/7\n"));
    assert_eq!(world.root.text("etc/shadow").unwrap(), shadow);
    assert_eq!(world.root.text("etc/sudoers.d/ops"), sudoers);
    assert!(world.root.text("home/ops/.ssh/authorized_keys").unwrap().contains(" two"));
    assert!(world.root.text("var/lib/preroot/deferred/files/7/path").is_some());
    assert!(world.root.text("var/lib/preroot/ran/user.runcmd").is_none(), "as it is now it has not run");
}

#[test]
fn whom_user_data_named_as_the_default_account_is_known_later() {
    let mut world = ready_world();
    world.root.put("etc/preroot.conf", "Provisioning.Include=y\n");
    world.root.put_owned(PROGRAM, Owner::root(0o755), "ELF").put_owned(&CURL[1..], Owner::root(0o755), "ELF");
    world.system.programs.insert(std::format!("/{PROGRAM}"), 0);
    world.system.programs.insert(CURL.into(), 0);
    // A medium that names nobody.
    let _ = world.run.remove("seed/user/name");
    let user = entry("users/0", "default true\nname web\nlock_passwd true\n");
    translator_says(&mut world, &(user + &entry("include", &std::format!("0 1 2 {URL}\n"))));
    boot(&mut world).unwrap();
    let keys = entry("users/0", "default true\nssh_authorized_keys ssh-ed25519 AAAAC3NzaC1l two\n");
    translator_says(&mut world, &keys);
    include(&mut world).unwrap();
    assert!(world.root.text("home/web/.ssh/authorized_keys").unwrap().contains(" two"));
}

#[test]
fn another_vms_documents_are_not_this_ones() {
    let mut world = ready_world();
    world.root.put(LIST, std::format!("0 1 2 {URL}\n")).put("var/lib/preroot/provisioned", "other\n");
    boot(&mut world).unwrap();
    assert!(world.root.stat(PLACE).is_err());
}

/// What a document says of a user, in a VM of which the medium names nobody; `keys`: it has some for the default account.
fn of_nobody(first: &str, document: &str, has_keys: bool, has_password: bool) -> World {
    let mut world = ready_world();
    world.root.put("etc/preroot.conf", "Provisioning.Include=y\nProvisioning.DefaultUser=debian\n");
    world.root.put_owned(PROGRAM, Owner::root(0o755), "ELF").put_owned(&CURL[1..], Owner::root(0o755), "ELF");
    world.system.programs.insert(std::format!("/{PROGRAM}"), 0);
    world.system.programs.insert(CURL.into(), 0);
    let source = world.run.text("seed/source").unwrap();
    let source: String = source.lines().map(|line| line.replace(" imds", " config-drive") + "\n").collect();
    world.run.put("seed/source", source);
    let unsaid =
        [("user/name", true), ("user/authorized-keys", !has_keys), ("user/password-hash", !has_password)];
    for (name, _) in unsaid.into_iter().filter(|(_, is_unsaid)| *is_unsaid) {
        let _ = world.run.remove(&std::format!("seed/{name}"));
    }
    seed::remove(&mut world.root, &seed::pending(&id()).unwrap()).unwrap();
    let first = if first.is_empty() { String::new() } else { entry("users/0", first) };
    translator_says(&mut world, &(first + &entry("include", &std::format!("0 1 2 {URL}\n"))));
    boot(&mut world).unwrap();
    translator_says(&mut world, &entry("users/0", document));
    include(&mut world).unwrap();
    world
}

#[test]
fn a_default_account_that_a_document_brings_is_an_administrator() {
    let world =
        of_nobody("", "default true\nssh_authorized_keys ssh-ed25519 AAAAC3NzaC1l two\n", false, false);
    assert!(world.root.text("home/debian/.ssh/authorized_keys").unwrap().contains(" two"));
    assert!(world.root.text("etc/sudoers.d/90-preroot-debian").unwrap().contains("NOPASSWD"));
    assert!(world.root.text("etc/group").unwrap().contains("sudo:x:27:debian"));
}

#[test]
fn a_document_locks_no_password_of_the_platforms() {
    for has_keys in [false, true] {
        let world = of_nobody("", "default true\npasswd $6$x$y\n", has_keys, true);
        let shadow = world.root.text("etc/shadow").unwrap();
        assert!(shadow.contains("\ndebian:$6$canary$hash:"), "not locked: {shadow}");
    }
}

#[test]
fn the_administrators_password_is_not_locked_by_a_document() {
    let mut world = world(0);
    translator_says(&mut world, &entry("users/0", "default true\npasswd $6$x$y\n"));
    include(&mut world).unwrap();
    assert!(world.root.text("etc/shadow").unwrap().contains("\nops:$6$canary$hash:"));
}

#[test]
fn root_may_have_the_platforms_keys_by_a_document() {
    let mut world = world(0);
    world.root.put_dir("root");
    translator_says(&mut world, &entry("users/0", "name root\nplatform_keys true\n"));
    include(&mut world).unwrap();
    assert!(world.root.text("root/.ssh/authorized_keys").unwrap().contains("AAAAC3Nz"));
}

#[test]
fn sshd_stays_as_the_platform_wants_it() {
    const FILE: &str = "etc/ssh/sshd_config.d/40-preroot.conf";
    let conf = "Provisioning.Include=y\nOS.SshClientAliveInterval=180\n";
    let mut world = self::world(0);
    world.root.put("etc/preroot.conf", conf);
    // As if that had been said from the beginning.
    let before = world.root.text(FILE).unwrap() + "ClientAliveInterval 180\n";
    world.root.put(FILE, &before);
    include(&mut world).unwrap();
    let after = world.root.text(FILE).unwrap();
    assert!(after.contains("PasswordAuthentication yes\n"), "{after}");
}

#[test]
fn what_is_missing_waits_whatever_else_failed() {
    let mut world = world(0);
    world.root.put(LIST, std::format!("0 1 2 {URL}\n0 1 3 https://z.example/\n"));
    world.system.breaks_on = "url = \"https://z.example/";
    translator_says(&mut world, &(entry("files/0/path", "no path") + &entry("files/0/content", "hi")));
    assert!(include(&mut world).is_err());
    assert!(has(&world, "in the next 4 boots") && world.root.text(LIST).is_some());
    // A translator that cannot work now may later.
    let mut world = self::world(0);
    world.system.programs.insert(std::format!("/{PROGRAM}"), 1);
    assert!(include(&mut world).is_err());
    assert!(world.root.text(LIST).is_some() && world.root.text("etc/motd").is_none());
    world.system.programs.insert(std::format!("/{PROGRAM}"), 0);
    include(&mut world).unwrap();
    assert!(world.root.text("etc/motd").is_some() && world.root.stat(PLACE).is_err());
}

#[test]
fn what_a_cut_left_is_not_believed_and_goes() {
    // Without the list nothing is to be done, and user data are still there.
    let mut world = self::world(0);
    let _ = world.root.remove(LIST);
    world.root.put("var/lib/preroot/include.tmp/custom-data", "canary");
    assert!(include(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
    assert!(world.root.dump().keys().all(|path| !path.starts_with("var/lib/preroot/include")));
    // Half a line is no URL.
    let mut world = self::world(0);
    world.root.put(LIST, "0 1 2 https://x.example/y?si");
    let _ = include(&mut world);
    assert_eq!(tries(&world), 0);
    // Of a run that was killed in this boot, whose facts nobody has read.
    let mut world = self::world(0);
    world.root.put(LIST, "");
    world.run.put("include/seed/users/0", "default true\nname x\n").put("include/seed/format", "1\n");
    let _ = include(&mut world);
    assert!(!world.root.text("etc/passwd").unwrap().contains("\nx:"));
}
