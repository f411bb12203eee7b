//! Which script is a list of commands (util.py `shellify`)?

use super::{Place, Reading};
use crate::yaml::{Node, Value};
use preroot::format::translation::Rule;

/// `runcmd` is the last of the user's scripts by its name, `bootcmd` comes before whatever is to be made.
pub(super) fn read(reading: &mut Reading<'_>, value: &Node) {
    match shellify(value) {
        Ok(script) => {
            let (place, name) = match reading.key() {
                "bootcmd" => (Place::Boot, "bootcmd"),
                _ => (Place::User, "runcmd"),
            };
            reading.script(place, name, script);
        }
        Err(at) => reading.note(Rule::Commands, at, ""),
    }
}

/// A script of the shell: texts are lines of it, lists are words.
///
/// # Errors
/// What is neither.
pub fn shellify(list: &Node) -> Result<String, &Node> {
    let items = list.items().ok_or(list)?;
    let mut script = String::from("#!/bin/sh\n");
    for item in items {
        match &item.value {
            Value::Null => continue,
            Value::Text(text) => script += text,
            Value::List(words) => {
                let quoted =
                    words.iter().map(|word| word.python_text().map(|word| quoted(&word)).ok_or(word));
                script += &quoted.collect::<Result<Vec<_>, _>>()?.join(" ");
            }
            _ => return Err(item),
        }
        script.push('\n');
    }
    Ok(script)
}

/// One word of the shell, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
