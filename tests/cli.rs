//! The shipped binary from outside: exit codes, messages, what it touches on a machine that is not ours.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PREROOT: &str = env!("CARGO_BIN_EXE_preroot");
const NOT_APPLICABLE: i32 = 76;

/// A directory of this test's own, gone afterwards.
struct Workspace(PathBuf);

impl Workspace {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("preroot-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root/var")).unwrap();
        Self(path)
    }

    fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn preroot(&self, words: &[&str]) -> Output {
        let mut command = Command::new(PREROOT);
        command.args(words).arg("--run").arg(self.run());
        command.output().unwrap()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every path below with mode and content.
fn tree(path: &Path, found: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        let content = if metadata.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        found.insert(entry.path(), (metadata.mode(), content));
        if metadata.is_dir() {
            tree(&entry.path(), found);
        }
    }
}

/// A developer's machine; on a VM of a cloud the tests below would really provision.
fn is_azure() -> bool {
    fs::read_to_string("/sys/class/dmi/id/chassis_asset_tag")
        .is_ok_and(|tag| tag.trim() == "7783-7084-3265-9085-8269-3286-77")
}

#[test]
fn usage_errors_end_with_2_and_say_how_to_go_on() {
    let workspace = Workspace::new("usage");
    for words in [&["frobnicate"][..], &["grow", "--offline"], &["report", "--failed"]] {
        let output = Command::new(PREROOT).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output).contains("preroot help"), "{words:?}");
    }
    let output = Command::new(PREROOT).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("usage:"));
    assert!(!workspace.run().exists());
}

#[test]
fn help_names_every_command_and_exit_code() {
    let help = text(&Command::new(PREROOT).arg("help").output().unwrap());
    let words = "modules fetch grow persist initrd apply report status timeline show config deprovision";
    for word in words.split(' ') {
        assert!(help.contains(word), "{word}");
    }
    for code in ["0 done", "1 failed", "2 usage", "75", "76", "101"] {
        assert!(help.contains(code), "{code}");
    }
}

#[test]
fn version_is_the_packages() {
    let output = Command::new(PREROOT).arg("version").output().unwrap();
    assert_eq!(text(&output), format!("preroot {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_machine_that_is_not_ours_is_left_alone() {
    if is_azure() {
        return;
    }
    let workspace = Workspace::new("foreign");
    let root = workspace.root();
    for words in [
        &["modules"][..],
        &["fetch"],
        &["fetch", "--offline"],
        &["fetch", "--online"],
        &["grow"],
        &["persist", "--root", root.to_str().unwrap()],
        &["apply", "--root", root.to_str().unwrap()],
        &["report", "--root", root.to_str().unwrap()],
    ] {
        let output = workspace.preroot(words);
        assert_eq!(output.status.code(), Some(NOT_APPLICABLE), "{words:?}: {}", text(&output));
        assert_eq!(text(&output), "", "{words:?}: silence is the message");
    }
    let mut found = BTreeMap::new();
    tree(&root, &mut found);
    assert_eq!(found.len(), 1, "only the directory that was there: {found:?}");
    assert!(!workspace.run().join("seed").exists());
}

#[test]
fn status_is_for_everybody_and_a_dry_run_is_not_in_it() {
    if is_azure() {
        return;
    }
    let workspace = Workspace::new("dry");
    let (root, status) = (workspace.root(), workspace.run().join("status"));
    let words = ["apply", "--root", root.to_str().unwrap()];
    workspace.preroot(&[&words[..], &["--dry-run"]].concat());
    assert!(!status.exists());
    workspace.preroot(&words);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&workspace.run()), mode(&status)), (0o755, 0o644));
}

#[test]
fn a_foreign_machine_sees_no_socket_and_no_program() {
    if is_azure() || !Path::new("/usr/bin/strace").exists() {
        return;
    }
    let workspace = Workspace::new("strace");
    for verb in ["modules", "fetch", "grow", "persist"] {
        let trace = workspace.0.join(verb);
        let status = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=socket,execve,execveat,connect,sendto,mount,init_module,finit_module",
                "-o",
            ])
            .arg(&trace)
            .arg(PREROOT)
            .args([verb, "--run"])
            .arg(workspace.run())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(NOT_APPLICABLE));
        let calls = fs::read_to_string(&trace).unwrap();
        assert_eq!(
            calls.lines().filter(|line| line.contains('(')).count(),
            1,
            "only its own execve: {calls}"
        );
    }
}

#[test]
fn what_people_read_is_readable_and_what_is_secret_is_not() {
    let workspace = Workspace::new("status");
    let run = workspace.run();
    fs::create_dir_all(run.join("seed/user")).unwrap();
    for directory in ["seed", "seed/user"] {
        fs::set_permissions(run.join(directory), fs::Permissions::from_mode(0o700)).unwrap();
    }
    for (name, value) in [
        ("format", "1"),
        ("platform", "azure"),
        ("source", "hostname imds\nuser/name ovf\nuser/password-hash ovf"),
        ("instance-id", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf"),
        ("hostname", "edge-vm-01"),
        ("user/name", "ops"),
        ("user/password-hash", "$6$canarysalt$canaryhash"),
        ("custom-data", "canary-custom-data"),
    ] {
        fs::write(run.join("seed").join(name), format!("{value}\n")).unwrap();
    }
    let output = workspace.preroot(&["show"]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("edge-vm-01") && shown.contains("ops"), "{shown}");
    assert!(shown.contains("redacted"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let output = Command::new("sh")
        .args(["-c", &format!("{PREROOT} help | true; {PREROOT} help >&-")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_serial_console_of_an_image() {
    let workspace = Workspace::new("serialconsole");
    let root = workspace.root();
    fs::create_dir_all(root.join("boot/loader/entries")).unwrap();
    let entry = root.join("boot/loader/entries/linux.conf");
    fs::write(&entry, "title Linux\noptions root=LABEL=x quiet\n").unwrap();
    let words = ["serialconsole", "--root", root.to_str().unwrap()];
    for (word, options) in
        [("would be changed", &["--dry-run"][..]), ("changed", &[]), ("as it should be", &[])]
    {
        let output = workspace.preroot(&[&words[..], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(text(&output), format!("{word:<16} /boot/loader/entries/linux.conf\n"));
    }
    let edited =
        "title Linux\noptions root=LABEL=x console=tty1 console=ttyS0,115200n8 earlyprintk=ttyS0,115200\n";
    assert_eq!(fs::read_to_string(entry).unwrap(), edited);
}
