//! ovf-env.xml from a hostile medium: any bytes, in any pieces, and what becomes a fact.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::facts::{Facts, Hostname, SshKey, UserName};
use preroot::format::ovf::OvfDocument;
use preroot::source::azure_ovf::OvfReader;

fn read(document: &[u8], step: usize) -> (Result<usize>, Vec<u8>) {
    let (mut reader, mut spooled) = (OvfDocument::new(), Vec::new());
    let mut spool = |bytes: &[u8]| {
        spooled.extend(bytes);
        Ok(())
    };
    let result = document.chunks(step).try_for_each(|chunk| reader.push(chunk, &mut spool));
    let result = result.and_then(|()| reader.finish().map(|repr| repr.custom_data_bytes));
    assert!(result.is_ok() || !reader.has_password());
    (result, spooled)
}

fn check(facts: &Facts) {
    if let Some(hostname) = &facts.hostname {
        assert_eq!(Hostname::parse(hostname.value.as_str()).as_ref(), Ok(&hostname.value));
    }
    if let Some(user) = &facts.user {
        assert_eq!(UserName::parse(user.value.as_str()).as_ref(), Ok(&user.value));
    }
    for line in facts.keys.iter().flat_map(|keys| keys.value.lines()) {
        assert!(SshKey::parse(line).is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    assert_eq!(whole, read(data, 7));
    let (mut reader, mut facts) = (OvfReader::new(), Facts::new());
    let _ = reader.push(data, &mut |_| Ok(()));
    // Without randomness: 5000 rounds of a hash would be all that is ever fuzzed.
    let learned = reader.finish(&mut facts, None);
    assert_eq!(learned.is_ok(), whole.0.is_ok());
    if let Ok(bytes) = whole.0 {
        assert_eq!(bytes, whole.1.len());
    }
    check(&facts);
});
