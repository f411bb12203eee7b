//! `preroot deprovision` and `preroot config` on directories that look like an image, against what waagent did to the
//! same tree (tests/fixtures/waagent).
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PREROOT: &str = env!("CARGO_BIN_EXE_preroot");
const TREE: &str = include_str!("fixtures/waagent/tree.txt");
const WAAGENT: &str = include_str!("fixtures/waagent/deprovision.txt");

/// A directory of this test's own, gone afterwards: `root` is the image, `outside` is not.
struct Image(PathBuf);

impl Image {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("preroot-deprovision-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        fs::write(path.join("outside/keep"), "keep").unwrap();
        let image = Self(path);
        for line in TREE.lines().filter(|line| !line.starts_with('#')) {
            image.put(line);
        }
        image
    }

    fn put(&self, line: &str) {
        let at = |name: &str| self.root().join(name);
        if let Some((name, target)) = line.split_once(" -> ") {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            symlink(target, at(name)).unwrap();
        } else if let Some((name, content)) = line.split_once(' ') {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), content.replace("\\n", "\n").replace("\\t", "\t")).unwrap();
        } else {
            fs::create_dir_all(at(line)).unwrap();
        }
    }

    /// The tree's homes get their owners, as far as this process may give files away; without, no home is removed.
    fn give_homes(&self) -> bool {
        let owned = |name: &str, id| {
            let home = self.root().join("home").join(name);
            let below = tree(&home);
            below.keys().all(|path| lchown(home.join(path), Some(id), Some(id)).is_ok())
                && chown(&home, Some(id), Some(id)).is_ok()
        };
        owned("ops", 1000) && owned("guest", 1001)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let fixed = ["--root", self.root().to_str().unwrap(), "--run", self.0.join("run").to_str().unwrap()]
            .map(String::from);
        words.iter().map(ToString::to_string).chain(fixed).collect()
    }

    fn preroot(&self, words: &[&str]) -> Output {
        Command::new(PREROOT).args(self.words(words)).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every path below with mode, owner, and content or target.
fn tree(top: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut rest = vec![top.to_path_buf()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let content = match metadata.file_type() {
                kind if kind.is_file() => fs::read(&path).unwrap(),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            if metadata.is_dir() {
                rest.push(path.clone());
            }
            let name = path.strip_prefix(top).unwrap().to_path_buf();
            found.insert(name, (metadata.mode(), metadata.uid(), content));
        }
    }
    found
}

/// The paths a dry run names.
fn listed(image: &Image, words: &[&str]) -> BTreeSet<PathBuf> {
    let output = image.preroot(&[&["deprovision", "--dry-run"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    text(&output)
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once('/').map(|(_, path)| PathBuf::from(path)))
        .collect()
}

#[test]
fn what_waagent_takes_away_goes_and_what_it_forgets_too() {
    let image = Image::new("waagent");
    if !image.give_homes() {
        return;
    }
    let output = image.preroot(&["deprovision", "--user", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let left = tree(&image.root());
    // Where this differs from waagent; docs/deprovision.md has the reasons.
    let ours = BTreeMap::from([
        ("etc/dhcp/dhclient.conf", "request subnet-mask;\n"),
        ("etc/hostname", "localhost.localdomain\n"),
    ]);
    let mut forgotten = Vec::new();
    for line in WAAGENT.lines() {
        let mut fields = line.split('\t');
        let (fate, path) = (fields.next().unwrap(), fields.next().unwrap());
        let name = path.trim_end_matches('/');
        let is_there = left.contains_key(Path::new(name));
        match fate {
            "removed" => assert!(!is_there, "{path} stays"),
            "changed" if is_there => {
                let theirs = fields.next().unwrap().replace("\\n", "\n").replace("\\t", "\t");
                assert_eq!(image.read(name), ours.get(name).map_or(theirs, ToString::to_string), "{path}");
            }
            "kept" | "changed" if !is_there => forgotten.push(path),
            _ => {}
        }
    }
    assert_eq!(
        forgotten,
        [
            "etc/shadow-",
            "etc/ssh/sshd_config.d/40-preroot.conf",
            "etc/sudoers.d/90-preroot-ops",
            "etc/udev/rules.d/70-persistent-net.rules",
            "root/.ssh/authorized_keys",
            "run/systemd/netif/leases/2",
            "var/backups/shadow.bak",
            "var/lib/NetworkManager/internal-2-eth0.lease",
            "var/lib/NetworkManager/secret_key",
            "var/lib/cloud/data/",
            "var/lib/cloud/data/instance-id",
            "var/lib/cloud/instance",
            "var/lib/cloud/instances/",
            "var/lib/cloud/instances/i-1/",
            "var/lib/cloud/instances/i-1/user-data.txt",
            "var/lib/hyperv/.kvp_pool_1",
            "var/lib/preroot/custom-data",
            "var/lib/preroot/provisioned",
            "var/lib/preroot/reported",
            "var/lib/preroot/user",
            "var/lib/systemd/random-seed",
            "var/spool/cron/crontabs/ops",
        ]
    );
    assert_eq!((image.read("etc/machine-id"), image.read("var/log/wtmp")), (String::new(), String::new()));
    assert_eq!(image.read("etc/hosts"), "127.0.0.1\tlocalhost\n");
}

#[test]
fn no_trace_of_the_first_user_is_left() {
    let image = Image::new("trace");
    if !image.give_homes() {
        return;
    }
    let output = image.preroot(&["deprovision", "--user", "--logs", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for (path, (_, uid, content)) in tree(&image.root()) {
        let content = String::from_utf8_lossy(&content).into_owned();
        assert!(uid != 1000 && !content.contains("ops") && !content.contains("web-1"), "{path:?}: {content}");
        assert!(!path.to_str().unwrap().contains("ops"), "{path:?}");
    }
}

#[test]
fn names_that_are_not_utf8_go_with_the_home_they_are_in() {
    let image = Image::new("bytes");
    let home = image.root().join("home/ops");
    for name in
        [&b"\xff"[..], b"caf\xe9/\xfe\xff/deep", b"caf\xe9/plain", b"x/\xe9", b".preroot-unreadable-1"]
    {
        let path = home.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "ops").unwrap();
    }
    if !image.give_homes() {
        return;
    }
    let output = image.preroot(&["deprovision", "--user", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!home.exists() && !image.read("etc/passwd").contains("ops:"));
}

#[test]
fn what_preroot_put_into_fstab_goes_and_nobody_elses_lines() {
    let fstab = "UUID=1 / ext4 defaults 0 1\n/dev/sdb1\t/data\tauto\tdefaults,comment=cloudconfig\t0\t2\n/swap\\040img\tnone\tswap\tsw\t0\t0\n/other none swap sw 0 0\n";
    for (note, left) in [("/swap\\040img", 2), ("", 3)] {
        let image = Image::new("fstab");
        fs::write(image.root().join("etc/fstab"), fstab).unwrap();
        fs::write(image.root().join("swap img"), "x").unwrap();
        fs::write(image.root().join("var/lib/preroot/fstab"), format!("{note}\n")).unwrap();
        let _ = fs::remove_file(image.root().join("usr/bin/cloud-init"));
        let output = image.preroot(&["deprovision", "--force"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(image.read("etc/fstab").lines().count(), left, "{}", image.read("etc/fstab"));
        assert_eq!(image.root().join("swap img").exists(), note.is_empty());
        assert!(!image.read("etc/fstab").contains("cloudconfig"));
    }
    // Without the note they are another program's.
    let image = Image::new("fstab");
    fs::write(image.root().join("etc/fstab"), fstab).unwrap();
    let _ = fs::remove_file(image.root().join("usr/bin/cloud-init"));
    assert_eq!(image.preroot(&["deprovision", "--force"]).status.code(), Some(0));
    assert!(image.read("etc/fstab").contains("cloudconfig"));
}

#[test]
fn a_dry_run_names_every_path_that_goes_and_touches_none() {
    for words in [&[][..], &["--user"], &["--user", "--logs"]] {
        let image = Image::new("dry");
        if !image.give_homes() {
            return;
        }
        let before = tree(&image.root());
        let named = listed(&image, words);
        assert_eq!(tree(&image.root()), before);
        let output = image.preroot(&[&["deprovision", "--force"], words].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let after = tree(&image.root());
        let changed = before.iter().filter(|(path, node)| after.get(*path) != Some(node));
        assert_eq!(named, changed.map(|(path, _)| path.clone()).collect());
        assert!(listed(&image, words).is_empty(), "a second run has nothing to do");
    }
}

#[test]
fn nobody_is_asked_without_a_terminal_and_nothing_happens() {
    let image = Image::new("asked");
    let before = tree(&image.root());
    let output = image.preroot(&["deprovision"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("--force"), "{}", text(&output));
    assert_eq!(tree(&image.root()), before);
}

#[test]
fn a_person_at_a_terminal_decides() {
    if !Path::new("/usr/bin/script").exists() {
        return;
    }
    let image = Image::new("terminal");
    let before = tree(&image.root());
    let line = format!("{PREROOT} {}", image.words(&["deprovision"]).join(" "));
    let answered = |answer: &str| {
        let shell = format!("(sleep 1; echo {answer}) | script -qec '{line}' /dev/null");
        Command::new("sh").args(["-c", &shell]).output().unwrap()
    };
    let output = answered("n");
    assert!(text(&output).contains("Proceed? (y/n)") && text(&output).contains("nothing was changed"));
    assert_eq!(tree(&image.root()), before);
    assert!(text(&answered("y")).contains("its next boot is a first one"));
    assert!(!image.root().join("var/lib/preroot/provisioned").exists());
}

#[test]
fn links_do_not_lead_out_of_the_image() {
    let image = Image::new("links");
    let outside = image.0.join("outside");
    let kept = tree(&outside);
    let root = image.root();
    let removed = |name: &str| fs::remove_dir_all(root.join(name)).unwrap();
    removed("var/lib/dhcp");
    removed("var/log/azure");
    removed("var/lib/waagent");
    symlink(&outside, root.join("var/lib/dhcp")).unwrap();
    symlink("../../../../../../../../../../outside", root.join("var/log/azure")).unwrap();
    symlink(&outside, root.join("home/guest/.ssh")).unwrap();
    symlink(&outside, root.join("home/evil")).unwrap();
    symlink(&outside, root.join("home/ops/data/out")).unwrap();
    symlink(outside.join("keep"), root.join("home/guest/.zsh_history")).unwrap();
    symlink("../../../../../outside", root.join("var/lib/waagent")).unwrap();
    fs::write(outside.join(".bash_history"), "keep").unwrap();
    let kept = {
        let mut kept = kept;
        kept.extend(tree(&outside));
        kept
    };
    image.give_homes();
    let output = image.preroot(&["deprovision", "--user", "--logs", "--force"]);
    assert_eq!(tree(&outside), kept, "{}", text(&output));
    assert!(root.join("home/evil").symlink_metadata().is_ok());
    assert!(root.join("home/guest/.zsh_history").symlink_metadata().is_err());
}

#[test]
fn a_file_system_mounted_in_a_home_is_left_alone() {
    let image = Image::new("mounted");
    if !image.give_homes() {
        return;
    }
    let at = image.root().join("home/ops/data");
    let script = format!(
        "mount -t tmpfs tmpfs '{0}' && echo keep >'{0}/keep' && \"$@\"; echo $?; cat '{0}/keep'",
        at.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh", PREROOT])
        .args(image.words(&["deprovision", "--user", "--force"]))
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("ermi") {
        return;
    }
    assert!(text(&output).contains("another file system is mounted there"), "{}", text(&output));
    assert!(text(&output).ends_with("1\nkeep\n"), "{}", text(&output));
}

#[test]
fn a_directory_bound_into_a_home_is_left_alone() {
    let image = Image::new("bind");
    if !image.give_homes() {
        return;
    }
    // on the same file system: no device number tells
    let bound = image.root().join("home/ops/shared");
    fs::create_dir_all(&bound).unwrap();
    chown(&bound, Some(1000), Some(1000)).unwrap();
    let script = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(image.0.join("outside")).arg(&bound).arg(PREROOT);
    let output = command.args(image.words(&["deprovision", "--user", "--force"])).output().unwrap();
    if text(&output).contains("unshare") {
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("another file system is mounted there"), "{}", text(&output));
    assert_eq!(fs::read_to_string(image.0.join("outside/keep")).unwrap(), "keep");
}

#[test]
fn the_configuration_says_where_each_value_is_from() {
    let image = Image::new("config");
    let shown = text(&image.preroot(&["config", "--explain"]));
    assert!(shown.contains("\nProvisioning.DeleteRootPassword=y  # /etc/waagent.conf:2\n"), "{shown}");
    image.put("etc/preroot.conf.d/10-swap.conf ResourceDisk.EnableSwap=y\\nResourceDisk.SwapSizeMB=a lot\\n");
    fs::set_permissions(image.root().join("etc/preroot.conf.d"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = image.preroot(&["config", "--explain"]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.contains("ResourceDisk.EnableSwap=y  # /etc/preroot.conf.d/10-swap.conf:1\n"), "{shown}");
    assert!(shown.contains("# /etc/preroot.conf.d/10-swap.conf:2 wants a number\n"), "{shown}");
    assert!(
        shown.contains("Provisioning.DeleteRootPassword=n  # default\n"),
        "waagent's file no longer counts"
    );
}
