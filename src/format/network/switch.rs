//! Did somebody say that this image's network is nobody's to configure? cloud-init's word for it, `network: {config:
//! disabled}`, in its configuration, and `network-config=disabled` on the kernel's command line.

use crate::format::text::{bare, lines};

/// True for a file of cloud-init's that says so, in one of the forms people write: `network: {config: disabled}`, or
/// `config: disabled` alone on the line below `network:`. Whoever writes YAML in another way is not heard.
#[must_use]
pub fn is_disabled(file: &[u8]) -> bool {
    let mut is_below = false;
    for line in lines(file) {
        let line = bare(line);
        let code = line.split(|b| *b == b'#').next().unwrap_or_default();
        let is_indented = code.first() == Some(&b' ');
        let plain = plain(code);
        match plain.as_slice() {
            b"" => continue,
            b"network:{config:disabled}" if !is_indented => return true,
            b"config:disabled" if is_below && is_indented => return true,
            b"network:" if !is_indented => is_below = true,
            _ => is_below = false,
        }
    }
    false
}

/// The line without blanks and quotes; nothing where it is longer than what is looked for.
fn plain(line: &[u8]) -> heapless::Vec<u8, 32> {
    let mut plain = heapless::Vec::new();
    let code = line.iter().filter(|b| !b.is_ascii_whitespace() && !b"\"'".contains(b));
    for byte in code {
        if plain.push(*byte).is_err() {
            plain.clear();
            let _ = plain.push(b'?');
            break;
        }
    }
    plain
}

/// True when the kernel's command line says so.
#[must_use]
pub fn is_disabled_by(command_line: &[u8]) -> bool {
    command_line.split(u8::is_ascii_whitespace).any(|word| word == b"network-config=disabled")
}

#[cfg(test)]
mod tests {
    use super::{is_disabled, is_disabled_by};
    use crate::format::cases::{self, Answer};
    use serde_json::json;

    #[test]
    fn the_usual_forms_are_heard() {
        for yes in [
            "network: {config: disabled}",
            "# x\nnetwork: { config: \"disabled\" }  # y\n",
            "users: []\nnetwork:\n  config: disabled\n",
            "network:\n\n  # why\n  'config': 'disabled'",
            "network: {config: disabled}\r\n",
        ] {
            assert!(is_disabled(yes.as_bytes()), "{yes:?}");
        }
        for no in [
            "",
            "#network: {config: disabled}",
            "network:\nconfig: disabled",
            "  network: {config: disabled}",
            "network:\n  version: 2\n  config: disabled",
            "network: {config: enabled}",
            "x:\n  config: disabled",
        ] {
            assert!(!is_disabled(no.as_bytes()), "{no:?}");
        }
    }

    #[test]
    fn the_kernels_command_line_is_heard() {
        cases::run("kernel_cmdline_network_config", |case| {
            let line = case.input["kwargs"]["cmdline"].as_str().unwrap();
            let is_disabled = is_disabled_by(line.as_bytes());
            match (is_disabled, line.contains("network-config=ey") || line.contains("network-config=H4")) {
                (true, _) => Answer::Is(json!({ "config": "disabled" })),
                (false, true) => Answer::Differs(
                    "a whole configuration in base64 on the command line is not read: it is cloud-init's own language, and who can write that can write a file",
                ),
                (false, false) => Answer::Is(serde_json::Value::Null),
            }
        });
    }
}
