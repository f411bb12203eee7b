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

/// Notes this process, so that [`end`] finds it: its number, and when it began, in the kernel's ticks.
#[inline(never)]
pub(super) fn note(kernel: &mut Kernel<'_>, command: &Command) {
    let name = match command.verb {
        _ if command.dry_run => return,
        Verb::FetchOffline | Verb::FetchOnline => FETCH,
        Verb::Kvp if command.early => KVP,
        _ => return,
    };
    let pid = kernel.system.pid();
    let Ok(text) = join(&[digits(pid.into(), &mut [0; 20]), " ", &began(kernel, pid)]) else { return };
    let _ = kernel.run.remove(name);
    let _ = kernel.run.create_unsynced(name, Owner::root(0o644), text.as_bytes());
}

/// The process that `name` notes, if it is there: its number may be another's by now, of ours too.
#[inline(never)]
pub(super) fn find(kernel: &mut Kernel<'_>, name: &str) -> Option<u32> {
    let mut buf = [0; 48];
    let length = kernel.run.read(name, &mut buf).ok()?;
    let (pid, noted) = core::str::from_utf8(buf.get(..length)?).ok()?.split_once(' ')?;
    let pid = number(pid.as_bytes())?;
    (!noted.is_empty() && began(kernel, pid) == noted).then_some(pid)
}

/// Kills the process that `name` notes. False: it is gone.
pub(super) fn end(kernel: &mut Kernel<'_>, name: &str) -> bool {
    find(kernel, name).is_some_and(|pid| kernel.system.kill(pid).is_ok())
}

/// Field 22 of its stat (proc_pid_stat(5)), as it stands there; "" where it is not. The second, a name, may hold anything.
fn began(kernel: &mut Kernel<'_>, pid: u32) -> heapless::String<20> {
    let mut buf = [0; 512];
    let path = join(&["proc/", digits(pid.into(), &mut [0; 20]), "/stat"]).unwrap_or_default();
    let length = kernel.host.read(&path, &mut buf).unwrap_or_default();
    let text = buf.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
    let ticks = text.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19));
    ticks.and_then(|ticks| heapless::String::try_from(ticks).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{FETCH, KVP, end, note};
    use crate::sys::fake::World;

    #[test]
    fn only_a_process_of_ours_that_is_still_there_is_killed() {
        let mut world = World::new();
        let noted = |world: &mut World, words: &[&'static str]| {
            let command = crate::cli::parse(&mut words.iter().map(|word| Some(*word))).unwrap();
            note(&mut world.kernel(), &command);
        };
        noted(&mut world, &["fetch", "--online"]);
        noted(&mut world, &["kvp"]);
        assert!(!end(&mut world.kernel(), FETCH), "when it began is not known");
        let stat = |began| {
            std::format!("4242 (preroot) (x) S 1 1 1 0 -1 4194560 9 0 0 0 0 0 0 0 20 0 1 0 {began} 1 2")
        };
        world.host.put("proc/4242/stat", stat(77));
        noted(&mut world, &["fetch", "--online"]);
        world.host.put("proc/4242/stat", stat(99));
        assert!(!end(&mut world.kernel(), FETCH), "another of ours has its number");
        world.host.put("proc/4242/stat", stat(77));
        assert!(end(&mut world.kernel(), FETCH) && !end(&mut world.kernel(), KVP));
        world.run.put(FETCH, "42x 77");
        assert!(!end(&mut world.kernel(), FETCH));
        assert_eq!(world.system.killed, [4242]);
    }
}
