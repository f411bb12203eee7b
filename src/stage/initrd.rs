//! All initrd stages with one call, for appliances: each in its own process, none able to stop the boot.

use super::persist::MOUNT_LATER;
use super::{Own, begin_again, fetch, supervise};
use crate::cli::{Command, Verb};
use crate::limits;
use crate::sys::linux::{self, Ended, LinuxDir};
use crate::sys::{Dir, Owner};

/// modules, then fetch beside grow, then persist where a mounted root was named; the host is answered beside all.
pub(super) fn run(command: &Command) -> u8 {
    let stage = |verb, deadline_ms| supervise(&mut Own, &Command { verb, ..*command }, deadline_ms);
    stage(Verb::Modules, limits::MODULES_MS);
    if command.root == "/"
        && let Ok(mut run) = LinuxDir::open(command.run)
    {
        // Whoever called us waits for fetch before the mount: fetch must not wait for the mount.
        let _ = run.create_unsynced(MOUNT_LATER, Owner::root(0o644), b"");
    }
    // Until `persist` ends it, whoever calls that.
    let _ = linux::fork(&mut || {
        linux::outlive_parent();
        let command = Command { verb: Verb::Kvp, early: true, ..*command };
        begin_again(&mut Own, &command, limits::KVP_LIVES, 0)
    });
    let fetch = linux::fork(&mut || fetch::run_both(&mut Own, command));
    stage(Verb::Grow, limits::GROW_MS);
    let mut left_ms = limits::FETCH_MS;
    if command.root != "/" {
        stage(Verb::Persist, limits::PERSIST_MS);
        // It has waited for fetch already, or told it to stop.
        left_ms = limits::STOP_MS;
    }
    match fetch.and_then(|child| child.wait(left_ms)) {
        Ok(Ended::Exit(code)) => code,
        _ => 1,
    }
}
