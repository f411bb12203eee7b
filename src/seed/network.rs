//! The network in a seed: a file for each link, and one for what is no link's own.

use super::load::Reader;
use super::publish::Writer;
use crate::error::Result;
use crate::facts::network::{ALL, LinkAt, Network};
use crate::format::network::seed;

/// Where a link's file is, and what is no link's own.
fn file_of(at: LinkAt) -> &'static str {
    super::NETWORK.get(usize::from(at)).copied().unwrap_or(super::NETWORK_ALL)
}

/// Writes it.
///
/// # Errors
/// `Os`.
pub(super) fn write_network(out: &mut Writer<'_>, network: &Network) -> Result<()> {
    if network.is_empty() {
        return Ok(());
    }
    for at in network.positions().chain([ALL]) {
        seed::emit(network, at, &mut |line| out.add(file_of(at), line))?;
    }
    Ok(())
}

/// Reads it; empty where the seed has none.
///
/// # Errors
/// `Os`, `Malformed`, `TooMany`.
pub(super) fn load_network(values: &mut Reader<'_>, network: &mut Network) -> Result<()> {
    network.clear();
    for (at, name) in (0..).zip(super::NETWORK) {
        let Some(text) = values.text(name)? else { break };
        seed::parse(text, at, network)?;
    }
    if let Some(text) = values.text(super::NETWORK_ALL)? {
        seed::parse(text, ALL, network)?;
    }
    network.check()
}
