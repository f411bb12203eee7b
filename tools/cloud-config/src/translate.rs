//! What is to be done about user data? The story: parts, handled in their order; configurations merged; entries.

use crate::config::{Entries, Place, Reading, Script, commands, mapping};
use crate::limits::{self, Budget};
use crate::merge::{self, How};
use crate::note::{Note, Notes, Origin, Source};
use crate::parts::include::{Included, Library};
use crate::parts::jinja::Variables;
use crate::parts::sniff::Kind;
use crate::parts::{Part, Unpacker, no_yaml};
use crate::yaml::{self, Node, Value};
use preroot::format::translation::Rule;
use std::collections::BTreeMap;

/// Scripts in the seed are files for this directory.
/// Letters of a part's name that count.
const NAME: usize = 100;
const SCRIPTS: &str = "/var/lib/preroot/scripts";

/// The entry that names documents to be fetched.
const INCLUDE: &str = "include";

/// What came in.
#[derive(Default, Debug)]
pub struct Inputs {
    /// As it came.
    pub user_data: Vec<u8>,
    /// In their order, the platform's.
    pub vendor_data: Vec<Vec<u8>>,
    /// Which of them the initrd has read.
    pub vendor_mapping: Option<usize>,
    /// Some were too large to be taken in.
    pub vendor_left_out: bool,
    /// What `#include` names, as far as it was fetched.
    pub included: Vec<Included>,
    /// By name: see [`crate::protocol`].
    pub facts: BTreeMap<String, String>,
}

/// What goes out.
#[derive(Default, Debug)]
pub struct Translation {
    /// For the seed, scripts among them.
    pub entries: Entries,
    /// To be told.
    pub notes: Notes,
    /// Merged user data, for tests and people.
    pub user: Option<Node>,
    /// What the initrd read of vendor data does not count any more.
    pub replaces_vendor: bool,
    /// Merged vendor data.
    pub vendor: Option<Node>,
    /// What is to run, as it stands in the entries, too.
    pub scripts: Vec<Script>,
}

/// Parts of one source, handled.
#[derive(Default)]
struct Handled {
    config: Option<Node>,
    scripts: Vec<Script>,
}

/// Translates it all; where documents came in that were not acted upon yet, what they add alone.
pub fn translate(inputs: &Inputs) -> Translation {
    let is_new = |page: &Included| page.document.is_some() && !page.is_applied;
    if !inputs.included.iter().any(is_new) {
        return translate_with(inputs, &mut Library::new(rounds(inputs), inputs.included.iter()));
    }
    let before = inputs.included.iter().filter(|page| !is_new(page));
    let before = translate_with(inputs, &mut Library::new(rounds(inputs), before));
    let (before, notes) = (before.entries, before.notes);
    let whole = translate_with(inputs, &mut Library::new(rounds(inputs), inputs.included.iter()));
    added(whole, &before, &notes)
}

/// How often what is wanted is fetched.
fn rounds(inputs: &Inputs) -> Option<u32> {
    inputs.facts.get("include").and_then(|text| text.trim().parse().ok())
}

/// What is not there already. Files and users are compared whole, disks by the line: none is to be made twice.
fn added(mut whole: Translation, before: &Entries, notes: &Notes) -> Translation {
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
        (_, there) => name == INCLUDE || there != Some(bytes),
    });
    let told = |note: &Note| (note.rule, note.origin, note.line, note.key.clone());
    let known: Vec<_> = notes.0.iter().map(told).collect();
    whole.notes.0.retain(|note| !known.contains(&told(note)));
    whole.replaces_vendor = false;
    whole
}

/// N of `files/N/PART`.
fn file_number(name: &str) -> Option<usize> {
    name.strip_prefix("files/")?.split('/').next()?.parse().ok()
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

fn translate_with(inputs: &Inputs, library: &mut Library<'_>) -> Translation {
    mapping::begin_salts();
    let variables = variables(inputs);
    let launch_index = inputs.facts.get("launch-index").and_then(|text| text.trim().parse().ok());
    let mut notes = Notes::default();
    // Document 0 is none.
    let mut origins = vec![Origin::default()];
    let mut unpack = |source, texts: &[&[u8]], mut budget: Budget, notes: &mut Notes| {
        let mut unpacker = Unpacker::new(source, &variables, library, notes, &mut budget);
        texts.iter().for_each(|text| unpacker.push(text));
        let parts = unpacker.finish(launch_index);
        handle(parts, &mut origins, &mut budget, notes)
    };
    let user = unpack(Source::User, &[&inputs.user_data], Budget::default(), &mut notes);
    let mut vendor = Handled::default();
    // What was read of them in the initrd is read here again, or is not wanted.
    let mut replaces_vendor = true;
    if is_vendor_off(user.config.as_ref()) {
        notes.add(Rule::VendorOff, Origin::default(), 0, "");
    } else {
        let texts: Vec<&[u8]> = inputs.vendor_data.iter().map(Vec::as_slice).collect();
        vendor = unpack(Source::Vendor(0), &texts, Budget::vendor(), &mut notes);
        if inputs.vendor_left_out {
            notes.add(Rule::TooLarge, Origin { source: Source::Vendor(0), part: 0 }, 0, "");
        }
        // That it alone is whole counts: what is wrong with others is no reason to have its words twice.
        let mapping = inputs.vendor_mapping.and_then(|n| inputs.vendor_data.get(n));
        replaces_vendor = mapping.is_some_and(|text| {
            let mut notes = Notes::default();
            unpack(Source::Vendor(0), &[text], Budget::vendor(), &mut notes);
            !notes.0.iter().any(|note: &Note| note.rule.is_fault())
        });
    }
    for script in &mut vendor.scripts {
        match script.place {
            Place::User => script.place = Place::Vendor,
            // Parts of both are counted from 1.
            _ => script.name = file_name(&format!("vendor-{}", script.name), 0),
        }
    }
    vendor.scripts = prefixed(vendor.scripts, user.config.as_ref());
    let mut translation = Translation { replaces_vendor, ..finish(inputs, user, vendor, &origins, notes) };
    if let Some(wanted) = library.entry() {
        translation.entries.insert(INCLUDE.into(), wanted);
    }
    translation
}

fn finish(
    inputs: &Inputs,
    user: Handled,
    vendor: Handled,
    origins: &[Origin],
    mut notes: Notes,
) -> Translation {
    let mut config = user.config.clone().unwrap_or(Node::new(0, Value::Map(Vec::new())));
    if let Some(low) = vendor.config.clone() {
        merge::below(&mut config, low);
    }
    let mut reading = Reading::new(origins, &mut notes);
    reading.read(&config);
    let (mut entries, mut scripts) = (reading.entries, vendor.scripts);
    scripts.extend(user.scripts);
    let id = inputs.facts.get("instance-id").map(String::as_str).unwrap_or_default();
    for script in &mut reading.scripts {
        if script.place == Place::Boot && !id.is_empty() {
            script.content = with_instance(&script.content, id);
        }
    }
    // What is made here has names of its own; `runcmd` is one of cloud-init's, too.
    for script in scripts.iter_mut().filter(|script| script.name != "runcmd") {
        if reading.scripts.iter().any(|ours| (ours.place, &ours.name) == (script.place, &script.name)) {
            script.name += "-part";
        }
    }
    scripts.append(&mut reading.scripts);
    let scripts = once_each(scripts, &mut notes);
    let taken = inputs.facts.get("taken").map(String::as_str).unwrap_or_default();
    make_room(&mut entries, taken, &mut notes);
    put_scripts(&mut entries, &scripts, taken, &mut notes);
    fit(&mut entries, &mut notes);
    rank(&mut entries, user.config.as_ref());
    Translation { entries, notes, user: user.config, vendor: vendor.config, scripts, replaces_vendor: false }
}

/// Of two with one name the last is there, as in cloud-init, where it is not said.
fn once_each(scripts: Vec<Script>, notes: &mut Notes) -> Vec<Script> {
    let mut whole = BTreeMap::new();
    for script in scripts {
        let name = script.name.clone();
        if whole.insert((script.place, name.clone()), script).is_some() {
            notes.add(Rule::SameName, Origin::default(), 0, name);
        }
    }
    whole.into_values().collect()
}

/// `bootcmd` has the id in its environment.
fn with_instance(script: &[u8], id: &str) -> Vec<u8> {
    let first = script.iter().position(|byte| *byte == b'\n').map_or(script.len(), |at| at + 1);
    let (head, rest) = script.split_at(first);
    let line = format!("export INSTANCE_ID='{}'\n", id.replace('\'', ""));
    [head, line.as_bytes(), rest].concat()
}

/// `v1.*` as far as it is known.
fn variables(inputs: &Inputs) -> Variables {
    let mut variables = Variables::new();
    let mut set = |name: &str, fact: &str| {
        if let Some(value) = inputs.facts.get(fact).filter(|value| !value.is_empty()) {
            variables.insert(name.to_owned(), value.clone());
        }
    };
    set("v1.instance_id", "instance-id");
    set("v1.local_hostname", "hostname");
    set("v1.platform", "platform");
    set("v1.cloud_name", "platform");
    set("v1.cloud_id", "platform");
    set("v1.distro", "distribution");
    for (name, value) in &inputs.facts {
        if name.starts_with("v1.") || name.starts_with("ds.") {
            variables.insert(name.clone(), value.clone());
        }
    }
    variables
}

/// stages.py `_consume_vendordata`: what is no mapping is off, and so is what is not said to be on.
fn is_vendor_off(user: Option<&Node>) -> bool {
    match user.and_then(|config| config.get("vendor_data")) {
        None => false,
        Some(node @ Node { value: Value::Map(_), .. }) => {
            node.get("enabled").is_some_and(|enabled| enabled.truth() != Some(true))
        }
        Some(_) => true,
    }
}

/// `vendor_data.prefix`: words before each of the vendor's scripts, which then lies beside, hidden.
fn prefixed(scripts: Vec<Script>, user: Option<&Node>) -> Vec<Script> {
    let prefix = user.and_then(|config| config.get("vendor_data")?.get("prefix"));
    let words: Vec<String> =
        prefix.map(Node::each).unwrap_or_default().iter().filter_map(Node::python_text).collect();
    if words.is_empty() {
        return scripts;
    }
    let quoted: String = words.iter().map(|word| commands::quoted(word) + " ").collect();
    let mut all = Vec::new();
    for script in scripts {
        if script.place == Place::Vendor {
            let hidden = Script { name: format!(".{}", script.name), ..script.clone() };
            let content = format!("#!/bin/sh\nexec {quoted}{SCRIPTS}/vendor/{}\n", hidden.name).into_bytes();
            all.extend([Script { content, ..script }, hidden]);
        } else {
            all.push(script);
        }
    }
    all
}

fn handle(parts: Vec<Part>, origins: &mut Vec<Origin>, budget: &mut Budget, notes: &mut Notes) -> Handled {
    let mut handled = Handled::default();
    for part in parts {
        let mut script = |place, content: &[u8]| {
            let content = unix_lines(content.trim_ascii_start());
            handled.scripts.push(Script { place, name: file_name(&part.name, part.origin.part), content });
        };
        let refused = match part.kind {
            Kind::Config => {
                origins.push(part.origin);
                let document = u16::try_from(origins.len() - 1).unwrap_or_default();
                config(&part, document, &mut handled.config, budget, notes);
                continue;
            }
            Kind::Patch => {
                let outcome = patch(&part, &mut handled.config, budget);
                outcome.unwrap_or_else(|fault| notes.add(Rule::Patch, part.origin, fault.line, fault.rule));
                continue;
            }
            Kind::Script => {
                script(Place::User, &part.content);
                continue;
            }
            Kind::PerBoot => {
                script(Place::PerBoot, &part.content);
                continue;
            }
            Kind::PerInstance => {
                script(Place::PerInstance, &part.content);
                continue;
            }
            Kind::PerOnce => {
                script(Place::PerOnce, &part.content);
                continue;
            }
            Kind::Boothook => {
                let text = part.content.trim_ascii_start();
                // The type alone may say what it is; the line of the marker is none of the shell's.
                script(Place::Boot, without_marker(text, "#cloud-boothook"));
                continue;
            }
            Kind::Include | Kind::IncludeOnce => Rule::Include,
            Kind::PartHandler => Rule::PartHandler,
            Kind::Template => Rule::Template,
            Kind::Archive | Kind::Plain | Kind::Other => Rule::Unknown,
        };
        notes.add(refused, part.origin, 0, part.name.as_str());
    }
    handled
}

fn without_marker<'t>(text: &'t [u8], marker: &str) -> &'t [u8] {
    match text.split_at_checked(marker.len()) {
        Some((head, rest)) if head.eq_ignore_ascii_case(marker.as_bytes()) => rest,
        _ => text,
    }
}

/// Line ends of DOS go where the first line has one.
fn unix_lines(text: &[u8]) -> Vec<u8> {
    let first = text.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    if first == 0 || text[first - 1] != b'\r' {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        if *byte != b'\r' || text.get(at + 1) != Some(&b'\n') {
            out.push(*byte);
        }
    }
    out
}

/// Merges a part of cloud-config into what there is.
fn config(part: &Part, document: u16, whole: &mut Option<Node>, budget: &mut Budget, notes: &mut Notes) {
    let origin = part.origin;
    let Ok(text) = std::str::from_utf8(&part.content) else {
        return notes.add(Rule::Yaml, origin, 0, "not UTF-8");
    };
    let mut node = match yaml::load_within(text, budget) {
        Ok(node) => node,
        Err(fault) => return notes.add(no_yaml(&fault), origin, fault.line, fault.rule),
    };
    node.stamp(document);
    if let (Source::Vendor(_), Some(inner)) = (origin.source, node.get("cloud-init")) {
        // preroot takes a mapping of vendor_data.json under this key.
        node = inner.clone();
    }
    match &node.value {
        Value::Null => return notes.add(Rule::Empty, origin, 0, ""),
        Value::Map(entries) if entries.is_empty() => return notes.add(Rule::Empty, origin, 0, ""),
        Value::Map(_) => {}
        _ => return notes.add(Rule::NoMapping, origin, node.line, ""),
    }
    let (Some(body), Some(header)) = (How::take(&mut node), How::parse(&part.merge_type)) else {
        return notes.add(Rule::MergeHow, origin, 0, "");
    };
    let old = whole.take().unwrap_or_else(|| node.with(Value::Map(Vec::new())));
    *whole = Some(body.or(header).merge(old, node));
}

/// A JSON patch (RFC 6902): `add`, `replace` and `remove`, by members of mappings and places in lists.
fn patch(part: &Part, whole: &mut Option<Node>, budget: &mut Budget) -> Result<(), yaml::Fault> {
    let bad = |line: u32, rule: &str| yaml::Fault { line, rule: rule.into() };
    let text = String::from_utf8_lossy(&part.content);
    let body = text.trim_start().get("#cloud-config-jsonp".len()..).unwrap_or_default();
    let list = yaml::load_within(body, budget)?;
    let mut root = whole.clone().unwrap_or_else(|| list.with(Value::Map(Vec::new())));
    let steps = list.items().ok_or(bad(list.line, "a list was expected"))?;
    if steps.len() > limits::PATCHES {
        return Err(bad(list.line, "too many steps"));
    }
    for step in steps {
        let word = |key: &str| step.get(key).and_then(Node::as_str);
        let (Some(action), Some(path)) = (word("op"), word("path").and_then(|path| path.strip_prefix('/')))
        else {
            return Err(bad(step.line, "op and path were expected"));
        };
        let mut names: Vec<String> =
            path.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
        let last = names.pop().unwrap_or_default();
        let place = names.iter().try_fold(&mut root, |node, name| inside(node, name));
        let place = place.ok_or(bad(step.line, "a path that is not there"))?;
        let value = step.get("value").cloned();
        if !change(place, action, &last, value) {
            return Err(bad(step.line, "not add, replace or remove of what is there"));
        }
    }
    *whole = Some(root);
    Ok(())
}

fn inside<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(entries) => {
            entries.iter_mut().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
        }
        Value::List(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }
}

fn change(node: &mut Node, action: &str, name: &str, value: Option<Node>) -> bool {
    let key = node.text(name);
    match (&mut node.value, action, value) {
        (Value::Map(entries), "remove", _) => {
            let before = entries.len();
            entries.retain(|(key, _)| key.as_str() != Some(name));
            entries.len() < before
        }
        (Value::Map(entries), "add" | "replace", Some(value)) => {
            match entries.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
                Some((_, old)) => *old = value,
                None if action == "add" => entries.push((key, value)),
                None => return false,
            }
            true
        }
        (Value::List(items), action, value) => {
            let at = if name == "-" { Some(items.len()) } else { name.parse().ok() };
            let Some(at) = at.filter(|at| *at <= items.len()) else { return false };
            match (action, value) {
                ("add", Some(value)) => items.insert(at, value),
                ("replace", Some(value)) if at < items.len() => items[at] = value,
                ("remove", _) if at < items.len() => _ = items.remove(at),
                _ => return false,
            }
            true
        }
        _ => false,
    }
}

/// The numbers that the seed has given away below `users/` or `files/`.
fn numbers(taken: &str, directory: &str) -> Vec<usize> {
    taken.lines().filter_map(|line| line.strip_prefix(directory)?.trim().parse().ok()).collect()
}

/// Numbers `users/N` and `files/N` anew, around what is there already; the order stays.
fn make_room(entries: &mut Entries, taken: &str, notes: &mut Notes) {
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

/// Facts that other sources may say, too, have another rank where they are the vendor's.
fn rank(entries: &mut Entries, user: Option<&Node>) {
    for (entry, keys) in [("hostname", &["hostname", "fqdn"][..]), ("user/password-login", &["ssh_pwauth"])] {
        let is_users = keys.iter().any(|key| user.is_some_and(|config| config.get(key).is_some()));
        if !is_users && let Some(bytes) = entries.remove(entry) {
            entries.insert(format!("vendor/{entry}"), bytes);
        }
    }
}

/// apply takes all or nothing: files that would be too much with the others are left out here.
fn fit(entries: &mut Entries, notes: &mut Notes) {
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
fn put_scripts(entries: &mut Entries, scripts: &[Script], taken: &str, notes: &mut Notes) {
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
        put("path", format!("{SCRIPTS}/{}/{}", script.place.directory(), script.name).as_bytes());
        put("mode", b"0700");
        put("content", &script.content);
    }
}

/// A script with a hidden name would not be run, one without a name or with too long a one has no file.
fn file_name(name: &str, part: u32) -> String {
    match name {
        "" => format!("part-{part:03}"),
        name if name.starts_with('.') => file_name(&format!("_{name}"), part),
        // Cleaned, they are letters of ASCII.
        name => name.get(..NAME).map_or_else(|| name.to_owned(), |head| format!("{head}-{part:03}")),
    }
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/') && name.len() <= 128
}
