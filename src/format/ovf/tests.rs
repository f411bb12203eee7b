//! No cut changes what is read, and no password outlives a failure. The documents are in `tests/fixtures/ovf`.

use super::OvfDocument;
use crate::error::{Kind, Result};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use std::format;
use std::string::String;
use std::vec::Vec;

const DOCUMENT: &[u8] = include_bytes!("../../../tests/fixtures/ovf/sample-b-keys/input.xml");
const WITH_PASSWORD: &[u8] = include_bytes!("../../../tests/fixtures/ovf/sample-a-password/input.xml");

/// Everything that was read, as text.
fn read(document: &[u8], sizes: &[usize]) -> (Result<String>, Vec<u8>) {
    let (mut reader, mut spooled) = (OvfDocument::new(), Vec::new());
    let mut spool = |chunk: &[u8]| {
        spooled.extend(chunk);
        Ok(())
    };
    let (mut rest, mut sizes) = (document, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let _ = reader.push(chunk, &mut spool);
        rest = tail;
    }
    let result = reader.finish().map(|repr| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {}",
            repr.hostname,
            repr.user,
            repr.password.expose(),
            repr.disable_password_login,
            repr.keys,
            repr.custom_data_bytes,
        )
    });
    (result, spooled)
}

#[test]
fn an_error_stays_until_the_reset_and_the_password_does_not() {
    let mut reader = OvfDocument::new();
    let at = WITH_PASSWORD.windows(15).position(|window| window == b"</UserPassword>").unwrap() + 15;
    reader.push(&WITH_PASSWORD[..at], &mut |_| Ok(())).unwrap();
    assert!(reader.has_password());
    let first = reader.push(b"&", &mut |_| Ok(())).and_then(|()| reader.push(b"nbsp;", &mut |_| Ok(())));
    assert!(matches!(first, Err(error) if error.is(Kind::Malformed)));
    assert!(!reader.has_password());
    assert_eq!(reader.push(&WITH_PASSWORD[at..], &mut |_| Ok(())), first);
    assert_eq!(reader.finish().map(drop), first);
    reader.reset();
    reader.push(WITH_PASSWORD, &mut |_| Ok(())).unwrap();
    assert_eq!(reader.finish().unwrap().password.expose(), "P@ss w0rd<&>\"é".as_bytes());
}

#[test]
fn what_cannot_be_spooled_ends_the_document() {
    let full = too_many!("seed", 1);
    assert_eq!(OvfDocument::new().push(DOCUMENT, &mut |_| Err(full)), Err(full));
}

#[test]
fn every_rule_of_the_tokenizer_has_its_words() {
    let sources = [include_str!("../xml/mod.rs"), include_str!("../xml/tags.rs")];
    let rules = sources.iter().flat_map(|source| source.split("malformed!(WHAT, \"").skip(1));
    let mut count = 0;
    for rule in rules.map(|rest| rest.split('"').next().unwrap()).chain([crate::format::xml::DTD]) {
        let words = std::format!("error parsing ovf-env.xml: {rule}");
        assert!(super::XML_RULES.iter().any(|told| told.at(0).reason() == words), "{rule}");
        count += 1;
    }
    assert!(count > 20);
}

#[test]
fn a_value_of_several_lines_is_several_keys_or_none() {
    let sample = String::from_utf8(DOCUMENT.to_vec()).unwrap();
    let (before, rest) = sample.split_once("<wa:Value>").unwrap();
    let (_, behind) = rest.split_once("</wa:Value>").unwrap();
    let lines_of = |value: &str| {
        let mut reader = OvfDocument::new();
        reader
            .push(format!("{before}<wa:Value>{value}</wa:Value>{behind}").as_bytes(), &mut |_| Ok(()))
            .unwrap();
        let said = reader.finish().unwrap();
        let ours =
            said.keys.lines().filter(|line| line.ends_with("test")).map(String::from).collect::<Vec<_>>();
        (ours, said.refused_keys)
    };
    let (one, two) = ("ssh-ed25519 AAAAC3Nz test", "ssh-rsa AAAAB3Nz test");
    let refused = lines_of(one).1;
    assert_eq!(
        lines_of(&format!("\r\n{one}\r\n\n  {two} \n")),
        ([one, two].map(String::from).to_vec(), refused)
    );
    assert_eq!(lines_of(&format!("{one}\nAAAAC3Nz")), (Vec::new(), refused + 1), "broken by a paste");
}

#[test]
fn behind_a_value_that_is_wrong_nothing_is_kept() {
    let document = String::from_utf8(WITH_PASSWORD.to_vec()).unwrap();
    let bad = "<HostName>a b</HostName>";
    let at = document.find("<HostName>").unwrap();
    let custom = "<CustomData>I2Nsb3Vk*</CustomData><CustomData>I2Nsb3VkLWNvbmZpZwo=</CustomData>";
    let end = document.find("</LinuxProvisioningConfigurationSet>").unwrap();
    for more in [bad, custom] {
        let document = format!("{}{more}{}{custom}{}", &document[..at], &document[at..end], &document[end..]);
        let whole = read(document.as_bytes(), &[usize::MAX]);
        assert!(whole.0.is_err());
        for step in [1, 2, 3, 7, 50] {
            assert_eq!(read(document.as_bytes(), &[step]), whole);
        }
        let (mut reader, mut has_password) = (OvfDocument::new(), false);
        for byte in document.as_bytes() {
            reader.push(core::slice::from_ref(byte), &mut |_| Ok(())).unwrap();
            has_password |= reader.has_password();
        }
        assert!(!has_password && reader.finish().is_err() && reader.platform().is_some());
    }
}

proptest! {
    #[test]
    fn no_cut_changes_what_is_read(
        sizes in prop::collection::vec(1_usize..200, 1..20),
        at in any::<prop::sample::Index>(),
        junk in prop::sample::select(&["", "<", "&", "\r", "]", "</x>", "<wa:HostName>x</wa:HostName>", "=="][..]),
        with_password in any::<bool>(),
    ) {
        let mut document = if with_password { WITH_PASSWORD } else { DOCUMENT }.to_vec();
        let at = at.index(document.len());
        document.splice(at..at, junk.bytes());
        prop_assert_eq!(read(&document, &sizes), read(&document, &[document.len()]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), at in 0..DOCUMENT.len()) {
        let _ = read(&[&DOCUMENT[..at], &bytes, &DOCUMENT[at..]].concat(), &[64]);
    }
}
