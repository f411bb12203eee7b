//! meta_data.json: what it says does not depend on where it is cut, and fits where it belongs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::fields::Fields;
use preroot::format::openstack::MetaData;

fn read(document: &[u8], step: usize) -> Option<Box<MetaData>> {
    let (mut fields, mut meta) = (Fields::new(), Box::new(MetaData::new()));
    document.chunks(step).try_for_each(|chunk| fields.push(chunk, &mut *meta)).ok()?;
    fields.finish(&mut *meta).ok()?;
    Some(meta)
}

fuzz_target!(|data: &[u8]| {
    let (whole, cut) = (read(data, data.len().max(1)), read(data, 1));
    assert_eq!(whole.is_some(), cut.is_some());
    let (Some(whole), Some(cut)) = (whole, cut) else { return };
    assert_eq!((&whole.id, &whole.hostname, &whole.files), (&cut.id, &cut.hostname, &cut.files));
    assert_eq!((whole.keys.as_str(), whole.password.expose()), (cut.keys.as_str(), cut.password.expose()));
    assert_eq!((&whole.random, whole.is_disabled), (&cut.random, cut.is_disabled));
    assert!(!whole.password.expose().contains(&0) || data.windows(6).any(|part| part == b"\\u0000"));
});
