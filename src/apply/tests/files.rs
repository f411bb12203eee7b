//! Files of `write_files` and name servers: as the seed asks, at every power cut, and never through a link of others.

use super::super::{SeedPlace, State, deferred};
use super::{Image, every_cut_converges};
use crate::error::Kind;
use crate::format::cases::{self, Answer};
use crate::format::cloud_config::Mapping;
use crate::format::json::Tokenizer;
use crate::format::kept::{Kept, Reader};
use crate::sys::Owner;
use serde_json::{Value, json};
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

/// An image whose seed is what this mapping asks for.
fn asked(mapping: &Value) -> Image {
    let (mut reader, mut kept) = (Box::new(Mapping::new()), Kept::default());
    Tokenizer::new().push(mapping.to_string().as_bytes(), &mut Reader(&mut reader, &mut kept)).unwrap();
    reader.finish(&mut kept).unwrap();
    let mut image = Image::debian();
    for (entry, bytes) in kept.entries {
        image.run.put(&std::format!("seed/{entry}"), bytes);
    }
    image
}

fn bytes_of(content: &Value) -> Vec<u8> {
    match content["$utf8"].as_str() {
        Some(text) => text.into(),
        None => {
            let mut bytes = Vec::new();
            let mut decoder =
                crate::format::base64::Decoder::new(crate::format::base64::base64_rules!("test"), 5000);
            let mut put = |chunk: &[u8]| {
                bytes.extend_from_slice(chunk);
                Ok(())
            };
            decoder.push(content["$base64"].as_str().unwrap().as_bytes(), &mut put).unwrap();
            decoder.finish(&mut put).unwrap();
            bytes
        }
    }
}

#[test]
fn recorded_files() {
    cases::run("write_files_effect", |case| {
        match &*case.name {
            "gzip_b64_aliases" | "bad_gzip" => {
                return Answer::Differs("a compressed file is left out, and said so");
            }
            "source_file_uri" => return Answer::Differs("a file from elsewhere is left out, and said so"),
            "bad_base64" => return Answer::Differs("what lost characters is no file, and said so"),
            _ => {}
        }
        let mut image = asked(&case.input);
        image.root.put("etc/passwd", "root:x:0:0::/root:/bin/sh\njeff:x:1000:1000::/home/jeff:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
        image.root.put("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        for (path, text) in case.input["pre"].as_object().into_iter().flatten() {
            image.root.put(path.trim_start_matches('/'), text.as_str().unwrap());
        }
        image.converge("write_files").unwrap();
        assert_eq!(image.check("write_files").unwrap(), State::Satisfied, "{}", case.name);
        for (path, file) in case.expected["files"].as_object().unwrap() {
            let path = path.trim_start_matches('/');
            let content = bytes_of(&file["content"]);
            let there = image.with(|_, root| {
                let mut buf = std::vec![0; 4096];
                let n = root.dir.read(path, &mut buf).unwrap();
                buf[..n].to_vec()
            });
            let mode = u32::from_str_radix(&file["mode"].as_str().unwrap()[2..], 8).unwrap();
            if there != content || image.root.owner(path).unwrap().mode != mode {
                return Answer::Is(json!([path, there, image.root.owner(path).unwrap().mode]));
            }
        }
        for (path, user, group) in
            case.expected["chown"].as_array().unwrap().iter().map(|row| (&row[0], &row[1], &row[2]))
        {
            let path = path.as_str().unwrap().trim_start_matches('/');
            // A directory of the image keeps its owner.
            let id = |name: &Value| match name.as_str() {
                Some("jeff") => 1000,
                Some("nobody" | "nogroup") => 65_534,
                _ => 0,
            };
            let is_file = case.expected["files"].get(std::format!("/{path}")).is_some();
            let owner = image.root.owner(path).unwrap();
            if is_file && (owner.uid, owner.gid) != (id(user), id(group)) {
                return Answer::Is(json!([path, owner.uid, owner.gid]));
            }
        }
        Answer::Is(case.expected.clone())
    });
}

#[test]
fn every_file_has_its_turn_and_the_first_failure_says_which() {
    let mut image = asked(&json!({"write_files": [
        {"path": "/etc/a", "content": "a"}, {"path": "relative", "content": "b"}, {"path": "/etc/c", "content": "c", "owner": "nobodyelse"},
        {"path": "/", "content": "d"}, {"path": "/etc/e", "content": "e"}]}));
    let error = image.converge("write_files").unwrap_err();
    assert_eq!((error.kind(), error.number()), (Kind::Malformed, 2));
    assert_eq!(
        image.text("var/lib/preroot/deferred/files/2/path"),
        "/etc/c",
        "its owner may come with a package"
    );
    assert_eq!(
        (image.text("etc/a"), image.text("etc/e"), image.root.text("etc/c")),
        ("a".into(), "e".into(), None)
    );
}

#[test]
fn a_large_file_is_written_in_pieces_and_so_is_what_it_is_added_to() {
    let large = "0123456789abcdef".repeat(20_000);
    let mut image = asked(
        &json!({"write_files": [{"path": "/opt/x/large", "content": large}, {"path": "/var/log/old", "content": large, "append": true}]}),
    );
    image.root.put("var/log/old", "x".repeat(100_000));
    image.converge("write_files").unwrap();
    assert_eq!(image.text("opt/x/large"), large);
    assert_eq!(image.text("var/log/old"), "x".repeat(100_000) + &large);
    assert_eq!(image.check("write_files").unwrap(), State::Satisfied);
}

#[test]
fn below_somebodys_directory_no_link_is_followed() {
    let files = |path: &str| json!({"write_files": [{"path": path, "content": "new\n", "append": true}]});
    let image = |path: &str| {
        let mut image = asked(&files(path));
        let owner = Owner { mode: 0o755, uid: 1000, gid: 1000 };
        image
            .root
            .put_owned("home/ops/x/old", owner, "old\n")
            .put_symlink("home/ops/link", "/etc")
            .put_symlink("run", "/var");
        image.with(|_, root| {
            root.dir.set_owner("home/ops", owner).unwrap();
        });
        image
    };
    let mut inside = image("/home/ops/x/old");
    inside.converge("write_files").unwrap();
    assert_eq!(inside.text("home/ops/x/old"), "old\nnew\n");
    assert_eq!(inside.check("write_files").unwrap(), State::Satisfied);
    let mut made = image("/home/ops/y/z/new");
    made.converge("write_files").unwrap();
    assert_eq!(made.text("home/ops/y/z/new"), "new\n");
    let mut link = image("/home/ops/link/cron.d/x");
    assert!(link.converge("write_files").is_err() && link.root.text("etc/cron.d/x").is_none());
    let mut roots = image("/run/x");
    roots.converge("write_files").unwrap();
    assert_eq!(roots.text("var/x"), "new\n", "a link of root's leads inside the root");
    let mut place = image("/home/ops/link");
    assert!(place.converge("write_files").is_err(), "a link in the file's own place");
}

#[test]
fn every_power_cut_converges_and_nothing_is_added_twice() {
    let prepared = || {
        let mut image = asked(
            &json!({"manage_resolv_conf": true, "nameservers": ["10.0.0.1"], "write_files": [
            {"path": "/etc/a/b", "content": "YQ==", "encoding": "b64"}, {"path": "/etc/motd", "content": "more\n", "append": true}]}),
        );
        image.root.put("etc/motd", "hello\n");
        image
    };
    let (uncut, _) = every_cut_converges(&prepared, &["write_files"]);
    assert_eq!(uncut.text("etc/motd"), "hello\nmore\n");
    let twice = || {
        let mut image = asked(
            &json!({"write_files": [{"path": "/etc/env", "content": "A\n", "append": true},
            {"path": "/etc/env", "content": "B\n", "append": true}, {"path": "/etc/late", "defer": true, "content": "x"}]}),
        );
        // As in cloud-init: what an image happens to end with is none of ours.
        image.root.put("etc/env", "A\n");
        image
    };
    let (mut uncut, _) = every_cut_converges(&twice, &["write_files"]);
    uncut.apply("write_files").unwrap();
    assert_eq!(uncut.text("etc/env"), "A\nA\nB\n");
    assert_eq!(uncut.check("write_files").unwrap(), State::Satisfied);
    assert!(uncut.root.text("etc/late").is_none());
    every_cut_converges(&prepared, &["resolv_conf"]);
}

#[test]
fn name_servers_stand_where_the_image_asks() {
    let wanted = json!({"manage_resolv_conf": true, "resolv_conf": {"nameservers": ["10.0.0.1", "::1"], "searchdomains": ["a.example"], "options": {"rotate": true}}});
    let mut plain = asked(&wanted);
    plain.root.put("etc/resolv.conf", "nameserver 127.0.0.1\n");
    plain.converge("resolv_conf").unwrap();
    assert!(
        plain
            .text("etc/resolv.conf")
            .ends_with("nameserver 10.0.0.1\nnameserver ::1\nsearch a.example\noptions rotate\n")
    );
    assert_eq!(plain.check("resolv_conf").unwrap(), State::Satisfied);
    let mut resolved = asked(&wanted);
    resolved
        .root
        .put_symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
        .put("etc/systemd/resolved.conf", "");
    resolved.converge("resolv_conf").unwrap();
    assert!(
        resolved
            .text("etc/systemd/resolved.conf.d/preroot.conf")
            .ends_with("DNS=10.0.0.1 ::1\nDomains=a.example\n")
    );
    let mut others = asked(&wanted);
    others.root.put_symlink("etc/resolv.conf", "/run/NetworkManager/resolv.conf");
    assert!(matches!(others.check("resolv_conf").unwrap(), State::Foreign { .. }));
    assert_eq!(
        asked(&json!({"resolv_conf": {"nameservers": ["10.0.0.1"]}})).check("resolv_conf").unwrap(),
        State::Satisfied,
        "nobody asked"
    );
}

/// Tencent's mapping, to the image's files.
#[test]
fn a_mapping_of_tencents_makes_the_machine() {
    let mut image = asked(
        &json!({"nameservers": ["183.60.83.19"], "ntp": {"servers": ["time1.example.com"]},
        "write_files": [{"path": "/etc/yum.repos.d/CentOS-Base.repo", "content": "[os]\n", "permissions": "0644"}],
        "chpasswd": {"expire": false, "list": ["root:$6$a$b"]}, "ssh_authorized_keys": ["ssh-ed25519 AAAAC3Nz skey"]}),
    );
    *image.facts = crate::facts::Facts::default();
    image
        .root
        .put_dir("root")
        .put("usr/sbin/chronyd", "")
        .put("etc/chrony.conf", "server a iburst\n")
        .put("etc/resolv.conf", "");
    image.all();
    assert!(image.text("etc/shadow").contains("root:$6$a$b:20000:"));
    assert!(image.text("root/.ssh/authorized_keys").contains("skey"));
    assert_eq!(
        (image.text("etc/chrony.conf"), image.text("etc/yum.repos.d/CentOS-Base.repo")),
        ("server time1.example.com iburst\n".into(), "[os]\n".into())
    );
    assert!(image.text("etc/resolv.conf").contains("183.60.83.19"));
}

#[test]
fn what_is_kept_for_later_is_of_this_seed_and_of_this_vm() {
    const KEPT: &str = "var/lib/preroot/deferred/files/0/content";
    let mut image = asked(&json!({"write_files": [{"path": "/etc/c", "content": "old", "defer": true}]}));
    image.converge("write_files").unwrap();
    assert_eq!(image.text(KEPT), "old");
    image.run.put("seed/files/0/content", "new");
    image.apply("write_files").unwrap();
    assert_eq!(image.text(KEPT), "new");
    // A VM that did not come to its end left them, and its scripts.
    image
        .root
        .put("var/lib/preroot/scripts/user/runcmd", "")
        .put("var/lib/preroot/scripts/per-boot/image", "")
        .put("var/lib/preroot/scripts/per-boot/user-data.a", "")
        .put("var/lib/preroot/scripts/per-boot/user-data.b", "")
        .put("var/lib/preroot/scripts/per-boot/zz", "");
    image.root.put("var/lib/preroot/marks-another/write_files", "");
    image.converge("old_scripts").unwrap();
    let left = image.root.dump();
    assert!(left.keys().all(|path| !path.contains("deferred") && !path.contains("runcmd")), "{left:?}");
    assert!(left.keys().all(|path| !path.contains("user-data.")), "{left:?}");
    assert!(
        ["image", "zz"]
            .iter()
            .all(|name| left.contains_key(&format!("var/lib/preroot/scripts/per-boot/{name}")))
    );
    // They alone are reason enough, too.
    image.root.put("var/lib/preroot/scripts/per-once/user-data.c", "");
    image.converge("old_scripts").unwrap();
    assert!(image.root.owner("var/lib/preroot/scripts/per-once/user-data.c").is_none());
}

/// In the last stage there are users and daemons: what a group or anybody may write is theirs, too.
#[test]
fn a_file_that_waited_follows_no_link_that_others_may_have_made() {
    for (mode, is_written) in [(0o2775, false), (0o1777, false), (0o755, true)] {
        let mut image = Image::debian();
        image
            .root
            .put("var/lib/preroot/deferred/files/0/path", "/var/www/conf/x")
            .put("var/lib/preroot/deferred/files/0/content", "new\n");
        image.root.put("var/lib/preroot/deferred/files/1/path", "/var/www/own/y");
        image.root.put_dir("etc/cron.d").put_symlink("var/www/conf", "/etc/cron.d");
        let mut told = Vec::new();
        image.with(|_, root| {
            root.dir.set_owner("var/www", Owner { mode, uid: 0, gid: 33 }).unwrap();
            root.seed = SeedPlace::Root(deferred::PLACE);
            deferred::write(root, &mut |path, written| told.push((path.to_string(), written.is_ok())))
                .unwrap();
        });
        assert_eq!(told, [("var/www/conf/x".into(), is_written), ("var/www/own/y".into(), true)], "{mode:o}");
        assert_eq!(image.root.text("etc/cron.d/x").is_some(), is_written, "{mode:o}");
        assert!(image.root.text("var/www/own/y").is_some());
    }
}
