//! What do documents add that user data included? They come later than the rest, which was applied already.

use crate::config::Entries;
use crate::note::Note;
use crate::parts::include::WANTED;
use crate::places::file_number;
use crate::translate::Translation;
use std::collections::BTreeMap;

/// What is not there already. Files and users are compared whole, disks by the line: none is to be made twice.
pub fn without(mut whole: Translation, before: &Translation) -> Translation {
    let notes = &before.notes;
    let before = &before.entries;
    let old: Vec<_> = files(before).into_values().collect();
    let same: Vec<usize> = files(&whole.entries)
        .into_iter()
        .filter(|(_, file)| old.contains(file))
        .map(|(number, _)| number)
        .collect();
    let users: Vec<&Vec<u8>> =
        before.iter().filter(|(name, _)| name.starts_with("users/")).map(|(_, user)| user).collect();
    whole.entries.retain(|name, bytes| match (file_number(name), before.get(name)) {
        (Some(number), _) => !same.contains(&number),
        _ if name.starts_with("users/") => !users.contains(&&*bytes),
        (_, Some(there)) if matches!(name.as_str(), "storage/disks" | "storage/filesystems") => {
            let there = String::from_utf8_lossy(there);
            let text = String::from_utf8_lossy(bytes).into_owned();
            let lines = text.lines().filter(|line| there.lines().all(|other| other != *line));
            *bytes = lines.map(|line| format!("{line}\n")).collect::<String>().into_bytes();
            !bytes.is_empty()
        }
        (_, there) => name == WANTED || there != Some(bytes),
    });
    let told = |note: &Note| (note.rule, note.origin, note.line, note.key.clone());
    let known: Vec<_> = notes.0.iter().map(told).collect();
    whole.notes.0.retain(|note| !known.contains(&told(note)));
    whole.replaces_vendor = false;
    whole
}

/// Files by number, with their parts.
fn files(entries: &Entries) -> BTreeMap<usize, Vec<(&str, &[u8])>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, bytes) in entries {
        if let (Some(number), Some((_, part))) = (file_number(name), name.rsplit_once('/')) {
            files.entry(number).or_default().push((part, bytes.as_slice()));
        }
    }
    files
}
