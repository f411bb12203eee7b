//! How do several parts of cloud-config become one? cloud-init's mergers: what a later part says takes the place of what
//! was there, unless `merge_how` says otherwise; among sources the first one wins.

use crate::yaml::{Node, Value, identity};
use std::collections::HashMap;

/// What a merger does with one type.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Merger {
    /// `dict`, `list` or `str`.
    kind: String,
    options: Vec<String>,
}

/// What `merge_how` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct How(Vec<Merger>);

impl Merger {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    fn has_list(&self) -> bool {
        self.has("recurse_list") || self.has("recurse_array")
    }
}

impl Default for How {
    fn default() -> Self {
        Self::parse("dict(replace)+list()+str()").unwrap_or(Self(Vec::new()))
    }
}

impl How {
    /// `list(append)+dict(no_replace)+str()`; `None` where that cannot be read.
    pub fn parse(text: &str) -> Option<Self> {
        let mut mergers = Vec::new();
        for part in text.split('+') {
            let part = part.trim().replace('-', "_");
            if part.is_empty() {
                continue;
            }
            let (kind, rest) = part.split_once('(')?;
            let options = rest.strip_suffix(')')?.split(',');
            let options =
                options.map(|option| option.trim().to_ascii_lowercase()).filter(|option| !option.is_empty());
            mergers.push(Merger { kind: known(kind)?, options: options.collect() });
        }
        Some(Self(mergers))
    }

    /// Takes `merge_how` or `merge_type` out of a body; a list holds mappings with `name` and `settings`, or lists.
    pub fn take(body: &mut Node) -> Option<Self> {
        let how = body.take("merge_how").filter(|node| !node.is_null());
        let node = how.or_else(|| body.take("merge_type")).filter(|node| !node.is_null());
        let Some(node) = node else { return Some(Self(Vec::new())) };
        if let Some(text) = node.as_str() {
            return Self::parse(text);
        }
        let mut mergers = Vec::new();
        for item in node.items()? {
            let (name, options): (_, &[Node]) = match &item.value {
                Value::Map(_) => {
                    (item.get("name")?, item.get("settings").map(Node::each).unwrap_or_default())
                }
                Value::List(words) => (words.first()?, words.get(1..).unwrap_or_default()),
                _ => return None,
            };
            let name = name.as_str()?.trim().replace('-', "_");
            let options =
                options.iter().map(|option| option.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            mergers.push(Merger { kind: known(&name)?, options });
        }
        Some(Self(mergers))
    }

    /// The body's, then the header's; cloud-init's own where neither says anything.
    pub fn or(mut self, header: Self) -> Self {
        self.0.extend(header.0);
        if self.0.is_empty() { Self::default() } else { self }
    }

    fn of(&self, kind: &str) -> Option<&Merger> {
        self.0.iter().find(|merger| merger.kind == kind)
    }

    /// What `old` becomes by what `new` says.
    pub fn merge(&self, old: Node, new: Node) -> Node {
        let Node { line, document, value } = old;
        let with = |value| Node { line, document, value };
        match value {
            Value::Map(entries) => match (self.of("dict"), new) {
                (Some(how), Node { value: Value::Map(more), .. }) => {
                    with(Value::Map(self.mappings(how, entries, more)))
                }
                _ => with(Value::Map(entries)),
            },
            Value::List(items) => match self.of("list") {
                Some(how) => self.lists(how, with(Value::Null), items, new),
                None => with(Value::List(items)),
            },
            Value::Text(text) => match (self.of("str"), new) {
                (Some(how), Node { value: Value::Text(more), .. }) if how.has("append") => {
                    with(Value::Text(text + &more))
                }
                (Some(_), new) => new,
                _ => with(Value::Text(text)),
            },
            value => with(value),
        }
    }

    fn mappings(
        &self,
        how: &Merger,
        mut old: Vec<(Node, Node)>,
        new: Vec<(Node, Node)>,
    ) -> Vec<(Node, Node)> {
        let replaces = how.has("replace");
        let places = places(&old);
        let mut is_gone = vec![false; old.len()];
        // Keys of `new` are different from each other.
        for (key, value) in new {
            let Some(at) = identity(&key).and_then(|key| places.get(&key).copied()) else {
                old.push((key, value));
                continue;
            };
            if value.is_null() && how.has("allow_delete") {
                is_gone[at] = true;
                continue;
            }
            let recurses = match &value.value {
                Value::List(_) => how.has_list(),
                Value::Text(_) => how.has("recurse_str"),
                Value::Map(_) => true,
                _ => false,
            };
            let place = &mut old[at].1;
            if replaces {
                old[at] = (key, value);
            } else if recurses {
                let before = std::mem::replace(place, Node::new(0, Value::Null));
                *place = self.merge(before, value);
            }
        }
        let mut is_gone = is_gone.into_iter();
        old.retain(|_| !is_gone.next().unwrap_or_default());
        old
    }

    fn lists(&self, how: &Merger, place: Node, old: Vec<Node>, new: Node) -> Node {
        let method =
            ["append", "prepend", "replace", "no_replace"].into_iter().find(|method| how.has(method));
        let method = method.unwrap_or("replace");
        let Node { value: Value::List(new), .. } = new else {
            return if method == "replace" { new } else { place.with(Value::List(old)) };
        };
        let items = match method {
            "append" => old.into_iter().chain(new).collect(),
            "prepend" => new.into_iter().chain(old).collect(),
            "no_replace" => old,
            _ => self.by_index(how, old, new),
        };
        place.with(Value::List(items))
    }

    fn by_index(&self, how: &Merger, old: Vec<Node>, new: Vec<Node>) -> Vec<Node> {
        let mut new = new.into_iter();
        old.into_iter()
            .map(|old| match new.next() {
                None => old,
                Some(new) => {
                    let recurses = match &new.value {
                        Value::List(_) => how.has_list(),
                        Value::Text(_) => how.has("recurse_str"),
                        Value::Map(_) => how.has("recurse_dict"),
                        _ => false,
                    };
                    if recurses { self.merge(old, new) } else { new }
                }
            })
            .collect()
    }
}

/// Where each key stands.
fn places(entries: &[(Node, Node)]) -> HashMap<(bool, String), usize> {
    entries.iter().enumerate().filter_map(|(at, (key, _))| Some((identity(key)?, at))).collect()
}

fn known(kind: &str) -> Option<String> {
    ["dict", "list", "str"].contains(&kind).then(|| kind.to_owned())
}

/// Adds what `low` says and `high` does not: mappings at any depth, nothing else (util.py `mergemanydict`).
pub fn below(high: &mut Node, low: Node) {
    let (Value::Map(entries), Value::Map(more)) = (&mut high.value, low.value) else { return };
    let places = places(entries);
    for (key, value) in more {
        match identity(&key).and_then(|key| places.get(&key).copied()) {
            Some(at) => below(&mut entries[at].1, value),
            None => entries.push((key, value)),
        }
    }
}
