//! Which parts does a MIME message have (RFC 2045, 2046)? As tolerant as Python's email package, which cloud-init uses.

use super::base64;
use crate::limits;

/// A message, or a part of one.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    headers: Vec<(String, String)>,
    /// As it stands there; empty for a multipart.
    body: Vec<u8>,
    /// Of a multipart.
    pub parts: Vec<Entity>,
    /// Multiparts nested deeper than allowed are left out.
    pub is_cut: bool,
    /// Of a whole message: parts behind too many are left out.
    pub has_too_many: bool,
}

impl Entity {
    /// The value of a header, unfolded; the first one's.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `type/subtype` in lower case; `text/plain` where there is none.
    pub fn content_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind.split('/').count() == 2 { kind } else { "text/plain".into() }
    }

    /// `filename` of Content-Disposition, else `name` of Content-Type.
    pub fn file_name(&self) -> Option<String> {
        let of = |header: &str, key: &str| parameter(self.header(header)?, key);
        of("content-disposition", "filename").or_else(|| of("content-type", "name"))
    }

    /// Without its transfer encoding; what is not encoded so is taken as it is.
    pub fn content(&self) -> Vec<u8> {
        match self
            .header("content-transfer-encoding")
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "base64" => base64::lenient(&self.body).unwrap_or_else(|| self.body.clone()),
            "quoted-printable" => quoted_printable(&self.body),
            _ => self.body.clone(),
        }
    }

    /// Itself, or what is inside of it, at any depth.
    pub fn leaves<'e>(&'e self, into: &mut Vec<&'e Entity>) {
        if self.parts.is_empty() && !self.content_type().starts_with("multipart/") {
            into.push(self);
        }
        self.parts.iter().for_each(|part| part.leaves(into));
    }
}

/// Reads a message; every text is one.
pub fn parse(bytes: &[u8], depth: usize) -> Entity {
    let mut room = limits::ENTITIES;
    let mut message = entity(bytes, depth, &mut room);
    message.has_too_many = room == 0;
    message
}

fn entity(bytes: &[u8], depth: usize, room: &mut usize) -> Entity {
    let (headers, body) = split_headers(bytes);
    let mut entity = Entity { headers, ..Entity::default() };
    let boundary = entity.header("content-type").and_then(|value| parameter(value, "boundary"));
    match boundary {
        Some(_) if depth == 0 => entity.is_cut = true,
        Some(boundary) if entity.content_type().starts_with("multipart/") => {
            let parts = split_parts(body, &boundary, *room);
            *room -= parts.len();
            entity.parts = parts.into_iter().map(|part| self::entity(part, depth - 1, room)).collect();
        }
        _ => entity.body = body.to_vec(),
    }
    entity
}

fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    bytes.split_at(end)
}

fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Headers end at an empty line, or before a line that is none.
fn split_headers(bytes: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (line, after) = next_line(rest);
        let text = String::from_utf8_lossy(bare(line)).into_owned();
        if text.is_empty() {
            return (headers, after);
        }
        if text.starts_with([' ', '\t']) {
            match headers.last_mut() {
                Some((_, value)) => value.push_str(&text),
                None => return (headers, rest),
            }
        } else if headers.is_empty() && text.starts_with("From ") {
            // An envelope, as in a mailbox.
        } else {
            match text.split_once(':') {
                Some((name, value)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
                    if headers.len() < limits::HEADERS {
                        headers.push((name.into(), value.trim().into()));
                    }
                }
                _ => return (headers, rest),
            }
        }
        rest = after;
    }
    (headers, rest)
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, key: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(key) {
            return Some(text);
        }
        rest = next;
    }
}

fn quoted_text(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

/// What stands between the lines `--BOUNDARY`; the line end before such a line is its own. Without a last line the last
/// part ends with the text.
fn split_parts<'b>(body: &'b [u8], boundary: &str, most: usize) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    let (mut begin, mut at) = (None, 0);
    while at < body.len() && parts.len() < most {
        let (line, _) = next_line(&body[at..]);
        let next = at + line.len();
        let mark = bare(line).strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        let tail = mark.map(|tail| tail.trim_ascii_end());
        if let Some(tail @ (b"" | b"--")) = tail {
            if let Some(begin) = begin.take() {
                parts.push(without_last_end(&body[begin..at]));
            }
            if tail == b"--" {
                return parts;
            }
            begin = Some(next);
        }
        at = next;
    }
    if let Some(begin) = begin.filter(|_| parts.len() < most) {
        parts.push(&body[begin..]);
    }
    parts
}

fn without_last_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = next_line(rest);
        rest = after;
        let ended = bare(line);
        let soft = ended.trim_ascii_end().strip_suffix(b"=");
        let mut bytes = soft.unwrap_or(ended).iter();
        while let Some(byte) = bytes.next() {
            let pair = bytes.as_slice().get(..2).filter(|_| *byte == b'=');
            match pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()) {
                Some(decoded) => {
                    out.push(decoded);
                    bytes.nth(1);
                }
                None => out.push(*byte),
            }
        }
        if soft.is_none() {
            out.extend_from_slice(&line[ended.len()..]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{parse, quoted_printable};

    #[test]
    fn parts_nest_and_end_without_their_last_line_end() {
        let text = b"MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"A b\"\n\nprologue\n--A b\n\
            Content-Type: multipart/alternative; boundary=in\n\n--in\n\n#!one\n--in\nX: y\n\n#!two\n\n--in--\n--A b\r\n\
            Content-Disposition: attachment; filename=\"a \\\"b\\\".sh\"\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n--A b--\nrest";
        let message = parse(text, 4);
        let mut leaves = Vec::new();
        message.leaves(&mut leaves);
        let contents: Vec<_> = leaves.iter().map(|leaf| String::from_utf8(leaf.content()).unwrap()).collect();
        assert_eq!(contents, ["#!one", "#!two\n", "hi"]);
        assert_eq!(leaves[2].file_name().unwrap(), "a \"b\".sh");
        assert_eq!(leaves[1].header("x"), Some("y"));
        assert!(parse(text, 1).parts[0].is_cut);
    }

    #[test]
    fn quoted_printable_joins_soft_lines() {
        assert_eq!(quoted_printable(b"a=3Db=\nc\r\nd=zz=4"), b"a=bc\r\nd=zz=4");
    }
}
