//! The modules on a small Debian, at every power cut, and against images that do things their own way.

use super::{Buffers, MODULES, Root, SeedPlace, State};
use crate::error::{Errno, Kind};
use crate::facts::{Fact, Facts, Hostname, InstanceId, PasswordHash, Provenance, SshKey, SshKeys, UserName};
use crate::format::config::Config;
use crate::sys::Owner;
use crate::sys::fake::{FakeClock, FakeDir, FakeDisks, FakeSystem};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

mod data_disks;
mod files;
mod host;
mod recorded;
mod shadow_utils;
mod trees;

const KEY: &str = "ssh-ed25519 AAAAC3Nz ops@cloud";
const HASH: &str = "$6$salt$hash";
const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const DAY: i64 = 20_000;

struct Image {
    root: FakeDir,
    run: FakeDir,
    host: FakeDir,
    disks: FakeDisks,
    system: FakeSystem,
    clock: FakeClock,
    config: Config,
    id: InstanceId,
    facts: Box<Facts>,
}

fn fact<T>(value: T) -> Option<Fact<T>> {
    Some(Fact { value, from: Provenance::Imds })
}

impl Image {
    fn debian() -> Self {
        let mut root = FakeDir::default();
        root.put(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
        )
        .put_owned("etc/shadow", Owner { mode: 0o640, uid: 0, gid: 42 }, "root:*:19000:0:99999:7:::\n")
        .put("etc/group", "root:x:0:\nadm:x:4:\nsudo:x:27:\nshadow:x:42:\n")
        .put_owned(
            "etc/gshadow",
            Owner { mode: 0o640, uid: 0, gid: 42 },
            "root:*::\nadm:*::\nsudo:*::\nshadow:*::\n",
        )
        .put("etc/login.defs", "UMASK\t\t022\nUID_MIN 1000\nUID_MAX 60000\nPASS_MIN_DAYS 0\nPASS_MAX_DAYS 99999\nPASS_WARN_AGE 7\n")
        .put("etc/hostname", "image\n")
        .put("etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\timage\n::1\tlocalhost\n")
        .put("etc/skel/.bashrc", "# bashrc\n")
        .put_owned("etc/skel/bin/run", Owner::root(0o4755), "#!/bin/sh\n")
        .put_symlink("etc/skel/link", "/etc/passwd")
        .put("bin/bash", "")
        .put_dir("home")
        .put_owned("etc/sudoers", Owner::root(0o440), "@includedir /etc/sudoers.d\n")
        .put_dir("etc/sudoers.d")
        .put("usr/sbin/visudo", "")
        .put("usr/bin/ssh-keygen", "")
        .put("etc/ssh/ssh_host_ed25519_key", "key")
        .put("var/lib/preroot/host-keys", ID)
        .put("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n")
        .put_dir("etc/ssh/sshd_config.d")
        .put_dir("etc/udev/rules.d")
        .put_dir("var/lib");
        let mut system = FakeSystem::default();
        system.programs.insert("/usr/sbin/visudo".into(), 0);
        let mut run = FakeDir::default();
        run.put("seed/custom-data", "#!/bin/sh\n");
        let mut host = FakeDir::default();
        host.put_dir("sys/class/block");
        let (config, id) = (Config::new(false), InstanceId::parse(ID).unwrap());
        let disks = FakeDisks::default();
        let clock = FakeClock::default();
        Self { root, run, host, disks, system, clock, config, id, facts: Self::facts() }
    }

    fn facts() -> Box<Facts> {
        let mut keys = SshKeys::new();
        keys.push(SshKey::parse(KEY).unwrap()).unwrap();
        Box::new(Facts {
            hostname: fact(Hostname::parse("vm1.example.com").unwrap()),
            user: fact(UserName::parse("ops").unwrap()),
            password: fact(PasswordHash::parse(HASH).unwrap()),
            password_login: fact(false),
            keys: fact(keys),
            custom_data: fact(10),
            ..Facts::default()
        })
    }

    fn with<T>(&mut self, work: impl FnOnce(&Facts, &mut Root<'_>) -> T) -> T {
        let mut bytes = std::vec![0; 128 * 1024];
        let mut root = Root {
            dir: &mut self.root,
            run: &mut self.run,
            host: &mut self.host,
            disks: &mut self.disks,
            system: &mut self.system,
            clock: &mut self.clock,
            until_us: u64::MAX,
            is_switched_off: false,
            path: "/",
            seed: SeedPlace::Run("seed"),
            config: &self.config,
            id: &self.id,
            wall_s: DAY * 86_400 + 5,
            buffers: Buffers::halves_of(&mut bytes),
        };
        work(&self.facts, &mut root)
    }

    fn check(&mut self, name: &str) -> crate::error::Result<State> {
        let module = MODULES.iter().find(|module| module.name == name).unwrap();
        self.with(|facts, root| (module.check)(facts, root))
    }

    fn apply(&mut self, name: &str) -> crate::error::Result<()> {
        let module = MODULES.iter().find(|module| module.name == name).unwrap();
        self.with(|facts, root| (module.apply)(facts, root))
    }

    /// As the stage does it: what is missing is applied.
    fn converge(&mut self, name: &str) -> crate::error::Result<()> {
        match self.check(name)? {
            State::Missing => self.apply(name),
            _ => Ok(()),
        }
    }

    fn all(&mut self) {
        for module in MODULES {
            self.converge(module.name).unwrap_or_else(|error| panic!("{}: {error}", module.name));
        }
    }

    /// As [`Image::converge`], with the image's switches.
    fn look(&mut self, name: &str) -> State {
        let module = MODULES.iter().find(|module| module.name == name).unwrap();
        self.with(|facts, root| module.look(facts, root)).unwrap()
    }

    fn text(&self, path: &str) -> String {
        self.root.text(path).unwrap_or_else(|| panic!("no {path}"))
    }
}

#[test]
fn every_module_file_has_a_row() {
    // The resource disk has a stage of its own.
    let shared = [
        "mod",
        "tests",
        "person",
        "machine_id",
        "replace",
        "account",
        "home",
        "deprovision",
        "resource_disk",
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/apply");
    let mut files: Vec<String> = (std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().into())
        .filter(|name: &String| !shared.contains(&name.as_str()))
        .collect();
    let mut rows: Vec<String> = MODULES.iter().map(|module| module.name.into()).collect();
    files.sort();
    rows.sort();
    assert_eq!(files, rows);
}

#[test]
fn a_fresh_image_gets_what_useradd_would_give_it() {
    let mut image = Image::debian();
    image.all();
    assert!(image.text("etc/passwd").ends_with("\nops:x:1000:1000::/home/ops:/bin/bash\n"));
    assert!(image.text("etc/shadow").ends_with("\nops:$6$salt$hash:20000:0:99999:7:::\n"));
    assert_eq!(image.text("etc/group"), "root:x:0:\nadm:x:4:ops\nsudo:x:27:ops\nshadow:x:42:\nops:x:1000:\n");
    assert_eq!(image.text("etc/gshadow"), "root:*::\nadm:*::ops\nsudo:*::ops\nshadow:*::\nops:!::\n");
    assert_eq!(image.root.owner("etc/shadow").unwrap(), Owner { mode: 0o640, uid: 0, gid: 42 });
    assert_eq!(image.text("etc/hostname"), "vm1.example.com\n");
    assert_eq!(image.system.hostname.as_deref(), Some("vm1.example.com"));
    assert!(image.text("etc/hosts").contains("\n127.0.1.1\tvm1.example.com\tvm1\n"));
    assert!(image.text("etc/sudoers.d/90-preroot-ops").ends_with("\nops ALL=(ALL) ALL\n"));
    assert_eq!(image.root.owner("etc/sudoers.d/90-preroot-ops").unwrap(), Owner::root(0o440));
    assert!(image.text("etc/ssh/sshd_config.d/40-preroot.conf").contains("\nPasswordAuthentication no\n"));
    assert_eq!(image.text("var/lib/preroot/custom-data"), "#!/bin/sh\n");
    assert_eq!(image.root.owner("var/lib/preroot/custom-data").unwrap(), Owner::root(0o600));
    assert!(image.root.dump().keys().all(|path| !path.ends_with(".preroot")));
}

#[test]
fn the_home_is_the_skeleton_in_the_users_hands() {
    let mut image = Image::debian();
    image.all();
    let user = |mode| Owner { mode, uid: 1000, gid: 1000 };
    for (path, mode) in [
        ("home/ops", 0o755),
        ("home/ops/.bashrc", 0o644),
        ("home/ops/bin/run", 0o755),
        ("home/ops/.ssh", 0o700),
        ("home/ops/.ssh/authorized_keys", 0o600),
    ] {
        assert_eq!(image.root.owner(path).unwrap(), user(mode), "{path}");
    }
    assert_eq!(image.text("home/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert!(image.root.dump()["home/ops/link"].ends_with("-> /etc/passwd"));
}

#[test]
fn a_second_run_changes_nothing() {
    let mut image = Image::debian();
    image.all();
    let before = image.root.dump();
    let changes = image.root.changes();
    for module in MODULES {
        assert_eq!(image.check(module.name).unwrap(), State::Satisfied, "{}", module.name);
    }
    assert_eq!(image.root.changes(), changes);
    for module in MODULES.iter().filter(|module| module.name != "ssh_host_keys") {
        image.apply(module.name).unwrap();
    }
    assert_eq!(image.root.dump(), before);
}

#[test]
fn without_facts_nothing_is_touched() {
    let mut image = Image::debian();
    *image.facts = Facts::default();
    let before = image.root.dump();
    image.all();
    assert_eq!(image.root.dump(), before);
    assert!(image.system.runs.is_empty());
}

/// An image in which everything before `name` has been applied.
fn prepared(name: &str) -> Image {
    let mut image = Image::debian();
    for module in MODULES.iter().take_while(|module| module.name != name) {
        image.converge(module.name).unwrap();
    }
    // A fresh tree, so that cuts do not reach back.
    image.root.power_on(true);
    image
}

#[test]
fn every_power_cut_in_every_module_converges() {
    let mut cuts = 0;
    for module in MODULES {
        let mut uncut = prepared(module.name);
        let before = uncut.root.changes();
        uncut.converge(module.name).unwrap();
        for n in 1..=uncut.root.changes() - before {
            for keep_names in [false, true] {
                let mut image = prepared(module.name);
                image.root.cut_power_at(n);
                assert!(image.converge(module.name).is_err(), "{} cut at {n}", module.name);
                image.root.power_on(keep_names);
                image.converge(module.name).unwrap();
                assert_eq!(image.check(module.name).unwrap(), State::Satisfied);
                // The lock file has no content to lose; it may or may not be there yet.
                let (mut ours, mut whole) = (image.root.dump(), uncut.root.dump());
                ours.remove("etc/.pwd.lock");
                whole.remove("etc/.pwd.lock");
                assert_eq!(ours, whole, "{} cut at {n}, names kept: {keep_names}", module.name);
                cuts += 1;
            }
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn every_failing_operation_is_reported_and_the_next_run_converges() {
    for module in MODULES {
        let mut whole = prepared(module.name);
        let before = whole.root.changes();
        whole.converge(module.name).unwrap();
        for n in 1..=whole.root.changes() - before {
            let mut image = prepared(module.name);
            image.root.fail_at(n, Errno::NOSPC);
            assert!(image.converge(module.name).is_err(), "{} failure at {n}", module.name);
            image.converge(module.name).unwrap();
            assert_eq!(image.root.dump(), whole.root.dump(), "{} failure at {n}", module.name);
        }
    }
}

#[test]
fn a_system_account_is_not_taken_over() {
    for name in ["root", "nobody"] {
        let mut image = Image::debian();
        image.facts.user = fact(UserName::parse(name).unwrap());
        let before = image.root.dump();
        for module in ["users", "password", "ssh_keys", "sudo"] {
            let refused = image.converge(module);
            assert!(matches!(refused, Err(error) if error.is(Kind::Unsupported)), "{module} {name}");
        }
        let mut after = image.root.dump();
        after.remove("etc/.pwd.lock");
        assert_eq!(after, before);
    }
}

#[test]
fn an_existing_user_keeps_what_it_has() {
    let mut image = Image::debian();
    let passwd = "ops:x:1234:100:Ops,,,:/srv/ops:/bin/zsh\n";
    image.root.put("etc/passwd", passwd).put("etc/shadow", "ops:!:1:2:3:4:5:6:7\n").put_dir("srv/ops");
    image.all();
    assert_eq!(image.text("etc/passwd"), passwd);
    assert_eq!(image.text("etc/shadow"), std::format!("ops:{HASH}:20000:2:3:4:5:6:7\n"));
    assert!(!image.text("etc/group").contains("ops:x:"), "it has a primary group");
    assert!(image.text("etc/group").contains("sudo:x:27:ops\n"));
    assert_eq!(image.root.owner("srv/ops/.ssh").unwrap().uid, 1234);
}

#[test]
fn without_a_hash_passwords_are_locked_or_left() {
    for (there, expected) in [("", "*"), ("!", "!"), ("$6$own", "$6$own")] {
        let mut image = Image::debian();
        image.facts.password = None;
        image.root.put("etc/passwd", "ops:x:1000:1000::/home/ops:/bin/sh\n");
        image.root.put("etc/shadow", std::format!("ops:{there}:1:0:99999:7:::\n"));
        image.all();
        assert!(image.text("etc/shadow").starts_with(&std::format!("ops:{expected}:")), "{there:?}");
        assert!(image.text("etc/sudoers.d/90-preroot-ops").contains("NOPASSWD: ALL\n"));
    }
}

#[test]
fn without_a_password_keys_work_even_where_sshd_has_no_pam() {
    let mut image = Image::debian();
    image.facts.password = None;
    image.all();
    // A `!` would lock the account for OpenSSH with UsePAM no.
    assert!(image.text("etc/shadow").ends_with("\nops:*:20000:0:99999:7:::\n"));
}

#[test]
fn what_another_vm_owned_is_not_this_ones() {
    let data = "var/lib/preroot/custom-data";
    for was_another_vms in [false, true] {
        let mut image = Image::debian();
        image.facts.custom_data = None;
        image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
        image.root.put(data, "old").put("etc/ssh/ssh_host_ed25519_key.pub", "public");
        let made_for = if was_another_vms { "i-template" } else { ID };
        image.root.put("var/lib/preroot/host-keys", made_for);
        if was_another_vms {
            image.root.put(crate::seed::PROVISIONED, "i-other\n");
        }
        image.all();
        assert_eq!(image.root.text(data).is_none(), was_another_vms);
        assert_eq!(image.root.text("etc/ssh/ssh_host_ed25519_key").is_none(), was_another_vms);
        assert_eq!(image.root.text("etc/ssh/ssh_host_ed25519_key.pub").is_none(), was_another_vms);
        let made = image.system.runs.contains(&"/usr/bin/ssh-keygen -A".into());
        assert_eq!(made, was_another_vms, "{:?}", image.system.runs);
    }
}

#[test]
fn sudo_of_the_vendor_is_sudo() {
    use crate::sys::Dir;
    let mut image = prepared("sudo");
    image.root.remove("etc/sudoers").unwrap();
    image.root.put("usr/etc/sudoers", "@includedir /etc/sudoers.d\n");
    image.converge("sudo").unwrap();
    assert!(image.text("etc/sudoers.d/90-preroot-ops").contains("ops ALL"));
    assert_eq!(image.check("sudo").unwrap(), State::Satisfied);
}

#[test]
fn sub_ids_behind_a_link_are_the_images_own() {
    let mut image = Image::debian();
    image.root.put_symlink("etc/subuid", "../run/subuid");
    image.converge("users").unwrap();
    assert!(image.text("etc/passwd").contains("ops:x:1000:"));
}

#[test]
fn scsi_disks_of_later_boots_get_their_time_by_a_rule() {
    let mut image = Image::configured("OS.RootDeviceScsiTimeout=300\n");

    image.converge("scsi_timeout").unwrap();
    let rule = image.text("etc/udev/rules.d/66-preroot-scsi-timeout.rules");
    assert!(rule.ends_with("ATTR{type}==\"0\", ATTR{timeout}=\"300\"\n"), "{rule}");
}

#[test]
fn a_builders_network_card_has_no_name_here() {
    let mut image = Image::debian();
    image.root.put("etc/udev/rules.d/70-persistent-net.rules", "old\n");
    image.converge("persistent_net").unwrap();
    assert!(image.root.text("etc/udev/rules.d/70-persistent-net.rules").is_none());
    assert_eq!(image.text("etc/udev/rules.d/70-persistent-net.rules.preroot"), "old\n");
}

#[test]
fn a_hash_in_passwd_does_not_win_over_shadow() {
    let mut image = Image::debian();
    image.root.put("etc/passwd", "ops::1000:1000::/home/ops:/bin/sh\n");
    image.all();
    assert_eq!(image.text("etc/passwd"), "ops:x:1000:1000::/home/ops:/bin/sh\n");
}

#[test]
fn before_the_clock_is_set_no_new_password_is_forced() {
    let mut image = Image::debian();
    image.with(|facts, root| {
        root.wall_s = 40;
        super::users::apply(facts, root).unwrap();
        super::password::apply(facts, root).unwrap();
    });
    assert!(image.text("etc/shadow").ends_with(&std::format!("\nops:{HASH}::0:99999:7:::\n")));
}

#[test]
fn keys_of_others_stay() {
    let mut image = Image::debian();
    image.converge("users").unwrap();
    let file = "home/ops/.ssh/authorized_keys";
    image.root.put(file, "# mine\nssh-rsa AAAAB3 me");
    image.converge("ssh_keys").unwrap();
    assert_eq!(image.text(file), std::format!("# mine\nssh-rsa AAAAB3 me\n{KEY}\n"));
    assert_eq!(image.root.owner(file).unwrap(), Owner { mode: 0o600, uid: 1000, gid: 1000 });
    assert_eq!(image.root.owner("home/ops/.ssh").unwrap(), Owner { mode: 0o700, uid: 1000, gid: 1000 });
}

#[test]
fn links_in_a_home_lead_nowhere() {
    for (link, target) in
        [("home/ops/.ssh", "/root"), ("home/ops/.ssh/authorized_keys", "/etc/shadow"), ("home/ops", "/root")]
    {
        let mut image = Image::debian();
        image.root.put("etc/passwd", "ops:x:1000:1000::/home/ops:/bin/sh\n").put_dir("root");
        image.root.put_symlink(link, target);
        let before = image.root.dump();
        assert!(image.converge("ssh_keys").is_err(), "{link}");
        assert!(image.apply("ssh_keys").is_err(), "{link}");
        assert_eq!(image.root.dump()["etc/shadow"], before["etc/shadow"]);
        assert!(image.root.text("root/authorized_keys").is_none() && image.root.text("root/.ssh").is_none());
    }
}

#[test]
fn a_home_behind_a_link_of_roots_is_reached() {
    let mut image = Image::debian();
    image.root.put("etc/passwd", "ops:x:1000:1000::/exports/home/ops:/bin/sh\n");
    image.root.put_dir("var/home").put_dir("exports").put_symlink("exports/home", "/var/home");
    image.all();
    assert_eq!(image.text("var/home/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
}

#[test]
fn another_programs_lock_is_respected() {
    let mut image = Image::debian();
    image.root.hold_lock("etc/.pwd.lock");
    assert!(matches!(image.apply("users"), Err(error) if error.is(Kind::Deadline)));
    assert!(!image.text("etc/passwd").contains("ops"));
}

#[test]
fn sudo_is_optional_and_visudo_has_the_last_word() {
    let mut image = prepared("sudo");
    image.system.programs.insert("/usr/sbin/visudo".into(), 1);
    let error = image.converge("sudo").unwrap_err();
    assert_eq!(error.reason(), "visudo refuses the rule");
    assert!(image.root.text("etc/sudoers.d/90-preroot-ops").is_none());
    assert!(image.root.text("etc/sudoers.d/.90-preroot-ops.preroot").is_none());
    assert_eq!(image.system.runs, ["/usr/sbin/visudo -c -f /etc/sudoers.d/.90-preroot-ops.preroot"]);

    let mut image = prepared("sudo");
    use crate::sys::Dir;
    image.root.remove("etc/sudoers").unwrap();
    assert!(matches!(image.check("sudo").unwrap(), State::Foreign { .. }));

    let mut image = prepared("sudo");
    image.root.put_owned("etc/sudoers", Owner::root(0o440), "root ALL=(ALL) ALL\n");
    image.converge("sudo").unwrap();
    assert_eq!(image.text("etc/sudoers"), "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n");
}

#[test]
fn the_setting_stands_where_sshd_listens() {
    for (config, passwords, expected) in [
        ("UsePAM yes\n", true, "UsePAM yes\n"),
        (
            "UsePAM yes\n",
            false,
            "ChallengeResponseAuthentication no\nPasswordAuthentication no\nUsePAM yes\n",
        ),
        (
            "KbdInteractiveAuthentication no\nPasswordAuthentication yes\n",
            false,
            "KbdInteractiveAuthentication no\nPasswordAuthentication no\n",
        ),
        (
            "PasswordAuthentication no\nInclude /etc/ssh/sshd_config.d/*.conf\n",
            true,
            "PasswordAuthentication yes\nInclude /etc/ssh/sshd_config.d/*.conf\n",
        ),
    ] {
        let mut image = prepared("sshd");
        image.facts.password_login = fact(passwords);
        image.root.put("etc/ssh/sshd_config", config);
        image.converge("sshd").unwrap();
        assert_eq!(image.text("etc/ssh/sshd_config"), expected);
        assert_eq!(image.check("sshd").unwrap(), State::Satisfied, "{config}");
        assert!(image.root.text("etc/ssh/sshd_config.d/40-preroot.conf").is_none());
    }
}

impl Image {
    fn configured(text: &str) -> Self {
        let mut image = Self::debian();
        image.config.read(1, text.as_bytes(), &mut |_, fault| panic!("{fault}"));
        image
    }
}

#[test]
fn a_silent_ssh_client_is_asked_for_a_sign_of_life() {
    const CONFIGURED: &str = "OS.SshClientAliveInterval=180\n";
    let mut image = Image::configured(CONFIGURED);
    image.facts.password_login = None;
    image.converge("sshd").unwrap();
    assert!(
        image.text("etc/ssh/sshd_config.d/40-preroot.conf").ends_with("setting.\nClientAliveInterval 180\n")
    );
    image.facts.password_login = fact(true);
    image.converge("sshd").unwrap();
    let both = "\nPasswordAuthentication yes\nClientAliveInterval 180\n";
    assert!(image.text("etc/ssh/sshd_config.d/40-preroot.conf").ends_with(both));
    assert_eq!(image.check("sshd").unwrap(), State::Satisfied);

    let mut image = Image::configured(CONFIGURED);
    image.root.put("etc/ssh/sshd_config", "UsePAM yes\n#ClientAliveInterval 0\nMatch all\n");
    image.facts.password_login = None;
    image.converge("sshd").unwrap();
    let expected = "ClientAliveInterval 180\nUsePAM yes\n#ClientAliveInterval 0\nMatch all\n";
    assert_eq!(image.text("etc/ssh/sshd_config"), expected);
    assert_eq!(image.check("sshd").unwrap(), State::Satisfied);
}

#[test]
fn roots_password_is_locked_where_the_configuration_says_so() {
    let mut image = Image::configured("Provisioning.DeleteRootPassword=y\n");
    let before = image.text("etc/shadow");
    assert_eq!(image.check("root_password").unwrap(), State::Missing);
    image.all();
    assert!(image.text("etc/shadow").starts_with("root:*LOCK*:14600::::::\n"));
    assert_eq!(image.check("root_password").unwrap(), State::Satisfied);
    assert!(before.starts_with("root:*:19000"));
    assert!(image.text("etc/shadow").ends_with(std::format!("ops:{HASH}:20000:0:99999:7:::\n").as_str()));
}

#[test]
fn homes_are_where_the_configuration_says() {
    let mut image = Image::configured("OS.HomeDir=/srv/people/\n");
    image.all();
    assert!(image.text("etc/passwd").ends_with("\nops:x:1000:1000::/srv/people/ops:/bin/bash\n"));
    assert_eq!(image.text("srv/people/ops/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    assert_eq!(image.root.owner("srv/people").unwrap(), Owner::root(0o755));
}

#[test]
fn a_system_account_is_the_administrator_only_where_the_configuration_allows_it() {
    let mut image = Image::configured("Provisioning.AllowResetSysUser=y\n");
    image.root.put_dir("root");
    image.facts.user = fact(UserName::parse("root").unwrap());
    image.all();
    assert!(image.text("etc/shadow").starts_with(std::format!("root:{HASH}:20000:").as_str()));
    assert_eq!(image.text("root/.ssh/authorized_keys"), std::format!("{KEY}\n"));
    image.facts.user = fact(UserName::parse("nobody").unwrap());
    assert!(image.converge("users").is_err(), "nobody owns nothing, whatever is configured");
}

/// Debian with waagent in it.
fn with_waagent(conf: &str) -> Image {
    let mut image = Image::configured(conf);
    image.root.put("usr/sbin/waagent", "#!/usr/bin/python3\n");
    image
}

#[test]
fn waagent_finds_that_this_vm_is_provisioned() {
    let mut image = with_waagent("");
    image.all();
    assert_eq!(image.text("var/lib/waagent/provisioned"), ID);
    let document = image.text("var/lib/waagent/ovf-env.xml");
    assert!(document.contains("<wa:UserName>ops</wa:UserName>") && !document.contains(HASH), "{document}");
    assert!(document.contains("<wa:UserPassword>*</wa:UserPassword>"));
    assert_eq!(image.root.owner("var/lib/waagent").unwrap(), Owner::root(0o700));
    assert_eq!(image.root.owner("var/lib/waagent/ovf-env.xml").unwrap(), Owner::root(0o600));
    assert!(image.root.text("var/lib/waagent/disable_agent").is_none());
    assert_eq!(image.check("waagent").unwrap(), State::Satisfied);

    let mut image = Image::debian();
    image.all();
    assert!(!image.root.dump().contains_key("var/lib/waagent"), "nobody would read it");
}

#[test]
fn waagents_own_state_is_left_to_it() {
    let mut image = with_waagent("Lib.Dir=/opt/agent/state\n");
    image
        .root
        .put("opt/agent/state/provisioned", "i-template")
        .put("opt/agent/state/disable_agent", "by hand");
    image.all();
    // It clears what it kept of the other VM when it finds that name.
    assert_eq!(image.text("opt/agent/state/provisioned"), "i-template");
    assert_eq!(image.text("opt/agent/state/disable_agent"), "by hand");
    assert!(image.text("opt/agent/state/ovf-env.xml").contains("<wa:UserName>ops<"));
}

#[test]
fn a_platform_without_extensions_gets_none() {
    let mut image = with_waagent("");
    image.facts.wants_guest_agent = fact(false);
    image.all();
    assert_eq!(image.text("var/lib/waagent/disable_agent"), "");
    assert!(image.text("var/lib/waagent/ovf-env.xml").contains("ProvisionGuestAgent>false<"));
}

#[test]
fn every_power_cut_in_the_handover_to_waagent_converges() {
    let run = |n: Option<u64>, keep_names| {
        let mut image = with_waagent("");
        image.facts.wants_guest_agent = fact(false);
        image.root.power_on(true);
        let before = image.root.changes();
        if let Some(n) = n {
            image.root.cut_power_at(n);
            assert!(image.converge("waagent").is_err());
            image.root.power_on(keep_names);
        }
        image.converge("waagent").unwrap();
        (image.root.dump(), image.root.changes() - before)
    };
    let (whole, changes) = run(None, true);
    assert!(changes > 8);
    for n in 1..=changes {
        for keep_names in [false, true] {
            assert_eq!(run(Some(n), keep_names).0, whole, "cut at {n}");
        }
    }
}

/// What ssh-keygen was told, and whether the image's key is still there.
fn host_keys(conf: &str, more: &[(&str, &str)]) -> (Vec<String>, bool) {
    let mut image = Image::configured(conf);
    image.root.put("var/lib/preroot/host-keys", "i-template");
    for (path, content) in more {
        image.root.put(path, *content);
    }
    image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
    image.converge("ssh_host_keys").unwrap();
    (image.system.runs, image.root.text("etc/ssh/ssh_host_ed25519_key").is_some())
}

#[test]
fn host_keys_of_the_image_are_replaced_unless_they_are_to_stay() {
    const KEEP: &str = "Provisioning.RegenerateSshHostKeyPair=n\n";
    let all = std::vec![String::from("/usr/bin/ssh-keygen -A")];
    assert_eq!(host_keys("", &[]), (all.clone(), false));
    assert_eq!(host_keys(KEEP, &[]), (std::vec![], true));
    let other = ("var/lib/preroot/provisioned", "i-template\n");
    assert_eq!(host_keys(KEEP, &[other]), (std::vec![], true), "the maker wants all to have the same");
    let one = host_keys("Provisioning.SshHostKeyPairType=rsa\n", &[]);
    assert_eq!(one.0, ["/usr/bin/ssh-keygen -q -N  -t rsa -f /etc/ssh/ssh_host_rsa_key"]);
    for agents in ["var/lib/waagent/provisioned", "var/lib/cloud/data/instance-id"] {
        assert_eq!(host_keys("", &[(agents, ID)]), (std::vec![], true), "{agents} made them for this VM");
        assert_eq!(host_keys("", &[(agents, "i-template")]), (all.clone(), false), "{agents}: for another");
    }
}

#[test]
fn host_keys_are_made_once_for_a_vm() {
    let mut image = Image::debian();
    image.root.put("var/lib/preroot/host-keys", "i-template");
    image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
    image.converge("ssh_host_keys").unwrap();
    image.root.put("etc/ssh/ssh_host_ed25519_key", "made");
    image.converge("ssh_host_keys").unwrap();
    assert_eq!((image.text("etc/ssh/ssh_host_ed25519_key"), image.system.runs.len()), ("made".into(), 1));
}

#[test]
fn host_keys_are_made_if_there_are_none() {
    use crate::sys::Dir;
    let mut image = Image::debian();
    assert_eq!(image.check("ssh_host_keys").unwrap(), State::Satisfied);
    image.root.put("etc/ssh/ssh_host_rsa_key", "");
    assert_eq!(image.check("ssh_host_keys").unwrap(), State::Missing, "an empty file is no key");
    image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
    image.apply("ssh_host_keys").unwrap();
    assert!(image.root.text("etc/ssh/ssh_host_rsa_key").is_none());
    assert_eq!(image.text("etc/ssh/ssh_host_ed25519_key"), "key");
    image.root.remove("etc/ssh/ssh_host_ed25519_key").unwrap();
    assert_eq!(image.check("ssh_host_keys").unwrap(), State::Missing);
    image.root.remove("usr/bin/ssh-keygen").unwrap();
    assert!(matches!(image.check("ssh_host_keys").unwrap(), State::Foreign { .. }));
}

#[test]
fn labels_are_restored_only_under_selinux() {
    let mut image = Image::debian();
    image.all();
    assert!(image.system.runs.iter().all(|run| !run.contains("restorecon")));
    image.root.put("sys/fs/selinux/enforce", "1").put("usr/sbin/restorecon", "");
    image.system.programs.insert("/usr/sbin/restorecon".into(), 0);
    image.converge("labels").unwrap();
    assert!(image.system.runs.last().unwrap().ends_with("/var/lib/preroot /home/ops"));
}

#[test]
fn a_minimal_image_without_shadow_skel_or_sudo_gets_an_account() {
    use crate::sys::Dir;
    let mut image = Image::debian();
    for path in ["etc/shadow", "etc/gshadow", "etc/sudoers", "etc/login.defs", "bin/bash", "etc/hosts"] {
        image.root.remove(path).unwrap();
    }
    image.root.remove_dir("home").unwrap();
    image.all();
    assert!(image.text("etc/passwd").ends_with(":/home/ops:/bin/sh\n"));
    assert_eq!(image.text("etc/shadow"), std::format!("ops:{HASH}:20000::::::\n"));
    assert_eq!(image.root.owner("etc/shadow").unwrap(), Owner::root(0o600));
    assert!(image.root.text("etc/gshadow").is_none());
    assert!(image.text("etc/hosts").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\tvm1"));
}

/// The fake tree and the real kernel agree on owners, modes and content. Needs root, for chown.
#[test]
fn the_real_kernel_ends_in_the_same_tree() {
    use crate::sys::Dir;
    use crate::sys::linux::LinuxDir;
    use std::os::unix::fs::MetadataExt;
    let base = std::env::temp_dir().join(std::format!("preroot-apply-{}", std::process::id()));
    std::fs::create_dir_all(&base).unwrap();
    if std::fs::metadata(&base).unwrap().uid() != 0 {
        return;
    }
    let mut image = Image::debian();
    let mut real = LinuxDir::open(base.to_str().unwrap()).unwrap();
    for path in image.root.dump().keys() {
        let stat = image.root.stat(path).unwrap();
        let owner = Owner { mode: stat.mode, uid: stat.uid, gid: stat.gid };
        match stat.file_type {
            crate::sys::FileType::Directory => real.make_dir(path, owner).unwrap(),
            crate::sys::FileType::Symlink => real.make_symlink(path, "/etc/passwd").unwrap(),
            _ => real.create(path, owner, image.text(path).as_bytes()).unwrap(),
        }
    }
    image.all();
    let mut second = Image::debian();
    let mut bytes = std::vec![0; 128 * 1024];
    for module in MODULES {
        let mut root = Root {
            dir: &mut real,
            run: &mut second.run,
            host: &mut second.host,
            disks: &mut second.disks,
            system: &mut second.system,
            clock: &mut second.clock,
            until_us: u64::MAX,
            is_switched_off: false,
            path: "/",
            seed: SeedPlace::Run("seed"),
            config: &second.config,
            id: &second.id,
            wall_s: DAY * 86_400 + 5,
            buffers: Buffers::halves_of(&mut bytes),
        };
        for expected in [None, Some(State::Satisfied)] {
            let state = (module.check)(&second.facts, &mut root).unwrap();
            assert!(expected.is_none_or(|expected| state == expected), "{}: {state:?}", module.name);
            if state == State::Missing {
                (module.apply)(&second.facts, &mut root)
                    .unwrap_or_else(|error| panic!("{}: {error}", module.name));
            }
        }
    }
    for (path, expected) in image.root.dump() {
        let meta = std::fs::symlink_metadata(base.join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let body = match (meta.is_dir(), meta.is_symlink()) {
            (true, _) => "dir".into(),
            (_, true) => std::format!("-> {}", std::fs::read_link(base.join(&path)).unwrap().display()),
            _ => std::format!("file {}", std::fs::read_to_string(base.join(&path)).unwrap()),
        };
        let found = std::format!("{:o} {}:{} {body}", meta.mode() & 0o7777, meta.uid(), meta.gid());
        assert_eq!(found, expected, "{path}");
    }
    std::fs::remove_dir_all(&base).unwrap();
}

/// Sources: WALinuxAgent 2.7.3.0 pa/provision/default.py `save_customdata`, facts of waagent.conf.
#[test]
fn custom_data_is_kept_as_waagent_keeps_it_and_a_script_only_where_it_is_to_run() {
    const AGENTS: &str = "var/lib/waagent/CustomData";
    const LINK: &str = "var/lib/preroot/scripts/user/custom-data";
    let script = "#!/bin/sh\n";
    for (settings, is_decoded, is_run) in [
        (None, true, false),
        (Some(""), false, false),
        (Some("Provisioning.DecodeCustomData=y\n"), true, false),
        (Some("Provisioning.ExecuteCustomData=y\n"), true, true),
    ] {
        let mut image = Image::debian();
        if let Some(text) = settings {
            image.config = Config::new(true);
            image.config.read(1, text.as_bytes(), &mut |_, _| ());
        }
        let from = Provenance::OvfMedium;
        image.facts.custom_data = Some(Fact { value: 10, from });
        image.converge("custom_data").unwrap();
        assert_eq!(image.check("custom_data").unwrap(), State::Satisfied, "{settings:?}");
        assert_eq!(image.text(AGENTS), if is_decoded { script } else { "IyEvYmluL3NoCg==" });
        assert_eq!(image.text("var/lib/preroot/custom-data"), script);
        assert_eq!(image.root.owner(AGENTS).unwrap(), Owner::root(0o600));
        assert_eq!(image.root.owner("var/lib/waagent").unwrap(), Owner::root(0o700));
        let is_executable = image.root.owner("var/lib/preroot/custom-data").unwrap() == Owner::root(0o700);
        assert_eq!((is_executable, image.root.dump().contains_key(LINK)), (is_run, is_run));
        // Another VM's, of an image that was captured without being generalised.
        image.root.put(crate::seed::PROVISIONED, "i-other\n");
        image.facts.custom_data = None;
        image.converge("custom_data").unwrap();
        assert_eq!(image.check("custom_data").unwrap(), State::Satisfied);
        let left: Vec<_> =
            image.root.dump().into_keys().filter(|path| path.to_lowercase().contains("custom")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // userData stands in for customData, but waagent never had that.
    let mut image = Image::debian();
    image.converge("custom_data").unwrap();
    assert!(image.root.text(AGENTS).is_none() && image.check("custom_data").unwrap() == State::Satisfied);
}

#[test]
fn custom_data_converges_after_a_cut_at_every_change() {
    let new = || {
        let mut image = Image::debian();
        image.config.read(1, b"Provisioning.ExecuteCustomData=y\n", &mut |_, _| ());
        image.facts.custom_data = Some(Fact { value: 10, from: Provenance::OvfMedium });
        image
    };
    let mut uncut = new();
    uncut.converge("custom_data").unwrap();
    for n in 1..=uncut.root.changes() {
        let mut image = new();
        image.root.cut_power_at(n);
        assert!(image.converge("custom_data").is_err());
        image.root.power_on(false);
        image.converge("custom_data").unwrap();
        assert_eq!(image.root.dump(), uncut.root.dump(), "cut at {n}");
    }
}

#[test]
fn keys_go_where_sshd_looks_for_them() {
    const DROP_IN: &str = "etc/ssh/sshd_config.d/60-keys.conf";
    const DEFAULT: &str = "home/ops/.ssh/authorized_keys";
    for (drop_in, rest, file) in [
        ("", "", Some(DEFAULT)),
        ("AuthorizedKeysFile /etc/ssh/keys/%u\n", "AuthorizedKeysFile .x\n", Some("etc/ssh/keys/ops")),
        (
            "Match all\nAuthorizedKeysFile /no/%u\n",
            "AuthorizedKeysFile .config/a/keys\n",
            Some("home/ops/.config/a/keys"),
        ),
        ("", "AuthorizedKeysFile /etc/ssh/everybodys\n", Some(DEFAULT)),
        ("AuthorizedKeysFile none\n", "", None),
    ] {
        let mut image = prepared("ssh_keys");
        image.root.put(DROP_IN, drop_in).put("etc/ssh/sshd_config.d/10-none", "AuthorizedKeysFile none\n");
        let config = std::format!("Include /etc/ssh/sshd_config.d/*.conf\n{rest}");
        image.root.put("etc/ssh/sshd_config", config);
        image.converge("ssh_keys").unwrap();
        let written: Vec<String> = image
            .root
            .dump()
            .into_iter()
            .filter(|(_, text)| text.contains(KEY))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(written, file.into_iter().map(String::from).collect::<Vec<_>>(), "{drop_in}{rest}");
        let Some(file) = file else { continue };
        assert_eq!(image.check("ssh_keys").unwrap(), State::Satisfied);
        assert_eq!(image.root.owner(file).unwrap(), Owner { mode: 0o600, uid: 1000, gid: 1000 });
        let above = file.rsplit_once('/').unwrap().0;
        let owner = if file.starts_with("home/") {
            Owner { mode: 0o700, uid: 1000, gid: 1000 }
        } else {
            Owner::root(0o755)
        };
        assert_eq!(image.root.owner(above).unwrap(), owner);
    }
}

#[test]
fn a_link_on_the_way_to_keys_elsewhere_is_refused() {
    let mut image = prepared("ssh_keys");
    image.root.put("etc/ssh/sshd_config", "AuthorizedKeysFile /srv/keys/%u\n").put_dir("tmp/x");
    image.root.put_symlink("srv/keys", "/tmp/x");
    assert!(image.converge("ssh_keys").is_err());
    assert!(image.root.text("tmp/x/ops").is_none());
}

const PERSON: &str = "name web\ngroups crew,adm\nprimary_group www\npasswd $6$a$b\nhashed_passwd $6$c$d\nlock_passwd true\n\
    expire true\nsudo ALL=(ALL) /bin/ls\ndoas permit nopass web\nssh_authorized_keys ssh-rsa AAAAweb w\n";

#[test]
fn other_users_converge_after_a_cut_at_every_change() {
    const PARTS: [&str; 5] = ["users", "password", "ssh_keys", "sudo", "doas"];
    let new = || {
        let mut image = Image::debian();
        image.run.put("seed/users/0", PERSON).put("seed/users/1", "name second\nsystem true\n");
        image.root.put("usr/bin/doas", "");
        image.root.power_on(true);
        image
    };
    let all = |image: &mut Image| PARTS.iter().try_for_each(|part| image.converge(part));
    let mut uncut = new();
    let before = uncut.root.changes();
    all(&mut uncut).unwrap();
    assert!(uncut.text("etc/shadow").contains("\nweb:!$6$c$d:0:"), "{}", uncut.text("etc/shadow"));
    assert_eq!(uncut.root.owner("home/web").unwrap().uid, 1001);
    assert!(uncut.root.owner("home/second").is_none());
    for n in 1..=uncut.root.changes() - before {
        let mut image = new();
        image.root.cut_power_at(n);
        assert!(all(&mut image).is_err(), "cut at {n}");
        image.root.power_on(false);
        all(&mut image).unwrap();
        assert_eq!(image.root.dump(), uncut.root.dump(), "cut at {n}");
    }
}

#[test]
fn one_users_mistake_stops_no_other() {
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name nobody\n").put("seed/users/1", "name second\n");
    assert_eq!(image.converge("users").unwrap_err().reason(), "the name of a system account");
    assert!(image.text("etc/passwd").contains("\nops:") && image.text("etc/passwd").contains("\nsecond:"));
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name a:b\n").put("seed/users/1", "name second\n");
    assert!(image.converge("users").is_err());
    assert!(image.text("etc/passwd").contains("\nops:") && image.text("etc/passwd").contains("\nsecond:"));
    // keys, and no home for them
    let mut image = Image::debian();
    image.run.put("seed/users/0", "name homeless\nno_create_home true\nssh_authorized_keys ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V\n");
    image.converge("users").unwrap();
    let _ = image.converge("ssh_keys");
    assert!(image.root.text("home/ops/.ssh/authorized_keys").is_some(), "the administrator comes in");
}

#[test]
fn root_is_a_user_of_the_seeds_and_never_the_administrator() {
    let mut image = Image::debian();
    image.facts.user = fact(UserName::parse("root").unwrap());
    assert!(image.converge("users").is_err());
    image.facts.user = None;
    image.run.put("seed/users/0", "name root\nhashed_passwd $6$r$r\nlock_passwd false\n");
    for part in ["users", "password"] {
        image.converge(part).unwrap();
    }
    assert!(image.text("etc/shadow").starts_with("root:$6$r$r:20000:"));
}
