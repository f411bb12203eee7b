//! Which documents do user data want from elsewhere, and which of them were fetched? Fetched they are by preroot, not here.

use crate::limits;
use crate::note::Origin;
use preroot::format::translation::is_url;
use std::collections::BTreeMap;

/// The entry that names documents to be fetched.
pub const WANTED: &str = "include";

/// A document that somebody fetched.
#[derive(Clone, Debug)]
pub struct Included {
    /// Where it is from.
    pub url: String,
    /// What is there.
    pub document: Vec<u8>,
    /// Its words were acted upon in an earlier translation.
    pub is_applied: bool,
}

/// All that is known of them, and what is still wanted.
#[derive(Default, Debug)]
pub struct Library<'l> {
    known: BTreeMap<&'l str, &'l [u8]>,
    /// How often wanted ones are still fetched; `None` where nothing ever is.
    rounds: Option<u32>,
    wanted: Vec<(Origin, u32, String)>,
}

/// What a line of `#include` means.
pub enum Found<'l> {
    /// The document.
    Document(&'l [u8]),
    /// It will be asked for.
    Wanted,
    /// Too many, or too deep.
    TooMuch,
    /// Not a URL that anybody fetches.
    Refused,
}

impl<'l> Library<'l> {
    /// Of those among `included` that count.
    pub fn new(rounds: Option<u32>, included: impl Iterator<Item = &'l Included>) -> Self {
        let known = included.map(|page| (page.url.as_str(), page.document.as_slice())).collect();
        Self { known, rounds, wanted: Vec::new() }
    }

    /// False where `#include` is left out.
    pub fn is_open(&self) -> bool {
        self.rounds.is_some()
    }

    /// Looks a document up.
    pub fn find(&mut self, url: &str, origin: Origin, line: u32) -> Found<'l> {
        match self.known.get(url) {
            Some(document) => return Found::Document(document),
            None if !is_url(url.as_bytes()) => return Found::Refused,
            None => {}
        }
        let is_wanted = self.wanted.iter().any(|(.., other)| other == url);
        let is_full = self.known.len() + self.wanted.len() >= preroot::limits::INCLUDES;
        if !is_wanted && (is_full || self.rounds == Some(0)) {
            return Found::TooMuch;
        }
        if !is_wanted {
            self.wanted.push((origin, line, url.to_owned()));
        }
        Found::Wanted
    }

    /// The entry that asks for what is wanted: a line each, with source, part, and line.
    pub fn entry(&self) -> Option<Vec<u8>> {
        let line = |(origin, line, url): &(Origin, u32, String)| {
            format!("{} {} {line} {url}\n", origin.source.number(), origin.part)
        };
        let text: String = self.wanted.iter().map(line).collect();
        (!text.is_empty()).then(|| text.into_bytes())
    }
}

/// URLs of a part, with their lines: user_data.py `_do_include`.
pub fn urls(content: &[u8]) -> Vec<(u32, String)> {
    let text = String::from_utf8_lossy(content);
    let mut urls = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let lower = line.to_ascii_lowercase();
        let marker = ["#include-once", "#include"].into_iter().find(|marker| lower.starts_with(marker));
        let rest = marker.map_or(line, |marker| &line[marker.len()..]).trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            urls.push((number, rest.to_owned()));
        }
        if urls.len() > limits::PARTS {
            break;
        }
    }
    urls
}
