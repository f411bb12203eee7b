//! An instance document from a hostile IMDS: any bytes, in any pieces, and what becomes a fact.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::facts::{Facts, Hostname, SshKey, UserName};
use preroot::format::imds::ImdsDocument;
use preroot::source::azure_imds::ImdsReader;

fn read(document: &[u8], step: usize) -> (Result<Option<usize>>, Vec<u8>) {
    let (mut reader, mut spooled) = (ImdsDocument::new(), Vec::new());
    let mut spool = |bytes: &[u8]| {
        spooled.extend(bytes);
        Ok(())
    };
    let result = document.chunks(step).try_for_each(|chunk| reader.push(chunk, &mut spool));
    let bytes = |repr: &preroot::format::imds::ImdsRepr| {
        repr.user_data_fault.is_none().then_some(repr.user_data_bytes)
    };
    let result = result.and_then(|()| reader.finish().map(bytes));
    (result, spooled)
}

fn check(facts: &Facts) {
    assert!(facts.instance_id.is_none(), "identity never comes from the network");
    assert!(facts.password.is_none());
    if let Some(hostname) = &facts.hostname {
        assert_eq!(Hostname::parse(hostname.value.as_str()).as_ref(), Ok(&hostname.value));
    }
    if let Some(user) = &facts.user {
        assert_eq!(UserName::parse(user.value.as_str()).as_ref(), Ok(&user.value));
    }
    assert_eq!(facts.network.check(), Ok(()));
    assert_eq!(facts.network_from.is_some(), !facts.network.is_empty());
    for line in facts.keys.iter().flat_map(|keys| keys.value.lines()) {
        assert!(SshKey::parse(line).is_ok());
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    assert_eq!(whole, read(data, 7));
    let (mut reader, mut facts) = (ImdsReader::new(), Facts::new());
    let _ = reader.push(data, &mut |_| Ok(()));
    let learned = reader.finish(&mut facts, Some([0, 13, 58, 18, 52, 86]));
    assert_eq!(learned.is_ok(), whole.0.is_ok());
    if let Ok(Some(bytes)) = whole.0 {
        assert_eq!(bytes, whole.1.len());
    }
    check(&facts);
});
