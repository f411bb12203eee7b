//! Whole media against the results recorded from cloud-init and afterburn.

use super::instance::InstanceReader;
use super::labelled::Medium;
use super::tree::DirTree;
use super::{config_drive, nocloud};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::format::cases::{Answer, Case, run};
use crate::format::kept::Kept;
use crate::machine::{self, Platform, Trusted};
use crate::sys::fake::{FakeDir, World};
use serde_json::{Value, json};
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs};

impl Kept {
    fn text(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }
}

struct Read {
    facts: Box<Facts>,
    kept: Kept,
    faults: Vec<Error>,
}

impl Read {
    fn id(&self) -> &str {
        self.facts.instance_id.as_ref().map_or("", |id| id.value.as_str())
    }
    fn hostname(&self) -> Value {
        self.facts.hostname.as_ref().map_or(Value::Null, |name| json!(name.value.as_str()))
    }
    fn keys(&self) -> Vec<&str> {
        self.facts.keys.iter().flat_map(|keys| keys.value.lines()).collect()
    }
}

fn read(dir: &mut FakeDir, medium: Medium) -> Result<Read> {
    let (mut reader, mut facts) = (Box::new(InstanceReader::new()), Box::new(Facts::new()));
    read_into(dir, medium, &mut reader, &mut facts)
}

fn read_into(
    dir: &mut FakeDir,
    medium: Medium,
    reader: &mut InstanceReader,
    facts: &mut Box<Facts>,
) -> Result<Read> {
    let (mut kept, mut window) = (Kept::default(), std::vec![0; 64 * 1024]);
    let mut tree = DirTree::new(dir, "");
    match medium {
        Medium::ConfigDrive => {
            config_drive::read(reader, &mut tree, &mut window, &mut kept, &mut facts.network)?;
        }
        Medium::NoCloud => nocloud::read(reader, &mut tree, &mut window, &mut kept)?,
    }
    let learned = reader.finish(facts, medium.provenance(), Some([7; 12]))?;
    let facts = core::mem::replace(facts, Box::new(Facts::new()));
    Ok(Read { facts, kept, faults: learned.faults.to_vec() })
}

/// A tree of tests/fixtures/drives.
fn fixture(path: &str) -> FakeDir {
    fn add(dir: &mut FakeDir, from: &std::path::Path, below: &str) {
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => add(dir, &entry.path(), &format!("{name}/")),
                false => _ = dir.put(&name, fs::read(entry.path()).unwrap()),
            }
        }
    }
    let mut dir = FakeDir::default();
    let top = format!("{}/tests/fixtures/drives/{path}", env!("CARGO_MANIFEST_DIR"));
    add(&mut dir, std::path::Path::new(&top), "");
    dir
}

/// Text of a case's file: `{"$utf8": ..}`, or a string.
fn content(value: &Value) -> &str {
    value["$utf8"].as_str().or(value.as_str()).unwrap_or_default()
}

/// True where everything that is expected under these names is what is here.
fn agrees(expected: &Value, ours: &Value) -> bool {
    ours.as_object().unwrap().iter().all(|(name, value)| expected[name] == *value)
}

#[test]
fn recorded_config_drives() {
    run("configdrive_read", |case| {
        let mut dir = FakeDir::default();
        for (path, text) in case.input["files"].as_object().unwrap() {
            dir.put(path, content(text));
        }
        let Ok(read) = read(&mut dir, Medium::ConfigDrive) else { return Answer::Is(Value::Null) };
        let metadata = &case.expected["metadata"];
        let mut wanted: Vec<_> = metadata["public_keys"].as_object().unwrap().values().collect();
        // The recorded key is cut short: no key, and counted as none.
        wanted.retain(|key| !key.as_str().unwrap().contains("...."));
        let ours = json!({"uuid": read.id(), "hostname": read.hostname()});
        let files: Vec<_> = metadata["files"]
            .as_array()
            .into_iter()
            .flatten()
            .zip(0..)
            .map(|(file, n)| {
                let at = |part: &str| read.kept.text(&format!("files/{}/{part}", 255 - n)).unwrap();
                assert_eq!(json!(at("path")), file["path"]);
                (at("path"), at("content"))
            })
            .collect();
        let contents = files.iter().all(|(path, text)| case.expected["files"][path]["$utf8"] == json!(text));
        let user_data = read.kept.text("user-data").unwrap_or_default();
        let is_equal = agrees(metadata, &ours)
            && read.keys().len() == wanted.len()
            && contents
            && user_data == content(&case.expected["userdata"])
            && read.faults.is_empty();
        Answer::Is(if is_equal { case.expected.clone() } else { json!([ours, files, user_data]) })
    });
}

#[test]
fn a_drive_as_tencents() {
    run("synthetic_tencent_drive", |case| {
        let read = read(&mut fixture("tencent"), Medium::ConfigDrive).unwrap();
        let metadata = &case.expected["metadata_subset"];
        let keys: Vec<_> = metadata["public_keys"].as_object().unwrap().values().cloned().collect();
        let ours = json!({"instance-id": read.id(), "local-hostname": read.hostname()});
        let is_equal = agrees(metadata, &ours)
            && json!(read.keys()) == json!(keys)
            && read.kept.text("user-data").unwrap() == content(&case.expected["userdata"])
            && read.kept.text("vendor-data/0").unwrap() == content(&case.expected["vendordata"])
            && !read.facts.network.is_empty();
        Answer::Is(if is_equal { case.expected.clone() } else { ours })
    });
}

#[test]
fn recorded_trees_of_afterburn() {
    run("afterburn_drive_trees", |case| {
        let medium = match case.text("kind") {
            "configdrive" => Medium::ConfigDrive,
            "nocloud" => Medium::NoCloud,
            _ => return Answer::Differs("no tree of a drive: single files beside each other"),
        };
        let read = read(&mut fixture(case.text("dir").trim_start_matches("data/")), medium);
        let Ok(read) = read else { return Answer::Is(json!("refused")) };
        let mut ours = json!({});
        for (name, value) in case.expected.as_object().unwrap() {
            match name.as_str() {
                "instance_id" => ours[name] = json!(read.id()),
                "hostname" if value.as_str().is_some_and(|name| name.contains('_')) => {
                    assert_eq!(read.hostname(), json!(value.as_str().unwrap().replace('_', "-")));
                    return Answer::Differs(
                        "`_` in a host name becomes `-`: no host name has one (RFC 1123)",
                    );
                }
                // Proxmox puts both into user-data, which is cloud-config.
                "hostname" | "ssh_keys" if case.name.starts_with("proxmoxve") => {
                    if case.name == "proxmoxve_invalid-user-data" {
                        ours[name] = value.clone();
                    } else {
                        return Answer::Differs(
                            "host name and keys are in user-data, which nobody acts on yet",
                        );
                    }
                }
                "hostname" => ours[name] = read.hostname(),
                "ssh_keys" => ours[name] = json!(read.keys()),
                _ => {}
            }
        }
        let is_equal = read.faults.is_empty() && agrees(&case.expected, &ours);
        // What it says of interfaces is not asked here.
        Answer::Is(if is_equal { case.expected.clone() } else { json!([ours, format!("{:?}", read.faults)]) })
    });
}

fn nocloud_case(case: &Case) -> Answer {
    if !case.input["seedfiles"].is_null() {
        return Answer::Differs("seed directories are in the root, which is not there yet");
    }
    if !case.input["ds_cfg"].is_null() {
        return Answer::Differs("cloud.cfg is in the root, which is not there yet");
    }
    let words = |key| machine::nocloud_words(case.text(key)).unwrap_or_default();
    let mut facts = Box::new(Facts::new());
    let (has_any, _) = nocloud::read_words(words("cmdline"), words("serial"), &mut facts);
    let mut kept = Kept::default();
    if let Some(files) = case.input["iso"].as_object() {
        let mut dir = FakeDir::default();
        for (name, text) in files {
            dir.put(name, text.as_str().unwrap());
        }
        if !files.contains_key("user-data") {
            assert!(read(&mut dir, Medium::NoCloud).is_ok());
            return Answer::Differs("a medium without user-data is one: others do without, too");
        }
        let mut reader = Box::new(InstanceReader::new());
        match read_into(&mut dir, Medium::NoCloud, &mut reader, &mut facts) {
            Ok(read) => (facts, kept) = (read.facts, read.kept),
            Err(_) => return Answer::Is(json!({"found": false})),
        }
    } else if !has_any {
        return Answer::Is(json!({"found": false}));
    }
    let expected = &case.expected;
    let id = facts.instance_id.as_ref().map(|id| id.value.as_str());
    let name = facts.hostname.as_ref().map(|name| name.value.as_str());
    let text = |name| kept.text(name).unwrap_or_default();
    let is_equal = expected["found"] == json!(true)
        && expected["metadata"]["instance-id"].as_str() == id
        && expected["metadata"]["local-hostname"].as_str() == name
        && text("user-data") == content(&expected["userdata"])
        && text("vendor-data/0") == content(&expected["vendordata"])
        && text("network-config").is_empty() == expected["network_config"].is_null();
    Answer::Is(if is_equal { expected.clone() } else { json!([id, name, text("user-data")]) })
}

#[test]
fn recorded_nocloud_media() {
    run("nocloud_get_data", nocloud_case);
}

#[test]
fn recorded_words_of_the_command_line() {
    run("ds_cmdline_parse", |case| {
        Answer::Is(json!(machine::datasource(case.input.as_str().unwrap()).unwrap_or_default()))
    });
}

#[test]
fn recorded_candidates() {
    run("configdrive_candidates", |case| {
        let labelled =
            |label: &str| case.input[format!("LABEL={label}")].as_array().cloned().unwrap_or_default();
        let ours: Vec<_> = ["config-2", "CONFIG-2"]
            .into_iter()
            .filter(|label| Medium::of_label(label) == Some(Medium::ConfigDrive))
            .flat_map(labelled)
            .collect();
        match case.name.as_str() {
            "label_before_unlabelled_vfat" => Answer::Differs("a file system without the label is no drive"),
            _ => Answer::Is(json!(ours)),
        }
    });
}

/// Devices and labels of recorded blkid output; a label in FAT's boot sector counts.
fn labels(text: &str) -> Vec<(String, String)> {
    let record = |record: &str| {
        let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let label = match field("LABEL=") {
            "" => field("LABEL_FATBOOT="),
            label => label,
        };
        (field("DEVNAME=/dev/").to_string(), label.to_string())
    };
    text.split("\n\n").map(record).collect()
}

#[test]
fn recorded_detections() {
    run("ds_identify", |case| {
        let names: Vec<_> =
            case.expected["cfg"]["datasource_list"].as_array().into_iter().flatten().collect();
        let mut world = World::new();
        let files = case.input["files"].as_object().cloned().unwrap_or_default();
        for (path, text) in files.iter().filter(|(path, _)| path.starts_with("sys/")) {
            world.host.put(path, text.as_str().unwrap());
        }
        let env = files.get("ds-identify-env").and_then(Value::as_str).unwrap_or_default();
        let line = env.split('"').nth(1).unwrap_or_default();
        world.host.put("proc/cmdline", line);
        let machine = machine::observe(&mut world.kernel());
        let mocks = case.input["mocks"].as_array().cloned().unwrap_or_default();
        let blkid = mocks.iter().find(|mock| mock["name"] == json!("blkid"));
        let mut media = Vec::new();
        for (device, label) in labels(blkid.and_then(|mock| mock["out"].as_str()).unwrap_or_default()) {
            let Some(medium) = Medium::of_label(&label) else { continue };
            media.push((device, medium));
        }
        let is_in_the_image = |name: &str| files.keys().any(|path| path.contains(name));
        let first = names.first().and_then(|name| name.as_str()).unwrap_or_default();
        let found = match (machine.platform, media.first()) {
            (Some(Platform::Azure), _) => "Azure",
            (_, Some((_, Medium::ConfigDrive))) => "ConfigDrive",
            (_, Some((_, Medium::NoCloud))) => "NoCloud",
            (Some(Platform::OpenStack), _) => "OpenStack",
            (Some(platform), _) => platform.word(),
            (None, None) => "",
        };
        let is_ours = ["Azure", "ConfigDrive", "NoCloud", "OpenStack"].contains(&first);
        if is_in_the_image("cloud/seed/") || is_in_the_image("etc/cloud/") {
            return Answer::Differs("not supported: what the root says is not there yet");
        }
        if mocks.iter().any(|mock| mock["name"] == json!("geom")) {
            return Answer::Differs("not supported: FreeBSD");
        }
        if !is_ours && !first.is_empty() {
            return Answer::Differs("not supported: a source of another cloud");
        }
        let on_disk = media.first().filter(|(device, _)| !device.starts_with("sr"));
        if let Some((_, medium)) = on_disk
            && first == found
        {
            let trusted =
                if *medium == Medium::NoCloud { machine.media.nocloud } else { machine.media.config_drive };
            if trusted < Trusted::Matching {
                return Answer::Differs(
                    "recognised, but a label on a disk counts only where firmware or command line say so",
                );
            }
        }
        Answer::Is(if found == first { case.expected.clone() } else { json!(found) })
    });
}

#[test]
fn a_megabyte_of_vendor_data_is_streamed() {
    let file =
        |n: usize| json!({"path": format!("/f/{n}"), "content": "x".repeat(5_300), "permissions": "0600"});
    let files: Vec<_> = (0..200).map(file).collect();
    let document = json!({"write_files": files, "hostname": "web-1"}).to_string();
    assert!(document.len() > 1024 * 1024);
    let mut dir = FakeDir::default();
    dir.put("openstack/latest/meta_data.json", "{\"uuid\":\"i-1\"}");
    dir.put("openstack/latest/vendor_data.json", &document);
    let read = read(&mut dir, Medium::ConfigDrive).unwrap();
    for n in 0..200 {
        assert_eq!(read.kept.text(&format!("files/{n}/path")).unwrap(), format!("/f/{n}"));
        assert_eq!(read.kept.text(&format!("files/{n}/content")).unwrap().len(), 5_300);
    }
    assert!(read.faults.is_empty() && read.kept.text("files/200/path").is_none());
}

/// A drive with these documents beside its metadata.
fn drive(meta_data: &Value, more: &[(&str, String)]) -> FakeDir {
    let mut dir = FakeDir::default();
    dir.put("openstack/latest/meta_data.json", meta_data.to_string());
    for (name, text) in more {
        dir.put(&format!("openstack/latest/{name}"), text);
    }
    dir
}

#[test]
fn of_two_mappings_the_first_counts() {
    let first = json!({"hostname": "vm1", "fqdn": "vm1.example.com", "users": ["default", {"name": "a"}],
        "write_files": [{"path": "/a", "content": "A"}], "ntp": {"servers": ["n1"]}, "nameservers": ["10.0.0.1"]});
    let second = json!({"hostname": "vm2", "fqdn": "vm2.example.com", "users": [{"name": "b"}],
        "write_files": [{"path": "/b", "content": "B"}], "ntp": {"enabled": false}});
    let wrapped = json!({"cloud-init": second});
    let id = json!({"uuid": "i-1"});
    let alone =
        read(&mut drive(&id, &[("vendor_data.json", first.to_string())]), Medium::ConfigDrive).unwrap();
    // The translator has it as it came.
    let kept = format!("#cloud-config\n{first}");
    assert_eq!(alone.kept.text("vendor-data/mapping").unwrap(), kept);
    for second in [second, wrapped] {
        let more = [("vendor_data.json", first.to_string()), ("vendor_data2.json", second.to_string())];
        let both = read(&mut drive(&id, &more), Medium::ConfigDrive).unwrap();
        assert_eq!(both.kept.entries, alone.kept.entries);
        assert_eq!(both.faults, [unsupported!("vendor data", "a second mapping")]);
    }
}

#[test]
fn admin_pass_counts_only_where_there_is_no_key() {
    for (keys, has_password) in [
        (json!({"a": "ssh-rsa AAAA"}), false),
        (json!({"a": "no key that can be used"}), false),
        (json!({}), true),
    ] {
        let document = json!({"uuid": "i-1", "admin_pass": "canary", "public_keys": keys});
        let read = read(&mut drive(&document, &[]), Medium::ConfigDrive).unwrap();
        assert_eq!(read.facts.password.is_some(), has_password, "{keys}");
    }
}

#[test]
fn a_document_that_is_too_large_costs_itself_alone() {
    let large = || "x".repeat(usize::try_from(crate::limits::USER_DATA).unwrap() + 1);
    let document = json!({"uuid": "i-1", "public_keys": "ssh-rsa AAAA"});
    let mut dir = drive(&document, &[("user_data", large())]);
    let got = read(&mut dir, Medium::ConfigDrive).unwrap();
    assert_eq!((got.keys().len(), got.faults.len(), got.kept.text("user-data")), (1, 1, None));
    let mut dir = FakeDir::default();
    dir.put("meta-data", "instance-id: i-1\n").put("user-data", "x").put("network-config", large());
    let got = read(&mut dir, Medium::NoCloud).unwrap();
    assert_eq!((got.id(), got.faults.len(), got.kept.entries.len()), ("i-1", 1, 1));
}

#[test]
fn a_file_whose_path_is_too_long_leaves_nothing() {
    let file = json!({"path": "x".repeat(crate::limits::PATH), "content_path": "/content/0"});
    let document = json!({"uuid": "i-1", "files": [file]});
    let mut dir = drive(&document, &[]);
    dir.put("openstack/content/0", "content");
    let got = read(&mut dir, Medium::ConfigDrive).unwrap();
    assert_eq!((got.faults.len(), got.kept.entries.len()), (1, 0));
}

#[test]
fn vendor_host_names_are_made_fit_as_metadatas() {
    let more = [("vendor_data.json", json!({"hostname": "web_01"}).to_string())];
    let got = read(&mut drive(&json!({"uuid": "i-1"}), &more), Medium::ConfigDrive).unwrap();
    assert_eq!(got.kept.text("hostname").unwrap(), "web-01");
}

#[test]
fn what_is_wrong_with_vendor_data_costs_no_key() {
    for wrong in ["{", "{\"cloud-init\": \"a\"", "nonsense"] {
        let mut dir = fixture("tencent");
        dir.put("openstack/2015-10-15/vendor_data.json", wrong);
        let read = read(&mut dir, Medium::ConfigDrive).unwrap();
        assert_eq!((read.keys().len(), read.faults.len()), (1, 1), "{wrong}");
    }
}

#[test]
fn the_newest_version_that_is_known_counts() {
    let mut dir = FakeDir::default();
    for version in ["2012-08-10", "2018-08-27", "latest", "2099-01-01"] {
        dir.put(&format!("openstack/{version}/meta_data.json"), format!("{{\"uuid\":\"{version}\"}}"));
    }
    assert_eq!(read(&mut dir, Medium::ConfigDrive).unwrap().id(), "2018-08-27");
    let mut dir = FakeDir::default();
    dir.put("openstack/latest/meta_data.json", "{\"uuid\":\"a\",\"meta\":{\"dsmode\":\"disabled\"}}");
    assert!(read(&mut dir, Medium::ConfigDrive).is_err_and(|error| error.exit_code() == 76));
    dir.put("openstack/latest/meta_data.json", "{}");
    assert!(read(&mut dir, Medium::ConfigDrive).is_err_and(|error| error.exit_code() == 1));
}
