//! What is to be done about user data? The story: parts, handled in their order; configurations merged; entries.

use crate::config::{Entries, Place, Reading, Script, commands, mapping};
use crate::limits::Budget;
use crate::merge::{self, How};
use crate::note::{Note, Notes, Origin, Source};
use crate::parts::include::{Included, Library, WANTED};
use crate::parts::jinja::Variables;
use crate::parts::sniff::Kind;
use crate::parts::{Part, Unpacker, no_yaml};
use crate::yaml::{self, Node, Value};
use crate::{added, patch, places};
use preroot::format::translation::Rule;
use std::collections::BTreeMap;

/// Letters of a part's name that count.
const NAME: usize = 100;

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
    let is_new = |page: &Included| !page.is_applied;
    if !inputs.included.iter().any(is_new) {
        return translate_with(inputs, &mut Library::new(rounds(inputs), inputs.included.iter()));
    }
    let before = inputs.included.iter().filter(|page| page.is_applied);
    let before = translate_with(inputs, &mut Library::new(rounds(inputs), before));
    let whole = translate_with(inputs, &mut Library::new(rounds(inputs), inputs.included.iter()));
    added::without(whole, &before)
}

/// How often what is wanted is fetched.
fn rounds(inputs: &Inputs) -> Option<u32> {
    inputs.facts.get("include").and_then(|text| text.trim().parse().ok())
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
        translation.entries.insert(WANTED.into(), wanted);
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
    places::make_room(&mut entries, taken, &mut notes);
    places::put_scripts(&mut entries, &scripts, taken, &mut notes);
    places::fit(&mut entries, &mut notes);
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
            let content =
                format!("#!/bin/sh\nexec {quoted}/{}/vendor/{}\n", preroot::seed::SCRIPTS, hidden.name)
                    .into_bytes();
            all.extend([Script { content, ..script }, hidden]);
        } else {
            all.push(script);
        }
    }
    all
}

fn handle(parts: Vec<Part>, origins: &mut Vec<Origin>, budget: &mut Budget, notes: &mut Notes) -> Handled {
    let mut handled = Handled::default();
    // An application's own words are no fault; what begins as user data do, or is among them, was meant to be some.
    let is_opaque = matches!(&*parts, [part] if !part.content.trim_ascii_start().starts_with(b"#"));
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
                let outcome = patch::apply(&part, &mut handled.config, budget);
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
            Kind::Plain | Kind::Other if is_opaque => Rule::Opaque,
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

/// A script with a hidden name would not be run, one without a name or with too long a one has no file.
fn file_name(name: &str, part: u32) -> String {
    match name {
        "" => format!("part-{part:03}"),
        name if name.starts_with('.') => file_name(&format!("_{name}"), part),
        // Cleaned, they are letters of ASCII.
        name => name.get(..NAME).map_or_else(|| name.to_owned(), |head| format!("{head}-{part:03}")),
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
