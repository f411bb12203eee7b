//! The parser against `PyYAML`.

use crate::answer::{Answer, bytes, data, run, tree};
use preroot_cloud_config::yaml::load;
use serde_json::{Value, json};

#[test]
fn yaml_corpus() {
    run("yaml_corpus", |case| {
        let text = String::from_utf8(data(case.input["file"].as_str().unwrap())).unwrap();
        match load(&text) {
            Ok(node) => Answer::Is(plain(&tree(&node))),
            Err(fault) => Answer::Is(json!(format!("{fault:?}"))),
        }
    });
}

/// This file has all bytes as base64.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.contains_key("$utf8") => {
            json!({"$base64": preroot_cloud_config::parts::base64::encode(&bytes(value))})
        }
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Array(items) => items.iter().map(plain).collect(),
        value => value.clone(),
    }
}

#[test]
fn booleans() {
    run("booleans", |case| {
        let node = load(&format!("[{}]", case.input)).unwrap();
        let truth = node.items().unwrap()[0].truth();
        let mut ours = case.expected.clone();
        ours["is_true"] = json!(truth == Some(true));
        ours["translate_bool"] = json!(truth == Some(true));
        Answer::Is(ours)
    });
}

#[test]
fn a_number_with_two_signs_is_none() {
    for text in
        ["0x-80000000000000000000000000000000", "-0x-80000000000000000000000000000000", "--1", "0b+1", "-0-7"]
    {
        let value = load(&format!("a: !!int '{text}'"));
        assert!(
            value.is_err() || value.unwrap().get("a").unwrap().python_text().as_deref() == Some(text),
            "{text}"
        );
    }
    assert!(load("a: !!int '-0x7fffffffffffffffffffffffffffffff'").is_ok());
}
