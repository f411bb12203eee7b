//! MIME: parts are inside of the message, and nest no deeper than allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot_cloud_config::parts::mime::{Entity, parse};

fn depth(entity: &Entity) -> usize {
    entity.parts.iter().map(depth).max().map_or(0, |depth| depth + 1)
}

fuzz_target!(|data: &[u8]| {
    let message = parse(data, 8);
    assert!(depth(&message) <= 8);
    let mut leaves = Vec::new();
    message.leaves(&mut leaves);
    let total: usize = leaves.iter().map(|leaf| leaf.content().len()).sum();
    assert!(total <= data.len());
    for leaf in leaves {
        assert_eq!(leaf.content_type().split('/').count(), 2);
        let _ = (leaf.file_name(), leaf.header("launch-index"));
    }
});
