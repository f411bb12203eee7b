//! Which parts does user data have, each unpacked, and in which order? cloud-init's user_data.py.

pub mod base64;
pub mod gzip;
pub mod include;
pub mod jinja;
pub mod mime;
pub mod sniff;

use crate::limits::{self, Budget};
use crate::note::{Notes, Origin, Source};
use crate::yaml::{self, Node, Value};
use include::{Found, Library};
use jinja::Variables;
use preroot::format::translation::Rule;
use sniff::Kind;
use std::collections::BTreeSet;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A part as it is acted upon.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose, and which.
    pub origin: Origin,
    /// What it is.
    pub kind: Kind,
    /// A name for a file, clean.
    pub name: String,
    /// Decoded.
    pub content: Vec<u8>,
    /// Launch-Index, where it is a number.
    pub launch_index: Option<i64>,
    /// Merge-Type or X-Merge-Type.
    pub merge_type: String,
}

/// What came with a part.
#[derive(Clone, Default)]
struct Headers {
    content_type: String,
    name: Option<String>,
    launch_index: Option<i64>,
    merge_type: String,
}

/// Takes texts of one source apart.
pub struct Unpacker<'u, 'l> {
    source: Source,
    count: u32,
    /// Of an included document, whose parts have names of their own: the others keep theirs, whatever is in it.
    inner: Option<u32>,
    library: &'u mut Library<'l>,
    /// Documents that were taken apart.
    used: BTreeSet<String>,
    variables: &'u Variables,
    notes: &'u mut Notes,
    budget: &'u mut Budget,
    parts: Vec<Part>,
    has_too_many: bool,
}

impl<'u, 'l> Unpacker<'u, 'l> {
    /// For texts of one source: parts are counted through.
    pub fn new(
        source: Source,
        variables: &'u Variables,
        library: &'u mut Library<'l>,
        notes: &'u mut Notes,
        budget: &'u mut Budget,
    ) -> Self {
        let (parts, used) = (Vec::new(), BTreeSet::new());
        Self {
            source,
            count: 0,
            inner: None,
            library,
            used,
            variables,
            notes,
            budget,
            parts,
            has_too_many: false,
        }
    }

    /// All parts so far; those of other instances (`launch_index`) are left out.
    pub fn finish(self, launch_index: Option<i64>) -> Vec<Part> {
        let mut parts = self.parts;
        if let Some(mine) = launch_index {
            parts.retain(|part| part.launch_index.is_none_or(|wanted| wanted == mine));
        }
        parts
    }

    fn note(&mut self, rule: Rule, line: u32, detail: &str) {
        let origin = Origin { source: self.source, part: self.count };
        self.notes.add(rule, origin, line, detail);
    }

    /// The next text, as it came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.document(bytes, limits::PART_DEPTH);
    }

    fn document(&mut self, bytes: &[u8], depth: usize) {
        let Some(bytes) = self.unzipped(bytes) else { return };
        let mut bytes = self.without_base64(bytes);
        // Editors of Windows put one before everything; cloud-init then knows nothing of it.
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.trim_ascii().is_empty() {
            return;
        }
        self.text(&bytes, depth);
    }

    fn unzipped(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let outcome = match gzip::is_gzip(bytes) {
            _ if bytes.len() > limits::DOCUMENT => Err(gzip::Fault::TooMuch),
            true => {
                let most = self.budget.bytes.min(limits::DOCUMENT);
                let inside = gzip::decompress_all(bytes, most);
                self.budget.spend(inside.as_ref().map_or(most, Vec::len), 0, inside.is_ok());
                inside
            }
            false => Ok(bytes.to_vec()),
        };
        let rule = match outcome {
            Ok(bytes) => return Some(bytes),
            Err(gzip::Fault::TooMuch) => Rule::TooLarge,
            Err(gzip::Fault::Broken) => Rule::Gzip,
        };
        self.note(rule, 0, "");
        None
    }

    /// People paste base64 where it is not asked for: one layer comes off where what is inside is ours.
    fn without_base64(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(byte);
        if bytes.len() < 8 || !bytes.iter().all(is_base64) {
            return bytes;
        }
        let Some(inside) = base64::lenient(&bytes) else { return bytes };
        let Some(inside) = (if gzip::is_gzip(&inside) { self.unzipped(&inside) } else { Some(inside) })
        else {
            return bytes;
        };
        if sniff::by_prefix(&inside).is_none() && !is_message(&inside) {
            return bytes;
        }
        self.note(Rule::Base64, 0, "");
        inside
    }

    fn text(&mut self, bytes: &[u8], depth: usize) {
        if !is_message(bytes) {
            let headers = Headers { content_type: "text/x-not-multipart".into(), ..Headers::default() };
            return self.part(headers, bytes.to_vec(), depth);
        }
        let message = mime::parse(bytes, depth);
        if has_cut(&message) {
            self.note(Rule::TooDeep, 0, "");
        }
        if message.has_too_many {
            self.note(Rule::TooManyParts, 0, "");
        }
        let mut leaves = Vec::new();
        message.leaves(&mut leaves);
        for leaf in leaves {
            let merge_type =
                leaf.header("merge-type").or(leaf.header("x-merge-type")).unwrap_or_default().to_owned();
            let launch_index = leaf.header("launch-index").and_then(|text| text.trim().parse().ok());
            let headers = Headers {
                content_type: leaf.content_type(),
                name: leaf.file_name(),
                launch_index,
                merge_type,
            };
            self.part(headers, leaf.content(), depth);
        }
    }

    fn part(&mut self, mut headers: Headers, content: Vec<u8>, depth: usize) {
        let mut content = content;
        if depth == 0 {
            return self.note(Rule::TooDeep, 0, "");
        }
        if sniff::is_compressed(&headers.content_type) {
            let Some(inside) = self.unzipped(&content) else { return };
            content = inside;
            headers.content_type = "text/plain".into();
        }
        let mut kind = sniff::by_type(&headers.content_type);
        if matches!(kind, Kind::Plain | Kind::Script) {
            kind = sniff::by_prefix(&content).unwrap_or(kind);
        }
        if kind == Kind::Archive {
            return self.archive(&content, depth);
        }
        self.attach(kind, headers, content, depth);
    }

    fn attach(&mut self, kind: Kind, headers: Headers, content: Vec<u8>, depth: usize) {
        if self.parts.len() >= limits::PARTS {
            if !std::mem::replace(&mut self.has_too_many, true) {
                self.note(Rule::TooManyParts, 0, "");
            }
            return;
        }
        match &mut self.inner {
            Some(inner) => *inner += 1,
            None => self.count += 1,
        }
        let (mut kind, mut content) = (kind, content);
        if kind == Kind::Template {
            let Some(text) = self.rendered(&content) else { return };
            content = text.into_bytes();
            kind = sniff::by_prefix(&content).unwrap_or(Kind::Other);
        }
        if self.library.is_open() && matches!(kind, Kind::Include | Kind::IncludeOnce) {
            return self.include(&content, depth);
        }
        let origin = Origin { source: self.source, part: self.count };
        let name = headers.name.filter(|name| !name.is_empty());
        let name = name.map_or_else(|| self.part_name(), |name| clean_name(&name));
        let launch_index = headers.launch_index.or_else(|| index_inside(kind, &content, self.budget));
        self.parts.push(Part { origin, kind, name, content, launch_index, merge_type: headers.merge_type });
    }

    fn part_name(&self) -> String {
        let inner = self.inner.map(|inner| format!("-{inner:03}")).unwrap_or_default();
        format!("part-{:03}{inner}", self.count)
    }

    /// The documents that a part names take its place, each once.
    fn include(&mut self, content: &[u8], depth: usize) {
        let origin = Origin { source: self.source, part: self.count };
        let outer = self.inner;
        self.inner = outer.or(Some(0));
        for (line, url) in include::urls(content) {
            match self.library.find(&url, origin, line) {
                Found::Document(_) if !self.used.insert(url) => self.note(Rule::IncludeAgain, line, ""),
                Found::Document(document) => self.document(document, depth - 1),
                Found::Wanted => {}
                Found::TooMuch => self.note(Rule::IncludeTooMuch, line, ""),
                Found::Refused => self.note(Rule::IncludeUrl, line, ""),
            }
        }
        self.inner = outer.and(self.inner);
    }

    fn rendered(&mut self, content: &[u8]) -> Option<String> {
        match jinja::render(&String::from_utf8_lossy(content), self.variables) {
            Ok(rendered) if rendered.text.len() > limits::DOCUMENT => {
                self.note(Rule::TooLarge, 0, "");
                None
            }
            Ok(rendered) => {
                rendered.missing.iter().for_each(|line| self.note(Rule::MissingVariable, *line, ""));
                Some(rendered.text)
            }
            Err(fault) => {
                self.note(Rule::Template, fault.line, fault.rule);
                None
            }
        }
    }

    /// A list of texts, or of mappings with `content`, `type` and headers.
    fn archive(&mut self, content: &[u8], depth: usize) {
        let node = match yaml::load_within(&String::from_utf8_lossy(content), self.budget) {
            Ok(node) => node,
            Err(fault) => return self.note(no_yaml(&fault), fault.line, &fault.rule),
        };
        let Some(items) = node.items() else {
            return self.note(Rule::NoMapping, node.line, "a list was expected");
        };
        for item in items {
            match &item.value {
                Value::Text(text) => self.entry(Headers::default(), text.clone().into_bytes(), depth),
                Value::Map(_) => self.described(item, depth),
                _ => self.note(Rule::BadValue, item.line, "a text or a mapping was expected"),
            }
        }
    }

    fn described(&mut self, item: &Node, depth: usize) {
        let text_of = |key: &str| item.get(key).and_then(Node::python_text);
        let content = match item.get("content").map(|content| &content.value) {
            Some(Value::Bytes(bytes)) => bytes.clone(),
            _ => text_of("content").unwrap_or_default().into_bytes(),
        };
        let headers = Headers {
            content_type: text_of("type")
                .or(text_of("content-type"))
                .unwrap_or_default()
                .to_ascii_lowercase(),
            name: text_of("filename"),
            launch_index: text_of("launch-index").and_then(|text| text.trim().parse().ok()),
            merge_type: text_of("merge-type").or(text_of("x-merge-type")).unwrap_or_default(),
        };
        self.entry(headers, content, depth);
    }

    /// An entry of an archive: what it says it is, else what it looks like, else cloud-config.
    fn entry(&mut self, mut headers: Headers, content: Vec<u8>, depth: usize) {
        if headers.content_type.is_empty() {
            let kind = sniff::by_prefix(&content).unwrap_or(Kind::Config);
            headers.content_type = sniff::type_of(kind).unwrap_or_default().into();
        }
        self.part(headers, content, depth - 1);
    }
}

/// What is to be told of a document that is none.
pub(crate) fn no_yaml(fault: &yaml::Fault) -> Rule {
    if fault.is_limit() { Rule::TooMuch } else { Rule::Yaml }
}

/// True where Python would read it as a message.
fn is_message(bytes: &[u8]) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes);
    head.windows(13).any(|window| window.eq_ignore_ascii_case(b"mime-version:"))
}

fn has_cut(entity: &mime::Entity) -> bool {
    entity.is_cut || entity.parts.iter().any(has_cut)
}

/// `launch-index` in the body of cloud-config.
fn index_inside(kind: Kind, content: &[u8], budget: &mut Budget) -> Option<i64> {
    if kind != Kind::Config || !content.windows(12).any(|window| window == b"launch-index") {
        return None;
    }
    let node = yaml::load_within(&String::from_utf8_lossy(content), budget).ok()?;
    node.get("launch-index")?.python_text()?.trim().parse().ok()
}

/// A name for a file: `/` becomes `_`, what is neither letter, digit nor one of a few marks goes (util.py
/// `clean_filename`).
pub fn clean_name(name: &str) -> String {
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || "-_.()".contains(*c);
    name.replace('/', "_").chars().filter(is_kept).collect()
}
