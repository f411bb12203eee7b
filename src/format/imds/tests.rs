//! No cut changes what is read. The documents are in `tests/fixtures/imds`.

use super::ImdsDocument;
use crate::error::{Kind, Result};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use std::format;
use std::string::String;
use std::vec::Vec;

const DOCUMENT: &[u8] = include_bytes!("../../../tests/fixtures/imds/instance/input.json");

/// Everything that was read, as text.
fn read(document: &[u8], sizes: &[usize]) -> (Result<String>, Vec<u8>) {
    let (mut reader, mut spooled) = (ImdsDocument::new(), Vec::new());
    let (mut rest, mut sizes) = (document, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let _ = reader.push(chunk, &mut |bytes| {
            spooled.extend(bytes);
            Ok(())
        });
        rest = tail;
    }
    let result = reader.finish().map(|repr| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            repr.hostname,
            repr.user,
            repr.disable_password_login,
            repr.keys,
            repr.key_fault,
            (repr.user_data_bytes, repr.user_data_fault),
            repr.vm_id,
            repr.interfaces,
            (repr.has_os_profile, repr.has_custom_data, repr.pre_provisioning, repr.fault),
        )
    });
    (result, spooled)
}

#[test]
fn an_error_stays_until_the_reset() {
    let mut reader = ImdsDocument::new();
    let first = reader.push(b"{]", &mut |_| Ok(()));
    assert!(matches!(first, Err(error) if error.is(Kind::Malformed)));
    assert_eq!(reader.push(DOCUMENT, &mut |_| Ok(())), first);
    assert_eq!(reader.finish().map(drop), first);
    reader.reset();
    reader.push(DOCUMENT, &mut |_| Ok(())).unwrap();
    assert_eq!(reader.finish().unwrap().interfaces.as_slice().len(), 2);
}

#[test]
fn what_cannot_be_spooled_ends_the_document() {
    let full = too_many!("seed", 1);
    assert_eq!(ImdsDocument::new().push(DOCUMENT, &mut |_| Err(full)), Err(full));
}

#[test]
fn every_rule_of_the_tokenizer_has_its_words() {
    let rules = include_str!("../json/mod.rs").split("malformed!(WHAT, \"").skip(1);
    let mut count = 0;
    for rule in rules.map(|rest| rest.split('"').next().unwrap()) {
        let words = std::format!("error parsing IMDS metadata: {rule}");
        assert!(super::JSON_RULES.iter().any(|told| told.at(0).reason() == words), "{rule}");
        count += 1;
    }
    assert!(count > 10);
}

proptest! {
    #[test]
    fn no_cut_changes_what_is_read(
        sizes in prop::collection::vec(1_usize..200, 1..20),
        at in any::<prop::sample::Index>(),
        junk in prop::sample::select(&["", "\"", "\\", "\\r", "{", "]", ",", "\"userData\":\"x\",", "==", "\\ud83d"][..]),
    ) {
        let mut document = DOCUMENT.to_vec();
        let at = at.index(document.len());
        document.splice(at..at, junk.bytes());
        prop_assert_eq!(read(&document, &sizes), read(&document, &[document.len()]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), at in 0..DOCUMENT.len()) {
        let _ = read(&[&DOCUMENT[..at], &bytes, &DOCUMENT[at..]].concat(), &[64]);
    }
}
