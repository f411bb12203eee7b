//! Who is this VM to be? The medium first, then the network; each in its own process, the seed between them.

mod from_label;
pub(super) mod from_medium;
mod from_network;

use super::persist::FETCH_ENDED;
use super::{LOST, Processes, identity, note, supervise};
use crate::cli::{Command, Verb};
use crate::error::Result;
use crate::facts::InstanceId;
use crate::limits;
use crate::machine::{self, Platform};
use crate::seed;
use crate::sys::linux::Scratch;
use crate::sys::{CANCEL, Dir, Kernel, Owner};

pub(super) use from_label::{from_label, read_tree};
pub(super) use from_medium::say_document;
pub(super) use from_network::{Gathered, ask_again, ask_signed, online};

/// Below /run/preroot: fetch has begun, so that there is something to join.
pub(super) const FETCH_BEGUN: &str = "fetch.begun";
const STAGE: &str = "fetch";
const NOT_APPLICABLE: u8 = 76;

/// Both halves, each supervised; then says that fetch has ended, however it did.
pub(super) fn run_both(processes: &mut impl Processes, command: &Command) -> u8 {
    let begin_us = processes.now_us();
    if let Ok(mut run) = processes.open(command.run) {
        let _ = run.create_unsynced(FETCH_BEGUN, Owner::root(0o644), b"");
    }
    let offline = Command { verb: Verb::FetchOffline, ..*command };
    let mut code = supervise(processes, &offline, limits::MEDIUM_MS + limits::SLACK_MS);
    if code != NOT_APPLICABLE && !is_told_to_stop(processes, command) && is_on_azure(processes) {
        let online = Command { verb: Verb::FetchOnline, ..*command };
        code = supervise(processes, &online, limits::ONLINE_MS + limits::SLACK_MS);
        if code == LOST && !is_told_to_stop(processes, command) {
            let lost = Command { failed: Some(""), ..online };
            supervise(processes, &lost, limits::LOST_MS + limits::SLACK_MS);
        }
    }
    let took_ms = processes.now_us().saturating_sub(begin_us) / 1000;
    if let Ok(mut run) = processes.open(command.run) {
        let word = match code {
            0 => "done",
            NOT_APPLICABLE => "not-applicable",
            _ => "failed",
        };
        note(&mut run, STAGE, word, took_ms);
        let _ = run.create_unsynced(FETCH_ENDED, Owner::root(0o644), b"");
    }
    code
}

fn is_told_to_stop(processes: &mut impl Processes, command: &Command) -> bool {
    processes.open(command.run).is_ok_and(|mut run| run.stat(CANCEL).is_ok())
}

/// Elsewhere the medium says it all, and one that cannot be read leaves nobody to ask: its exit code stays.
fn is_on_azure(processes: &mut impl Processes) -> bool {
    processes.open("/").is_ok_and(|mut host| machine::is_azure(&mut host))
}

/// The media of whatever platform this is.
///
/// # Errors
/// As [`from_medium::offline`] and [`from_label`].
pub(super) fn offline(kernel: &mut Kernel<'_>, scratch: &mut Scratch) -> Result<()> {
    let machine = identity::observe(kernel);
    match machine.platform {
        Some(Platform::Azure) => from_medium::offline(kernel, scratch),
        _ => from_label(kernel, scratch, &machine),
    }
}

/// This VM's id, where it is a VM of ours. In the initrd no root has a mark; where somebody calls us in a VM that runs, what is
/// missing by then (its medium, its password) is no failure that the platform should be told of.
///
/// # Errors
/// `NotApplicable` elsewhere, and for a VM that is done; `Malformed` where firmware does not say who it is.
fn identify(kernel: &mut Kernel<'_>) -> Result<InstanceId> {
    let machine = identity::observe(kernel);
    if machine.platform != Some(Platform::Azure) {
        return Err(not_applicable!("not a platform of ours"));
    }
    let id = machine.vm_id.ok_or(malformed!("SMBIOS", "failure to identify Azure VM ID", 0))?;
    match [seed::PROVISIONED, seed::REPORTED].iter().any(|mark| seed::is_marked(kernel.root, mark, &id)) {
        true => Err(not_applicable!("provisioned already")),
        false => Ok(id),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::facts::Facts;
    use crate::net::Buffers;
    use crate::seed;
    use crate::source::azure_imds::ImdsReader;
    use crate::source::azure_ovf::OvfReader;
    use crate::source::instance::InstanceReader;
    use crate::sys::fake::World;
    use crate::sys::linux::Scratch;
    use std::boxed::Box;

    #[test]
    fn a_vm_that_is_done_asks_nobody_tells_nobody_and_gets_no_seed() {
        const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\n";
        for mark in [seed::PROVISIONED, seed::REPORTED] {
            let mut world = World::new();
            world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
            world.host.put("sys/class/dmi/id/product_uuid", ID).put_dir("sys/firmware/efi");
            world.host.put_dir("sys/class/block");
            world.root.put(mark, ID);
            let code =
                |outcome: crate::error::Result<()>| outcome.map_or_else(|error| error.exit_code(), |()| 0);
            assert_eq!(code(super::offline(&mut world.kernel(), &mut scratch())), 76, "{mark}");
            assert_eq!(code(super::online(&mut world.kernel(), &mut scratch(), false)), 76, "{mark}");
            assert_eq!(code(super::online(&mut world.kernel(), &mut scratch(), true)), 76, "{mark}");
            assert!(world.run.dump().is_empty() && world.clock.sleeps.is_empty(), "{mark}");
        }
    }

    /// What a stage borrows.
    pub(in crate::stage) fn scratch() -> Box<Scratch> {
        Box::new(Scratch {
            facts: Facts::new(),
            ovf: OvfReader::new(),
            imds: ImdsReader::new(),
            instance: InstanceReader::new(),
            net: Buffers::new(),
            bytes: [0; 256 * 1024],
        })
    }
}
