//! cloud-init's recorded users and passwords: its commands are run by Debian's own tools on a tree, and the account
//! files compared with ours; rules and keys are compared as they are.

use super::shadow_utils::{FILES, Workspace, run};
use super::{DAY, Image, fact};
use crate::format::cases::{self, Answer, Case};
use crate::sys::{Dir, Owner};
use serde_json::Value;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

/// A small system without a user `foo`, or with one.
fn base(case: &Case) -> Vec<(&'static str, String)> {
    let mut files = std::vec![
        ("etc/passwd", String::from("root:x:0:0:root:/root:/bin/sh\n")),
        ("etc/shadow", String::from("root:*:19000:0:99999:7:::\n")),
        ("etc/group", String::from("root:x:0:\n")),
        ("etc/gshadow", String::from("root:*::\n")),
        ("etc/login.defs", String::from("USERGROUPS_ENAB yes\nUID_MIN 1000\nGID_MIN 1000\n")),
    ];
    for (n, group) in case.input["groups_exist"].as_array().into_iter().flatten().enumerate() {
        files[2].1 += &format!("{}:x:{}:\n", group.as_str().unwrap(), 500 + n);
        files[3].1 += &format!("{}:!::\n", group.as_str().unwrap());
    }
    if case.input["exists"] == true {
        files[0].1 += "foo:x:1000:1000::/home/foo:/bin/sh\n";
        files[1].1 += case.text("shadow");
        files[2].1 += "foo:x:1000:\n";
        files[3].1 += "foo:!::\n";
    }
    files
}

fn image_of(files: &[(&'static str, String)]) -> Image {
    let mut image = Image::debian();
    for file in FILES {
        if image.root.text(file).is_some() {
            image.root.remove(file).unwrap();
        }
    }
    for (path, text) in files {
        image.root.put_owned(path, Owner::root(0o644), text);
    }
    image.root.put("usr/bin/doas", "");
    (image.facts.user, image.facts.keys, image.facts.password) = (None, None, None);
    image
}

/// One or several values of a key.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => std::vec![text.clone()],
        Value::Number(number) => std::vec![number.to_string()],
        Value::Bool(true) => std::vec!["true".into()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The lines of the seed that a front end writes for this entry of `users:`.
fn seed_of(case: &Case) -> String {
    let mut text = format!("name {}\n", case.text("name"));
    let config = case.input["config"].as_object().unwrap();
    let front_end =
        ["no_log_init", "ssh_redirect_user", "cloud_public_ssh_keys", "plain_text_passwd", "selinux_user"];
    for (key, value) in config.iter().filter(|(key, _)| !front_end.contains(&key.as_str())) {
        match key.as_str() {
            "groups" => text += &format!("groups {}\n", texts(value).join(",")),
            "lock_passwd" | "create_groups" => text += &format!("{key} {value}\n"),
            _ => texts(value).iter().for_each(|value| text += &format!("{key} {value}\n")),
        }
    }
    if !config.contains_key("lock_passwd") {
        text += "lock_passwd true\n";
    }
    text
}

/// Why a case is not ours to follow.
fn reason(case: &Case) -> Option<&'static str> {
    match case.name.as_str() {
        "plain_text" => Some("a clear password is hashed before it reaches the seed"),
        "selinux" => Some("which SELinux user a login gets is not set"),
        "redirect" | "redirect_no_cloud_keys" => Some("the front end writes the options into the key's line"),
        "keys_bad_type" => Some("the front end checks types"),
        "keys_mapping" => Some("keys are checked, and the recorded ones are none"),
        _ => None,
    }
}

/// False when one of them is refused.
fn their_commands(case: &Case, files: &[(&'static str, String)], root: &Path) -> bool {
    for (path, text) in files {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    }
    std::fs::create_dir_all(root.join("home")).unwrap();
    std::fs::create_dir_all(root.join("srv")).unwrap();
    for command in case.expected["commands"].as_array().unwrap() {
        let words: Vec<&str> =
            command["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let stdin = command["stdin"].as_str().unwrap_or_default();
        let is_done = match words.as_slice() {
            ["passwd", "-l", user] => run("usermod", root, &["-L", user]),
            ["passwd", "-u", user] => run("usermod", root, &["-U", user]),
            ["chpasswd", "-e"] => {
                let (user, hash) = stdin.split_once(':').unwrap();
                run("usermod", root, &["-p", hash, user])
            }
            [program, words @ ..] => {
                // useradd sees nobody's mail spool and no lastlog here.
                let words: Vec<&str> =
                    words.iter().copied().filter(|word| *word != "--no-log-init").collect();
                run(program, root, &words)
            }
            [] => true,
        };
        if !is_done {
            return false;
        }
    }
    true
}

/// Lines that are neither empty nor comments.
fn active(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

/// What is different, or nothing.
fn difference(case: &Case, image: &mut Image, root: &Path) -> Option<String> {
    for file in FILES {
        let theirs = std::fs::read_to_string(root.join(file)).ok();
        // A new account without a password: `*` and not `!`, which sshd without PAM takes for no account.
        let theirs = theirs.map(|text| match case.input["exists"] == true {
            true => text,
            false => text.replace("\nfoo:!:", if file == "etc/shadow" { "\nfoo:*:" } else { "\nfoo:!:" }),
        });
        let ours = image.root.text(file);
        if ours != theirs {
            return Some(format!("{file}: {ours:?}, theirs {theirs:?}"));
        }
    }
    let files = case.expected["files"].as_object().unwrap();
    let pairs =
        [("/sudoers.d/90-cloud-init-users", "etc/sudoers.d/90-preroot-foo"), ("/doas.conf", "etc/doas.conf")];
    for (theirs, ours) in pairs {
        let theirs =
            files.get(theirs).map(|file| active(file["content"].as_str().unwrap())).unwrap_or_default();
        let ours = active(&image.root.text(ours).unwrap_or_default());
        if ours != theirs {
            return Some(format!("rules {ours:?}, theirs {theirs:?}"));
        }
    }
    let theirs: Vec<String> = texts(&case.expected["authorized_keys"][0]["keys"]);
    let home = if case.name == "full" { "srv/foo" } else { "home/foo" };
    let ours = active(&image.root.text(&format!("{home}/.ssh/authorized_keys")).unwrap_or_default());
    (ours != theirs).then(|| format!("keys {ours:?}, theirs {theirs:?}"))
}

#[test]
fn recorded_users() {
    cases::run("user_create_commands", |case| {
        if let Some(reason) = reason(case) {
            return Answer::Differs(reason);
        }
        let files = base(case);
        let mut image = image_of(&files);
        image.root.put_dir("srv");
        image.run.put("seed/users/0", seed_of(case));
        let outcomes: Vec<_> =
            ["users", "password", "ssh_keys", "sudo", "doas"].map(|module| image.converge(module)).into();
        let place = Workspace(std::env::temp_dir().join(format!(
            "preroot-case-{}-{}",
            std::process::id(),
            case.name
        )));
        let is_done = their_commands(case, &files, &place.0);
        let is_refused = outcomes.iter().any(Result::is_err);
        // cloud-init only warns of the rule and writes none; that is an error here.
        if is_refused != (!is_done || case.name == "doas_wrong_user") {
            return Answer::Is(Value::String(format!("ours {outcomes:?}, theirs done: {is_done}")));
        }
        let difference = if is_done { difference(case, &mut image, &place.0) } else { None };
        Answer::Is(difference.map_or(case.expected.clone(), Value::String))
    });
}

#[test]
fn recorded_passwords() {
    cases::run("set_passwords_effect", |case| {
        let changes = case.expected["chpasswd"].as_array().unwrap();
        if changes.iter().any(|change| change["hashed"] == false) {
            return Answer::Differs("a clear password is hashed before it reaches the seed");
        }
        let expired = texts(&case.expected["expire"]);
        let mut image = Image::debian();
        (image.facts.user, image.facts.keys, image.facts.password) = (None, None, None);
        image.facts.password_login = match case.expected["sshd_config"][0]["PasswordAuthentication"].as_str()
        {
            None => None,
            word => fact(word == Some("yes")),
        };
        let lines: Vec<&str> =
            changes.iter().flat_map(|change| change["stdin"].as_str().unwrap().lines()).collect();
        for (n, line) in lines.iter().enumerate() {
            let (user, hash) = line.split_once(':').unwrap();
            let expire = expired.iter().any(|name| name == user);
            image.run.put(
                &format!("seed/users/{n}"),
                format!("name {user}\nhashed_passwd {hash}\nexpire {expire}\n"),
            );
        }
        for module in ["users", "password", "sshd"] {
            image.converge(module).unwrap();
        }
        let shadow = image.text("etc/shadow");
        for line in lines {
            let (user, hash) = line.split_once(':').unwrap();
            let day = if expired.iter().any(|name| name == user) { 0 } else { DAY };
            let wanted = format!("{user}:{hash}:{day}:");
            if !shadow.lines().any(|line| line.starts_with(&wanted)) {
                return Answer::Is(Value::String(format!("no {wanted} in {shadow}")));
            }
        }
        let drop_in = image.root.text("etc/ssh/sshd_config.d/40-preroot.conf").unwrap_or_default();
        let word =
            active(&drop_in).first().and_then(|line| line.split_once(' ').map(|(_, word)| word.to_string()));
        let theirs = case.expected["sshd_config"][0]["PasswordAuthentication"].as_str().map(String::from);
        Answer::Is(if word == theirs { case.expected.clone() } else { Value::String(drop_in) })
    });
}
