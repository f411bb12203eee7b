//! Which disks, file systems, mounts and swap are asked for? Lines of the seed's `storage/` (cc_disk_setup.py,
//! cc_mounts.py).

use super::Reading;
use crate::yaml::{Node, Value};
use preroot::format::disk_setup::{Disk, FileSystem};
use preroot::format::swap::size_bytes;
use preroot::format::translation::Rule;

/// One key of the four.
pub(super) fn read(reading: &mut Reading<'_>, config: &Node, value: &Node) {
    match reading.key() {
        "disk_setup" => disks(reading, config, value),
        "fs_setup" => file_systems(reading, config, value),
        "mounts" => mounts(reading, config, value),
        _ => swap(reading, value),
    }
}

/// A word of a line: blanks and the like as fstab(5) has them, `-` for nothing.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '#' | '\\' => out += &format!("\\{:03o}", c as u32),
            c => out.push(c),
        }
    }
    out
}

fn put(reading: &mut Reading<'_>, entry: &str, words: &[String]) {
    let line = words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ") + "\n";
    reading.entries.entry(entry.into()).or_default().extend_from_slice(line.as_bytes());
}

/// What a name stands for; `None` for the resource disk, which is somebody else's.
fn device(reading: &mut Reading<'_>, config: &Node, name: &Node) -> Option<String> {
    let text = name.python_text().unwrap_or_default();
    let base = text.split('.').next().unwrap_or_default();
    if matches!(base, "ephemeral0" | "ephemeral") {
        reading.note(Rule::Ephemeral, name, "");
        return None;
    }
    let alias = config.get("device_aliases").and_then(|aliases| aliases.get(base)).and_then(Node::as_str);
    Some(match alias {
        Some(path) => path.to_owned() + &text[base.len()..],
        None => text,
    })
}

fn flag(node: Option<&Node>) -> String {
    if node.and_then(Node::truth) == Some(true) { "y".into() } else { "n".into() }
}

fn disks(reading: &mut Reading<'_>, config: &Node, value: &Node) {
    for (name, disk) in value.entries() {
        let Some(device) = device(reading, config, name) else { continue };
        let table = disk.get("table_type").and_then(Node::python_text).unwrap_or_else(|| "mbr".into());
        let layout = match disk.get("layout") {
            None => None,
            Some(node) if node.value == Value::Bool(false) => continue,
            Some(node) if node.value == Value::Bool(true) => Some(String::new()),
            Some(node) => node.items().and_then(layout),
        };
        let words = [
            device,
            table.to_ascii_lowercase(),
            layout.clone().unwrap_or_default(),
            flag(disk.get("overwrite")),
        ];
        let line = words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ");
        if layout.is_none() || Disk::parse(line.as_bytes()).is_none() {
            reading.note(Rule::Disk, disk, "table_type is mbr or gpt, layout true, or a list of percentages");
            continue;
        }
        put(reading, "storage/disks", &words);
    }
}

/// `50,50:82`.
fn layout(parts: &[Node]) -> Option<String> {
    let part = |part: &Node| match part.items() {
        None => part.python_text(),
        Some([percent, kind]) => Some(format!("{}:{}", percent.python_text()?, kind.python_text()?)),
        Some(_) => None,
    };
    if parts.is_empty() {
        return None;
    }
    Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join(","))
}

fn file_systems(reading: &mut Reading<'_>, config: &Node, value: &Node) {
    for entry in value.each() {
        let text = |key: &str| {
            entry.get(key).filter(|node| !node.is_null()).and_then(Node::python_text).unwrap_or_default()
        };
        let Some(name) = entry.get("device") else {
            reading.note(Rule::Disk, entry, "no device");
            continue;
        };
        if let Some(command) = entry.get("cmd") {
            reading.note(Rule::UnsupportedValue, command, "cmd: a command of your own is runcmd's");
            continue;
        }
        let Some(device) = device(reading, config, name) else { continue };
        // `ephemeral0.1`, `/dev/sdc.1`: a partition in the name counts.
        let (device, partition) = match device.rsplit_once('.') {
            Some((disk, part)) if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() => {
                (disk.to_owned(), part.to_owned())
            }
            _ => (device.clone(), text("partition")),
        };
        let mut words = vec![
            device,
            partition,
            text("filesystem"),
            text("label"),
            flag(entry.get("overwrite")),
            text("replace_fs"),
        ];
        words.extend(
            entry.get("extra_opts").map(Node::each).unwrap_or_default().iter().filter_map(Node::python_text),
        );
        let line = words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ");
        if FileSystem::parse(line.as_bytes()).is_none() {
            reading.note(Rule::Disk, entry, "filesystem, or a partition that is none, auto, any or a number");
            continue;
        }
        put(reading, "storage/filesystems", &words);
    }
}

fn mounts(reading: &mut Reading<'_>, config: &Node, value: &Node) {
    let mut has_any = false;
    for entry in value.each() {
        let Some(fields) = entry.items().filter(|fields| (1..=6).contains(&fields.len())) else {
            reading.note(Rule::Mount, entry, "a list of one to six fields was expected");
            continue;
        };
        let Some(name) = fields.first().filter(|name| !name.is_null()) else {
            reading.note(Rule::Mount, entry, "no device");
            continue;
        };
        let Some(device) = device(reading, config, name) else { continue };
        let mut words = vec![device];
        words.extend(fields[1..].iter().map(field));
        put(reading, "storage/mounts", &words);
        has_any = true;
    }
    if let Some(defaults) = config.get("mount_default_fields").and_then(Node::items).filter(|_| has_any) {
        let words: Vec<String> = defaults.iter().map(field).collect();
        put(reading, "storage/mount-defaults", &words);
    }
}

fn field(node: &Node) -> String {
    if node.is_null() { String::new() } else { node.python_text().unwrap_or_default() }
}

fn swap(reading: &mut Reading<'_>, value: &Node) {
    let text = |key: &str| value.get(key).filter(|node| !node.is_null()).and_then(Node::python_text);
    let (file, size) = (text("filename"), text("size").unwrap_or_else(|| "0".into()));
    let most = text("maxsize").filter(|most| most != "auto").unwrap_or_default();
    let Some(file) = file.filter(|_| size != "0") else { return };
    let is_size = |size: &str| size_bytes(size).is_some();
    if !file.starts_with('/') || size != "auto" && !is_size(&size) || !most.is_empty() && !is_size(&most) {
        return reading.note(
            Rule::Mount,
            value,
            "filename is a path, size and maxsize are auto or like 512M",
        );
    }
    put(reading, "storage/swap", &[file, size, most]);
}
