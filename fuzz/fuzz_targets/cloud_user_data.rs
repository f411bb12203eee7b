//! User data: whatever they are, what comes out is entries that a seed may have, each as the modules read it, and frames
//! that apply reads as they were meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::facts::UserName;
use preroot::format::person::Person;
use preroot::format::translation::{Note, Reader, Sink};
use preroot_cloud_config::config::Entries;
use preroot_cloud_config::protocol;
use preroot_cloud_config::translate::{Inputs, translate};

#[derive(Default)]
struct Heard(Entries, usize);

impl Sink for Heard {
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.entry(name.into()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn note(&mut self, _: Note) {
        self.1 += 1;
    }
}

fuzz_target!(|data: &[u8]| {
    let mut inputs = Inputs { user_data: data.to_vec(), ..Inputs::default() };
    // What stands behind two zeros is vendor data.
    if let Some(at) = data.windows(2).position(|pair| pair == [0, 0]) {
        inputs.user_data.truncate(at);
        inputs.vendor_data.push(data[at + 2..].to_vec());
        inputs.facts.insert("taken".into(), "users/0\nfiles/1\n".into());
    }
    let translation = translate(&inputs);
    let root = UserName::parse("root").unwrap();
    for (name, bytes) in &translation.entries {
        let fact = name.strip_prefix("vendor/").unwrap_or(name);
        assert!(preroot::seed::is_translation(fact), "{name}");
        if name.starts_with("users/") {
            Person::parse(std::str::from_utf8(bytes).unwrap(), &root).unwrap();
        }
    }
    let mut frames = Vec::new();
    protocol::write(&translation, &mut frames).unwrap();
    let (mut reader, mut heard) = (Reader::default(), Heard::default());
    reader.push(&frames, &mut heard).unwrap();
    assert!(reader.is_whole());
    assert_eq!(heard.0.remove("vendor").is_some(), translation.replaces_vendor);
    assert_eq!((heard.0, heard.1), (translation.entries, translation.notes.0.len()));
});
