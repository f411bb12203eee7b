//! What would be done, in words for a person?

use crate::translate::Translation;
use std::fmt::Write;

/// A line for each thing that would be done, in the order of apply; no secrets, no contents.
pub fn explain(translation: &Translation) -> String {
    let mut out = String::new();
    for (name, bytes) in &translation.entries {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().next().unwrap_or_default();
        let line = match name.as_str() {
            "hostname" | "vendor/hostname" => format!("host name: {first}"),
            "fqdn" => format!("full name: {first}"),
            "preserve-hostname" => format!("the image's host name stays: {first}"),
            "hosts/manage" => format!("/etc/hosts is managed: {first}"),
            "timezone" => format!("time zone: {first}"),
            "locale" => format!("locale: {first}"),
            "user/password-login" | "vendor/user/password-login" => format!("sshd takes passwords: {first}"),
            "groups"
            | "ntp"
            | "resolv-conf"
            | "storage/disks"
            | "storage/filesystems"
            | "storage/mounts"
            | "storage/swap" => {
                format!("{name}: {}", text.trim_end().replace('\n', "; "))
            }
            name if name.starts_with("users/") => person(&text),
            name if name.starts_with("files/") && name.ends_with("/path") => {
                let content = translation.entries.get(&name.replace("/path", "/content"));
                let mode = translation.entries.get(&name.replace("/path", "/mode"));
                let mode = mode.map_or("0644".into(), |mode| String::from_utf8_lossy(mode));
                let verb = if text.starts_with("/var/lib/preroot/scripts/") { "script" } else { "file" };
                format!("{verb} {text}, {mode}, {} bytes", content.map_or(0, Vec::len))
            }
            _ => continue,
        };
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Who, and which keys are said: never their values, which may be hashes.
fn person(text: &str) -> String {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let who = value("name").unwrap_or("the default account");
    let keys: Vec<&str> =
        text.lines().filter_map(|line| line.split(' ').next()).filter(|key| *key != "name").collect();
    format!("user {who}: {}", keys.join(", "))
}
