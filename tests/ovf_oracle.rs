//! Does preroot read in ovf-env.xml what cloud-init and waagent read? tests/oracle/ovf.py makes the documents, asks the
//! two packages and starts this; every kind of split has its row, with count and reason, in docs/sources.md.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use preroot::error::{Error, Kind};
use preroot::facts::{PreProvisioning, SshKey, SshKeys};
use preroot::format::ovf::OvfDocument;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const DOCUMENTATION: &str = include_str!("../docs/sources.md");
const ORACLES: [&str; 2] = ["cloud-init", "waagent"];
const FIELDS: [&str; 7] =
    ["host name", "user name", "password", "password login", "customData", "guest agent", "pre-provisioning"];

/// What one reader says. A value is `None` where it has no word on it.
struct Said {
    values: [Option<Vec<u8>>; 7],
    keys: Vec<String>,
    /// Values that are not known.
    unknown: [bool; 7],
}

fn ours(document: &[u8]) -> Result<Said, Error> {
    let (mut reader, mut custom) = (Box::new(OvfDocument::new()), Vec::new());
    reader.push(document, &mut |bytes| {
        custom.extend(bytes);
        Ok(())
    })?;
    let said = reader.finish()?;
    let kind = match said.pre_provisioning() {
        PreProvisioning::None => None,
        PreProvisioning::Running => Some("Running"),
        PreProvisioning::Savable => Some("Savable"),
        PreProvisioning::OsDisk => Some("PreprovisionedOSDisk"),
        PreProvisioning::Unknown => Some("?"),
    };
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let switch = |value: bool| Some(if value { b"True".to_vec() } else { b"False".to_vec() });
    Ok(Said {
        values: [
            said.hostname.as_ref().and_then(|name| text(name.as_str())),
            said.user.as_ref().and_then(|name| text(name.as_str())),
            Some(said.password.expose().to_vec()).filter(|password| !password.is_empty()),
            said.disable_password_login.and_then(switch),
            Some(custom).filter(|bytes| !bytes.is_empty()),
            said.wants_guest_agent.and_then(switch),
            kind.and_then(text),
        ],
        keys: said.keys.lines().map(String::from).collect(),
        unknown: [false; 7],
    })
}

fn word(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix('=')?;
    Some(
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect(),
    )
}

/// What an oracle says, as its callers take it: no empty values, no masked password. `Err`: why it refuses.
fn theirs(line: &str) -> Result<Said, String> {
    if let Some(why) = line.strip_prefix("refused ") {
        return Err(why.to_string());
    }
    let mut words = line.split(' ').skip(1);
    let (mut values, mut unknown) = ([const { None }; 7], [false; 7]);
    for at in 0..FIELDS.len() {
        let field = words.next().unwrap();
        values[at] = word(field).filter(|value| !value.is_empty());
        unknown[at] = field == "?";
    }
    let keys = words.map(|key| String::from_utf8(word(key).unwrap()).unwrap()).collect();
    Ok(Said { values, keys, unknown })
}

/// The keys that sshd would understand, each once.
fn openssh(keys: &[String]) -> Vec<String> {
    let mut all = SshKeys::new();
    for line in keys.iter().flat_map(|key| key.lines()) {
        if let Ok(key) = SshKey::parse(line.trim()) {
            let _ = all.push(key);
        }
    }
    all.lines().map(String::from).collect()
}

/// Where both accept: how their values differ.
fn differences(oracle: &str, ours: &Said, theirs: &Said) -> Vec<String> {
    let mut found = Vec::new();
    for (at, name) in FIELDS.iter().enumerate() {
        let (a, b) = (&ours.values[at], &theirs.values[at]);
        let has_word =
            !theirs.unknown[at] && (at != 5 || oracle == "waagent") && (at != 6 || oracle == "cloud-init");
        if a == b || !has_word {
            continue;
        }
        let trimmed = b.as_deref().map(<[u8]>::trim_ascii).filter(|value| !value.is_empty());
        let kind = match (a.as_deref(), trimmed) {
            (a, trimmed) if a == trimmed => "without white space around it",
            (None, Some(b"REDACTED" | b"*")) if at == 2 => continue,
            (None, Some(b"False")) if at == 3 => "none, where the reference has a default",
            (Some(b"?"), Some(_)) => continue,
            (None, Some(_)) => "none",
            _ if *name == "password login" => "another word on password login",
            _ => "more or other text",
        };
        found.push(format!("value: {kind}"));
    }
    let keys = openssh(&theirs.keys);
    if ours.keys != keys {
        let kind = if ours.keys.len() < keys.len() { "value: none" } else { "value: more or other text" };
        found.push(kind.to_string());
    }
    found
}

/// A rule without the name it speaks of.
fn general(reason: &str) -> String {
    let parts: Vec<&str> = reason.split('\'').collect();
    if let [before, _, behind] = parts[..] { format!("{before}X{behind}") } else { reason.to_string() }
}

/// How many documents each oracle reads otherwise.
type Counts = [usize; ORACLES.len()];

/// The rows of the table in the documentation: kind of split to counts.
fn documented() -> BTreeMap<String, Counts> {
    let mut rows = BTreeMap::new();
    for line in DOCUMENTATION.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", split, cloud_init, waagent, why, ""] = cells[..]
            && let (Ok(cloud_init), Ok(waagent)) = (cloud_init.parse(), waagent.parse())
        {
            assert!(!why.is_empty(), "{split}: no reason");
            rows.insert(split.to_string(), [cloud_init, waagent]);
        }
    }
    rows
}

#[test]
#[ignore = "tests/oracle/ovf.py runs it"]
fn every_split_from_the_references_has_its_reason() {
    let directory = std::env::var("PREROOT_OVF_CASES").unwrap();
    let directory = Path::new(&directory);
    let results = std::fs::read_to_string(directory.join("results")).unwrap();
    let (mut splits, mut examples) = (BTreeMap::<String, Counts>::new(), BTreeMap::<String, String>::new());
    let (mut count, mut equal) = (0, 0);
    for line in results.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let document = std::fs::read(directory.join(format!("{}.xml", fields[0]))).unwrap();
        let said = ours(&document);
        let mut is_equal = true;
        for (at, oracle) in ORACLES.iter().enumerate() {
            let kinds = match (&said, theirs(fields[2 + at])) {
                (Ok(ours), Ok(theirs)) => differences(oracle, ours, &theirs),
                (Err(_), Err(_)) => Vec::new(),
                (Ok(_), Err(why)) => vec![format!("accepted, where it says: {}", general(&why))],
                (Err(error), Ok(_)) => {
                    assert!(!error.is(Kind::Os) && !error.reason().is_empty(), "{}", fields[0]);
                    vec![format!("refused: {}", general(error.reason()))]
                }
            };
            is_equal &= kinds.is_empty();
            for split in kinds {
                splits.entry(split.clone()).or_default()[at] += 1;
                let _ = write!(examples.entry(split).or_default(), " {}={}", fields[0], fields[1]);
            }
        }
        count += 1;
        equal += usize::from(is_equal);
    }
    assert!(count >= 200, "only {count} documents");
    println!("{count} documents, {equal} read alike by all three; splits ({}):", ORACLES.join(", "));
    let rows = documented();
    let mut failed = 0;
    for (split, counts) in &splits {
        let word = match rows.get(split) {
            Some(row) if row == counts => "",
            Some(_) => "  <- other counts in docs/sources.md",
            None => "  <- no row in docs/sources.md",
        };
        println!("| {split} | {} | {} |{word}", counts[0], counts[1]);
        if !word.is_empty() {
            println!("       {}", examples[split]);
            failed += 1;
        }
    }
    for row in rows.keys().filter(|row| !splits.contains_key(*row)) {
        println!("       nothing is so any more: {row}");
        failed += 1;
    }
    println!("{count} passed, {failed} failed");
    assert_eq!(failed, 0);
}
