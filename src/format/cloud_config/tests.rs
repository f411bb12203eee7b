//! Does a mapping ask for what cloud-init would make of it, however its bytes come?

use super::{Learned, Mapping, mode};
use crate::error::Result;
use crate::facts::UserName;
use crate::format::cases::{self, Answer};
use crate::format::json::Tokenizer;
use crate::format::kept::{Kept, Reader};
use crate::format::person::Person;
use crate::format::sha512_crypt::RANDOM;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{boxed::Box, format, vec};

type Texts = BTreeMap<String, String>;

/// Reads a document in pieces of these lengths.
fn read_into(seed: &mut Kept, document: &[u8], steps: &[usize]) -> (Result<()>, Learned) {
    let mut mapping = Box::new(Mapping::new());
    let mut tokenizer = Tokenizer::new();
    let mut sink = Reader(&mut mapping, seed);
    let (mut rest, mut outcome) = (document, Ok(()));
    for step in steps.iter().cycle() {
        let (piece, tail) = rest.split_at((*step).clamp(1, rest.len().max(1)).min(rest.len()));
        outcome = outcome.and_then(|()| tokenizer.push(piece, &mut sink));
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    outcome = outcome.and_then(|()| tokenizer.finish(&mut sink));
    let learned = mapping.finish(seed).unwrap();
    (outcome, learned)
}

fn read(value: &Value) -> (Texts, Learned) {
    let mut seed = Kept::default();
    let (outcome, learned) = read_into(&mut seed, value.to_string().as_bytes(), &[usize::MAX]);
    outcome.unwrap();
    let texts = seed.entries.into_iter().map(|(entry, bytes)| (entry, String::from_utf8(bytes).unwrap()));
    (texts.collect(), learned)
}

fn texts(entries: &[(&str, &str)]) -> Texts {
    entries.iter().map(|(entry, text)| ((*entry).to_string(), (*text).to_string())).collect()
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabc skey-example";
const HASH: &str = "$6$examplesalt$examplehash";

/// Tencent's documentation names what vendor_data.json carries; its shape is that of the facts sheet.
#[test]
fn a_mapping_of_tencents_becomes_entries() {
    let (entries, learned) = read(&json!({
        "hostname": "VM-1-17-centos", "nameservers": ["183.60.83.19", "183.60.82.98"],
        "ntp": {"servers": ["time1.example.com"]},
        "write_files": [{"path": "/etc/yum.repos.d/CentOS-Base.repo", "content": "[os]\nname=os\n", "permissions": "0644"}],
        "chpasswd": {"expire": false, "list": [format!("root:{HASH}")]}, "ssh_authorized_keys": [KEY],
        "manage_etc_hosts": true, "runcmd": [["sh", "-c", "true"]], "tencent": {"region": "x"},
    }));
    assert_eq!(
        entries,
        texts(&[
            ("hostname", "VM-1-17-centos"),
            ("hosts/manage", "true"),
            ("resolv-conf", "nameserver 183.60.83.19\nnameserver 183.60.82.98\n"),
            ("ntp", "server time1.example.com\n"),
            ("files/0/path", "/etc/yum.repos.d/CentOS-Base.repo"),
            ("files/0/content", "[os]\nname=os\n"),
            ("files/0/mode", "0644"),
            // serde_json sorts keys: chpasswd comes first.
            ("users/63", &format!("name root\nmust_exist true\nhashed_passwd {HASH}\n")),
            ("users/62", &format!("default true\nssh_authorized_keys {KEY}\n")),
        ])
    );
    assert_eq!(learned.left().collect::<Vec<_>>(), ["runcmd"]);
    assert_eq!((learned.known, learned.unknown, learned.refused), (7, 1, 0), "{:?}", learned.fault);
}

#[test]
fn names_are_settled_once_all_keys_are_known() {
    for (document, hostname, fqdn) in [
        (json!({"hostname": "vm1.example.com"}), "vm1", Some("vm1.example.com")),
        (json!({"hostname": "vm1", "fqdn": "other.example.com"}), "vm1", Some("other.example.com")),
        (json!({"fqdn": "vm1.example.com", "prefer_fqdn_over_hostname": true}), "vm1.example.com", None),
        (json!({"hostname": 12345}), "12345", None),
    ] {
        let (entries, learned) = read(&document);
        assert_eq!(entries.get("hostname").map(String::as_str), Some(hostname));
        assert_eq!(entries.get("fqdn").map(String::as_str), fqdn);
        assert_eq!(learned.refused, 0);
    }
    let (entries, learned) = read(&json!({"hostname": "not a name"}));
    assert!(entries.is_empty() && learned.refused == 1);
}

#[test]
fn what_is_switched_off_is_not_asked_for() {
    let servers = json!(["a", "b"]);
    for (document, entry, is_there) in [
        (json!({"ntp": {"servers": servers}}), "ntp", true),
        (json!({"ntp": {"servers": servers, "enabled": false}}), "ntp", false),
        (json!({"ntp": null}), "ntp", false),
        (json!({"resolv_conf": {"nameservers": servers}}), "resolv-conf", false),
        (json!({"resolv_conf": {"nameservers": servers}, "manage_resolv_conf": "yes"}), "resolv-conf", true),
    ] {
        assert_eq!(read(&document).0.contains_key(entry), is_there, "{document}");
    }
    let (entries, _) = read(&json!({"manage_resolv_conf": true, "resolv_conf": {
        "options": {"rotate": true, "timeout": 1, "debug": false}, "searchdomains": "a.example"}}));
    assert_eq!(entries["resolv-conf"], "option rotate\noption timeout:1\nsearch a.example\n");
}

#[test]
fn users_become_files_and_the_bad_ones_make_room() {
    let (entries, learned) = read(&json!({"users": ["default", {"gecos": "no name"}, "plain", {
        "name": "ops", "groups": ["a", "b"], "sudo": ["ALL=(ALL) ALL"], "lock_passwd": false, "uid": 1500,
        "passwd": HASH, "ssh_authorized_keys": [KEY], "shell": "relative", "selinux_user": "x"}]}));
    assert_eq!(entries["users/0"], "name plain\nlock_passwd true\n");
    let ops = &entries["users/1"];
    let person = Person::parse(ops, &UserName::parse("root").unwrap()).unwrap();
    assert_eq!((person.name.as_str(), person.uid, person.is_locked), ("ops", Some(1500), Some(false)));
    assert_eq!((person.groups().count(), person.keys().count(), person.first_hash), (2, 1, HASH));
    assert_eq!((learned.refused, learned.unknown, entries.len()), (2, 1, 2));
}

#[test]
fn more_users_than_a_seed_holds_are_refused_not_written_over() {
    let names = (0..70).map(|n| json!({"name": format!("u{n}")})).collect::<Vec<_>>();
    let (entries, learned) = read(&json!({"ssh_authorized_keys": [KEY], "users": names}));
    assert!(learned.refused > 0 && entries.len() <= crate::limits::USERS);
    assert_eq!(entries["users/0"].lines().next(), Some("name u0"));
    assert!(entries.values().all(|text| text.lines().filter(|line| line.starts_with("name ")).count() <= 1));
}

#[test]
fn without_randomness_a_clear_password_is_left_out() {
    let mut seed = Kept { has_no_random: true, ..Kept::default() };
    let document = json!({"password": "canary", "chpasswd": {"list": ["a:canary"]}}).to_string();
    let (_, learned) = read_into(&mut seed, document.as_bytes(), &[1]);
    assert!(seed.entries.is_empty() && learned.refused == 2);
}

#[test]
fn recorded_passwords() {
    let ours = super::super::sha512_crypt::salt([7; RANDOM]);
    cases::run("set_passwords_effect", |case| {
        let (entries, _) = read(&case.input);
        for clear in ["passw0rd", "s3cret", "secret"] {
            assert!(entries.values().all(|text| !text.contains(clear)), "{}", case.name);
        }
        if case.input.to_string().contains("RANDOM")
            || case.input.to_string().contains(":R\\n")
            || case.input.to_string().contains(":R\"")
        {
            return Answer::Differs("a random password is left out: nobody could read it on a console");
        }
        let (mut calls, mut expire) = ([Vec::new(), Vec::new()], Vec::new());
        for text in entries.iter().filter(|(entry, _)| entry.starts_with("users/")).map(|(_, text)| text) {
            let person = Person::parse(text, &UserName::parse("ubuntu").unwrap()).unwrap();
            let is_clear = person.hash.starts_with(&format!("$6${}$", ours.as_str()));
            calls[usize::from(!is_clear)].push(person.name.as_str().to_string());
            if person.must_change {
                expire.push(person.name.as_str().to_string());
            }
        }
        // Ours in the shape of the case: who, hashed or not; the clear text itself is gone.
        let names = |stdin: &Value| {
            let mut names: Vec<_> = stdin
                .as_str()
                .unwrap()
                .lines()
                .map(|line| line.split(':').next().unwrap().to_string())
                .collect();
            names.sort();
            names
        };
        let mut expected = [Vec::new(), Vec::new()];
        for call in case.expected["chpasswd"].as_array().unwrap() {
            expected[usize::from(call["hashed"].as_bool().unwrap())] = names(&call["stdin"]);
        }
        calls.iter_mut().for_each(|names| names.sort());
        let (mut wanted, mut login) = (vec![], Vec::new());
        wanted.extend(
            case.expected["expire"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()),
        );
        wanted.sort();
        expire.sort();
        if let Some(text) = entries.get("user/password-login") {
            login.push(json!({"PasswordAuthentication": if text == "true" { "yes" } else { "no" }}));
        }
        let is_same = calls == expected && expire == wanted && json!(login) == case.expected["sshd_config"];
        Answer::Is(if is_same { case.expected.clone() } else { json!([calls, expire, login]) })
    });
}

#[test]
fn recorded_permissions() {
    cases::run("write_files_perms", |case| {
        let args = case.input["args"].as_array().unwrap();
        let ours = match &args[0] {
            Value::String(text) => mode(text, true),
            Value::Null => None,
            number => mode(&number.to_string(), false),
        };
        Answer::Is(ours.map_or(args[1].clone(), |mode| json!(mode)))
    });
}

#[test]
fn a_megabyte_with_200_files_needs_no_more_memory_than_one() {
    let line = "baseurl=http://mirrors.example.com/$releasever/os/$basearch/\n".repeat(90);
    let files = (0..200)
        .map(|n| json!({"path": format!("/etc/repos.d/{n}.repo"), "content": line, "permissions": 420}));
    let document = json!({"write_files": files.collect::<Vec<_>>()}).to_string();
    assert!(document.len() > 1024 * 1024);
    let mut seed = Kept::default();
    let (outcome, learned) = read_into(&mut seed, document.as_bytes(), &[4096]);
    outcome.unwrap();
    assert_eq!((learned.refused, seed.entries.len()), (0, 600));
    assert!((0..200).all(|n| seed.entries[&format!("files/{n}/content")] == line.as_bytes()));
    assert_eq!(seed.entries["files/199/mode"], b"0644");
}

#[test]
fn files_that_cannot_be_had_are_counted_and_make_room() {
    let (entries, learned) = read(&json!({"write_files": [
        {"content": "no path"}, {"path": "/gz", "encoding": "gz+b64", "content": "H4sI"},
        {"path": "/net", "source": {"uri": "http://x"}}, {"path": "/both", "source": {"uri": "http://x"}, "content": "y"},
        {"path": "/later", "defer": true, "append": "true", "encoding": "B64", "content": "eQ==", "owner": "a:b"}]}));
    assert_eq!(
        entries,
        texts(&[
            ("files/0/path", "/both"),
            ("files/0/content", "y"),
            ("files/1/path", "/later"),
            ("files/1/append", "true"),
            ("files/1/defer", "true"),
            ("files/1/encoding", "base64"),
            ("files/1/content", "eQ=="),
            ("files/1/owner", "a:b"),
        ])
    );
    assert_eq!(learned.refused, 3);
    let many = (0..300).map(|n| json!({"path": format!("/f{n}")})).collect::<Vec<_>>();
    let (entries, learned) = read(&json!({ "write_files": many }));
    assert_eq!((entries.len(), learned.refused), (256, 44));
}

#[test]
fn what_was_put_can_be_taken_back() {
    let mut seed = Kept::default();
    let mut mapping = Box::new(Mapping::new());
    let document = json!({"hostname": "a", "ntp_servers": ["b"], "password": "x", "users": ["u"],
        "write_files": [{"path": "/a"}, {"path": "/b", "content": "c"}]})
    .to_string();
    let mut tokenizer = Tokenizer::new();
    tokenizer.push(document.as_bytes(), &mut Reader(&mut mapping, &mut seed)).unwrap();
    assert!(mapping.is_whole() && seed.entries.len() > 4);
    mapping.forget(&mut seed).unwrap();
    assert!(seed.entries.is_empty() && !mapping.is_whole());
}

proptest! {
    #[test]
    fn chunks_change_nothing(
        steps in prop::collection::vec(1usize..40, 1..20),
        host in "[a-z.]{0,12}", password in "\\PC{0,20}", content in any::<String>(),
        names in prop::collection::vec("[a-z]{1,8}(:[$a-z0-9]{0,12})?", 0..6), odd in "[a-z_\"{}\\[\\]:,]{0,30}",
    ) {
        let document = json!({"hostname": host, "password": password, "chpasswd": {"list": names.join("\n"), "users": [{"name": "a", "password": password, "type": "text"}]},
            "write_files": [{"content": content, "path": "/x"}, {"path": content}], "users": names, odd: content,
            "ssh_authorized_keys": KEY, "timezone": content, "resolv_conf": {"options": {"a": password}}}).to_string();
        let (mut whole, mut parts) = (Kept::default(), Kept::default());
        let first = read_into(&mut whole, document.as_bytes(), &[usize::MAX]);
        let second = read_into(&mut parts, document.as_bytes(), &steps);
        prop_assert_eq!(first, second);
        prop_assert_eq!(&whole.entries, &parts.entries);
        for (entry, text) in &whole.entries {
            if entry.starts_with("users/") {
                let text = core::str::from_utf8(text).unwrap();
                prop_assert!(Person::parse(text, &UserName::parse("root").unwrap()).is_ok(), "{}", text);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}\":, a-z0-9]{0,80}") {
        let _ = read_into(&mut Kept::default(), &bytes, &[3]);
        let _ = read_into(&mut Kept::default(), text.as_bytes(), &[3]);
    }
}

#[test]
fn root_has_the_platforms_keys_only_where_it_is_not_disabled() {
    for (document, file, expected) in [
        (json!({"disable_root": false}), "users/63", Some(String::from("name root\nplatform_keys true\n"))),
        (
            json!({"disable_root": "no", "ssh_authorized_keys": [KEY], "users": ["alice"]}),
            "users/62",
            Some(format!("name root\nssh_authorized_keys {KEY}\nplatform_keys true\n")),
        ),
        (json!({"disable_root": true, "ssh_authorized_keys": [KEY]}), "users/62", None),
        (json!({"ssh_authorized_keys": [KEY]}), "users/62", None),
    ] {
        assert_eq!(read(&document).0.get(file), expected.as_ref(), "{document}");
    }
}
