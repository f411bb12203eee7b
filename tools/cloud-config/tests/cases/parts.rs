//! Containers, kinds and merging.

use crate::answer::{Answer, Case, binary, bytes, data, run, tree};
use preroot::format::translation::Rule;
use preroot_cloud_config::config::Place;
use preroot_cloud_config::note::{Notes, Source};
use preroot_cloud_config::parts::include::{Included, Library};
use preroot_cloud_config::parts::jinja::Variables;
use preroot_cloud_config::parts::{Unpacker, clean_name, sniff};
use preroot_cloud_config::translate::{Inputs, translate};
use preroot_cloud_config::yaml::{Node, Value as Yaml};
use serde_json::{Map, Value, json};

#[test]
fn types_by_prefix() {
    run("userdata_type_from_prefix", |case| {
        let kind = sniff::by_prefix(&bytes(&case.input["args"][0]));
        // A second argument is what to say otherwise.
        let other = case.input["args"].get(1).and_then(Value::as_str);
        Answer::Is(json!(kind.and_then(sniff::type_of).or(other)))
    });
}

#[test]
fn file_names() {
    run("filename_clean", |case| Answer::Is(json!(clean_name(case.input["args"][0].as_str().unwrap()))));
}

#[test]
fn launch_indices() {
    run("launch_index_filter", |case| {
        let user_data = data(case.input["file"].as_str().unwrap());
        let count = |index: &Value| {
            let (variables, mut notes) = (Variables::new(), Notes::default());
            let mut budget = preroot_cloud_config::limits::Budget::default();
            let mut library = Library::default();
            let mut unpacker = Unpacker::new(Source::User, &variables, &mut library, &mut notes, &mut budget);
            unpacker.push(&user_data);
            let index = index.as_i64().or_else(|| index.as_str().and_then(|text| text.parse().ok()));
            unpacker.finish(index).len()
        };
        let rows = case.expected.as_array().unwrap();
        Answer::Is(rows.iter().map(|row| json!([row[0], count(&row[0])])).collect())
    });
}

#[test]
fn merging() {
    run("cloud_config_merge", |case| {
        if case.name == "merge_09" {
            return Answer::Differs(
                "a template is rendered before it is merged: the case hands it on as it is",
            );
        }
        let mut message = String::from("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n");
        for part in case.input.as_array().unwrap() {
            message += &format!("--B\nContent-Type: text/cloud-config\n\n{}\n", part.as_str().unwrap());
        }
        let inputs = Inputs { user_data: (message + "--B--\n").into_bytes(), ..Inputs::default() };
        Answer::Is(tree(&translate(&inputs).user.unwrap()))
    });
}

/// Where cloud-init keeps a script of ours.
fn place(place: Place, name: &str) -> String {
    match place {
        Place::Boot => format!("instances/i-testing/boothooks/{name}"),
        Place::User => format!("instances/i-testing/scripts/{name}"),
        Place::Vendor => format!("instances/i-testing/scripts/vendor/{name}"),
        other => format!("scripts/{}/{name}", other.directory()),
    }
}

/// The file of a configuration as the case has it; only its meaning is ours.
fn parsed(case: &Case, name: &str, config: Option<&Node>, files: &mut Map<String, Value>) {
    let name = format!("instances/i-testing/{name}");
    let Some(expected) = case.expected["files"].get(&name) else {
        assert!(config.is_none(), "{}: {name}", case.name);
        return;
    };
    let mut file = expected.clone();
    // Nothing, or nothing that could be read.
    let empty =
        matches!(&expected["parsed"], Value::Object(map) if map.is_empty()) || expected["parsed"].is_null();
    file["parsed"] = match config {
        None if empty => expected["parsed"].clone(),
        config => config.map_or(Value::Null, tree),
    };
    files.insert(name, file);
}

/// As `#include` of http: files are not read. A document's scripts have names of their own.
fn included(case: &Case) -> Answer {
    let url = |name: &str| format!("http://dir.example/{name}");
    let text = String::from_utf8(bytes(&case.input["user_data"])).unwrap();
    let user_data = text.replace("file://%DIR%/", &url("")).into_bytes();
    let of = |inputs: &Value| -> Vec<Included> {
        let files = inputs.as_object().into_iter().flatten();
        let page = |(name, text): (&String, &Value)| Included {
            url: url(name),
            document: bytes(text),
            is_applied: false,
        };
        files.map(page).collect()
    };
    let facts = [("include".to_owned(), "1".to_owned())].into();
    let inputs = Inputs { user_data, included: of(&case.input["files"]), facts, ..Inputs::default() };
    let translation = translate(&inputs);
    // The key of this case is made up.
    assert!(translation.notes.0.iter().all(|note| note.rule == Rule::UnknownKey), "{:?}", translation.notes);
    if case.expected["error"].is_string() {
        assert!(translation.entries.keys().eq(["include"]), "{:?}", translation.entries);
        return Answer::Differs("a document that cannot be had costs no other, and is asked for again");
    }
    assert_eq!(tree(&translation.user.unwrap()), json!({"a": 1}));
    let expected = &case.expected["files"]["instances/i-testing/scripts/part-002"]["content"]["$utf8"];
    let [script] = &*translation.scripts else { panic!("{:?}", translation.scripts) };
    assert_eq!((script.name.as_str(), binary(&script.content)), ("part-001-002", json!({"$utf8": expected})));
    Answer::Differs("documents come by http alone, and their scripts have names of their own")
}

#[test]
fn whole_user_data() {
    run("userdata_consume", |case| {
        if case.name.starts_with("include_") {
            return included(case);
        }
        let texts = |key: &str| match &case.input[key] {
            Value::Array(list) => list.iter().map(bytes).collect(),
            Value::Null => Vec::new(),
            one => vec![bytes(one)],
        };
        let facts = [("hostname", "local_hostname"), ("instance-id", "instance_id")].into_iter().filter_map(
            |(ours, theirs)| {
                Some((ours.to_owned(), case.input["instance_data"]["v1"][theirs].as_str()?.to_owned()))
            },
        );
        if case.name == "vendor_and_user" {
            // Two sources of the platform's, where preroot has one: the second is higher.
            let of = |key: &str| translate(&Inputs { vendor_data: texts(key), ..Inputs::default() }).vendor;
            assert_eq!(tree(&of("vd").unwrap()), json!({"a": "vendor", "b": "vendor"}));
            let inputs = Inputs {
                vendor_mapping: None,
                vendor_left_out: false,
                user_data: bytes(&case.input["user_data"]),
                vendor_data: texts("vd"),
                ..Inputs::default()
            };
            assert_eq!(tree(&translate(&inputs).user.unwrap()), json!({"a": "user"}));
            return Answer::Differs("vendor data is one source, not two");
        }
        let inputs = Inputs {
            vendor_mapping: None,
            vendor_left_out: false,
            user_data: bytes(&case.input["user_data"]),
            vendor_data: texts("vd"),
            facts: facts.collect(),
            included: Vec::new(),
        };
        let translation = translate(&inputs);
        let mut files = Map::new();
        for script in
            translation.scripts.iter().filter(|script| !matches!(script.name.as_str(), "runcmd" | "bootcmd"))
        {
            let name = place(script.place, &script.name);
            files.insert(name, json!({"mode": "0o700", "content": binary(&script.content)}));
        }
        parsed(case, "cloud-config.txt", translation.user.as_ref(), &mut files);
        parsed(case, "vendor-cloud-config.txt", translation.vendor.as_ref(), &mut files);
        let mut ours = case.expected.clone();
        ours["files"] = Value::Object(files);
        let is_warned = !case.expected["warnings"].as_array().unwrap().is_empty();
        let is_empty_config = case.name == "cloud_config_empty_body";
        // Keys of these cases are made up; an application's own text is told, and no fault.
        let is_told = |rule: Rule| (rule.is_fault() && rule != Rule::UnknownKey) || rule == Rule::Opaque;
        assert_eq!(
            translation.notes.0.iter().any(|note| is_told(note.rule)),
            is_warned && !is_empty_config,
            "{}: {:?}",
            case.name,
            translation.notes
        );
        Answer::Is(ours)
    });
}

#[test]
fn scripts_of_a_configuration_are_kept_beside_those_of_parts() {
    let user_data = b"#cloud-config\nruncmd: [a]\nbootcmd: [[b, c d]]\n".to_vec();
    let facts = [("instance-id".to_owned(), "i-1".to_owned())].into();
    let translation = translate(&Inputs { user_data, facts, ..Inputs::default() });
    let all: Vec<_> = translation
        .scripts
        .iter()
        .map(|script| (place(script.place, &script.name), script.content.clone()))
        .collect();
    assert_eq!(all[0].0, "instances/i-testing/boothooks/bootcmd");
    assert_eq!(all[0].1, b"#!/bin/sh\nexport INSTANCE_ID='i-1'\n'b' 'c d'\n");
    assert_eq!(all[1].0, "instances/i-testing/scripts/runcmd");
    assert!(matches!(translation.user.unwrap().get("runcmd").unwrap().value, Yaml::List(_)));
}

/// `Content-Type` alone makes a boothook of it, as in the manuals of clouds.
#[test]
fn a_boothook_without_its_marker_is_whole() {
    let hook = |text: &str| {
        let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\n";
        let message = format!("{head}Content-Type: text/cloud-boothook\n\n{text}\n--B--\n");
        let inputs = Inputs { user_data: message.into_bytes(), ..Inputs::default() };
        String::from_utf8(translate(&inputs).scripts.remove(0).content).unwrap()
    };
    assert_eq!(hook("#!/bin/sh\necho a-long-line").trim_end(), "#!/bin/sh\necho a-long-line");
    assert_eq!(hook("#cloud-boothook\n#!/bin/sh\necho b").trim(), "#!/bin/sh\necho b");
    assert_eq!(hook("#!").trim(), "#!");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_word() {
    for text in ["\u{feff}#cloud-config\nhostname: edge\n", "#cloud-config\nhostname: edge\n"] {
        let inputs = Inputs { user_data: text.into(), ..Inputs::default() };
        assert!(translate(&inputs).entries.contains_key("hostname"), "{text:?}");
    }
}

#[test]
fn what_is_nested_too_deep_costs_that_and_not_the_keys_behind_it() {
    for depth in [5, 30, 31, 32, 33, 40, 90] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!("#cloud-config\nntp: {{x: {deep}}}\nhostname: edge\n");
        let inputs = Inputs { user_data: text.into_bytes(), ..Inputs::default() };
        assert!(translate(&inputs).entries.contains_key("hostname"), "{depth}");
    }
}

#[test]
fn no_script_is_lost_for_its_name() {
    let part = |kind: &str, name: &str, text: &str| {
        format!(
            "--B\nContent-Type: text/{kind}\nContent-Disposition: attachment; filename=\"{name}\"\n\n{text}\n"
        )
    };
    let message = |parts: &[String]| {
        let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n";
        (head.to_owned() + &parts.concat() + "--B--\n").into_bytes()
    };
    let inputs = Inputs {
        user_data: message(&[
            part("x-shellscript", ".setup.sh", "#!one"),
            part("x-shellscript", &"n".repeat(140), "#!two"),
            part("x-shellscript", "zz-final-message", "#!three"),
            part("x-shellscript", "\u{2014}", "#!four"),
            part("x-shellscript", "same.sh", "#!five"),
            part("x-shellscript", "same.sh", "#!six"),
            part("cloud-boothook", "hook", "#!seven"),
            part("x-shellscript-per-boot", "", "#!ten"),
            part("cloud-config", "c", "#cloud-config\nfinal_message: x\nvendor_data: {prefix: [nice, it's]}"),
        ]),
        vendor_data: vec![message(&[
            part("cloud-boothook", "hook", "#!eight"),
            part("x-shellscript", "v.sh", "#!nine"),
        ])],
        ..Inputs::default()
    };
    let made = translate(&inputs);
    let of = |place: Place, name: &str| {
        let script = made.scripts.iter().find(|script| script.place == place && script.name == name);
        script.map(|script| String::from_utf8(script.content.clone()).unwrap()).unwrap_or_default()
    };
    for (place, name, text) in [
        (Place::User, "_.setup.sh", "#!one"),
        (Place::User, &(("n".repeat(100)) + "-002"), "#!two"),
        (Place::User, "zz-final-message-part", "#!three"),
        (Place::User, "part-004", "#!four"),
        (Place::User, "same.sh", "#!six"),
        (Place::Boot, "hook", "#!seven"),
        (Place::Boot, "vendor-hook", "#!eight"),
        (Place::Vendor, ".v.sh", "#!nine"),
    ] {
        assert_eq!(of(place, name), text, "{name}");
    }
    // The image's own of each boot stay when this VM's go.
    let paths: Vec<&[u8]> =
        made.entries.iter().filter(|(name, _)| name.ends_with("/path")).map(|(_, path)| &path[..]).collect();
    assert!(paths.iter().any(|path| path.starts_with(b"/var/lib/preroot/scripts/per-boot/user-data.part-")));
    let vendor = of(Place::Vendor, "v.sh");
    assert_eq!(vendor, "#!/bin/sh\nexec 'nice' 'it'\\''s' /var/lib/preroot/scripts/vendor/.v.sh\n");
    assert!(of(Place::User, "zz-final-message").starts_with("#!/bin/sh\n"));
    let same = made.notes.0.iter().filter(|note| note.rule == Rule::SameName);
    assert_eq!(same.map(|note| note.detail.as_str()).collect::<Vec<_>>(), ["same.sh"]);
}
