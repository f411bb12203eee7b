//! What does a NoCloud medium say this machine is to be, and what do firmware and command line?
//!
//! meta-data has to be there; cloud-init wants user-data too, which others do not, and neither do we. `seedfrom` is not
//! followed: it needs a network, or the root that is not mounted yet.

use super::instance::InstanceReader;
use super::prefer;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::facts::{Facts, Provenance};
use crate::format::cloud_config::Entries;
use crate::format::nocloud::{self, pairs};
use crate::format::openstack::{hostname_of, id_of};
use crate::limits;
use crate::seed;
use zeroize::Zeroize as _;

/// The id of a machine whose medium names none; cloud-init's.
const ID: &str = "nocloud";
/// More is to be had elsewhere.
const SEED_FROM: Error = unsupported!("NoCloud", "seedfrom");

/// Reads all of a medium; what is not a fact goes to `entries`. `window` holds meta-data, at most
/// [`limits::NOCLOUD_META_DATA`] bytes of it, and is overwritten.
///
/// # Errors
/// `NotApplicable` where `dsmode` is `disabled`; `Malformed` where there is no meta-data; `Unsupported` for YAML that is
/// not read, its number the line; what is wrong with the medium; those of `entries`.
#[inline(never)]
pub fn read(
    reader: &mut InstanceReader,
    tree: &mut dyn Tree,
    window: &mut [u8],
    entries: &mut dyn Entries,
) -> Result<()> {
    reader.reset();
    let outcome = read_meta_data(reader, tree, window);
    window.zeroize();
    outcome?;
    if reader.meta.is_disabled {
        return Err(not_applicable!("dsmode of the NoCloud medium is disabled"));
    }
    reader.meta.id = reader.meta.id.take().or_else(|| id_of(ID));
    if reader.meta.names_seed {
        reader.note(Err(SEED_FROM))?;
    }
    let [vendor_data, ..] = seed::VENDOR_DATA;
    for (name, entry) in [
        ("user-data", seed::USER_DATA),
        ("vendor-data", vendor_data),
        ("network-config", seed::NETWORK_CONFIG),
    ] {
        let full = too_many!("bytes of user-data, vendor-data or network-config");
        let length = reader.keep(tree, name, (full, entry), window, entries)?;
        match name {
            "user-data" => reader.learned.user_data_bytes = length,
            "vendor-data" => reader.learned.vendor_texts = u32::from(length.is_some_and(|bytes| bytes > 0)),
            _ => reader.learned.has_network_config = length.is_some_and(|bytes| bytes > 0),
        }
    }
    Ok(())
}

fn read_meta_data(reader: &mut InstanceReader, tree: &mut dyn Tree, window: &mut [u8]) -> Result<()> {
    let none = malformed!("NoCloud medium", "NoCloud medium without meta-data", 0);
    let size = tree.open("meta-data").map_err(|error| if error.is_not_found() { none } else { error })?;
    let room = window.len().min(limits::NOCLOUD_META_DATA);
    let full = too_many!("bytes of meta-data", room);
    let window = usize::try_from(size).ok().and_then(|size| window.get_mut(..size)).ok_or(full)?;
    let mut length = 0_usize;
    while let Some(rest) = window.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match tree.read(length as u64, rest)? {
            0 => break,
            n => length = length.saturating_add(n),
        }
    }
    nocloud::read(window.get(..length).unwrap_or_default(), &mut reader.fields, &mut reader.meta)
}

/// What stands behind `ds=nocloud` on the command line, and in SMBIOS's serial number, which wins (cloud-init reads it
/// first, and what is set stays). Returns whether one of them says who this machine is.
///
/// # Errors
/// `Unsupported` where more is to be had elsewhere; `Malformed` for a host name that is none. The rest is in the facts.
pub fn read_words(line: &str, serial: &str, facts: &mut Facts) -> (bool, Option<Error>) {
    let (mut has_any, mut fault) = (false, None);
    for (key, value) in pairs(line).chain(pairs(serial)) {
        match key {
            "instance-id" => {
                has_any = true;
                prefer(&mut facts.instance_id, id_of(value), Provenance::Cmdline);
            }
            "local-hostname" => {
                has_any = true;
                match hostname_of(value) {
                    Ok(name) => prefer(&mut facts.hostname, name, Provenance::Cmdline),
                    Err(error) => fault = fault.or(Some(error)),
                }
            }
            "seedfrom" => fault = fault.or(Some(SEED_FROM)),
            _ => {}
        }
    }
    if has_any && facts.instance_id.is_none() {
        prefer(&mut facts.instance_id, id_of(ID), Provenance::NoCloud);
    }
    (has_any, fault)
}
