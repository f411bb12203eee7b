//! Where do packages come from? `apt`, `yum_repos` and `zypper` as a script before the one that installs (cc_apt_configure.py,
//! cc_yum_add_repo.py, cc_zypper_add_repo.py): what it writes depends on the image's release.

use super::commands::quoted;
use super::{Place, Reading};
use crate::parts::base64;
use crate::yaml::{Node, Value};
use preroot::format::translation::Rule;
use std::fmt::Write;

/// Behind certificates, before packages.
const NAME: &str = "00-origins";
/// Keys of cloud-config that bring repositories, and that nobody reads here.
const OTHERS: &[&str] = &["apk_repos", "rh_subscription", "spacewalk", "snap"];
const BEGIN: &str = r#"#!/bin/sh
code=0
fail() { echo "$*" >&2; code=1; }
# put FILE: what comes in, behind what is there, once.
put() {
    new=$(cat) && mkdir -p "$(dirname "$1")" || return
    case $(cat "$1" 2>/dev/null) in *"$new"*) ;; *) printf '%s\n' "$new" >>"$1" ;; esac
}
# make FILE: what comes in, where there is none.
make() {
    if [ -e "$1" ]; then cat >/dev/null; else mkdir -p "$(dirname "$1")" && cat >"$1"; fi
}
"#;
/// What templates of sources name; mirrors are those that the image has.
const APT: &str = r#"if command -v apt-get >/dev/null; then
. /etc/os-release
release=${VERSION_CODENAME:-}
# mirror_of RELEASE: where apt would have it from; it may have fetched nothing yet.
mirror_of() {
    apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n "s,^$1 \(.*[^/]\)/*\$,\1,p" | head -n 1
}
mirror=$(mirror_of "$release")
[ -n "$mirror" ] || mirror=$(mirror_of stable)
security=$(mirror_of "$release-security")
[ -n "$security" ] || security=$(mirror_of stable-security)
security=${security:-$mirror}
# receive FILE SERVER ID: a key by its number.
receive() {
    home=$(mktemp -d) || return
    gpg --homedir "$home" --batch --no-tty --keyserver "$2" --recv-keys "$3" &&
        gpg --homedir "$home" --batch --export --armour "$3" >"$1"
    rm -rf "$home"
    # An empty file there makes apt complain about every source.
    [ -s "$1" ] || { rm -f "$1"; return 1; }
}
"#;

/// All keys of the three.
pub(super) fn read(reading: &mut Reading<'_>, config: &Node) {
    let mut script = String::new();
    for (key, read) in
        [("apt", apt as fn(&mut Reading<'_>, &Node, &Node) -> String), ("yum_repos", yum), ("zypper", zypper)]
    {
        if let Some(value) = config.get(key).filter(|value| !value.is_null()) {
            reading.set_key(key);
            script += &read(reading, value, config);
        }
    }
    if !script.is_empty() {
        reading.script(Place::First, NAME, format!("{BEGIN}{script}exit \"$code\"\n"));
    }
}

/// Lines for the script that installs: whose packages will not be found.
pub(super) fn missing(config: &Node) -> String {
    let is_there = |key: &&&str| config.get(key).is_some_and(|value| !value.is_null());
    let line = |key: &&str| format!("echo '{key}: not set up; packages of theirs will not be found' >&2\n");
    OTHERS.iter().filter(is_there).map(line).collect()
}

fn apt(reading: &mut Reading<'_>, value: &Node, _: &Node) -> String {
    let mut body = String::new();
    for (key, value) in value.entries() {
        match key.as_str().unwrap_or_default() {
            _ if value.is_null() => {}
            // Lists of sources stay what they are anyway.
            "preserve_sources_list" | "add_apt_repo_match" => {}
            "conf" => match value.python_text() {
                Some(text) => {
                    write_file(&mut body, "cat >", "/etc/apt/apt.conf.d/94cloud-init-config", &text)
                }
                None => reading.note(Rule::BadValue, value, "a text was expected"),
            },
            word @ ("proxy" | "http_proxy" | "https_proxy" | "ftp_proxy") => {
                let scheme = word.strip_suffix("_proxy").unwrap_or("http");
                match value.as_str().filter(|text| !text.contains(['"', '\n'])) {
                    Some(text) => {
                        let line = format!("Acquire::{scheme}::Proxy \"{text}\";\n");
                        write_file(&mut body, "put ", "/etc/apt/apt.conf.d/90cloud-init-aptproxy", &line);
                    }
                    None => reading.note(Rule::BadValue, value, word),
                }
            }
            "debconf_selections" => {
                let texts = value.entries().iter().filter_map(|(_, text)| text.python_text());
                let lines = texts.map(|text| text.trim_end().to_owned() + "\n").collect::<String>();
                let lines = base64::encode(lines.as_bytes());
                let _ = writeln!(
                    body,
                    "base64 -d <<E | debconf-set-selections || fail 'apt: debconf_selections'\n{lines}\nE"
                );
            }
            "sources" => {
                value.entries().iter().for_each(|(name, one)| source(reading, &mut body, name, one));
            }
            word => reading.note(Rule::UnsupportedValue, key, word),
        }
    }
    match body.is_empty() {
        true => body,
        false => format!("{APT}{body}else fail 'apt: not in this image'; fi\n"),
    }
}

/// A line `cat >FILE`, or what else takes it, with a text in base64.
fn write_file(body: &mut String, verb: &str, path: &str, text: &str) {
    let (path, text) = (quoted(path), base64::encode(text.as_bytes()));
    let _ = writeln!(body, "base64 -d <<E | {verb}{path} || fail {path}\n{text}\nE");
}

/// One of `apt.sources`: a key, and a line or a file for sources.list.d.
fn source(reading: &mut Reading<'_>, body: &mut String, name: &Node, one: &Node) {
    let text = |key: &str| one.get(key).filter(|node| !node.is_null()).and_then(Node::python_text);
    let name_text = name.python_text().unwrap_or_default();
    let source = text("source").unwrap_or_default();
    let file = text("filename").unwrap_or_else(|| name_text.clone());
    let stem = file.rsplit('/').next().unwrap_or_default();
    let stem = stem.strip_suffix(".list").unwrap_or(stem).to_owned();
    let file = if file.starts_with('/') { file } else { format!("/etc/apt/sources.list.d/{file}") };
    let file = if file.ends_with(".list") { file } else { file + ".list" };
    if stem.is_empty() || file.contains("/../") || file.contains('\n') {
        return reading.note(Rule::BadValue, name, "filename");
    }
    let directory = if source.contains("KEY_FILE") { "cloud-init.gpg.d" } else { "trusted.gpg.d" };
    let key_file = format!("/etc/apt/{directory}/{stem}.asc");
    let _ = writeln!(body, "key={}\nmkdir -p /etc/apt/{directory} || fail \"$key\"", quoted(&key_file));
    if let Some(key) = text("key") {
        let key = base64::encode(key.as_bytes());
        let _ = writeln!(body, "base64 -d >\"$key\" <<E || fail \"$key\"\n{key}\nE");
    } else if let Some(id) = text("keyid") {
        let server = text("keyserver").unwrap_or_else(|| "keyserver.ubuntu.com".into());
        let _ = writeln!(
            body,
            "receive \"$key\" {} {} || fail {}",
            quoted(&server),
            quoted(&id),
            quoted(&format!("apt: {name_text}: no key {id}; is gpg there?"))
        );
    }
    let is_short = source.split_once(':').is_some_and(|(kind, rest)| {
        !kind.contains([' ', '\t', '\n', '[']) && !rest.starts_with([' ', '\n']) && !rest.is_empty()
    });
    if source.trim().is_empty() {
    } else if is_short {
        let _ = writeln!(
            body,
            "add-apt-repository -y --no-update {} || fail {}",
            quoted(&source),
            quoted(&format!("apt: {name_text}: {source}"))
        );
    } else {
        let is_appended = one.get("append").and_then(Node::truth) != Some(false);
        let verb = if is_appended { "put " } else { "cat >" };
        let (line, file) = (template(&source), quoted(&file));
        // A line without its mirror would keep apt from reading any.
        let mirrors = ["mirror", "security"].iter().filter(|name| line.contains(&format!("\"${name}\"")));
        let tests: Vec<String> = mirrors.map(|name| format!("[ -n \"${name}\" ] &&")).collect();
        let (test, file_name) = (tests.join(" "), quoted(&name_text));
        match test.is_empty() {
            true => _ = writeln!(body, "printf '%s\\n' {line} | {verb}{file} || fail {file}"),
            false => {
                let _ = writeln!(
                    body,
                    "if {} true; then printf '%s\\n' {line} | {verb}{file} || fail {file}; \
                     else fail \"apt: no mirror of $release is known here:\" {file_name}; fi",
                    test
                );
            }
        }
    }
}

/// A text for the shell in which `$RELEASE` and the like are variables of the script.
fn template(text: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("RELEASE", "release"),
        ("MIRROR", "mirror"),
        ("PRIMARY", "mirror"),
        ("SECURITY", "security"),
        ("KEY_FILE", "key"),
    ];
    let (mut out, mut plain, mut rest) = (String::new(), String::new(), text);
    while let Some(c) = rest.chars().next() {
        let named = WORDS.iter().find_map(|(word, variable)| {
            let after = rest.strip_prefix(&format!("${{{word}}}")).or_else(|| {
                let after = rest.strip_prefix('$')?.strip_prefix(word)?;
                (!after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')).then_some(after)
            })?;
            Some((after, variable))
        });
        match named {
            Some((after, variable)) => {
                out += &format!("{}\"${variable}\"", quoted(&std::mem::take(&mut plain)));
                rest = after;
            }
            None => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out + &quoted(&plain)
}

fn yum(reading: &mut Reading<'_>, value: &Node, config: &Node) -> String {
    let directory =
        config.get("yum_repo_dir").and_then(Node::as_str).unwrap_or("/etc/yum.repos.d").to_owned();
    let mut body = String::new();
    for (id, one) in value.entries() {
        repo(reading, &mut body, &directory, id, one, &["baseurl", "metalink", "mirrorlist"]);
    }
    for_manager("command -v dnf >/dev/null || command -v yum >/dev/null", body, "yum_repos: no dnf or yum")
}

fn zypper(reading: &mut Reading<'_>, value: &Node, _: &Node) -> String {
    let mut body = String::new();
    for (key, value) in value.entries() {
        if key.as_str() != Some("repos") {
            reading.note(Rule::UnsupportedValue, key, "");
            continue;
        }
        for one in value.each() {
            match one.get("id") {
                Some(id) => repo(reading, &mut body, "/etc/zypp/repos.d", id, one, &["baseurl"]),
                None => reading.note(Rule::BadValue, one, "no id"),
            }
        }
    }
    for_manager("command -v zypper >/dev/null", body, "zypper: not in this image")
}

fn for_manager(condition: &str, body: String, missing: &str) -> String {
    if body.is_empty() {
        body
    } else {
        format!("if {condition}; then\n{body}else fail {}; fi\n", quoted(missing))
    }
}

/// A file of one repository; one that is there stays.
fn repo(reading: &mut Reading<'_>, body: &mut String, directory: &str, id: &Node, one: &Node, urls: &[&str]) {
    let name = id.python_text().unwrap_or_default().to_lowercase().replace('-', "_");
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.:+".contains(c));
    if !is_name || !urls.iter().any(|url| one.get(url).is_some()) {
        return reading.note(Rule::BadValue, id, "an id, and baseurl or another place");
    }
    let mut text = format!("[{name}]\n");
    for (key, value) in one.entries() {
        let key = key.python_text().unwrap_or_default().to_lowercase().trim().replace('-', "_");
        let value = match &value.value {
            _ if key == "id" || value.is_null() => continue,
            Value::Bool(truth) => u8::from(*truth).to_string(),
            Value::List(items) => {
                items.iter().filter_map(Node::python_text).collect::<Vec<_>>().join("\n    ")
            }
            _ => value.python_text().unwrap_or_default(),
        };
        let _ = writeln!(text, "{key} = {}", value.trim_end());
    }
    write_file(body, "make ", &format!("{directory}/{name}.repo"), &text);
}
