//! What does NoCloud's meta-data say, and what do its words on the kernel command line?
//!
//! meta-data is YAML. Of it the part is read that people and programs write there: mappings and lists by indentation,
//! `[a, b]` and `{a: b}` on one line, plain and quoted scalars, block scalars, comments. JSON is read as JSON. Anything
//! else is `Unsupported`, and the error's number is its line. Source: cloud-init, sources/DataSourceNoCloud.py.

use super::fields::{Fields, Scalar, Visit};
use crate::error::{Result, Rule};
use crate::limits;

const WHAT: &str = "meta-data";
/// Deepest nesting.
const DEPTH: usize = 8;
/// Bytes of a place.
const PLACE: usize = 128;

/// `unread!("rule")`: what YAML allows and we do not read.
macro_rules! unread {
    ($rule:literal) => {
        unsupported!(rule WHAT, $rule)
    };
}

/// Reads a document into `visit`, with the places that [`Fields`] gives. `fields` is for JSON.
///
/// # Errors
/// `Unsupported`, its number the line; what is not JSON; the visitor's.
#[inline(never)]
pub fn read(text: &[u8], fields: &mut Fields, visit: &mut dyn Visit) -> Result<()> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii_start().first() == Some(&b'{') {
        fields.reset();
        return fields.push(text, visit).and_then(|()| fields.finish(visit));
    }
    let text = core::str::from_utf8(text).map_err(|_| malformed!(WHAT, "not UTF-8", 0))?;
    let mut reader = Reader {
        visit,
        line: 0,
        place: heapless::String::new(),
        levels: heapless::Vec::new(),
        block: None,
        is_open: false,
    };
    for line in text.lines() {
        reader.line = reader.line.saturating_add(1);
        if line.trim_ascii_end() == "..." {
            break;
        }
        reader.line(line)?;
    }
    Ok(())
}

/// A mapping or list that is open.
#[derive(Clone, Copy)]
struct Level {
    /// Blanks before its keys or dashes.
    indent: usize,
    /// Length of its own place.
    length: usize,
    is_list: bool,
}

struct Reader<'v> {
    visit: &'v mut dyn Visit,
    line: u64,
    place: heapless::String<PLACE>,
    levels: heapless::Vec<Level, DEPTH>,
    /// A block scalar is read: the indentation of its key.
    block: Option<usize>,
    /// The last key has no value yet: what is indented more is one.
    is_open: bool,
}

impl Reader<'_> {
    #[cold]
    fn bad<T>(&self, rule: &'static Rule) -> Result<T> {
        Err(rule.at(self.line))
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let content = line.trim_start_matches(' ');
        let indent = line.len().saturating_sub(content.len());
        if content.trim_ascii().is_empty() {
            return Ok(());
        }
        if let Some(key) = self.block {
            if indent > key {
                // As many texts as lines: that is what a list of keys is read for.
                return self.visit.scalar(&self.place, Scalar::Text(content.trim_ascii_end()));
            }
            self.block = None;
        }
        if content.starts_with('#') || indent == 0 && matches!(content.trim_ascii_end(), "---") {
            return Ok(());
        }
        if content.starts_with('\t') {
            return self.bad(unread!("a tab as indentation"));
        }
        if content.starts_with('%') || indent == 0 && content.starts_with("--- ") {
            return self.bad(unread!("a YAML directive"));
        }
        self.item(indent, content)
    }

    /// A key with what is behind it, or a dash with that.
    fn item(&mut self, indent: usize, content: &str) -> Result<()> {
        let dash = content.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' '));
        self.find_level(indent, dash.is_some())?;
        if let Some(rest) = dash {
            let content = rest.trim_start_matches(' ');
            self.enter("#", true)?;
            if content.is_empty() {
                self.is_open = true;
                return Ok(());
            }
            let skipped = rest.len().saturating_sub(content.len()).saturating_add(1);
            if split_key(content).is_some() || content.starts_with("- ") {
                self.is_open = true;
                return self.item(indent.saturating_add(skipped), content);
            }
            return self.value(indent, content);
        }
        let Some((key, rest)) = split_key(content) else {
            return self.bad(unread!("a line that is neither a key nor an item"));
        };
        if key.starts_with(['?', '&', '*', '!', '{', '[']) || key == "<<" {
            return self.bad(unread!("a key that is no plain text"));
        }
        let mut plain = heapless::String::<PLACE>::new();
        if unquote(key, &mut plain).is_none() {
            return self.bad(unread!("a key that is no plain text"));
        }
        self.enter(&plain, false)?;
        self.value(indent, rest.trim_ascii())
    }

    /// Goes to the mapping or list that this indentation belongs to; a value's begins.
    fn find_level(&mut self, indent: usize, is_list: bool) -> Result<()> {
        let is_open = core::mem::take(&mut self.is_open);
        while let Some(level) = self.levels.last().copied() {
            // The items of a key's list may be indented as the key is.
            let is_deeper =
                indent > level.indent || indent == level.indent && is_list && !level.is_list && is_open;
            if is_deeper && is_open {
                break;
            }
            if indent == level.indent && is_list == level.is_list {
                self.place.truncate(level.length);
                return Ok(());
            }
            if indent > level.indent {
                return self.bad(unread!("a scalar of several lines"));
            }
            self.levels.pop();
        }
        if self.levels.is_empty() && !self.place.is_empty() {
            return self.bad(unread!("an indentation that fits nothing"));
        }
        let level = Level { indent, length: self.place.len(), is_list };
        if self.levels.push(level).is_err() {
            return self.bad(unread!("nesting that deep"));
        }
        Ok(())
    }

    /// The place of a key's or an item's value. What has no room is at no place we know.
    fn enter(&mut self, name: &str, is_item: bool) -> Result<()> {
        let length = self.levels.last().map_or(0, |level| level.length);
        self.place.truncate(length);
        let separator = if length == 0 { "" } else { "/" };
        let is_plain = is_item || !name.contains(['/', '#']);
        let fits = is_plain && self.place.push_str(separator).is_ok() && self.place.push_str(name).is_ok();
        if !fits {
            self.place.truncate(length);
            let _ = self.place.push_str("/?");
        }
        Ok(())
    }

    /// What stands behind a key or dash.
    fn value(&mut self, indent: usize, text: &str) -> Result<()> {
        match text.bytes().next() {
            None | Some(b'#') => {
                self.is_open = true;
                Ok(())
            }
            Some(b'|' | b'>') => {
                self.block = Some(indent);
                Ok(())
            }
            Some(b'[') => self.flow(text, b'['),
            Some(b'{') => self.flow(text, b'{'),
            Some(b'&' | b'*' | b'!') => self.bad(unread!("an anchor, alias or tag")),
            Some(b'@' | b'`') => self.bad(unread!("a reserved character")),
            _ => match scalar_end(text) {
                Some(end) => self.scalar(text.get(..end).unwrap_or_default()),
                None => self.bad(unread!("a scalar of several lines")),
            },
        }
    }

    fn scalar(&mut self, text: &str) -> Result<()> {
        let text = text.trim_ascii();
        if matches!(text, "~" | "null" | "Null" | "NULL") {
            return self.visit.scalar(&self.place, Scalar::Null);
        }
        let mut plain = heapless::String::<{ limits::SSH_KEY }>::new();
        match unquote(text, &mut plain) {
            Some(()) => self.visit.scalar(&self.place, Scalar::Text(&plain)),
            None if text.len() >= limits::SSH_KEY => self.visit.scalar(&self.place, Scalar::Long),
            None => self.bad(unread!("an escape in a quoted scalar")),
        }
    }

    /// `[a, b]` or `{a: b, c: d}`, of scalars.
    fn flow(&mut self, text: &str, open: u8) -> Result<()> {
        let close = if open == b'[' { ']' } else { '}' };
        let mut rest = text.get(1..).unwrap_or_default().trim_ascii_start();
        let length = self.place.len();
        loop {
            if let Some(behind) = rest.strip_prefix(close) {
                let behind = behind.trim_ascii();
                let is_end = behind.is_empty() || behind.starts_with('#');
                return if is_end { Ok(()) } else { self.bad(unread!("text behind a list")) };
            }
            let Some(end) = item_end(rest, close) else {
                return self.bad(unread!("a list of several lines, or one in another"));
            };
            let (item, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
            self.flow_item(item, open, length)?;
            self.place.truncate(length);
            rest = behind.strip_prefix(',').unwrap_or(behind).trim_ascii_start();
        }
    }

    fn flow_item(&mut self, item: &str, open: u8, length: usize) -> Result<()> {
        let (key, value) = match (open, split_key(item)) {
            (b'{', Some((key, value))) => (key, value),
            (b'{', None) => return self.bad(unread!("a key without a value")),
            _ => ("#", item),
        };
        let mut plain = heapless::String::<PLACE>::new();
        let name = if key == "#" {
            "#"
        } else if unquote(key, &mut plain).is_some() {
            plain.as_str()
        } else {
            return self.bad(unread!("a key that is no plain text"));
        };
        let is_plain = open == b'[' || !name.contains(['/', '#']);
        let separator = if length == 0 { "" } else { "/" };
        if !is_plain || self.place.push_str(separator).is_err() || self.place.push_str(name).is_err() {
            self.place.truncate(length);
            let _ = self.place.push_str("/?");
        }
        self.scalar(value)
    }
}

/// Key and what is behind its colon; `None` where a line has none.
fn split_key(content: &str) -> Option<(&str, &str)> {
    let end = match content.bytes().next()? {
        quote @ (b'"' | b'\'') => closing_quote(content, quote)?.checked_add(1)?,
        _ => {
            let mut before = b' ';
            let found = content.bytes().enumerate().find(|(at, byte)| {
                let is_comment = *byte == b'#' && before == b' ';
                before = *byte;
                let behind = content.as_bytes().get(at.saturating_add(1));
                is_comment || *byte == b':' && behind.is_none_or(|next| matches!(next, b' ' | b'\t'))
            })?;
            found.0
        }
    };
    let (key, rest) = content.split_at_checked(end)?;
    let rest = rest.trim_start_matches(' ').strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| (key.trim_ascii(), rest))
}

/// Where a scalar ends that goes to the end of its line, but for a comment; `None` where its quote is not closed.
fn scalar_end(text: &str) -> Option<usize> {
    match text.bytes().next()? {
        quote @ (b'"' | b'\'') => {
            let end = closing_quote(text, quote)?.checked_add(1)?;
            let behind = text.get(end..)?.trim_ascii();
            (behind.is_empty() || behind.starts_with('#')).then_some(end)
        }
        _ => {
            let bytes = text.as_bytes();
            let is_comment = |at: &usize| {
                bytes.get(*at) == Some(&b'#')
                    && at.checked_sub(1).is_some_and(|before| matches!(bytes.get(before), Some(b' ' | b'\t')))
            };
            Some((0..bytes.len()).find(is_comment).unwrap_or(bytes.len()))
        }
    }
}

/// Where an item of a flow list ends.
fn item_end(text: &str, close: char) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '[' | '{') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ',') => return Some(at),
            (None, c) if c == close => return Some(at),
            _ => {}
        }
    }
    None
}

fn closing_quote(text: &str, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1_usize;
    loop {
        match *bytes.get(at)? {
            b'\\' if quote == b'"' => at = at.checked_add(2)?,
            byte if byte == quote && quote == b'\'' && bytes.get(at.checked_add(1)?) == Some(&quote) => {
                at = at.checked_add(2)?;
            }
            byte if byte == quote => return Some(at),
            _ => at = at.checked_add(1)?,
        }
    }
}

/// A scalar's text without its quotes; `None` where it does not fit or has an escape we do not read.
fn unquote<const N: usize>(text: &str, out: &mut heapless::String<N>) -> Option<()> {
    let text = text.trim_ascii();
    let quote = text.bytes().next().filter(|byte| matches!(byte, b'"' | b'\''));
    let Some(quote) = quote else { return out.push_str(text).ok() };
    let end = closing_quote(text, quote).filter(|end| end.checked_add(1) == Some(text.len()))?;
    let mut characters = text.get(1..end)?.chars();
    while let Some(c) = characters.next() {
        let c = match (quote, c) {
            (b'\'', '\'') => characters.next()?,
            (b'"', '\\') => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                c @ ('"' | '\\' | '/' | ' ') => c,
                _ => return None,
            },
            _ => c,
        };
        out.push(c).ok()?;
    }
    Some(())
}

/// The pairs of `;h=HOST;i=ID;s=SEED`, with the names that meta-data has for them. A word without a value says nothing.
pub fn pairs(words: &str) -> impl Iterator<Item = (&str, &str)> {
    words.split(';').filter_map(|pair| pair.split_once('=')).map(|(key, value)| {
        let key = match key {
            "h" => "local-hostname",
            "i" => "instance-id",
            "s" => "seedfrom",
            key => key,
        };
        (key, value)
    })
}

#[cfg(test)]
mod tests {
    use super::{pairs, read};
    use crate::error::{Kind, Result};
    use crate::format::cases::{Answer, run};
    use crate::format::fields::Fields;
    use crate::format::fields::tests::Seen;
    use crate::machine;
    use proptest::prelude::{any, proptest};
    use serde_json::{Map, Value, json};
    use std::string::String;
    use std::vec::Vec;

    fn seen(text: &str) -> Result<Vec<String>> {
        let mut seen = Seen::default();
        read(text.as_bytes(), &mut Fields::new(), &mut seen)?;
        Ok(seen.0)
    }

    #[test]
    fn what_people_write_is_read() {
        let text = r##"--- 
# comment
instance-id: iid-local01   # another
local-hostname: "cloud\timg"
'dsmode' : 'lo''cal'
empty:
nothing: ~
url: http://x/#y:z
public-keys:
  - ssh-ed25519 AAAA me
  - "ssh-rsa AAAA: b"
more:
- a
- b: c
  d: e
nested:
    x:
        y: 1
    z: 2
map: {a: b, "c": 'd,e'}
list: [a, 'b]', ssh-rsa AAAA c] # c
network-interfaces: |
  auto eth0

    iface eth0 inet dhcp
last: >-
  one
...
ignored: 1
"##;
        let wanted = [
            "instance-id=iid-local01",
            "local-hostname=cloud\timg",
            "dsmode=lo'cal",
            "nothing=Null",
            "url=http://x/#y:z",
            "public-keys/#=ssh-ed25519 AAAA me",
            "public-keys/#=ssh-rsa AAAA: b",
            "more/#=a",
            "more/#/b=c",
            "more/#/d=e",
            "nested/x/y=1",
            "nested/z=2",
            "map/a=b",
            "map/c=d,e",
            "list/#=a",
            "list/#=b]",
            "list/#=ssh-rsa AAAA c",
            "network-interfaces=auto eth0",
            "network-interfaces=iface eth0 inet dhcp",
            "last=one",
        ];
        assert_eq!(seen(text).unwrap(), wanted);
        assert_eq!(seen(" {\"instance-id\": 5}").unwrap(), ["instance-id=Number(\"5\")", " ends"]);
        assert_eq!(seen("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_read_is_said_with_its_line() {
        for (text, line) in [
            ("a: b\nc: &x d\n", 2),
            ("a: *x\n", 1),
            ("a: !!binary x\n", 1),
            ("a: b\n  c\n", 2),
            ("a: \"b\n", 1),
            ("a: [b,\n  c]\n", 1),
            ("a: [[b]]\n", 1),
            ("just text\n", 1),
            ("? a\n: b\n", 1),
            ("\n\ta: b\n", 2),
            ("a: \"\\x41\"\n", 1),
            ("%YAML 1.1\n", 1),
            ("a:\n  b: c\n d: e\n", 3),
        ] {
            let error = seen(text).unwrap_err();
            assert_eq!((error.kind(), error.number()), (Kind::Unsupported, line), "{text:?} {error}");
        }
    }

    #[test]
    fn no_key_makes_one_place_look_like_another() {
        assert_eq!(seen("a/b: c\n'#': d\nx: {y/z: 1}\n").unwrap(), ["/?=c", "/?=d", "x/?=1"]);
    }

    #[test]
    fn recorded_words() {
        run("nocloud_cmdline", |case| {
            let line = case.input["cmdline"].as_str().unwrap_or_default();
            let name = case.text("ds_id");
            let found = machine::nocloud_words(line).filter(|_| name.starts_with("ds=nocloud"));
            let mut fill = Map::new();
            for (key, value) in pairs(found.unwrap_or_default()) {
                fill.insert(key.into(), json!(value));
            }
            Answer::Is(json!({"return": found.is_some(), "fill": Value::Object(fill)}))
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes, &mut Fields::new(), &mut Seen::default());
        }

        #[test]
        fn anything_like_yaml_is_read_or_refused(text in "([ \\-]{0,4}[a-c'\"]{0,2}: ?[\\[\\]{},'\"|>#a-c&*!:\\\\ ]{0,8}\n?){0,8}") {
            if let Err(error) = read(text.as_bytes(), &mut Fields::new(), &mut Seen::default()) {
                proptest::prop_assert!(error.number() <= text.lines().count() as u64 || error.is(Kind::Malformed));
            }
        }
    }
}
