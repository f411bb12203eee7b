//! sshd's keys and settings: what clients log in by, and the host's own.

use super::super::State;
use super::{ID, Image, KEY, fact, prepared};
use crate::sys::Owner;
use std::string::String;
use std::vec::Vec;

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

#[test]
fn user_data_say_which_kinds_of_host_keys_are_made() {
    let one = |kind| std::format!("/usr/bin/ssh-keygen -q -N  -t {kind} -f /etc/ssh/ssh_host_{kind}_key");
    for (conf, status, expected) in [
        ("", 0, std::vec![one("ecdsa"), one("ed25519")]),
        ("Provisioning.SshHostKeyPairType=rsa\n", 0, std::vec![one("ecdsa"), one("ed25519")]),
        // What is there stays, and what is asked for comes beside it.
        ("Provisioning.RegenerateSshHostKeyPair=n\n", 0, std::vec![one("ecdsa")]),
        ("", 1, std::vec![one("ecdsa"), one("ed25519"), "/usr/bin/ssh-keygen -A".into()]),
    ] {
        let mut image = Image::configured(conf);
        image.root.put("var/lib/preroot/host-keys", "i-template");
        image.run.put("seed/ssh-host-keys", "ed25519\necdsa\n");
        image.system.programs.insert("/usr/bin/ssh-keygen".into(), status);
        assert_eq!(image.converge("ssh_host_keys").is_ok(), status == 0, "{conf}");
        assert_eq!(image.system.runs, expected, "{conf}");
    }
    for text in ["", "dsa\n", "x\n"] {
        let mut image = Image::debian();
        image.run.put("seed/ssh-host-keys", text);
        assert_eq!(image.check("ssh_host_keys").unwrap(), State::Satisfied, "{text}");
    }
}
