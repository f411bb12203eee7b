//! How do user data come in, and entries go out? Frames, by preroot's `format::translation`.
//!
//! Inputs are `user-data`, `vendor-data/N`, and facts: `instance-id`, `hostname`, `platform`, `launch-index`,
//! `distribution`, and `taken`, the entries `users/N` and `files/N` that the seed has already, a line each. `include`: how
//! often wanted documents are still fetched; `included/N`: a URL, and behind a line feed its document;
//! `included-before/N`: one that was acted upon.

use crate::config::Entries;
use crate::limits;
use crate::note::Notes;
use crate::parts::include::Included;
use crate::translate::{Inputs, Translation};
use crate::yaml::from_json;
use preroot::format::translation::{HEAD, Head, KEYS, Word};
use std::io::{self, Read, Write};

/// How the names of its texts begin.
const VENDOR: &str = "vendor-data/";
/// Bytes of one frame; preroot reads them in pieces anyway.
const PIECE: usize = 64 * 1024;

/// Reads all inputs.
///
/// # Errors
/// Of `from`; `InvalidData` for what is no frame, and what lacks the end.
pub fn read(from: &mut dyn Read) -> io::Result<Inputs> {
    let mut inputs = Inputs::default();
    let (mut total, mut vendor) = (0_usize, 0_usize);
    loop {
        let line = first_line(from)?;
        let head = Head::parse(&line).map_err(|error| invalid(error.reason()))?;
        let is_vendor = head.word == Word::Input && head.name.starts_with(VENDOR);
        let sum = if is_vendor { &mut vendor } else { &mut total };
        *sum = sum.saturating_add(head.length);
        if total > limits::INPUT {
            return Err(invalid("more than 64 MiB of inputs"));
        }
        match head.word {
            Word::Input if is_vendor && vendor > limits::VENDOR => {
                inputs.vendor_left_out = true;
                vendor -= head.length;
                skip(from, head.length)?;
            }
            Word::Input => {
                let mut bytes = vec![0; head.length];
                from.read_exact(&mut bytes)?;
                take(&mut inputs, head.name, bytes);
            }
            Word::End if head.length == 0 => return Ok(inputs),
            _ => return Err(invalid("a frame that is not for the translator")),
        }
        let mut end = [0];
        from.read_exact(&mut end)?;
        if end != *b"\n" {
            return Err(invalid("a frame that does not end"));
        }
    }
}

/// Reads what nobody wants.
fn skip(from: &mut dyn Read, length: usize) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length as u64), &mut io::sink())?;
    if skipped == length as u64 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

fn first_line(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(HEAD);
    let mut byte = [0];
    loop {
        from.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return Ok(line),
            _ if line.len() >= HEAD => return Err(invalid("a first line of a frame that does not end")),
            [byte] => line.push(byte),
        }
    }
}

fn take(inputs: &mut Inputs, name: &str, bytes: Vec<u8>) {
    if name == "user-data" {
        inputs.user_data = bytes;
    } else if let Some(rest) = name.strip_prefix(VENDOR) {
        let is_mapping = rest == "mapping";
        if is_mapping {
            inputs.vendor_mapping = Some(inputs.vendor_data.len());
        }
        inputs.vendor_data.push(if is_mapping { from_json(&bytes) } else { bytes });
    } else if let Some((word @ ("included" | "included-before"), _)) = name.split_once('/') {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let url = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let document = bytes.get(end + 1..).unwrap_or_default().to_vec();
        inputs.included.push(Included { url, document, is_applied: word != "included" });
    } else {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        // Several of one name are its lines.
        let lines = inputs.facts.entry(name.to_owned()).or_default();
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(&text);
    }
}

/// Writes everything, and the end.
///
/// # Errors
/// Of `to`.
pub fn write(translation: &Translation, to: &mut dyn Write) -> io::Result<()> {
    if translation.replaces_vendor {
        to.write_all(b"entry vendor 0\n\n")?;
    }
    put_entries(&translation.entries, to)?;
    put_notes(&translation.notes, to)?;
    to.write_all(b"end - 0\n\n")?;
    to.flush()
}

fn put_entries(entries: &Entries, to: &mut dyn Write) -> io::Result<()> {
    for (name, bytes) in entries {
        // An empty one is there, too.
        let pieces = bytes.chunks(PIECE).chain(bytes.is_empty().then_some(&[][..]));
        for piece in pieces {
            writeln!(to, "entry {name} {}", piece.len())?;
            to.write_all(piece)?;
            to.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn put_notes(notes: &Notes, to: &mut dyn Write) -> io::Result<()> {
    for note in &notes.0 {
        let key = KEYS.iter().position(|key| *key == note.key).unwrap_or_default();
        let source = note.origin.source.number();
        writeln!(to, "note {}.{key}.{source}.{}.{} 0\n", note.rule as u8, note.origin.part, note.line)?;
    }
    Ok(())
}
