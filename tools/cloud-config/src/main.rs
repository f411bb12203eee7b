//! Arguments in, exit code out: `translate` for apply, `check` and `explain` for people.

use preroot_cloud_config::schema::Schema;
use preroot_cloud_config::translate::{Inputs, Translation, translate};
use preroot_cloud_config::yaml::Fault;
use preroot_cloud_config::{explain, limits, protocol, sandbox};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

const USAGE: &str =
    "usage: preroot-cloud-config translate        frames on standard input, frames on standard output
       preroot-cloud-config check FILE...    what is wrong with user data, with line numbers
       preroot-cloud-config explain FILE     what would be done (--explain FILE is the same)
FILE may be -. Exit codes: 0 good, 1 something is wrong with the user data, 2 usage, 3 cannot be read";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["translate"] => piped(),
        ["check", files @ ..] if !files.is_empty() => look(files, false),
        ["explain" | "--explain", file] => look(&[file], true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("preroot-cloud-config: {error}");
        ExitCode::from(3)
    })
}

fn piped() -> io::Result<ExitCode> {
    sandbox::enter(0)?;
    let inputs = protocol::read(&mut io::stdin().lock())?;
    protocol::write(&translate(&inputs), &mut io::BufWriter::new(io::stdout().lock()))?;
    Ok(ExitCode::SUCCESS)
}

/// All files are opened before anything is read.
fn look(files: &[&str], explains: bool) -> io::Result<ExitCode> {
    let opened: io::Result<Vec<(&str, Option<File>)>> = files
        .iter()
        .map(|name| {
            Ok((
                *name,
                if *name == "-" { None } else { Some(File::open(name).map_err(|e| named(name, &e))?) },
            ))
        })
        .collect();
    let opened = opened?;
    sandbox::enter(limits::TOLD)?;
    let mut code = ExitCode::SUCCESS;
    for (name, file) in opened {
        let mut user_data = Vec::new();
        let most = limits::DOCUMENT as u64 + 1;
        match file {
            Some(file) => file.take(most).read_to_end(&mut user_data),
            None => io::stdin().lock().take(most).read_to_end(&mut user_data),
        }
        .map_err(|error| named(name, &error))?;
        let translation = translate(&Inputs { user_data, facts: stand_ins(), ..Inputs::default() });
        let breaks = match &translation.user {
            Some(config) if !explains => {
                Schema::load().map(|schema| schema.check(config)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        show(name, &translation, &breaks, explains)?;
        if translation.notes.has_fault() || !breaks.is_empty() {
            code = ExitCode::from(1);
        }
    }
    Ok(code)
}

/// What a machine would know: templates name it.
fn stand_ins() -> BTreeMap<String, String> {
    let facts = [
        ("instance-id", "i-example"),
        ("hostname", "example"),
        ("platform", "nocloud"),
        ("distribution", "debian"),
    ];
    facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn show(name: &str, translation: &Translation, breaks: &[Fault], explains: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if explains {
        out.write_all(explain::explain(translation).as_bytes())?;
    }
    for note in &translation.notes.0 {
        let word = if note.rule.is_fault() { "" } else { "note: " };
        writeln!(out, "{name}: {word}{note}")?;
    }
    for fault in breaks {
        writeln!(out, "{name}: line {}: cloud-init's schema: {}", fault.line, fault.rule)?;
    }
    if !explains && translation.notes.0.is_empty() && breaks.is_empty() {
        writeln!(out, "{name}: good")?;
    }
    Ok(())
}
