//! Which files does `write_files` ask for? Each decoded here, so that apply writes bytes (cc_write_files.py).

use super::Reading;
use crate::limits;
use crate::note::Origin;
use crate::parts::{base64, gzip};
use crate::yaml::{Node, Value};
use preroot::format::translation::Rule;

/// The list as preroot's reader takes it: contents decoded, paths absolute.
pub(super) fn prepared(reading: &mut Reading<'_>, value: &Node) -> Node {
    let mut files = Vec::new();
    for item in value.each() {
        if item.entries().is_empty() {
            reading.note(Rule::File, item, "a mapping was expected");
        } else if let Some(file) = file(reading, item) {
            files.push(file);
        }
    }
    value.with(Value::List(files))
}

fn file(reading: &mut Reading<'_>, item: &Node) -> Option<Node> {
    let mut parts = Vec::new();
    let encoding = item.get("encoding").and_then(Node::python_text).unwrap_or_default();
    let content = item.get("content").filter(|content| !content.is_null());
    if item.get("source").is_some() {
        reading.note(Rule::FileSource, item, if content.is_some() { "its content is written" } else { "" });
        content?;
    }
    for (key, value) in item.entries() {
        match key.as_str() {
            Some("encoding" | "source") => {}
            Some("content") => {
                let bytes = decoded(reading, value, &encoding)?;
                parts.push((key.clone(), value.with(Value::Bytes(bytes))));
            }
            Some("path") => parts.push((key.clone(), value.text(absolute(&value.python_text()?)))),
            Some("append" | "defer") => {
                parts.push((key.clone(), value.with(Value::Bool(value.truth() == Some(true)))));
            }
            _ => parts.push((key.clone(), value.clone())),
        }
    }
    Some(item.with(Value::Map(parts)))
}

/// The bytes of a file; `None` for a gzip that is broken or too large.
fn decoded(reading: &mut Reading<'_>, content: &Node, encoding: &str) -> Option<Vec<u8>> {
    let raw = match &content.value {
        Value::Bytes(bytes) => bytes.clone(),
        Value::Null => Vec::new(),
        _ => match content.python_text() {
            Some(text) => text.into_bytes(),
            None => {
                reading.note(Rule::File, content, "content that is no text");
                return None;
            }
        },
    };
    let (is_gzip, is_base64) = match encoding.trim().to_ascii_lowercase().as_str() {
        "gz" | "gzip" => (true, false),
        "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64" => (true, true),
        "b64" | "base64" => (false, true),
        "" | "text/plain" => (false, false),
        _ => {
            reading.note(Rule::UnsupportedValue, content, "an unknown encoding: taken as text");
            (false, false)
        }
    };
    let bytes = if is_base64 { base64::lenient(&raw) } else { Some(raw) };
    let Some(bytes) = bytes else {
        reading.note(Rule::File, content, "broken base64");
        return None;
    };
    if !is_gzip {
        return Some(bytes);
    }
    unzipped(reading, content, &bytes)
}

/// What is in gzip, with all others no more than there may be.
pub(super) fn unzipped(reading: &mut Reading<'_>, at: &Node, bytes: &[u8]) -> Option<Vec<u8>> {
    let most = reading.budget.bytes.min(limits::DOCUMENT);
    let inside = gzip::decompress_all(bytes, most);
    reading.budget.spend(inside.as_ref().map_or(most, Vec::len), 0, inside.is_ok());
    match inside {
        Ok(inside) => return Some(inside),
        Err(gzip::Fault::TooMuch) => reading.note(Rule::TooLarge, at, ""),
        Err(gzip::Fault::Broken) => reading.note(Rule::BadValue, at, "broken gzip"),
    }
    None
}

/// As os.path.abspath below `/`.
pub(super) fn absolute(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Of host keys.
const KINDS: &[&str] = &["rsa", "ecdsa", "ed25519"];

/// Which kinds of host keys apply makes: those given, in case their files cannot be written; else `ssh_genkeytypes`. It
/// makes all where there would be none.
pub(super) fn put_kinds_of_keys(reading: &mut Reading<'_>, config: &Node) {
    let path = |kind: &str| format!("/etc/ssh/ssh_host_{kind}_key");
    let is_given = |kind: &&&str| reading.files.iter().any(|(file, ..)| *file == path(kind));
    let mut kinds: Vec<String> = KINDS.iter().filter(is_given).map(ToString::to_string).collect();
    if config.get("ssh_keys").is_none_or(Node::is_null)
        && let Some(asked) = config.get("ssh_genkeytypes")
    {
        reading.set_key("ssh_genkeytypes");
        for kind in asked.each() {
            match kind.python_text().filter(|kind| KINDS.contains(&kind.as_str())) {
                Some(kind) if kinds.contains(&kind) => {}
                Some(kind) => kinds.push(kind),
                None => reading.note(Rule::UnsupportedValue, kind, "no kind of host key"),
            }
        }
        if kinds.is_empty() && !asked.is_null() {
            reading.note(Rule::BadValue, asked, "sshd needs a host key");
        }
    }
    if !kinds.is_empty() {
        reading.entries.insert("ssh-host-keys".into(), (kinds.join("\n") + "\n").into_bytes());
    }
}

/// `ssh_keys`: this VM's host keys, made elsewhere; each takes the place of one that apply made.
pub(super) fn read_host_keys(reading: &mut Reading<'_>, value: &Node) {
    let mut certificates = String::new();
    for (key, text) in value.entries() {
        let name = key.python_text().unwrap_or_default();
        let content = text.python_text().unwrap_or_default();
        let content = if content.ends_with('\n') { content } else { content + "\n" };
        let file = match name.rsplit_once('_') {
            Some((kind, _)) if !KINDS.contains(&kind) => None,
            Some((kind, "private")) => Some((kind, "", "0600")),
            Some((kind, "public")) => Some((kind, ".pub", "0644")),
            Some((kind, "certificate")) => {
                certificates += &format!("HostCertificate /etc/ssh/ssh_host_{kind}_key-cert.pub\n");
                Some((kind, "-cert.pub", "0644"))
            }
            _ => None,
        };
        let Some((kind, end, mode)) = file else {
            reading.note(Rule::UnsupportedValue, key, &name);
            continue;
        };
        if end.is_empty() && value.get(&format!("{kind}_public")).is_none() {
            reading.note(Rule::BadValue, key, "its public key is missing");
            continue;
        }
        reading.files.push((format!("/etc/ssh/ssh_host_{kind}_key{end}"), mode, content));
    }
    if !certificates.is_empty() {
        // Where sshd_config includes that directory, as it does wherever it has one.
        let path = "/etc/ssh/sshd_config.d/60-preroot-host-certificates.conf".to_owned();
        reading.files.push((path, "0600", certificates));
    }
}

/// Files of ours, behind those of `write_files`.
pub(super) fn put_others(reading: &mut Reading<'_>) {
    let numbers = reading
        .entries
        .keys()
        .filter_map(|name| name.strip_prefix("files/")?.split('/').next()?.parse().ok());
    let first = numbers.max().map_or(0, |last: usize| last + 1);
    let files = std::mem::take(&mut reading.files);
    if first + files.len() > preroot::limits::FILES {
        reading.notes.add(Rule::File, Origin::default(), 0, "no room for ssh_keys");
    }
    for (number, (path, mode, content)) in (first..preroot::limits::FILES).zip(files) {
        for (part, text) in [("path", path.as_str()), ("mode", mode), ("content", content.as_str())] {
            reading.entries.insert(format!("files/{number}/{part}"), text.as_bytes().to_vec());
        }
    }
}
