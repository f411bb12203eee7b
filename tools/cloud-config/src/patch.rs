//! What does a `#cloud-config-jsonp` change in what there is?

use crate::limits::{self, Budget};
use crate::parts::Part;
use crate::yaml::{self, Node, Value};

/// A JSON patch (RFC 6902): `add`, `replace` and `remove`, by members of mappings and places in lists.
pub fn apply(part: &Part, whole: &mut Option<Node>, budget: &mut Budget) -> Result<(), yaml::Fault> {
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
