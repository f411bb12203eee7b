//! How does a document become one tree? Events in; aliases are copied within bounds, `<<` is merged, of equal keys the
//! last one counts.

use super::{Fault, Node, Value, scalar};
use crate::limits::{self, Budget};
use crate::parts::base64;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::HashMap;

const CORE: &str = "tag:yaml.org,2002:";

/// Reads the only document of a stream; an empty stream is null.
///
/// # Errors
/// The first rule that is broken, with its line.
pub fn load(text: &str) -> Result<Node, Fault> {
    load_within(text, &mut Budget::default())
}

/// The same, of several documents that share what they may take.
///
/// # Errors
/// The first rule that is broken, with its line.
pub fn load_within(text: &str, budget: &mut Budget) -> Result<Node, Fault> {
    let most = (budget.nodes, budget.bytes.min(limits::ALIAS_TEXT));
    let mut loader = Loader { most, ..Loader::default() };
    let outcome = read(text, &mut loader);
    budget.spend(loader.copied.min(most.1), loader.nodes.min(most.0), outcome.is_ok());
    outcome
}

fn read(text: &str, loader: &mut Loader) -> Result<Node, Fault> {
    printable(text)?;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| Fault::new(line_of(error.marker().line()), error.info()))?;
        loader.event(event, line_of(span.start.line()))?;
    }
    let mut root = loader.root.take().unwrap_or(Node::new(1, Value::Null));
    if loader.ends_in_block && !text.ends_with(['\n', '\r']) {
        open_last_line(&mut root, text.lines().last().unwrap_or_default().trim());
    }
    Ok(root)
}

/// The parser ends the last line of a block where the text does not; `PyYAML`'s has no end then. `last` is that line,
/// unless it is a comment behind the block.
fn open_last_line(node: &mut Node, last: &str) {
    match &mut node.value {
        Value::List(items) => items.last_mut().into_iter().for_each(|item| open_last_line(item, last)),
        Value::Map(entries) => {
            entries.last_mut().into_iter().for_each(|(_, value)| open_last_line(value, last));
        }
        Value::Text(text)
            if !last.is_empty() && text.strip_suffix('\n').is_some_and(|text| text.ends_with(last)) =>
        {
            text.pop();
        }
        _ => {}
    }
}

fn line_of(line: usize) -> u32 {
    u32::try_from(line.max(1)).unwrap_or(u32::MAX)
}

/// `PyYAML`'s reader.py takes no control characters.
fn printable(text: &str) -> Result<(), Fault> {
    let mut line = 1;
    for (at, c) in text.char_indices() {
        match c {
            '\n' => line += 1,
            '\t' | '\r' | '\u{85}' | ' '..='~' | '\u{a0}'.. if !matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            '\u{feff}' if at == 0 => {}
            _ => return Err(Fault::new(line, "a control character")),
        }
    }
    Ok(())
}

/// A collection that is not whole yet.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

struct Frame {
    open: Open,
    line: u32,
    anchor: usize,
}

#[derive(Default)]
struct Loader {
    root: Option<Node>,
    has_root: bool,
    frames: Vec<Frame>,
    /// Whole ones, with what a copy costs.
    anchors: HashMap<usize, (Node, Cost)>,
    nodes: usize,
    copied: usize,
    /// Of both.
    most: (usize, usize),
    /// The last scalar so far is a block.
    ends_in_block: bool,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    text: usize,
    depth: usize,
}

fn cost(node: &Node) -> Cost {
    let mut sum = Cost { nodes: 1, text: 0, depth: 1 };
    let mut add = |node: &Node| {
        let inner = cost(node);
        sum.nodes += inner.nodes;
        sum.text += inner.text;
        sum.depth = sum.depth.max(inner.depth + 1);
    };
    match &node.value {
        Value::List(items) => items.iter().for_each(add),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            add(key);
            add(value);
        }),
        Value::Text(text) | Value::Date(text) => sum.text = text.len(),
        Value::Bytes(bytes) => sum.text = bytes.len(),
        _ => {}
    }
    sum
}

impl Loader {
    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) if self.has_root => Err(Fault::new(line, "more than one document")),
            Event::DocumentStart(_) => {
                self.has_root = true;
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some((node, cost)) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(line, "an alias for nothing, or inside of what it names"));
                };
                self.copied = self.copied.saturating_add(cost.text);
                self.nodes = self.nodes.saturating_add(cost.nodes);
                if self.frames.len() + cost.depth > limits::YAML_DEPTH {
                    return Err(Fault::new(line, Fault::DEEP));
                }
                if self.nodes > self.most.0 {
                    return Err(Fault::new(line, Fault::MANY));
                }
                if self.copied > self.most.1 {
                    return Err(Fault::new(line, Fault::COPIES));
                }
                let node = node.clone();
                self.put(node, 0, line)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.ends_in_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let value = scalar_of(&text, style, tag.as_deref(), line)?;
                self.put(Node::new(line, value), anchor, line)
            }
            Event::SequenceStart(anchor, tag) => {
                known(tag.as_deref(), &["seq", "omap", "pairs"], line)?;
                self.open(Open::List(Vec::new()), anchor, line)
            }
            Event::MappingStart(anchor, tag) => {
                known(tag.as_deref(), &["map", "set"], line)?;
                self.open(Open::Map(Vec::new(), None), anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, anchor: usize, line: u32) -> Result<(), Fault> {
        if self.frames.len() >= limits::YAML_DEPTH {
            return Err(Fault::new(line, Fault::DEEP));
        }
        self.frames.push(Frame { open, line, anchor });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Frame { open, line, anchor }) = self.frames.pop() else { return Ok(()) };
        let value = match open {
            Open::List(items) => Value::List(items),
            Open::Map(entries, _) => Value::Map(once_each(entries)?),
        };
        self.put(Node::new(line, value), anchor, line)
    }

    fn put(&mut self, node: Node, anchor: usize, line: u32) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > self.most.0 {
            return Err(Fault::new(line, Fault::MANY));
        }
        if anchor != 0 {
            // Copied now, it counts like a copy.
            let cost = cost(&node);
            self.copied = self.copied.saturating_add(cost.text);
            self.nodes = self.nodes.saturating_add(cost.nodes);
            if self.copied > self.most.1 {
                return Err(Fault::new(line, Fault::COPIES));
            }
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        let mut node = node;
        let is_key = matches!(self.frames.last(), Some(Frame { open: Open::Map(_, None), .. }));
        if let Some(mark) = mark_of(&node) {
            match mark {
                _ if !is_key => return Err(Fault::new(line, "a lone `<<` or `=` is no value")),
                "=" => node.value = Value::Text("=".into()),
                _ => {}
            }
        }
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

fn known(tag: Option<&Tag>, kinds: &[&str], line: u32) -> Result<(), Fault> {
    match tag {
        None => Ok(()),
        Some(tag) if is_bare(tag) => Ok(()),
        Some(tag) if kinds.contains(&core_kind(tag)) => Ok(()),
        Some(_) => Err(Fault::new(line, "a tag nobody knows")),
    }
}

/// A `!` alone.
fn is_bare(tag: &Tag) -> bool {
    matches!((tag.handle.as_str(), tag.suffix.as_str()), ("!", "") | ("", "!"))
}

fn core_kind(tag: &Tag) -> &str {
    if tag.handle == CORE { &tag.suffix } else { tag.suffix.strip_prefix(CORE).unwrap_or_default() }
}

/// Plain `<<` and `=`: no texts, or quoted ones would mean the same.
fn mark_of(node: &Node) -> Option<&'static str> {
    match &node.value {
        Value::Date(text) if text == "<<" => Some("<<"),
        Value::Date(text) if text == "=" => Some("="),
        _ => None,
    }
}

fn scalar_of(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Value, Fault> {
    let bad = |rule: &str| Fault::new(line, rule);
    let Some(tag) = tag else {
        return match (style, text) {
            (ScalarStyle::Plain, "<<" | "=") => Ok(Value::Date(text.into())),
            (ScalarStyle::Plain, _) => scalar::resolve(text).map_err(bad),
            _ => Ok(Value::Text(text.into())),
        };
    };
    if is_bare(tag) {
        // To PyYAML that is no tag, and no quotes either.
        return scalar::resolve(text).map_err(bad);
    }
    let as_plain = || scalar::resolve(text).map_err(bad);
    match core_kind(tag) {
        "str" => Ok(Value::Text(text.into())),
        "null" => Ok(Value::Null),
        "bool" => scalar::boolean(text).map(Value::Bool).ok_or(bad("!!bool of something else")),
        "int" => scalar::integer(text).map(Value::Int).ok_or(bad("!!int of something else")),
        "float" => scalar::float(text).map(Value::Float).ok_or(bad("!!float of something else")),
        "timestamp" => match as_plain()? {
            Value::Date(text) => Ok(Value::Date(text)),
            _ => Err(bad("!!timestamp of something else")),
        },
        "binary" => {
            base64::lenient(text.as_bytes()).map(Value::Bytes).ok_or(bad("!!binary that is no base64"))
        }
        _ => Err(bad("a tag nobody knows")),
    }
}

/// Merges what stands behind `<<` (constructor.py `flatten_mapping`), and keeps of equal keys the last one's value in
/// the first one's place.
fn once_each(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, Fault> {
    let (mut merged, mut own) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        if mark_of(&key) == Some("<<") {
            merge(value, &mut merged)?;
        } else {
            own.push((key, value));
        }
    }
    merged.append(&mut own);
    let mut places = HashMap::with_capacity(merged.len());
    let mut whole: Vec<(Node, Node)> = Vec::with_capacity(merged.len());
    for (key, value) in merged {
        let Some(identity) = identity(&key) else {
            return Err(Fault::new(key.line, "a collection as a key"));
        };
        match places.entry(identity) {
            std::collections::hash_map::Entry::Occupied(place) => {
                // The first one's spelling stays, as in a dict of Python's.
                let (first, old) = &mut whole[*place.get()];
                let old: &mut Node = old;
                let first: &mut Node = first;
                (first.line, *old) = (key.line, value);
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(whole.len());
                whole.push((key, value));
            }
        }
    }
    Ok(whole)
}

/// What Python takes for the same key: `1`, `1.0` and `true` are.
pub(crate) fn identity(key: &Node) -> Option<(bool, String)> {
    let number = |number: String| Some((false, number));
    match &key.value {
        Value::Bool(truth) => number(i32::from(*truth).to_string()),
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Value::Float(float) if float.fract() == 0.0 && float.abs() < 9e15 => {
            number((*float as i64).to_string())
        }
        Value::Int(_) | Value::Float(_) | Value::Null => number(key.python_text()?),
        Value::Bytes(_) => Some((false, format!("{:?}", key.value))),
        _ => Some((true, key.python_text()?)),
    }
}

fn merge(value: Node, merged: &mut Vec<(Node, Node)>) -> Result<(), Fault> {
    let line = value.line;
    match value.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(items) => {
            for item in items.into_iter().rev() {
                match item.value {
                    Value::Map(entries) => merged.extend(entries),
                    _ => return Err(Fault::new(item.line, "`<<` of something else than mappings")),
                }
            }
        }
        _ => return Err(Fault::new(line, "`<<` of something else than a mapping")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, load};

    fn of(text: &str) -> Node {
        load(text).unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    #[test]
    fn values_know_their_lines() {
        let node = of("#cloud-config\n\na: 1\nb:\n  - x\n  - y: text\n");
        assert_eq!(node.get("a").unwrap().line, 3);
        assert_eq!(node.get("b").unwrap().items().unwrap()[1].get("y").unwrap().line, 6);
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        assert_eq!(of("{a: 1, b: 2, a: 3}").get("a").unwrap().value, Value::Int(3));
    }

    #[test]
    fn merged_keys_give_way_to_own_ones_and_the_first_mapping_wins() {
        let node = of("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  c: 3\n  <<: [*x, *y]\nq: {'<<': 1}\n");
        let z = node.get("z").unwrap();
        for (key, number) in [("a", 1), ("b", 1), ("c", 3)] {
            assert_eq!(z.get(key).unwrap().value, Value::Int(number), "{key}");
        }
        assert_eq!(node.get("q").unwrap().get("<<").unwrap().value, Value::Int(1));
    }

    #[test]
    fn laughs_and_nests_end() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let before = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "));
        }
        assert_eq!(load(&bomb).unwrap_err().rule, "too many values");
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 1000].join(", "));
        assert_eq!(load(&text).unwrap_err().rule, "aliases copy too much");
        assert!(load(&"[".repeat(50_000)).is_err());
        let nest = |depth: usize| load(&("[".repeat(depth) + &"]".repeat(depth)));
        assert!(nest(100).is_ok());
        assert_eq!(nest(101).unwrap_err().rule, "nested too deep");
        let text = format!(
            "a: &a {}{}\nb: {}*a{}\n",
            "[".repeat(60),
            "]".repeat(60),
            "[".repeat(60),
            "]".repeat(60)
        );
        assert_eq!(load(&text).unwrap_err().rule, "nested too deep");
        assert!(load(&"- ".repeat(50_000)).is_err());
        assert!(load("a: &a [*a]\n").is_err());
    }

    #[test]
    fn faults_have_their_line() {
        assert_eq!(load("a: 1\nb: [1, 2\n").unwrap_err().line, 3);
        assert_eq!(load("a: 1\n--- \nb: 2\n").unwrap_err().rule, "more than one document");
        assert_eq!(load("a: !mine 1\n").unwrap_err().line, 1);
        assert_eq!(load("a: 1\nb: \x07\n").unwrap_err().line, 2);
        assert_eq!(load("? [a]\n: 1\n").unwrap_err().rule, "a collection as a key");
    }

    #[test]
    fn tags_of_the_core_are_known() {
        let node = of("a: !!str 0644\nb: !!binary aGk=\nc: !!int '7'\nd: ! 12\ne: !!binary |\n  aG\n  k=\n");
        assert_eq!(node.get("a").unwrap().as_str(), Some("0644"));
        assert_eq!(node.get("b").unwrap().value, Value::Bytes(b"hi".into()));
        assert_eq!(node.get("e").unwrap().value, Value::Bytes(b"hi".into()));
        assert_eq!(node.get("c").unwrap().value, Value::Int(7));
    }
}
