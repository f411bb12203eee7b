//! Modules: what each key of a configuration becomes.

use crate::answer::{Answer, config, entry, run};
use crate::scripts::{is_shell, script_of};
use preroot::facts::UserName;
use preroot::format::person::Person;
use preroot::format::translation::Rule;
use preroot_cloud_config::config::commands::shellify;
use preroot_cloud_config::translate::{Inputs, Translation, translate};
use preroot_cloud_config::yaml::load;
use serde_json::{Map, Value, json};

#[test]
fn commands() {
    run("shellify_runcmd_bootcmd", |case| {
        let node = load(&case.input["args"][0].to_string()).unwrap();
        match shellify(&node) {
            Ok(script) => Answer::Is(json!(script)),
            Err(_) if case.error == "TypeError" => Answer::Is(case.expected.clone()),
            Err(at) => Answer::Is(json!(format!("{at:?}"))),
        }
    });
}

/// Files of the seed in the shape of the cases.
pub(crate) fn files(translation: &Translation) -> Map<String, Value> {
    let mut files = Map::new();
    for n in 0..preroot::limits::FILES {
        let part = |part: &str| translation.entries.get(&format!("files/{n}/{part}"));
        let Some(path) = part("path") else { continue };
        let mode = part("mode")
            .map_or(0o644, |mode| u32::from_str_radix(std::str::from_utf8(mode).unwrap(), 8).unwrap());
        // The last stage writes it.
        if part("defer").is_some() {
            continue;
        }
        let content = part("content").cloned().unwrap_or_default();
        assert!(part("encoding").is_none(), "decoded here");
        let file = json!({"mode": format!("{mode:#o}"), "content": crate::answer::binary(&content)});
        files.insert(String::from_utf8(path.clone()).unwrap(), file);
    }
    files
}

#[test]
fn write_files() {
    run("write_files_effect", |case| {
        match case.name.as_str() {
            "source_file_uri" => return Answer::Unsupported("nothing is fetched, files neither"),
            "append_existing" | "append_string_true" => {
                let made = config(&json!({"write_files": case.input["write_files"]}));
                assert_eq!(entry(&made, "files/0/append"), "true");
                return Answer::Is(case.expected.clone());
            }
            _ => {}
        }
        let made = config(&json!({"write_files": case.input["write_files"]}));
        if case.expected["error"].is_string() {
            assert!(made.notes.has_fault() && files(&made).is_empty());
            return Answer::Is(case.expected.clone());
        }
        let mut ours = case.expected.clone();
        ours["files"] = Value::Object(files(&made));
        // Owners are apply's to look up; here they are only handed on.
        for chown in case.expected["chown"].as_array().unwrap() {
            if chown[0] == "/etc/x" && chown[1] != "root" {
                let owner = [&chown[1], &chown[2]]
                    .into_iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(":");
                assert_eq!(entry(&made, "files/0/owner"), owner);
            }
        }
        Answer::Is(ours)
    });
}

#[test]
fn permissions() {
    run("write_files_perms", |case| {
        let args = &case.input["args"];
        let made = config(&json!({"write_files": [{"path": "/x", "permissions": args[0]}]}));
        let mode = entry(&made, "files/0/mode");
        Answer::Is(if mode.is_empty() {
            args[1].clone()
        } else {
            json!(u32::from_str_radix(mode, 8).unwrap())
        })
    });
}

#[test]
fn binary_files() {
    run("write_files_yaml_binary", |case| {
        let user_data = format!("#cloud-config\n{}", case.input["yaml"].as_str().unwrap()).into_bytes();
        let made = preroot_cloud_config::translate::translate(&preroot_cloud_config::translate::Inputs {
            user_data,
            ..Default::default()
        });
        let mut ours = case.expected.clone();
        ours["files"] =
            files(&made).into_iter().map(|(path, file)| (path, file["content"]["$utf8"].clone())).collect();
        Answer::Is(ours)
    });
}

/// Accounts of the seed.
fn people(translation: &Translation) -> Vec<(String, String)> {
    let default = UserName::parse("zzdefault").unwrap();
    let texts = translation.entries.iter().filter(|(name, _)| name.starts_with("users/"));
    texts
        .map(|(_, bytes)| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            (Person::parse(&text, &default).unwrap().name.as_str().to_owned(), text)
        })
        .collect()
}

#[test]
fn users() {
    run("users_normalize", |case| {
        let made = config(&case.input["cfg"]);
        let expected = case.expected[0].as_object().unwrap();
        if case.expected[1].as_object().is_some_and(|groups| !groups.is_empty()) {
            return groups(case, &made);
        }
        let people = people(&made);
        // The default account is apply's, whatever the image calls it, unless it is given a name here.
        for (name, user) in expected {
            let ours = people.iter().find(|(ours, _)| ours == name);
            if user["default"] == true && case.input["cfg"]["user"].is_null() {
                continue;
            }
            let Some((_, text)) = ours else { return Answer::Is(json!([name, "is missing"])) };
            assert_eq!(text.starts_with("default true\n"), user["default"] == true, "{}: {text}", case.name);
            for (key, value) in user.as_object().unwrap() {
                if let (Some(number), "uid") = (value.as_u64(), key.as_str()) {
                    assert!(text.contains(&format!("uid {number}\n")));
                }
                if let (Some(groups), "groups", false) =
                    (value.as_str(), key.as_str(), user["default"] == true)
                {
                    assert!(text.contains(&format!("groups {groups}\n")), "{text}");
                }
            }
        }
        match people.iter().find(|(name, _)| name != "zzdefault" && !expected.contains_key(name)) {
            Some((name, _)) => Answer::Is(json!([name, "is too many"])),
            None => Answer::Is(case.expected.clone()),
        }
    });
}

#[test]
fn every_file_for_the_default_account_names_the_user() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJRUdOcFyZ2eR2BGbVmtZR3L3VzGrzO9hO4OZGgF0Bk";
    let made = config(&json!({
        "user": {"name": "carol", "uid": 1500}, "users": ["alice", {"name": "default", "uid": 7, "gecos": "C"}],
        "password": "$6$a$b", "ssh_authorized_keys": [key], "disable_root": true,
    }));
    assert_eq!(entry(&made, "users/0"), "name alice\nlock_passwd true\n");
    assert_eq!(entry(&made, "users/1"), "default true\nname carol\nuid 1500\ngecos C\n");
    assert_eq!(people(&made).len(), 4);
    for (name, text) in people(&made).iter().filter(|(_, text)| text.starts_with("default true\n")) {
        assert_eq!(name, "carol", "{text}");
        assert_eq!(text.contains("hashed_passwd"), text.contains("lock_passwd false"), "{text}");
    }
}

#[test]
fn rules_of_sudo_take_the_place_of_the_default_accounts() {
    for (sudo, expected) in [
        (json!(null), "sudo\n"),
        (json!(false), "sudo\n"),
        (json!(["ALL=(root) /bin/ls"]), "sudo\nsudo ALL=(root) /bin/ls\n"),
    ] {
        let made = config(&json!({"user": {"name": "carol", "sudo": sudo}, "password": "$6$a$b"}));
        assert!(
            entry(&made, "users/63").contains("\nsudo\n"),
            "the file of the password does not give it everything"
        );
        let text = entry(&made, "users/0");
        let lines: String = text.split_inclusive('\n').filter(|line| line.starts_with("sudo")).collect();
        assert_eq!(lines, expected, "{text}");
    }
}

#[test]
fn kinds_of_host_keys_are_those_given_or_asked_for() {
    for (cfg, expected) in [
        (json!({"ssh_genkeytypes": ["ed25519", "ecdsa", "ed25519", "dsa", 7]}), "ed25519\necdsa\n"),
        (json!({"ssh_genkeytypes": "rsa"}), "rsa\n"),
        (json!({"ssh_genkeytypes": []}), ""),
        (
            json!({"ssh_keys": {"ed25519_private": "x", "ed25519_public": "y"}, "ssh_genkeytypes": ["rsa"]}),
            "ed25519\n",
        ),
        // What cannot be used leaves a machine with keys of its own.
        (json!({"ssh_keys": {"ed25519_private": "x"}, "ssh_genkeytypes": ["rsa"]}), ""),
    ] {
        assert_eq!(entry(&config(&cfg), "ssh-host-keys"), expected, "{cfg}");
    }
}

#[test]
fn who_is_redirected_has_no_keys() {
    let text = |user: Value| entry(&config(&json!({"users": [user]})), "users/0").to_owned();
    for word in [json!(true), json!("default")] {
        let user = text(json!({"name": "old", "ssh_redirect_user": word}));
        assert_eq!(user, "name old\nssh_redirect_user true\nlock_passwd true\n");
    }
    for (word, key) in
        [(json!(true), "ssh-authorized-keys"), (json!("bob"), "gecos"), (json!(false), "gecos")]
    {
        let user = text(json!({"name": "old", "ssh_redirect_user": word, key: []}));
        assert_eq!(user, "name old\nlock_passwd true\n");
    }
}

/// Lines of the seed's `groups`.
fn groups(case: &crate::answer::Case, made: &Translation) -> Answer {
    let expected = case.expected[1].as_object().unwrap();
    let mut ours: Map<String, Value> = Map::new();
    for line in entry(made, "groups").lines() {
        let (name, members) = line.split_once(' ').unwrap_or((line, ""));
        let mut members: Vec<&str> = members.split(',').filter(|name| !name.is_empty()).collect();
        members.sort();
        ours.insert(name.to_owned(), json!(members));
    }
    let sorted = |groups: &Map<String, Value>| -> Map<String, Value> {
        let sort = |members: &Value| {
            let mut members: Vec<&str> =
                members.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            members.sort();
            json!(members)
        };
        groups.iter().map(|(name, members)| (name.clone(), sort(members))).collect()
    };
    assert_eq!(ours, sorted(expected), "{}", case.name);
    Answer::Is(case.expected.clone())
}

#[test]
fn host_keys_certificates_and_a_call_home() {
    let made = config(
        &json!({"ssh_keys": {"rsa_private": "-----X", "rsa_public": "ssh-rsa A", "ecdsa_private": "y"},
        "write_files": [{"path": "/a"}], "ca_certs": {"trusted": ["CERT"]},
        "phone_home": {"url": "http://h/$INSTANCE_ID/x", "post": ["hostname", "pub_key_rsa"]}}),
    );
    let files = files(&made);
    assert_eq!(
        files["/etc/ssh/ssh_host_rsa_key"],
        json!({"mode": "0o600", "content": {"$utf8": "-----X\n"}})
    );
    assert_eq!(files["/etc/ssh/ssh_host_rsa_key.pub"]["mode"], "0o644");
    assert!(!files.contains_key("/etc/ssh/ssh_host_ecdsa_key") && files.contains_key("/a"));
    let script = |name: &str| {
        let place = if name.starts_with("00-") { "first" } else { "user" };
        files[&format!("/var/lib/preroot/scripts/{place}/{name}")]["content"]["$utf8"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(script("00-ca-certs").contains("<<E\nQ0VSVA==\nE\nexec $update\n"));
    assert!(script("zy-phone-home").contains("url='http://h/'\"$id\"'/x'\n"));
    for name in ["00-ca-certs", "zy-phone-home"] {
        is_shell(&script(name));
    }
}

/// There it is how long cloud-init may take to end; here it comes last.
#[test]
fn the_timeout_of_power_state_is_a_number_and_waits_for_nobody() {
    for (timeout, is_number) in [
        ("30", true),
        ("'1e3'", true),
        ("2.5", true),
        ("yes", true),
        ("'5 minutes'", false),
        ("[1]", false),
        ("~", false),
    ] {
        let text = format!("#cloud-config\npower_state:\n  mode: reboot\n  timeout: {timeout}\n");
        let inputs = Inputs { user_data: text.into_bytes(), ..Inputs::default() };
        let made = translate(&inputs);
        let notes: Vec<_> = made.notes.0.iter().map(|note| (note.line, note.rule)).collect();
        assert_eq!(made.scripts.len(), usize::from(is_number), "{timeout}");
        let told = [(4, Rule::BadValue)];
        assert_eq!(notes, if is_number { &[] } else { &told[..] }, "{timeout}");
    }
}

#[test]
fn passwords() {
    run("set_passwords_effect", |case| {
        let made = config(&case.input);
        let text = case.input.to_string();
        if text.contains("RANDOM") || text.contains(":R\\n") || text.contains(":R\"") {
            return Answer::Differs("a random password is left out: nobody could read it on a console");
        }
        for clear in ["passw0rd", "s3cret", "secret"] {
            assert!(
                made.entries.values().all(|bytes| !String::from_utf8_lossy(bytes).contains(clear)),
                "{}",
                case.name
            );
        }
        let names = |stdin: &Value| {
            stdin
                .as_str()
                .unwrap()
                .lines()
                .map(|line| line.split(':').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let mut wanted: Vec<String> = case.expected["chpasswd"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|call| names(&call["stdin"]))
            .collect();
        let mut ours: Vec<String> =
            people(&made).into_iter().map(|(name, _)| name.replace("zzdefault", "ubuntu")).collect();
        wanted.sort();
        ours.sort();
        let login = entry(&made, "user/password-login");
        let login = if login.is_empty() {
            json!([])
        } else {
            json!([{"PasswordAuthentication": if login == "true" { "yes" } else { "no" }}])
        };
        let is_same = wanted == ours && login == case.expected["sshd_config"];
        Answer::Is(if is_same { case.expected.clone() } else { json!([ours, wanted, login]) })
    });
}

#[test]
fn mounts() {
    run("mounts_fstab", |case| {
        let cfg = &case.input["cfg"];
        let made = config(cfg);
        let listed = cfg["mounts"].to_string();
        if listed.contains("ephemeral0") || case.name == "ephemeral_default" {
            return Answer::Differs("the resource disk is looked after on every boot, without an entry");
        }
        // What becomes of the lines is tested beside format::fstab, with the same cases.
        let lines: String = cfg["mounts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|fields| {
                let fields = fields
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|field| field.as_str().map_or("-".into(), |text| text.replace(' ', "\\040")));
                fields.collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect();
        assert_eq!(entry(&made, "storage/mounts"), lines, "{}", case.name);
        let defaults = entry(&made, "storage/mount-defaults");
        assert_eq!(defaults.is_empty(), cfg["mount_default_fields"].is_null());
        let swap = match cfg["swap"]["size"].clone() {
            Value::String(size) => format!("/swap.img {size} 1G\n"),
            Value::Number(size) if size.as_u64() != Some(0) => format!("/swap.img {size} -\n"),
            _ => String::new(),
        };
        assert_eq!(entry(&made, "storage/swap"), swap);
        assert!(!made.notes.has_fault());
        Answer::Is(case.expected.clone())
    });
}

#[test]
fn resolv_conf() {
    run("resolv_conf_render", |case| {
        let made = config(&json!({"manage_resolv_conf": true, "resolv_conf": case.input}));
        let ours: Vec<&str> = entry(&made, "resolv-conf").lines().collect();
        let of = |word: &str| {
            ours.iter().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = case.expected.as_str().unwrap();
        let theirs = |word: &str| {
            let lines = expected.lines().filter_map(|line| line.strip_prefix(word));
            lines.flat_map(|line| line.split_whitespace().map(str::to_owned)).collect::<Vec<_>>()
        };
        for (our, their) in [
            ("nameserver ", "nameserver "),
            ("search ", "search "),
            ("domain ", "domain "),
            ("sortlist ", "sortlist "),
            ("option ", "options "),
        ] {
            let (mut ours, mut theirs) = (of(our), theirs(their));
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{}", case.name);
        }
        Answer::Is(case.expected.clone())
    });
}

#[test]
fn ntp() {
    run("ntp_render", |case| {
        let servers = &case.input["servers"];
        let pools = &case.input["pools"];
        let made = config(
            &json!({"ntp": {"servers": servers, "pools": pools, "peers": case.input["peers"], "allow": case.input["allow"]}}),
        );
        if servers.is_null() && pools.is_null() {
            return Answer::Differs("without a server or pool the image's own stay");
        }
        let lines: Vec<&str> = entry(&made, "ntp").lines().collect();
        for (list, word) in [
            (servers, "server"),
            (pools, "pool"),
            (&case.input["peers"], "peer"),
            (&case.input["allow"], "allow"),
        ] {
            for name in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(lines.contains(&format!("{word} {name}").as_str()), "{}: {lines:?}", case.name);
            }
        }
        // Rendering is tested beside format::ntp.
        Answer::Is(case.expected.clone())
    });
}

#[test]
fn host_names() {
    run("hostname_fqdn", |case| {
        let cfg = &case.input["cfg"];
        if !cfg.is_object() || cfg["hostname"].is_null() && cfg["fqdn"].is_null() {
            return Answer::Differs("without a name in it the platform's counts");
        }
        if case.input["metadata"]["local-hostname"].is_string() {
            return Answer::Differs("the platform's domain is added by apply");
        }
        let made = config(cfg);
        let host = entry(&made, "hostname");
        let fqdn = entry(&made, "fqdn");
        let expected = case.expected.as_array().cloned().unwrap_or_default();
        let of = |at: usize| expected.get(at).and_then(Value::as_str).unwrap_or_default();
        if host.is_empty() {
            return Answer::Differs("no host name that Linux or RFC 1123 would take");
        }
        let is_full = fqdn == of(1) || fqdn.is_empty() && (host == of(1) || of(1).is_empty());
        let is_same = (host == of(0) || host == of(1)) && is_full;
        Answer::Is(if is_same { case.expected.clone() } else { json!([host, fqdn]) })
    });
}

#[test]
fn what_the_seed_has_no_room_for_is_said() {
    let files: Vec<Value> = (0..255).map(|n| json!({"path": format!("/f{n}")})).collect();
    let made = config(&json!({"write_files": files, "ssh_keys": {"rsa_private": "x", "rsa_public": "y"}}));
    assert!(made.entries.keys().all(|name| !name.starts_with("files/256")) && made.notes.has_fault());
    let people: Vec<Value> = (0..40).map(|n| json!({"name": format!("u{n}")})).collect();
    let lines: Vec<Value> = (0..20).map(|n| json!(format!("u{n}:x{n}"))).collect();
    let made = config(&json!({"users": people, "chpasswd": {"list": lines}}));
    assert!(people_count(&made) == 60 && !made.notes.has_fault());
}

fn people_count(made: &Translation) -> usize {
    made.entries.keys().filter(|name| name.starts_with("users/")).count()
}

#[test]
fn names_of_zones_and_locales_and_keys_of_old() {
    let of = |key: &str, text: &str, entry: &str| {
        let made = config(&json!({key: text}));
        (crate::answer::entry(&made, entry).to_owned(), made.notes.has_fault())
    };
    for (text, zone) in [("/usr/share/zoneinfo/Etc/UTC", "Etc/UTC"), ("Europe/Berlin", "Europe/Berlin")] {
        assert_eq!(of("timezone", text, "timezone"), (zone.to_owned(), false));
    }
    for text in ["../../etc/passwd", "/etc/../x", "a b"] {
        assert_eq!(of("timezone", text, "timezone"), (String::new(), true), "{text}");
    }
    assert_eq!(of("locale", "de_DE.UTF-8@euro", "locale"), ("de_DE.UTF-8@euro".to_owned(), false));
    assert_eq!(of("locale", "de DE", "locale"), (String::new(), true));
    let made = config(&json!({"apt_upgrade": true, "apt_reboot_if_required": true}));
    let script = script_of(&made, "00-packages");
    assert!(
        script.contains("\n$upgrade || code=$?\n") && script.contains("packages want a reboot"),
        "{script}"
    );
    assert!(!made.notes.has_fault());
}
