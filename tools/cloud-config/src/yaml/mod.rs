//! What does a YAML document say, as `PyYAML`'s safe loader understands it, and on which line?
//!
//! The parser is saphyr's, for YAML 1.2; plain scalars are resolved by YAML 1.1 ([`scalar`]), and collections are built
//! as cloud-init sees them ([`load`]).

mod json;
mod load;
mod scalar;

pub(crate) use json::from_json;
pub(crate) use load::identity;
pub use load::{load, load_within};

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From 1.
    pub line: u32,
    /// Which document it is of: who merges several numbers them.
    pub document: u16,
    /// What it is.
    pub value: Value,
}

/// What a safe loader gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~`, nothing.
    Null,
    /// `yes` and `off` too.
    Bool(bool),
    /// `0644` is octal, `1:30` is ninety.
    Int(i128),
    /// Decimal fractions.
    Float(f64),
    /// Anything else.
    Text(String),
    /// `!!binary`.
    Bytes(Vec<u8>),
    /// A date or a time, as it stands there.
    Date(String),
    /// In order.
    List(Vec<Node>),
    /// In order, each key once: the last one's value.
    Map(Vec<(Node, Node)>),
}

/// Why a document is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: u32,
    /// The rule; may quote a name from the document.
    pub rule: String,
}

impl Fault {
    pub(crate) const DEEP: &str = "nested too deep";
    pub(crate) const MANY: &str = "too many values";
    pub(crate) const COPIES: &str = "aliases copy too much";

    /// YAML it is, but more of it than is taken.
    pub fn is_limit(&self) -> bool {
        [Self::DEEP, Self::MANY, Self::COPIES].contains(&&*self.rule)
    }

    pub(crate) fn new(line: u32, rule: impl Into<String>) -> Self {
        Self { line, rule: rule.into() }
    }
}

impl Node {
    /// A value of no document.
    pub fn new(line: u32, value: Value) -> Self {
        Self { line, document: 0, value }
    }

    /// A text where another value stood.
    pub fn text(&self, text: impl Into<String>) -> Self {
        self.with(Value::Text(text.into()))
    }

    /// Another value in its place.
    pub fn with(&self, value: Value) -> Self {
        Self { line: self.line, document: self.document, value }
    }

    /// Numbers its document.
    pub fn stamp(&mut self, document: u16) {
        self.document = document;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.stamp(document)),
            Value::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.stamp(document);
                value.stamp(document);
            }),
            _ => {}
        }
    }

    /// The value behind a key, of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Of a mapping; empty for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Takes a key out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|(name, _)| name.as_str() == Some(key))?;
        Some(entries.remove(at).1)
    }

    /// Of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A list's items; anything but null is a list of one.
    pub fn each(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// Of a text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// True for null.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// What Python's `str()` makes of a scalar; `None` for collections.
    pub fn python_text(&self) -> Option<String> {
        Some(match &self.value {
            Value::Null => "None".into(),
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Text(text) | Value::Date(text) => text.clone(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::List(_) | Value::Map(_) => return None,
        })
    }

    /// cloud-init's words for yes and no (util.py `is_true`, `is_false`, `translate_bool`); `None` for neither.
    pub fn truth(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(truth) => Some(*truth),
            Value::Null => Some(false),
            Value::Int(1) => Some(true),
            Value::Int(0) => Some(false),
            Value::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("none") => Some(false),
            Value::Text(text) => preroot::format::cloud_config::truth(text.trim()),
            _ => None,
        }
    }
}
