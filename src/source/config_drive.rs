//! What does a config drive say this machine is to be?
//!
//! OpenStack's layout, version 2; the rules of reading are cloud-init's (sources/helpers/openstack.py, read_v2), but for
//! one: what is wrong with vendor or network data costs that alone, not the drive with its keys. The tree `ec2/` says
//! nothing more and is left.

use super::instance::InstanceReader;
use super::tree::{Tree, stream};
use crate::error::{Error, Result};
use crate::facts::network::Network;
use crate::format::cloud_config::{Entries, FILE_PARTS, Mapping};
use crate::format::json::Event;
use crate::format::network_data;
use crate::format::text::{PathText, digits, join};
use crate::format::vendor_data::{Classifier, Parts, Router, Shape};
use crate::limits;
use crate::seed;

/// Versions whose files we know, the newest first; cloud-init's list. Then whatever is called `latest`.
const VERSIONS: &[&str] = &[
    "2018-08-27",
    "2017-02-22",
    "2016-10-06",
    "2016-06-30",
    "2015-10-15",
    "2013-10-17",
    "2013-04-04",
    "2012-08-10",
    "latest",
];
/// It is not the drive of the machine that is asked for.
pub const OF_ANOTHER: Error = not_applicable!("config drive of another machine");
const META_DATA: &str = "meta_data.json";

/// Reads all of a drive; what is not a fact goes to `entries`, its network to `network`. `window` is for pieces of files, and is overwritten.
///
/// # Errors
/// `NotApplicable` where `dsmode` is `disabled`, [`OF_ANOTHER`] where it is not the one that is asked for; `Malformed` where there is no meta_data.json, or no uuid in it;
/// what is wrong with the medium; those of `entries`.
#[inline(never)]
pub fn read(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    window: &mut [u8],
    entries: &mut dyn Entries,
    network: &mut Network,
) -> Result<()> {
    reader.reset();
    network.clear();
    let version = find_version(tree)?;
    read_meta_data(reader, tree, version, window)?;
    if reader.meta.is_disabled {
        return Err(not_applicable!("dsmode of the config drive is disabled"));
    }
    let none = malformed!(META_DATA, "meta_data.json without uuid", 0);
    let id = reader.meta.id.as_ref().ok_or(none)?;
    if reader.only.as_ref().is_some_and(|only| !id.is_same_vm(only)) {
        return Err(OF_ANOTHER);
    }
    if let Some(index) = reader.meta.launch_index {
        entries.forget(seed::LAUNCH_INDEX)?;
        entries.put(seed::LAUNCH_INDEX, digits(index.into(), &mut [0; 20]).as_bytes())?;
    }
    let user_data = (too_many!("bytes of user data"), seed::USER_DATA);
    reader.learned.user_data_bytes =
        reader.keep(tree, &below(version, "user_data")?, user_data, window, entries)?;
    for name in ["vendor_data.json", "vendor_data2.json"] {
        let read = read_vendor_data(reader, tree, &below(version, name)?, window, entries);
        reader.note(read)?;
    }
    let read = read_network(reader, tree, &below(version, "network_data.json")?, window, network);
    reader.note(read)?;
    for number in 0..reader.meta.files.len() {
        let read = read_file(reader, tree, number, window, entries);
        reader.note(read)?;
    }
    Ok(())
}

fn read_meta_data(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    version: &str,
    window: &mut [u8],
) -> Result<()> {
    let limit = (too_many!("bytes of meta_data.json"), limits::JSON_DOCUMENT);
    let (fields, meta) = (&mut reader.fields, &mut reader.meta);
    stream(tree, &below(version, META_DATA)?, limit, window, &mut |bytes| fields.push(bytes, meta))?;
    fields.finish(meta)
}

/// What of it cannot be used is left out alone; a document that is none has nothing in it.
#[inline(never)]
fn read_network(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    path: &str,
    window: &mut [u8],
    network: &mut Network,
) -> Result<()> {
    let limit = (too_many!("bytes of network_data.json"), network_data::MOST_BYTES);
    let document = &mut reader.network_data;
    if stream(tree, path, limit, window, &mut |bytes| document.push(bytes, network))?.is_none() {
        return Ok(());
    }
    let notes = document.finish(network)?;
    notes.first.iter().try_for_each(|note| reader.note(Err(*note)))
}

/// Twice: the shape shows at the end.
#[inline(never)]
fn read_vendor_data(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    path: &str,
    window: &mut [u8],
    entries: &mut dyn Entries,
) -> Result<()> {
    let limit = (too_many!("bytes of vendor data"), limits::JSON_DOCUMENT);
    let mut classifier = Classifier::default();
    if stream(tree, path, limit, window, &mut |bytes| classifier.push(bytes))?.is_none() {
        return Ok(());
    }
    let shape = classifier.finish()?;
    if shape == Shape::Nothing {
        return Ok(());
    }
    let is_mapping = matches!(shape, Shape::Mapping | Shape::MappingOfKey);
    if is_mapping && reader.learned.mapping.is_some() {
        // What two of them ask for cannot be told apart any more once it is in the seed.
        return Err(unsupported!("vendor data", "a second mapping"));
    }
    let mut router = Router::new(shape);
    if is_mapping {
        // JSON is YAML: the translator merges it with what the user says.
        entries.forget(seed::VENDOR_MAPPING)?;
        entries.put(seed::VENDOR_MAPPING, b"#cloud-config\n")?;
    }
    let mut parts = Vendor { entries, mapping: &mut reader.mapping, first: reader.learned.vendor_texts };
    let read = stream(tree, path, limit, window, &mut |bytes| {
        if is_mapping {
            parts.entries.put(seed::VENDOR_MAPPING, bytes)?;
        }
        router.push(bytes, &mut parts)
    });
    if is_mapping && read.is_err() {
        parts.entries.forget(seed::VENDOR_MAPPING)?;
    }
    let texts = u32::try_from(read.and_then(|_| router.finish(&mut parts))?).unwrap_or(u32::MAX);
    reader.learned.vendor_texts = reader.learned.vendor_texts.saturating_add(texts);
    if is_mapping {
        reader.learned.mapping = Some(reader.mapping.finish(entries)?);
    }
    Ok(())
}

/// A file that the drive brings along. cloud-init writes it for its group, too, and makes a path without a `/` absolute.
#[inline(never)]
fn read_file(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    number: usize,
    window: &mut [u8],
    entries: &mut dyn Entries,
) -> Result<()> {
    let Some(file) = reader.meta.files.get(number) else { return Ok(()) };
    // From the end: the files of vendor data are counted from the front.
    let number = limits::FILES.saturating_sub(number).saturating_sub(1) as u64;
    let entry = |part: &str| join(&[seed::FILES, "/", digits(number, &mut [0; 20]), "/", part]);
    FILE_PARTS.iter().try_for_each(|part| entries.forget(&entry(part)?))?;
    let limit = (too_many!("bytes of an injected file"), limits::USER_DATA);
    let (content, path) = (entry("content")?, join(&["openstack/", &file.content])?);
    let slash = if file.path.starts_with('/') { "" } else { "/" };
    let target = join(&[slash, &file.path])?;
    let read = stream(tree, &path, limit, window, &mut |bytes| entries.put(&content, bytes));
    match read {
        Ok(None) => return Err(malformed!("config drive", "an injected file without its content", 0)),
        // Nothing was put of an empty one.
        Ok(Some(0)) => entries.put(&content, b"")?,
        Ok(Some(_)) => {}
        Err(error) => return entries.forget(&content).and(Err(error)),
    }
    entries.put(&entry("path")?, target.as_bytes())?;
    entries.put(&entry("mode")?, b"0660")
}

/// Vendor data on its way into the seed.
struct Vendor<'e> {
    entries: &'e mut dyn Entries,
    mapping: &'e mut Mapping,
    first: u32,
}

impl Parts for Vendor<'_> {
    fn text(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let number = usize::try_from(self.first).unwrap_or(usize::MAX).saturating_add(number);
        let full = too_many!("parts of vendor data", limits::VENDOR_PARTS);
        self.entries.put(seed::VENDOR_DATA.get(number).ok_or(full)?, bytes)
    }
    fn mapping(&mut self, event: Event<'_>) -> Result<()> {
        self.mapping.event(event, self.entries)
    }
}

/// The newest directory we know that has metadata.
fn find_version(tree: &mut dyn Tree) -> Result<&'static str> {
    for version in VERSIONS {
        match tree.open(&below(version, META_DATA)?) {
            Ok(_) => return Ok(version),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Err(malformed!("config drive", "config drive without meta_data.json", 0))
}

fn below(version: &str, name: &str) -> Result<PathText> {
    join(&["openstack/", version, "/", name])
}
