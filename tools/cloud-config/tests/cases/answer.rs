//! Counts cases, and compares trees with JSON.

use preroot_cloud_config::parts::base64;
use preroot_cloud_config::translate::{Inputs, Translation, translate};
use preroot_cloud_config::yaml::{Node, Value as Yaml};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: Value,
    pub(crate) expected: Value,
    /// The class of Python's exception, empty for none.
    pub(crate) error: String,
}

pub(crate) enum Answer {
    /// To be equal to what is expected.
    Is(Value),
    /// Another on purpose, for this reason.
    Differs(&'static str),
    /// preroot does not have it, and says so.
    Unsupported(&'static str),
}

pub(crate) fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

/// A file that a case names: `data/cloud-init/...`.
pub(crate) fn data(path: &str) -> Vec<u8> {
    std::fs::read(fixture(path.strip_prefix("data/").unwrap())).unwrap()
}

/// Puts every case of a file to `answer`, prints a row of the table, and fails for what is wrong.
pub(crate) fn run(file: &str, mut answer: impl FnMut(&Case) -> Answer) {
    let text = std::fs::read_to_string(fixture(&format!("cases/{file}.json"))).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let (mut equal, mut differ, mut unsupported) = (0, BTreeMap::new(), BTreeMap::new());
    let mut wrong = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let case = Case {
            name: case["name"].as_str().unwrap().into(),
            input: case["input"].clone(),
            expected: case["expected"].clone(),
            error: case["expected_error"].as_str().unwrap_or_default().into(),
        };
        match answer(&case) {
            Answer::Differs(reason) => *differ.entry(reason).or_insert(0) += 1,
            Answer::Unsupported(reason) => *unsupported.entry(reason).or_insert(0) += 1,
            Answer::Is(ours) if ours == case.expected => equal += 1,
            Answer::Is(ours) => {
                wrong.push(format!("{}\n  ours     {ours}\n  expected {}", case.name, case.expected))
            }
        }
    }
    let sum = |reasons: &BTreeMap<&str, u32>| reasons.values().sum::<u32>();
    println!(
        "| {file} | {equal} equal | {} different on purpose | {} unsupported | {} wrong | {differ:?} {unsupported:?}",
        sum(&differ),
        sum(&unsupported),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal > 0, "no case of {file} is equal");
}

/// A tree as the cases have it: bytes that are text as `$utf8`, others as `$base64`.
pub(crate) fn tree(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(truth) => json!(truth),
        Yaml::Int(number) => i64::try_from(*number).map_or(json!(number.to_string()), |number| json!(number)),
        Yaml::Float(number) => json!(number),
        Yaml::Text(text) => json!(text),
        Yaml::Date(text) => json!({"$repr": text}),
        Yaml::Bytes(bytes) => binary(bytes),
        Yaml::List(items) => items.iter().map(tree).collect(),
        Yaml::Map(entries) => entries.iter().map(|(key, value)| (name(key), tree(value))).collect(),
    }
}

fn name(key: &Node) -> String {
    match key.as_str() {
        Some(text) => text.into(),
        None => format!("$key:{}", tree(key)),
    }
}

pub(crate) fn binary(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"$utf8": text}),
        Err(_) => json!({"$base64": base64::encode(bytes)}),
    }
}

/// Bytes of a case.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Null => Vec::new(),
        value => match value["$base64"].as_str() {
            Some(text) => base64::lenient(text.as_bytes()).unwrap(),
            None => value["$utf8"].as_str().unwrap().as_bytes().to_vec(),
        },
    }
}

/// JSON is YAML.
pub(crate) fn config(value: &Value) -> Translation {
    let user_data = format!("#cloud-config\n{value}\n").into_bytes();
    translate(&Inputs { user_data, ..Inputs::default() })
}

pub(crate) fn entry<'t>(translation: &'t Translation, name: &str) -> &'t str {
    translation.entries.get(name).map(|bytes| std::str::from_utf8(bytes).unwrap()).unwrap_or_default()
}
