//! The modules on a small Debian, at every power cut, and against images that do things their own way.

use super::{Buffers, MODULES, Root, SeedPlace, State};
use crate::error::Errno;
use crate::facts::{Fact, Facts, Hostname, InstanceId, PasswordHash, Provenance, SshKey, SshKeys, UserName};
use crate::format::config::Config;
use crate::sys::Owner;
use crate::sys::fake::{FakeClock, FakeDir, FakeDisks, FakeSystem};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

mod accounts;
mod data_disks;
mod files;
mod host;
mod recorded;
mod shadow_utils;
mod ssh;
mod trees;
mod waagent;

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

    fn configured(text: &str) -> Self {
        let mut image = Self::debian();
        image.config.read(1, text.as_bytes(), &mut |_, fault| panic!("{fault}"));
        image
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
            is_last_try: false,
            partly: None,
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
        self.with(|facts, root| (module.apply)(facts, root).and(root.partly.map_or(Ok(()), Err)))
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
        "deferred",
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

/// Cuts the power at every change that these modules make to a new image, and lets them try again: their trees are
/// then the one that an uncut run makes, which is given back with the number of cuts.
fn every_cut_converges(new: &dyn Fn() -> Image, names: &[&str]) -> (Image, usize) {
    let all = |image: &mut Image| names.iter().try_for_each(|name| image.converge(name));
    let mut uncut = new();
    let before = uncut.root.changes();
    all(&mut uncut).unwrap();
    // The lock file has no content to lose; it may or may not be there yet.
    let tree = |image: &Image| {
        let mut tree = image.root.dump();
        tree.remove("etc/.pwd.lock");
        tree
    };
    let changes = uncut.root.changes() - before;
    for (n, keep_names) in (1..=changes).flat_map(|n| [(n, false), (n, true)]) {
        let mut image = new();
        image.root.cut_power_at(n);
        assert!(all(&mut image).is_err(), "{names:?} cut at {n}");
        image.root.power_on(keep_names);
        all(&mut image).unwrap();
        assert_eq!(tree(&image), tree(&uncut), "{names:?} cut at {n}, names kept: {keep_names}");
    }
    (uncut, 2 * usize::try_from(changes).unwrap())
}

#[test]
fn every_power_cut_in_every_module_converges() {
    let mut cuts = 0;
    for module in MODULES {
        let (mut image, of_it) = every_cut_converges(&|| prepared(module.name), &[module.name]);
        assert_ne!(image.check(module.name).unwrap(), State::Missing, "{}", module.name);
        cuts += of_it;
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
fn what_another_vm_owned_is_not_this_ones() {
    let data = "var/lib/preroot/custom-data";
    // Keys that were made for another VM are known as such without any other mark.
    for (was_another_vms, are_others_keys) in [(false, false), (true, true), (false, true)] {
        let mut image = Image::debian();
        image.facts.custom_data = None;
        image.system.programs.insert("/usr/bin/ssh-keygen".into(), 0);
        image.root.put(data, "old").put("etc/ssh/ssh_host_ed25519_key.pub", "public");
        let made_for = if are_others_keys { "i-template" } else { ID };
        image.root.put("var/lib/preroot/host-keys", made_for);
        if was_another_vms {
            image.root.put(crate::seed::PROVISIONED, "i-other\n");
        }
        image.all();
        assert_eq!(image.root.text(data).is_none(), was_another_vms);
        assert_eq!(image.root.text("etc/ssh/ssh_host_ed25519_key").is_none(), are_others_keys);
        assert_eq!(image.root.text("etc/ssh/ssh_host_ed25519_key.pub").is_none(), are_others_keys);
        let made = image.system.runs.contains(&"/usr/bin/ssh-keygen -A".into());
        assert_eq!(made, are_others_keys, "{:?}", image.system.runs);
    }
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
fn labels_are_restored_only_under_selinux() {
    let mut image = Image::debian();
    image.all();
    assert!(image.system.runs.iter().all(|run| !run.contains("restorecon")));
    image.root.put("sys/fs/selinux/enforce", "1").put("usr/sbin/restorecon", "");
    image.system.programs.insert("/usr/sbin/restorecon".into(), 0);
    image.converge("labels").unwrap();
    assert!(image.system.runs.last().unwrap().ends_with("/var/lib/preroot /home/ops"));
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
            is_last_try: false,
            partly: None,
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
