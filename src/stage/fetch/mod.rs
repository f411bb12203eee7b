//! Who is this VM to be? The medium first, then the network; each in its own process, the seed between them.

mod from_medium;
mod from_network;

use super::persist::FETCH_ENDED;
use super::{note, supervise};
use crate::cli::{Command, Verb};
use crate::error::Result;
use crate::facts::InstanceId;
use crate::limits;
use crate::machine;
use crate::sys::linux::{self, LinuxDir};
use crate::sys::{CANCEL, Dir, Kernel, Owner};

pub(super) use from_medium::offline;
pub(super) use from_network::online;

const STAGE: &str = "fetch";
const NOT_APPLICABLE: u8 = 76;

/// Both halves, each supervised; then says that fetch has ended, however it did.
pub(super) fn run_both(command: &Command) -> u8 {
    let begin_us = linux::monotonic_us();
    let offline = Command { verb: Verb::FetchOffline, ..*command };
    let mut code = supervise(&offline, limits::MEDIUM_MS + limits::SLACK_MS);
    if code != NOT_APPLICABLE && !is_told_to_stop(command) {
        let online = Command { verb: Verb::FetchOnline, ..*command };
        code = supervise(&online, limits::ONLINE_MS + limits::SLACK_MS);
    }
    if let Ok(mut run) = LinuxDir::open(command.run) {
        let word = match code {
            0 => "done",
            NOT_APPLICABLE => "not-applicable",
            _ => "failed",
        };
        note(&mut run, STAGE, word, linux::monotonic_us().saturating_sub(begin_us) / 1000);
        let _ = run.create_unsynced(FETCH_ENDED, Owner::root(0o644), b"");
    }
    code
}

fn is_told_to_stop(command: &Command) -> bool {
    LinuxDir::open(command.run).is_ok_and(|mut run| run.stat(CANCEL).is_ok())
}

/// This VM's id, where it is a VM of ours.
fn identify(kernel: &mut Kernel<'_>) -> Result<InstanceId> {
    let machine = machine::observe(kernel);
    if machine.platform.is_none() {
        return Err(not_applicable!("not a platform of ours"));
    }
    machine.vm_id.ok_or(malformed!("SMBIOS", "failure to identify Azure VM ID", 0))
}
