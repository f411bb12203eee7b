//! What do the scripts do that keys of cloud-config become? They are run, beside programs that write down how they were called.

use crate::answer::{Answer, bytes, config, run};
use crate::modules::files;
use preroot_cloud_config::translate::Translation;
use serde_json::json;

#[test]
fn random_seed() {
    run("seed_random", |case| {
        if case.name.starts_with("metadata") {
            return Answer::Differs("the platform's seed goes to the kernel in the initrd");
        }
        let made = config(&json!({"random_seed": case.input["random_seed"]}));
        if case.expected["error"] == "OSError" {
            assert!(made.notes.has_fault() && made.scripts.is_empty());
            return Answer::Is(case.expected.clone());
        }
        let script = made
            .scripts
            .first()
            .map(|script| String::from_utf8(script.content.clone()).unwrap())
            .unwrap_or_default();
        let fails = || {
            let (top, output) = run_below(&script, &[("pollinate", "")]);
            std::fs::remove_dir_all(top).unwrap();
            !output.status.success()
        };
        if case.expected["error"] == "ValueError" {
            // Without a command that is told at once, and a missing one when the script runs.
            assert!(made.notes.has_fault() || fails(), "{script}");
            return Answer::Is(case.expected.clone());
        }
        if case.expected["appended"].is_null() {
            assert!(!fails(), "{script}");
        }
        if !case.expected["appended"].is_null() {
            let text = preroot_cloud_config::parts::base64::encode(&bytes(&case.expected["appended"]));
            assert!(script.contains(&format!("{text}\nE\n")), "{script}");
        }
        let command = &case.input["random_seed"]["command"];
        if command.is_array() {
            let words =
                command.as_array().unwrap().iter().map(|word| format!("'{}'", word.as_str().unwrap()));
            assert!(script.contains(&words.collect::<Vec<_>>().join(" ")), "{script}");
        }
        Answer::Is(case.expected.clone())
    });
}

#[test]
fn scripts_of_ours_are_shell() {
    let made = config(
        &json!({"packages": ["a", ["b", "1"], "it's", "-x"], "package_upgrade": true, "final_message": "up $UPTIME it's {{ version }}",
        "random_seed": {"data": "x", "command": ["a b"]}, "power_state": {"mode": "reboot", "delay": "+5", "message": "it's", "condition": ["a", "b c"]}}),
    );
    assert_eq!(made.scripts.len(), 4);
    for script in &made.scripts {
        is_shell(std::str::from_utf8(&script.content).unwrap());
    }
    let packages = std::str::from_utf8(
        &made.scripts.iter().find(|script| script.name == "00-packages").unwrap().content,
    )
    .unwrap();
    assert!(packages.contains("$install 'a' 'b'\"$version\"'1' 'it'\\''s'; then"), "{packages}");
    let message = made.scripts.iter().find(|script| script.name == "zz-final-message").unwrap();
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(std::str::from_utf8(&message.content).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("up ") && said.ends_with(" it's preroot\n") && !said.contains("UPTIME"),
        "{said}"
    );
}

/// The shell reads it without running it.
pub(crate) fn is_shell(script: &str) {
    let output = std::process::Command::new("sh").args(["-n", "-c", script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{script}\n{output:?}");
}

/// Runs a script below a directory: paths of /etc in it are that directory's, programs are those given, and the root of
/// `PATH` is otherwise the machine's.
fn run_below(script: &str, programs: &[(&str, &str)]) -> (std::path::PathBuf, std::process::Output) {
    use std::os::unix::fs::PermissionsExt;
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let top = std::env::temp_dir().join(format!("preroot-script-{}-{count}", std::process::id()));
    std::fs::create_dir_all(top.join("bin")).unwrap();
    std::fs::create_dir_all(top.join("etc")).unwrap();
    std::fs::write(top.join("etc/os-release"), "ID=debian\nVERSION_CODENAME=trixie\n").unwrap();
    for (name, text) in programs {
        let path = top.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = script.replace("/etc/", &format!("{}/etc/", top.display()));
    let path = format!("{}:/usr/bin:/bin", top.join("bin").display());
    let run = || std::process::Command::new("sh").args(["-c", &text]).env("PATH", &path).output().unwrap();
    run();
    // Once more, as after a cut: nothing is there twice.
    let output = run();
    (top, output)
}

pub(crate) fn script_of(made: &Translation, name: &str) -> String {
    let script = made.scripts.iter().find(|script| script.name == name);
    String::from_utf8(script.unwrap_or_else(|| panic!("{name}")).content.clone()).unwrap()
}

#[test]
fn repositories() {
    let made = config(&json!({"apt": {
        "preserve_sources_list": true, "conf": "APT { x \"1\"; };\n", "proxy": "http://p:1", "https_proxy": "http://q:2",
        "debconf_selections": {"set1": "a b c true"}, "sources_list": "x",
        "sources": {
            "docker.list": {"source": "deb [signed-by=$KEY_FILE] https://d/linux/debian $RELEASE stable", "key": "-----BEGIN\nx"},
            "two": {"source": "deb ${MIRROR} $RELEASE-backports main $RELEASED it's", "keyid": "ABCD", "keyserver": "k.example"},
            "three": {"source": "ppa:a/b"}, "bad/../../x": {"source": "deb x y"}, "../": {"source": "x"}}},
        "packages": ["docker-ce"], "apk_repos": {"x": 1}}));
    let origins = script_of(&made, "00-origins");
    is_shell(&origins);
    let (top, output) = run_below(
        &origins,
        &[
            (
                "apt-get",
                // Nothing was fetched yet.
                "case $* in *--no-release-info*) printf '%s\\n' 'trixie-security http://s.example/' 'trixie http://m.example/debian/' ;; esac",
            ),
            ("debconf-set-selections", "cat >$0.got"),
            ("gpg", "case $* in *export*) echo key ABCD ;; esac"),
            ("add-apt-repository", "echo \"$*\" >$0.got"),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    let text = |path: &str| std::fs::read_to_string(top.join(path)).unwrap_or_default();
    let key = top.join("etc/apt/cloud-init.gpg.d/docker.asc");
    assert_eq!(
        text("etc/apt/sources.list.d/docker.list"),
        format!("deb [signed-by={}] https://d/linux/debian trixie stable\n", key.display())
    );
    assert_eq!(std::fs::read_to_string(key).unwrap(), "-----BEGIN\nx");
    assert_eq!(
        text("etc/apt/sources.list.d/two.list"),
        "deb http://m.example/debian trixie-backports main $RELEASED it's\n"
    );
    assert_eq!(text("etc/apt/trusted.gpg.d/two.asc"), "key ABCD\n");
    assert_eq!(text("etc/apt/apt.conf.d/94cloud-init-config"), "APT { x \"1\"; };\n");
    let proxies = "Acquire::https::Proxy \"http://q:2\";\nAcquire::http::Proxy \"http://p:1\";\n";
    assert_eq!(text("etc/apt/apt.conf.d/90cloud-init-aptproxy"), proxies);
    assert_eq!(text("bin/debconf-set-selections.got"), "a b c true\n");
    assert_eq!(text("bin/add-apt-repository.got"), "-y --no-update ppa:a/b\n");
    assert_eq!(made.notes.0.iter().filter(|note| note.key == "apt").count(), 3, "{:?}", made.notes);
    assert!(script_of(&made, "00-packages").contains("echo 'apk_repos: not set up; "));
    std::fs::remove_dir_all(top).unwrap();

    let made = config(&json!({"apt": {"sources": {
        "one": {"source": "deb $SECURITY $RELEASE main"}, "two": {"source": "deb http://d $RELEASE main"}}}}));
    let (top, output) = run_below(&script_of(&made, "00-origins"), &[("apt-get", "")]);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no mirror of trixie")
    );
    let is_there = |name: &str| top.join("etc/apt/sources.list.d").join(name).exists();
    assert!(!is_there("one.list") && is_there("two.list"), "a line without its mirror is none");
    std::fs::remove_dir_all(top).unwrap();

    let made = config(&json!({"yum_repos": {
        "epel-testing": {"name": "Extra", "baseurl": "http://e/$basearch", "enabled": false, "gpgcheck": true, "gpgkey": ["a", "b"]},
        "none": {"name": "x"}}, "zypper": {"repos": [{"id": "z", "baseurl": "http://z", "enabled": 1}], "config": {}}}));
    let origins = script_of(&made, "00-origins");
    is_shell(&origins);
    let (top, output) = run_below(&origins, &[("dnf", ""), ("zypper", "")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        std::fs::read_to_string(top.join("etc/yum.repos.d/epel_testing.repo")).unwrap(),
        "[epel_testing]\nbaseurl = http://e/$basearch\nenabled = 0\ngpgcheck = 1\ngpgkey = a\n    b\nname = Extra\n"
    );
    let zypp = std::fs::read_to_string(top.join("etc/zypp/repos.d/z.repo")).unwrap();
    assert_eq!(zypp, "[z]\nbaseurl = http://z\nenabled = 1\n");
    assert_eq!(made.notes.0.len(), 2, "{:?}", made.notes);
    std::fs::remove_dir_all(top).unwrap();
}

#[test]
fn what_a_program_of_the_image_does_later() {
    let made = config(&json!({
        "users": [{"name": "a", "ssh_import_id": ["gh:x", "lp:it's"], "selinux_user": "staff_u"}],
        "ssh_keys": {"rsa_private": "x", "rsa_public": "y", "rsa_certificate": "z"},
        "ca_certs": {"remove_defaults": true}, "package_upgrade": true, "package_reboot_if_required": true,
        "disable_root_opts": "x", "phone_home": {"url": "http://h/", "post": ["hostname", "pub_key_rsa"], "tries": 1}}));
    let files = files(&made);
    assert_eq!(files["/etc/ssh/ssh_host_rsa_key-cert.pub"]["content"]["$utf8"], "z\n");
    let line = &files["/etc/ssh/sshd_config.d/60-preroot-host-certificates.conf"]["content"]["$utf8"];
    assert_eq!(line, "HostCertificate /etc/ssh/ssh_host_rsa_key-cert.pub\n");
    for name in ["00-accounts", "00-ca-certs", "00-packages", "zy-phone-home"] {
        is_shell(&script_of(&made, name));
    }
    let got = [("sudo", "echo \"$*\" >$0.got"), ("semanage", "echo \"$*\" >$0.got")];
    let (top, output) = run_below(&script_of(&made, "00-accounts"), &got);
    assert!(output.status.success(), "{output:?}");
    let text = |path: &str| std::fs::read_to_string(top.join(path)).unwrap_or_default();
    assert_eq!(text("bin/sudo.got"), "-Hu a ssh-import-id gh:x lp:it's\n");
    assert_eq!(text("bin/semanage.got"), "login -m -s staff_u a\n");
    let programs =
        [("curl", "for last; do :; done; echo \"$*\" >$0.got"), ("hostname", "echo h1"), ("head", "echo i")];
    let (other, output) = run_below(&script_of(&made, "zy-phone-home"), &programs);
    assert!(output.status.success(), "{output:?}");
    let told = std::fs::read_to_string(other.join("bin/curl.got")).unwrap();
    assert!(told.contains("--data hostname=%68%31&pub_key_rsa=%4e%2f%41 http://h/"), "{told}");
    assert!(!made.notes.has_fault(), "{:?}", made.notes);
    std::fs::remove_dir_all(top).unwrap();
    std::fs::remove_dir_all(other).unwrap();
}
