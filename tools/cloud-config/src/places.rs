//! Which numbers do users, files and scripts have in the seed, beside those that are there already?

use crate::config::{Entries, Place, Script};
use crate::limits;
use crate::note::{Notes, Origin};
use preroot::format::translation::Rule;
use preroot::seed::{OF_USER_DATA, SCRIPTS};
use std::collections::BTreeMap;

/// The numbers that the seed has given away below `users/` or `files/`.
fn numbers(taken: &str, directory: &str) -> Vec<usize> {
    taken.lines().filter_map(|line| line.strip_prefix(directory)?.trim().parse().ok()).collect()
}

/// Numbers `users/N` and `files/N` anew, around what is there already; the order stays.
pub fn make_room(entries: &mut Entries, taken: &str, notes: &mut Notes) {
    for (directory, most, rule) in
        [("users/", preroot::limits::USERS, Rule::User), ("files/", preroot::limits::FILES, Rule::File)]
    {
        let theirs = numbers(taken, directory);
        if theirs.is_empty() {
            continue;
        }
        let number_of = |name: &str| name.strip_prefix(directory)?.split('/').next()?.parse::<usize>().ok();
        let mut ours: Vec<usize> = entries.keys().filter_map(|name| number_of(name)).collect();
        ours.sort_unstable();
        ours.dedup();
        // What is written later wins: behind all of theirs, where there is room.
        let behind = theirs.iter().max().map_or(0, |last| last + 1);
        let first = if directory == "files/" && behind + ours.len() <= most { behind } else { 0 };
        let mut free = (first..most).filter(|number| !theirs.contains(number));
        let places: BTreeMap<usize, Option<usize>> =
            ours.into_iter().map(|number| (number, free.next())).collect();
        let moved = std::mem::take(entries);
        for (name, bytes) in moved {
            let Some(number) = number_of(&name) else {
                entries.insert(name, bytes);
                continue;
            };
            match places.get(&number).copied().flatten() {
                Some(place) => {
                    let rest = &name[directory.len() + number.to_string().len()..];
                    entries.insert(format!("{directory}{place}{rest}"), bytes);
                }
                None => notes.add(rule, Origin::default(), 0, "the seed has no room for it"),
            }
        }
    }
}

/// apply takes all or nothing: files that would be too much with the others are left out here.
pub fn fit(entries: &mut Entries, notes: &mut Notes) {
    let mut sizes = BTreeMap::new();
    for (name, bytes) in entries.iter() {
        *sizes.entry(file_number(name)).or_insert(0) += bytes.len();
    }
    let (mut left, mut gone) = (limits::ANSWER, Vec::new());
    for (number, size) in sizes {
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => gone.push(number),
        }
    }
    if !gone.is_empty() {
        notes.add(Rule::TooLarge, Origin::default(), 0, "files");
        entries.retain(|name, _| !gone.contains(&file_number(name)));
    }
}

/// Scripts are files of the seed, 0700.
pub fn put_scripts(entries: &mut Entries, scripts: &[Script], taken: &str, notes: &mut Notes) {
    let mut used: Vec<usize> = entries.keys().filter_map(|name| file_number(name)).collect();
    used.extend(numbers(taken, "files/"));
    let mut free = (0..preroot::limits::FILES).filter(|number| !used.contains(number));
    for script in scripts {
        let total: usize = script.content.len();
        let (Some(number), true) = (free.next(), total <= limits::DOCUMENT && is_file_name(&script.name))
        else {
            notes.add(Rule::File, Origin::default(), 0, "no room for a script, or no name for its file");
            continue;
        };
        let mut put =
            |part: &str, bytes: &[u8]| entries.insert(format!("files/{number}/{part}"), bytes.to_vec());
        let start = match script.place {
            Place::PerOnce | Place::PerBoot | Place::PerInstance => OF_USER_DATA,
            _ => "",
        };
        put("path", format!("/{SCRIPTS}/{}/{start}{}", script.place.directory(), script.name).as_bytes());
        put("mode", b"0700");
        put("content", &script.content);
    }
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/') && name.len() <= 128
}

/// N of `files/N/PART`.
pub fn file_number(name: &str) -> Option<usize> {
    name.strip_prefix("files/")?.split('/').next()?.parse().ok()
}
