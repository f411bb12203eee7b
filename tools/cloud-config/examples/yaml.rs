//! What does each of these YAML documents say? For tests/oracle/yaml.py: documents on standard input, a NUL behind each; a line of
//! JSON for each, `!` and the fault where it is none.

use preroot_cloud_config::parts::base64;
use preroot_cloud_config::yaml::{Node, Value, load};
use std::io::Read;

fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Types that JSON does not have are texts in a mapping of their own.
fn json(node: &Node) -> String {
    let typed = |kind: &str, text: &str| format!("{{\"${kind}\": {}}}", quoted(text));
    match &node.value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => typed("int", &number.to_string()),
        Value::Float(number) => typed("float", &format!("{:016x}", number.to_bits())),
        Value::Text(text) => quoted(text),
        Value::Date(_) => typed("date", ""),
        Value::Bytes(bytes) => typed("bytes", &base64::encode(bytes)),
        Value::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let pairs = entries.iter().map(|(key, value)| format!("[{}, {}]", json(key), json(value)));
            format!("{{\"$map\": [{}]}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

fn main() {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    for document in input.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(document);
        match load(&text) {
            Ok(node) => println!("{}", json(&node)),
            Err(fault) => println!("!{} {}", fault.line, fault.rule),
        }
    }
}
