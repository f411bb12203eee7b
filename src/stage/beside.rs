//! Which of our processes run beside the boot, and who ends one that hangs?
//!
//! systemd ends them with their units; other initrds leave behind what they started. What is killed has a supervisor, which
//! puts back what it held.

use crate::cli::{Command, Verb};
use crate::format::text::{digits, join, number};
use crate::sys::{Kernel, Owner};

/// Below /run/preroot: the number of the process in which a half of fetch is at work.
pub(super) const FETCH: &str = "fetch.pid";
/// The same of whoever answers the host in the initrd.
pub(super) const KVP: &str = "kvp.pid";

/// Notes this process, so that [`end`] finds it.
#[inline(never)]
pub(super) fn note(kernel: &mut Kernel<'_>, command: &Command) {
    let name = match command.verb {
        _ if command.dry_run => return,
        Verb::FetchOffline | Verb::FetchOnline => FETCH,
        Verb::Kvp if command.early => KVP,
        _ => return,
    };
    let mut buf = [0; 20];
    let text = digits(kernel.system.pid().into(), &mut buf);
    let _ = kernel.run.remove(name);
    let _ = kernel.run.create_unsynced(name, Owner::root(0o644), text.as_bytes());
}

/// Kills the process that `name` notes. False: it is gone.
#[inline(never)]
pub(super) fn end(kernel: &mut Kernel<'_>, name: &str) -> bool {
    let mut buf = [0; 20];
    let length = kernel.run.read(name, &mut buf).unwrap_or_default();
    let Some(pid) = buf.get(..length).and_then(number) else { return false };
    let Ok(path) = join(&["proc/", digits(pid.into(), &mut [0; 20]), "/comm"]) else { return false };
    // The number may be another's by now.
    let length = kernel.host.read(&path, &mut buf).unwrap_or_default();
    buf.get(..length).is_some_and(|comm| comm.starts_with(b"preroot")) && kernel.system.kill(pid).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{FETCH, KVP, end, note};
    use crate::sys::fake::World;

    #[test]
    fn only_a_process_of_ours_that_is_still_there_is_killed() {
        let mut world = World::new();
        let mut noted = |words: &[&'static str]| {
            let command = crate::cli::parse(&mut words.iter().map(|word| Some(*word))).unwrap();
            note(&mut world.kernel(), &command);
        };
        noted(&["fetch", "--online"]);
        noted(&["kvp"]);
        assert!(!end(&mut world.kernel(), FETCH), "it has ended");
        world.host.put("proc/4242/comm", "sshd\n");
        assert!(!end(&mut world.kernel(), FETCH), "another has its number");
        world.host.put("proc/4242/comm", "preroot\n");
        assert!(end(&mut world.kernel(), FETCH) && !end(&mut world.kernel(), KVP));
        world.run.put(FETCH, "42x");
        assert!(!end(&mut world.kernel(), FETCH));
        assert_eq!(world.system.killed, [4242]);
    }
}
