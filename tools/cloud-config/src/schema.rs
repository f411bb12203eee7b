//! Does a configuration keep cloud-init's published schema? For `check`: what a person wrote, not what preroot does with it.
//!
//! Of JSON Schema (draft 4) what that schema uses; its few expressions are functions here. The schema's own file is YAML
//! enough for our parser, so it is read by that.

use crate::yaml::{self, Fault, Node, Value};

const TEXT: &str = include_str!("../schema/cloud-config-v1.json");
/// References and branches inside of each other; the schema has some ten.
const DEPTH: usize = 64;

/// The schema.
pub struct Schema {
    root: Node,
}

impl Schema {
    /// Cloud-init's.
    ///
    /// # Errors
    /// Never: it is part of this program.
    pub fn load() -> Result<Self, Fault> {
        Ok(Self { root: yaml::load(TEXT)? })
    }

    /// What breaks it, in the order of the lines. Keys at the top that nobody knows are told by others.
    pub fn check(&self, config: &Node) -> Vec<Fault> {
        let mut faults = Vec::new();
        for module in self.root.get("allOf").map(Node::each).unwrap_or_default() {
            self.value(module, config, "", DEPTH, &mut faults);
        }
        faults.sort_by_key(|fault| fault.line);
        faults.dedup();
        faults
    }

    fn resolve<'s>(&'s self, schema: &'s Node) -> &'s Node {
        let name = schema.get("$ref").and_then(Node::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        name.and_then(|name| self.root.get("$defs")?.get(name)).unwrap_or(schema)
    }

    fn holds(&self, schema: &Node, value: &Node, depth: usize) -> bool {
        let mut faults = Vec::new();
        self.value(schema, value, "", depth, &mut faults);
        faults.is_empty()
    }

    fn value(&self, schema: &Node, value: &Node, name: &str, depth: usize, faults: &mut Vec<Fault>) {
        if depth == 0 {
            return;
        }
        let depth = depth - 1;
        if schema.get("$ref").is_some() {
            return self.value(self.resolve(schema), value, name, depth, faults);
        }
        let mut bad = |rule: String| faults.push(Fault::new(value.line, format!("{name}{rule}")));
        let kinds = schema.get("type").map(Node::each).unwrap_or_default();
        if !kinds.is_empty() && !kinds.iter().filter_map(Node::as_str).any(|kind| is_kind(kind, value)) {
            let kinds: Vec<&str> = kinds.iter().filter_map(Node::as_str).collect();
            return bad(format!("{} was expected", kinds.join(" or ")));
        }
        if let Some(words) = schema.get("enum").and_then(Node::items)
            && !words.iter().any(|word| word.value == value.value)
        {
            let words: Vec<String> = words.iter().filter_map(Node::python_text).collect();
            return bad(format!("one of {} was expected", words.join(", ")));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Node::as_str)
            && value.as_str().is_some_and(|text| !matches(pattern, text))
        {
            bad(format!("does not look like {pattern}"));
        }
        let number = |key: &str| match schema.get(key).map(|node| &node.value) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        if let (Some(least), Value::Int(number)) = (number("minimum"), &value.value)
            && *number < least
        {
            bad(format!("at least {least} was expected"));
        }
        let count = match &value.value {
            Value::List(items) => Some((items.len() as i128, "Items")),
            Value::Map(entries) => Some((entries.len() as i128, "Properties")),
            _ => None,
        };
        if let Some((count, what)) = count {
            if number(&format!("min{what}")).is_some_and(|least| count < least) {
                bad("more of it was expected".into());
            }
            if number(&format!("max{what}")).is_some_and(|most| count > most) {
                bad("less of it was expected".into());
            }
        }
        self.branches(schema, value, name, depth, faults);
        match &value.value {
            Value::Map(_) => self.mapping(schema, value, name, depth, faults),
            Value::List(items) => self.list(schema, items, name, depth, faults),
            _ => {}
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`. Of several branches that do not fit, the one for this type of value tells why.
    fn branches(&self, schema: &Node, value: &Node, name: &str, depth: usize, faults: &mut Vec<Fault>) {
        for all in schema.get("allOf").map(Node::each).unwrap_or_default() {
            self.value(all, value, name, depth, faults);
        }
        if let Some(not) = schema.get("not")
            && self.holds(not, value, depth)
        {
            faults.push(Fault::new(value.line, format!("{name}two spellings of one key")));
        }
        for word in ["anyOf", "oneOf"] {
            let branches = schema.get(word).map(Node::each).unwrap_or_default();
            if branches.is_empty() || branches.iter().any(|branch| self.holds(branch, value, depth)) {
                continue;
            }
            let of_kind = branches.iter().filter(|branch| {
                let kinds = self.resolve(branch).get("type").map(Node::each).unwrap_or_default();
                kinds.is_empty() || kinds.iter().filter_map(Node::as_str).any(|kind| is_kind(kind, value))
            });
            let told = of_kind.map(|branch| {
                let mut faults = Vec::new();
                self.value(branch, value, name, depth, &mut faults);
                faults
            });
            match told.min_by_key(Vec::len) {
                Some(mut told) => faults.append(&mut told),
                None => {
                    let kinds = branches.iter().flat_map(|branch| {
                        self.resolve(branch)
                            .get("type")
                            .map(Node::each)
                            .unwrap_or_default()
                            .iter()
                            .filter_map(Node::as_str)
                    });
                    let kinds: Vec<&str> = kinds.collect();
                    faults.push(Fault::new(value.line, format!("{name}{} was expected", kinds.join(" or "))));
                }
            }
        }
    }

    fn mapping(&self, schema: &Node, value: &Node, name: &str, depth: usize, faults: &mut Vec<Fault>) {
        for key in schema.get("required").map(Node::each).unwrap_or_default().iter().filter_map(Node::as_str)
        {
            if value.get(key).is_none() {
                faults.push(Fault::new(value.line, format!("{name}{key} is missing")));
            }
        }
        let properties = schema.get("properties");
        let patterns = schema.get("patternProperties").map(Node::entries).unwrap_or_default();
        let others = schema.get("additionalProperties");
        for (key, inner) in value.entries() {
            let text = key.python_text().unwrap_or_default();
            let path = format!("{name}{text}: ");
            let known = properties.and_then(|properties| properties.get(&text));
            let by_pattern = || {
                let pattern =
                    patterns.iter().find(|(pattern, _)| matches(pattern.as_str().unwrap_or_default(), &text));
                pattern.map(|(_, schema)| schema)
            };
            match known.or_else(by_pattern).or(others.filter(|others| !others.entries().is_empty())) {
                Some(schema) => self.value(schema, inner, &path, depth, faults),
                None if others.is_some_and(|others| others.value == Value::Bool(false)) => {
                    faults.push(Fault::new(key.line, format!("{path}an unknown key")));
                }
                None => {}
            }
        }
    }

    fn list(&self, schema: &Node, items: &[Node], name: &str, depth: usize, faults: &mut Vec<Fault>) {
        let Some(schema) = schema.get("items") else { return };
        for (at, item) in items.iter().enumerate() {
            // A list of schemas is for one place each.
            let of_item = match schema.items() {
                Some(places) => places.get(at),
                None => Some(schema),
            };
            if let Some(schema) = of_item {
                self.value(schema, item, name, depth, faults);
            }
        }
    }
}

fn is_kind(kind: &str, value: &Node) -> bool {
    match &value.value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Int(_) => matches!(kind, "integer" | "number"),
        Value::Float(_) => kind == "number",
        Value::Text(_) | Value::Bytes(_) | Value::Date(_) => kind == "string",
        Value::List(_) => kind == "array",
        Value::Map(_) => kind == "object",
    }
}

/// The expressions that the schema has; one that is new fits everything, and a test finds it.
fn matches(pattern: &str, text: &str) -> bool {
    let all = |text: &str, is: &dyn Fn(u8) -> bool| !text.is_empty() && text.bytes().all(is);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match pattern {
        "^.+$" => !text.is_empty(),
        // From blank to `_` in ASCII, and letters.
        "^[0-9a-zA-Z -_]+$" => {
            all(text, &|byte| (b' '..=b'_').contains(&byte) || byte.is_ascii_alphanumeric())
        }
        "^[0-9a-zA-Z_]+$" => all(text, &is_word),
        "^(ecdsa|ed25519|rsa)_(public|private|certificate)$" => {
            text.split_once('_').is_some_and(|(kind, part)| {
                matches!(kind, "ecdsa" | "ed25519" | "rsa")
                    && matches!(part, "public" | "private" | "certificate")
            })
        }
        r"^([0-9]+)?\.?[0-9]+[BKMGT]$" => {
            text.strip_suffix(['B', 'K', 'M', 'G', 'T']).is_some_and(|number| {
                let (whole, part) = number.split_once('.').unwrap_or(("", number));
                all(part, &|byte| byte.is_ascii_digit()) && whole.bytes().all(|byte| byte.is_ascii_digit())
            })
        }
        "^[-_0-9a-zA-Z]+(,[-_0-9a-zA-Z]+)*$" => {
            text.split(',').all(|name| all(name, &|byte| is_word(byte) || byte == b'-'))
        }
        "^.+:.+$" => text.split_once(':').is_some_and(|(user, rest)| !user.is_empty() && !rest.is_empty()),
        r"^\+?[0-9]+$" => all(text.strip_prefix('+').unwrap_or(text), &|byte| byte.is_ascii_digit()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::{Schema, TEXT};
    use crate::yaml::load;

    fn faults(text: &str) -> Vec<String> {
        let faults = Schema::load().unwrap().check(&load(text).unwrap());
        faults.into_iter().map(|fault| format!("{} {}", fault.line, fault.rule)).collect()
    }

    #[test]
    fn faults_have_their_lines_and_names() {
        assert!(faults("hostname: a\nruncmd: [[ls, /], ls]\nusers: [default, {name: a}]\n").is_empty());
        assert_eq!(faults("runcmd: ls\n"), ["1 runcmd: array was expected"]);
        assert_eq!(faults("a: 1\nbootcmd: []\n"), ["2 bootcmd: more of it was expected"]);
        assert_eq!(faults("write_files:\n- content: x\n"), ["2 write_files: path is missing"]);
        assert_eq!(faults("write_files:\n- path: /x\n  mode: 1\n"), ["3 write_files: mode: an unknown key"]);
        assert_eq!(faults("ntp: {ntp_client: 1}\n"), ["1 ntp: ntp_client: string was expected"]);
        assert_eq!(faults("power_state:\n  mode: off\n"), ["2 power_state: mode: string was expected"]);
        assert_eq!(faults("swap: {size: 1x}\n").len(), 1);
    }

    #[test]
    fn documented_examples_keep_it() {
        let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cloud-init/module-docs");
        let (mut seen, mut broken) = (0, Vec::new());
        for module in std::fs::read_dir(top).unwrap() {
            for example in std::fs::read_dir(module.unwrap().path()).unwrap() {
                let path = example.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                if !text.starts_with("#cloud-config") {
                    continue;
                }
                seen += 1;
                let found = faults(&text);
                if !found.is_empty() {
                    broken.push(format!("{}: {found:?}", path.display()));
                }
            }
        }
        assert!(seen > 50 && broken.is_empty(), "{seen}\n{}", broken.join("\n"));
    }

    #[test]
    fn every_expression_of_the_schema_is_known() {
        let known = include_str!("schema.rs");
        for line in TEXT.lines().filter_map(|line| line.split_once("\"pattern\": \"")) {
            let pattern = line.1.trim_end_matches(['"', ',']).replace("\\\\", "\\");
            assert!(pattern == "^.*$" || known.contains(&format!("\"{pattern}\"")), "{pattern}");
        }
    }
}
