//! Who is in `users`, in all its spellings (distros/ug_util.py), as preroot's reader takes it?

use super::commands::quoted;
use super::{Place, Reading};
use crate::yaml::{Node, Value};
use preroot::format::person::Person;
use preroot::format::translation::Rule;
use std::collections::HashMap;

/// Keys of a user that ask for what preroot does not have.
const UNSUPPORTED: &[&str] = &["snapuser"];

/// `user`, a name or a mapping: it takes the place of the image's default account.
pub(super) fn default_of(config: &Node) -> Option<Node> {
    let user = config.get("user").filter(|user| !user.is_null())?;
    Some(match &user.value {
        Value::Map(_) => user.clone(),
        _ => user.with(Value::Map(vec![(user.text("name"), user.clone())])),
    })
}

/// A list of names and mappings.
pub(super) fn prepared(reading: &mut Reading<'_>, value: &Node) -> Node {
    let mut users = Vec::new();
    // Who names it has it, whatever the list says.
    if reading.default_user.is_some() {
        users.push(value.text("default"));
    }
    match &value.value {
        // By name: what stands behind each are its keys, or whether it is meant at all.
        Value::Map(entries) => {
            for (name, user) in entries {
                if !user.entries().is_empty() {
                    users.push(person(reading, user, Some(name)));
                } else if user.truth() != Some(false) {
                    users.push(name.clone());
                }
            }
        }
        _ => value.each().iter().for_each(|item| add(reading, item, &mut users)),
    }
    value.with(Value::List(users))
}

fn add(reading: &mut Reading<'_>, item: &Node, users: &mut Vec<Node>) {
    match &item.value {
        Value::Null => {}
        Value::List(items) => items.iter().for_each(|item| add(reading, item, users)),
        // The image's default account, and more of it.
        Value::Map(_) if item.get("name").and_then(Node::as_str) == Some("default") => {
            users.push(item.text("default"));
            // What both say is `user`'s to say (distros/ug_util.py).
            let known = reading.default_user.take().unwrap_or(item.with(Value::Map(Vec::new())));
            let is_new = |(key, _): &&(Node, Node)| {
                !known.entries().iter().any(|(known, _)| known.as_str() == key.as_str())
            };
            let more = item.entries().iter().filter(is_new).cloned();
            reading.default_user =
                Some(known.with(Value::Map([known.entries(), &more.collect::<Vec<_>>()].concat())));
        }
        Value::Map(entries) if item.get("name").is_some() || entries.len() != 1 => {
            users.push(person(reading, item, None));
        }
        // {name: {...}}
        Value::Map(entries) => {
            for (name, user) in entries {
                users.push(if user.entries().is_empty() {
                    name.clone()
                } else {
                    person(reading, user, Some(name))
                });
            }
        }
        _ => users.push(item.clone()),
    }
}

fn person(reading: &mut Reading<'_>, user: &Node, name: Option<&Node>) -> Node {
    let mut keys = Vec::new();
    if let Some(name) = name {
        keys.push((name.text("name"), name.clone()));
    }
    for (key, value) in user.entries() {
        let word = key.python_text().unwrap_or_default().replace('-', "_");
        let value = match word.as_str() {
            _ if value.is_null() => continue,
            word if UNSUPPORTED.contains(&word) => {
                reading.note(Rule::UnsupportedValue, key, word);
                continue;
            }
            word @ ("ssh_import_id" | "selinux_user") => {
                let whose = name.or_else(|| user.get("name")).and_then(Node::python_text);
                match whose.filter(|whose| preroot::facts::UserName::parse(whose).is_ok()) {
                    Some(whose) => later(reading, word, &whose, value),
                    None => reading.note(Rule::UnsupportedValue, key, word),
                }
                continue;
            }
            word @ "ssh_redirect_user" => match &value.value {
                Value::Bool(false) => continue,
                Value::Bool(true) if !has_own_keys(user) => value.clone(),
                Value::Text(text) if text == "default" && !has_own_keys(user) => {
                    value.with(Value::Bool(true))
                }
                _ => {
                    reading.note(Rule::BadValue, value, word);
                    continue;
                }
            },
            // Of useradd: lastlog is sparse.
            "no_log_init" => continue,
            "name" if name.is_some() => continue,
            // It is set last (distros/__init__.py).
            "plain_text_passwd" if user.get("hashed_passwd").is_some_and(|hash| !hash.is_null()) => continue,
            "ssh_authorized_keys" => key_list(value),
            "groups" => names(value),
            _ => value.clone(),
        };
        keys.push((key.text(word), value));
    }
    user.with(Value::Map(keys))
}

/// cloud-init makes nobody who has keys, and is to log in as somebody else.
fn has_own_keys(user: &Node) -> bool {
    let names = user.entries().iter().filter_map(|(key, _)| key.as_str());
    names
        .map(|name| name.replace('-', "_"))
        .any(|name| matches!(&*name, "ssh_authorized_keys" | "ssh_import_id"))
}

/// What programs of the image do for an account: keys from elsewhere need the network.
fn later(reading: &mut Reading<'_>, word: &str, whose: &str, value: &Node) {
    let words: Vec<String> =
        value.each().iter().filter_map(Node::python_text).map(|word| quoted(&word)).collect();
    let whose = quoted(whose);
    reading.for_accounts += &match (word, words.as_slice()) {
        (_, []) => return,
        ("selinux_user", [user, ..]) => {
            format!("semanage login -m -s {user} {whose} || semanage login -a -s {user} {whose} || code=1\n")
        }
        (_, ids) => format!("sudo -Hu {whose} ssh-import-id {} || code=1\n", ids.join(" ")),
    };
}

/// The script of [`later`].
pub(super) fn put_rest(reading: &mut Reading<'_>) {
    let lines = std::mem::take(&mut reading.for_accounts);
    if !lines.is_empty() {
        reading.script(Place::First, "00-accounts", format!("#!/bin/sh\ncode=0\n{lines}exit \"$code\"\n"));
    }
}

/// What `user` and an entry named `default` say of the image's default account: a file of its own.
pub(super) fn put_default(reading: &mut Reading<'_>) {
    let Some(user) = reading.default_user.take() else { return };
    let has_sudo = user.entries().iter().any(|(key, _)| key.as_str() == Some("sudo"));
    let user = person(reading, &user, None);
    let mut lines = String::new();
    // With or without a rule, it takes the place of the image's for that account.
    if has_sudo {
        lines += "sudo\n";
    }
    for (key, value) in user.entries() {
        let key = key.as_str().unwrap_or_default();
        if key == "name" && value.as_str() == Some("default") {
            continue;
        }
        for value in value.each() {
            let text = match value.truth() {
                Some(false) if key == "sudo" => continue,
                Some(truth) if matches!(value.value, Value::Bool(_)) => truth.to_string(),
                _ => value.python_text().unwrap_or_default(),
            };
            if Person::takes(key, &text) {
                lines += &format!("{key} {text}\n");
            } else {
                reading.note(Rule::User, value, key);
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    // Who is meant by every file for that account, and that it may not everything; a file of its own comes before those
    // with passwords, which win.
    let is_everywhere = |line: &&str| line.starts_with("name ") || *line == "sudo\n";
    let name: String = lines.split_inclusive('\n').filter(is_everywhere).collect();
    for (_, text) in reading.entries.iter_mut().filter(|(entry, _)| entry.starts_with("users/")) {
        if let Some(rest) = text.strip_prefix(b"default true\n") {
            *text = [b"default true\n", name.as_bytes(), rest].concat();
        }
    }
    let mut files = (0..preroot::limits::USERS).map(|n| format!("users/{n}"));
    match files.find(|entry| !reading.entries.contains_key(entry)) {
        Some(entry) => _ = reading.entries.insert(entry, format!("default true\n{lines}").into_bytes()),
        None => reading.note(Rule::User, &user, "too many users"),
    }
}

/// Keys as a list: a mapping's values, one text's lines, or a list.
pub(super) fn key_list(value: &Node) -> Node {
    let items: Vec<Node> = match &value.value {
        Value::Map(entries) => entries.iter().map(|(_, key)| key.clone()).collect(),
        _ => value.each().to_vec(),
    };
    let lines = items.iter().flat_map(|item| {
        let text = item.python_text().unwrap_or_default();
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| item.text(line))
            .collect::<Vec<_>>()
    });
    value.with(Value::List(lines.collect()))
}

/// A mapping's keys, or what is there.
fn names(value: &Node) -> Node {
    match &value.value {
        Value::Map(entries) => value.with(Value::List(entries.iter().map(|(key, _)| key.clone()).collect())),
        _ => value.clone(),
    }
}

/// `groups`: names, or mappings of a name and its members, in all their spellings; members of one group come together.
pub(super) fn read_groups(reading: &mut Reading<'_>, value: &Node) {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    let mut places = HashMap::new();
    let mut add = |name: &str, members: &[String]| {
        let name = name.trim();
        if name.is_empty() {
            return;
        }
        let place = *places.entry(name.to_owned()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, known)) => known.extend_from_slice(members),
            None => groups.push((name.to_owned(), members.to_vec())),
        }
    };
    for item in value.each() {
        match &item.value {
            Value::Map(entries) => {
                for (name, members) in entries {
                    add(&name.python_text().unwrap_or_default(), &member_names(members));
                }
            }
            _ => item.python_text().unwrap_or_default().split(',').for_each(|name| add(name, &[])),
        }
    }
    for (name, members) in groups {
        let is_name = |name: &String| preroot::facts::UserName::parse(name).is_ok();
        if !is_name(&name) || !members.iter().all(is_name) {
            reading.note(Rule::User, value, "a group or a member that is no name");
            continue;
        }
        let separator = if members.is_empty() { "" } else { " " };
        let line = format!("{name}{separator}{}\n", members.join(","));
        reading.entries.entry("groups".into()).or_default().extend_from_slice(line.as_bytes());
    }
}

fn member_names(members: &Node) -> Vec<String> {
    let texts = members.each().iter().filter_map(Node::python_text).collect::<Vec<_>>().join(",");
    texts.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
