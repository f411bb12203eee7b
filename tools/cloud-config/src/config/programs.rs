//! What is left to programs of the image? Packages, the last message and the end, as scripts of the last stage.

use super::commands::quoted;
use super::{Place, Reading};
use crate::parts::base64;
use crate::yaml::{Node, Value};
use preroot::format::translation::Rule;
use std::fmt::Write;

/// Before the user's own scripts, which may need what is installed.
const PACKAGES: &str = "00-packages";
/// Each package manager by itself: one that fails on one name has still installed the others.
const MANAGERS: &str = r#"version==
if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    manager="apt-get -q -y -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300"
    update="$manager update" upgrade="$manager dist-upgrade" install="$manager install"
elif command -v dnf >/dev/null; then
    update="dnf -y makecache" upgrade="dnf -y upgrade" install="dnf -y install" version=-
elif command -v yum >/dev/null; then
    update="yum -y makecache" upgrade="yum -y update" install="yum -y install" version=-
elif command -v zypper >/dev/null; then
    zypper="zypper --non-interactive"
    update="$zypper refresh" upgrade="$zypper update" install="$zypper install --auto-agree-with-licenses"
elif command -v apk >/dev/null; then
    update="apk update" upgrade="apk upgrade" install="apk add"
else
    echo "no package manager that preroot knows: apt-get, dnf, yum, zypper, apk" >&2
    exit 1
fi
code=0
"#;

/// `packages`, `package_update`, `package_upgrade`; `missing` is said before.
pub(super) fn read_packages(reading: &mut Reading<'_>, config: &Node, missing: &str) {
    let is = |key: &str| {
        let said = config.get(key).or_else(|| config.get(&key.replace("package_", "apt_")));
        said.and_then(Node::truth) == Some(true)
    };
    let mut names = Vec::new();
    if let Some(list) = config.get("packages") {
        reading.set_key("packages");
        list.each().iter().for_each(|item| package(reading, item, &mut names));
    }
    if names.is_empty() && !is("package_update") && !is("package_upgrade") {
        return;
    }
    let mut script = format!("#!/bin/sh\n{missing}{MANAGERS}");
    if is("package_update") || is("package_upgrade") || !names.is_empty() {
        script += "$update || code=$?\n";
    }
    if is("package_upgrade") {
        script += "$upgrade || code=$?\n";
    }
    if !names.is_empty() {
        let _ = writeln!(script, "if ! $install {}; then", names.join(" "));
        script += "    # One by one: a name that nobody knows shall cost the others nothing.\n";
        for name in names {
            let _ = writeln!(script, "    $install {name} || code=$?");
        }
        script += "fi\n";
    }
    if is("package_reboot_if_required") {
        // This script is begun again in the next boot, and the others come behind it.
        script += "for mark in /run/reboot-required /var/run/reboot-required /run/reboot-needed; do\n\
                   \x20   [ ! -e \"$mark\" ] || { echo 'packages want a reboot'; reboot && sleep 600; }\ndone\n";
    }
    script += "exit $code\n";
    reading.script(Place::First, PACKAGES, script);
}

/// A name, or a name and its version, as words of the shell; for one package manager only: not here.
fn package(reading: &mut Reading<'_>, item: &Node, names: &mut Vec<String>) {
    let words: Option<Vec<String>> = match &item.value {
        Value::List(words) => words.iter().map(Node::python_text).collect(),
        Value::Map(_) | Value::Null => None,
        _ => item.python_text().map(|name| vec![name]),
    };
    // A name that begins with a dash would be an option.
    let is_name = |word: &String| {
        !word.is_empty() && !word.starts_with('-') && !word.contains(|c: char| c.is_control() || c == ' ')
    };
    match words.filter(|words| words.iter().all(is_name)).as_deref() {
        Some([name]) => names.push(quoted(name)),
        Some([name, version]) => names.push(format!("{}\"$version\"{}", quoted(name), quoted(version))),
        _ => reading.note(Rule::UnsupportedValue, item, "a name, or a name and a version"),
    }
}

/// `final_message` and `power_state`: the last scripts by their names.
pub(super) fn read_ending(reading: &mut Reading<'_>, value: &Node) {
    match reading.key() {
        "power_state" => power_state(reading, value),
        "phone_home" => phone_home(reading, value),
        _ => final_message(reading, value),
    }
}

fn final_message(reading: &mut Reading<'_>, value: &Node) {
    let Some(text) = value.as_str() else {
        return reading.note(Rule::BadValue, value, "a text was expected");
    };
    let text = text.trim_start_matches("## template: jinja\n");
    // cloud-init's four variables, in both its spellings; a datasource or version of ours is preroot.
    let mut script = String::from("#!/bin/sh\nread -r uptime idle </proc/uptime\n");
    let _ = write!(script, "printf '%s\\n' {}", quoted(text));
    for (word, value) in [
        ("uptime", "$uptime"),
        ("timestamp", "$(date -R)"),
        ("version", "preroot"),
        ("datasource", "preroot"),
    ] {
        let upper = word.to_ascii_uppercase();
        let _ = write!(
            script,
            " |\n    sed \"s|\\\\\\${upper}|{value}|g; s|{{{{ *{word} *}}}}|{value}|g; s|{{{{ *{upper} *}}}}|{value}|g\""
        );
    }
    script.push('\n');
    reading.script(Place::User, "zz-final-message", script);
}

fn power_state(reading: &mut Reading<'_>, value: &Node) {
    let text = |key: &str| value.get(key).and_then(Node::python_text);
    let flag = match text("mode").as_deref() {
        Some("poweroff") => "-P",
        Some("halt") => "-H",
        Some("reboot") => "-r",
        _ => return reading.note(Rule::BadValue, value, "mode is poweroff, halt or reboot"),
    };
    let delay = text("delay").unwrap_or_else(|| "now".into());
    let minutes = delay.strip_prefix('+').unwrap_or(&delay);
    let delay = match minutes.parse::<u32>() {
        _ if delay == "now" => "now".to_owned(),
        Ok(minutes) => format!("+{minutes}"),
        Err(_) => return reading.note(Rule::BadValue, value, "delay is `now` or minutes"),
    };
    // How long cloud-init's own process may take to end, before: this script comes last, and nobody is waited for.
    if let Some(node) = value.get("timeout") {
        let is_number = match &node.value {
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => true,
            Value::Text(text) => text.trim().parse::<f64>().is_ok(),
            _ => false,
        };
        if !is_number {
            return reading.note(Rule::BadValue, node, "timeout is a number of seconds");
        }
    }
    let condition = match value.get("condition").map(|node| (&node.value, node)) {
        None => String::new(),
        Some((Value::Bool(true), _)) => String::new(),
        Some((Value::Bool(false), _)) => return,
        Some((Value::Text(line), _)) => format!("sh -c {} || exit 0\n", quoted(line)),
        Some((Value::List(words), node)) => {
            match words.iter().map(Node::python_text).collect::<Option<Vec<_>>>() {
                Some(words) => {
                    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ") + " || exit 0\n"
                }
                None => return reading.note(Rule::BadValue, node, "condition"),
            }
        }
        Some((_, node)) => return reading.note(Rule::BadValue, node, "condition"),
    };
    let message = text("message").map(|text| " ".to_owned() + &quoted(&text)).unwrap_or_default();
    // Alpine's busybox has no shutdown.
    let plain = match flag {
        "-r" => "reboot",
        "-H" => "halt",
        _ => "poweroff",
    };
    let script = format!(
        "#!/bin/sh\n{condition}if command -v shutdown >/dev/null; then exec shutdown {flag} {delay}{message}; fi\nexec {plain}\n"
    );
    reading.script(Place::User, "zzz-power-state", script);
}

/// `random_seed`: what is said there goes into a file, then a command may bring more.
pub(super) fn read_random_seed(reading: &mut Reading<'_>, value: &Node) {
    let text = |key: &str| value.get(key).filter(|node| !node.is_null()).and_then(Node::python_text);
    let file = text("file").unwrap_or_else(|| "/dev/urandom".into());
    let data = match value.get("data").map(|node| &node.value) {
        Some(Value::Bytes(bytes)) => bytes.clone(),
        _ => text("data").unwrap_or_default().into_bytes(),
    };
    let data = match text("encoding").unwrap_or_default().as_str() {
        "" | "raw" => Some(data),
        "base64" | "b64" => base64::lenient(&data),
        "gzip" | "gz" => super::files::unzipped(reading, value, &data),
        _ => None,
    };
    let Some(data) = data else {
        return reading.note(Rule::BadValue, value, "encoding is raw, base64 or gzip");
    };
    let mut script = String::from("#!/bin/sh\n");
    if !data.is_empty() {
        let _ = writeln!(script, "base64 -d >>{} <<E\n{}\nE", quoted(&file), base64::encode(&data));
    }
    let is_required = value.get("command_required").and_then(Node::truth) == Some(true);
    let command = value.get("command").filter(|node| !node.is_null());
    if is_required && command.is_none() {
        reading.note(Rule::BadValue, value, "command_required, and no command");
    }
    if let Some(command) = command {
        let words =
            command.items().and_then(|words| words.iter().map(Node::python_text).collect::<Option<Vec<_>>>());
        let Some(words) = words.filter(|words| !words.is_empty()) else {
            return reading.note(Rule::BadValue, command, "command is a list of words");
        };
        if !is_required {
            let _ = writeln!(script, "command -v {} >/dev/null || exit 0", quoted(&words[0]));
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(script, "RANDOM_SEED_FILE={} exec {}", quoted(&file), words.join(" "));
    }
    if script.lines().count() > 1 {
        reading.script(Place::First, "00-a-random-seed", script);
    }
}

/// `ca_certs`: certificates to be trusted, where the image keeps such, and its program that makes them count.
pub(super) fn read_certificates(reading: &mut Reading<'_>, value: &Node) {
    let of = |key: &str| value.get(key).or_else(|| value.get(&key.replace('_', "-")));
    let mut script = String::from(
        "#!/bin/sh\n\
         if command -v update-ca-certificates >/dev/null; then\n\
         \x20   directory=/usr/local/share/ca-certificates update=update-ca-certificates\n\
         elif command -v update-ca-trust >/dev/null; then\n\
         \x20   directory=/etc/pki/ca-trust/source/anchors update=update-ca-trust\n\
         else\n\
         \x20   echo 'no program that keeps certificates: update-ca-certificates, update-ca-trust' >&2\n\
         \x20   exit 1\n\
         fi\nmkdir -p \"$directory\"\n",
    );
    let mut count = 0;
    if of("remove_defaults").and_then(Node::truth) == Some(true) {
        // Debian's list names what is not to be trusted; elsewhere they are files.
        script += "if [ -f /etc/ca-certificates.conf ]; then sed -i 's/^[^#!]/!&/' /etc/ca-certificates.conf\n\
                   else rm -rf /usr/share/pki/ca-trust-source/*; fi\n";
        count += 1;
    }
    let trusted = of("trusted").map(Node::each).unwrap_or_default();
    let texts = trusted.iter().filter_map(Node::as_str).filter(|text| !text.trim().is_empty());
    for text in texts {
        count += 1;
        let text = base64::encode(text.as_bytes());
        let _ = writeln!(script, "base64 -d >\"$directory/cloud-init-ca-cert-{count}.crt\" <<E\n{text}\nE");
    }
    if count > 0 {
        reading.script(Place::First, "00-ca-certs", script + "exec $update\n");
    }
}

/// `phone_home`: tells somebody's server who this is, once everything else ran.
fn phone_home(reading: &mut Reading<'_>, value: &Node) {
    let Some(url) = value.get("url").and_then(Node::as_str) else {
        return reading.note(Rule::BadValue, value, "no url");
    };
    const ALL: [&str; 6] =
        ["pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn"];
    let asked: Vec<String> = match value.get("post") {
        None => ALL.map(str::to_owned).to_vec(),
        Some(node) if node.as_str() == Some("all") => ALL.map(str::to_owned).to_vec(),
        Some(node) => node.each().iter().filter_map(Node::python_text).collect(),
    };
    let tries = value
        .get("tries")
        .and_then(Node::python_text)
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(10);
    let mut script = String::from("#!/bin/sh\nid=$(head -n 1 /var/lib/preroot/provisioned)\n");
    // Of a URL only this variable counts, in three spellings.
    let url = url.replace("${INSTANCE_ID}", "$INSTANCE_ID").replace("{{ v1.instance_id }}", "$INSTANCE_ID");
    let url = url.split("$INSTANCE_ID").map(quoted).collect::<Vec<_>>().join("\"$id\"");
    let _ = writeln!(script, "url={url}\ndata=");
    // Each byte by its number: no program is needed that knows which ones need that.
    script += "add() {\n    value=$(printf %s \"$2\" | od -An -v -tx1 | tr -d '\\n' | sed 's/ /%/g')\n    data=\"$data${data:+&}$1=$value\"\n}\n";
    for word in &asked {
        let data = match word.as_str() {
            "pub_key_rsa" | "pub_key_ecdsa" | "pub_key_ed25519" => {
                let file = format!("/etc/ssh/ssh_host_{}_key.pub", &word["pub_key_".len()..]);
                let _ = writeln!(script, "add {word} \"$(cat {file} 2>/dev/null || echo N/A)\"");
                continue;
            }
            "instance_id" => "$id",
            "hostname" => "$(hostname)",
            "fqdn" => "$(hostname -f 2>/dev/null || hostname)",
            _ => {
                reading.note(Rule::UnsupportedValue, value, word);
                continue;
            }
        };
        let _ = writeln!(script, "add {word} \"{data}\"");
    }
    let _ = writeln!(
        script,
        "try=0\nwhile [ \"$try\" -lt {tries} ]; do\n\
         \x20   [ \"$try\" -eq 0 ] || sleep 3\n\
         \x20   try=$((try + 1))\n\
         \x20   if command -v curl >/dev/null; then\n\
         \x20       curl -fsS --max-time 60 -o /dev/null --data \"$data\" \"$url\" && exit\n\
         \x20   elif command -v wget >/dev/null; then\n\
         \x20       wget -q -T 60 -O /dev/null --post-data \"$data\" \"$url\" && exit\n\
         \x20   else\n\
         \x20       echo 'phone_home: neither curl nor wget' >&2\n\
         \x20       exit 1\n\
         \x20   fi\ndone\nexit 1"
    );
    reading.script(Place::User, "zy-phone-home", script);
}
