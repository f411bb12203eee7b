//! YAML of user data: any text is a tree within bounds, or a fault with a line of it; a tree says what its scalars say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot_cloud_config::limits;
use preroot_cloud_config::yaml::{Node, Value, load};

/// Values in it, and how deep they are.
fn measure(node: &Node) -> (usize, usize) {
    let inner: Vec<(usize, usize)> = match &node.value {
        Value::List(items) => items.iter().map(measure).collect(),
        Value::Map(entries) => {
            entries.iter().flat_map(|(key, value)| [measure(key), measure(value)]).collect()
        }
        _ => return (1, 0),
    };
    let deepest = inner.iter().map(|(_, depth)| *depth).max().unwrap_or_default();
    (1 + inner.iter().map(|(nodes, _)| nodes).sum::<usize>(), 1 + deepest)
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines =
        u32::try_from(text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()).unwrap() + 1;
    match load(&text) {
        Ok(node) => {
            let (nodes, depth) = measure(&node);
            assert!(nodes <= 2 * limits::YAML_NODES && depth <= limits::YAML_DEPTH);
            assert!(node.line >= 1 && node.line <= lines);
            assert_eq!(node.python_text().is_none(), matches!(node.value, Value::List(_) | Value::Map(_)));
            for (at, (key, _)) in node.entries().iter().enumerate() {
                assert!(node.entries()[..at].iter().all(|(other, _)| other.value != key.value));
            }
        }
        Err(fault) => assert!(fault.line >= 1 && fault.line <= lines, "{fault:?}"),
    }
});
