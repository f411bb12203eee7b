//! What do documents add that user data included? They come later than the rest, which was applied already.

use crate::config::Entries;
use crate::note::Note;
use crate::parts::include::WANTED;
use crate::places::file_number;
use crate::translate::Translation;
use preroot::seed::{RUN_ONCE, SCRIPTS};
use std::collections::BTreeMap;

/// What is not there already. Files and users are compared whole, disks by the line: none is to be made twice.
pub fn without(mut whole: Translation, before: &Translation) -> Translation {
    let notes = &before.notes;
    let before = &before.entries;
    let old: Vec<_> = files(before).into_values().map(what_runs).collect();
    let same: Vec<usize> = files(&whole.entries)
        .into_iter()
        .filter(|(_, file)| old.contains(&what_runs(file.clone())))
        .map(|(number, _)| number)
        .collect();
    let users: Vec<&Vec<u8>> =
        before.iter().filter(|(name, _)| name.starts_with("users/")).map(|(_, user)| user).collect();
    whole.entries.retain(|name, bytes| match (file_number(name), before.get(name)) {
        (Some(number), _) => !same.contains(&number),
        _ if name.starts_with("users/") => {
            let is_new = !users.contains(&&*bytes);
            *bytes = without_passwords(bytes, &users);
            is_new
        }
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

/// A user as the documents have it, without what was said of the password before: its owner may have changed it since.
fn without_passwords(user: &[u8], before: &[&Vec<u8>]) -> Vec<u8> {
    const PASSWORD: &[&str] = &["hashed_passwd ", "passwd ", "expire ", "lock_passwd "];
    let text = String::from_utf8_lossy(user).into_owned();
    let who = |text: &str| match text.lines().any(|line| line == "default true") {
        true => Some("default".to_owned()),
        false => text.lines().find(|line| line.starts_with("name ")).map(str::to_owned),
    };
    let before: Vec<_> = before.iter().map(|other| String::from_utf8_lossy(other)).collect();
    let old: Vec<&str> =
        before.iter().filter(|old| who(old) == who(&text)).flat_map(|old| old.lines()).collect();
    let is_kept = |line: &&str| !PASSWORD.iter().any(|key| line.starts_with(key)) || !old.contains(line);
    text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect::<String>().into_bytes()
}

/// A script that runs once is known by its text: its name may be another where an earlier document has come.
fn what_runs<'f>(mut file: Vec<(&'f str, &'f [u8])>) -> Vec<(&'f str, &'f [u8])> {
    for (part, bytes) in &mut file {
        let path = std::str::from_utf8(bytes).ok().filter(|_| *part == "path");
        let place = path.and_then(|path| {
            path.strip_prefix('/')?.strip_prefix(SCRIPTS)?.strip_prefix('/')?.split_once('/')
        });
        if let Some((directory, _)) = place.filter(|(directory, _)| RUN_ONCE.contains(directory)) {
            *bytes = directory.as_bytes();
        }
    }
    file
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
