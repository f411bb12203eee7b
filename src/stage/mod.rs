//! The stories. The only layer that prints, sleeps or picks exit codes.

mod apply;
mod beside;
mod config;
mod deprovision;
pub mod entropy;
#[cfg(test)]
mod faults;
mod fetch;
pub mod grow;
pub mod growpart;
mod host_name;
mod identity;
mod initrd;
mod kvp;
mod lines;
pub mod modules;
pub mod offline;
pub mod online;
mod outcomes;
mod persist;
mod pool;
pub mod report;
mod resource_disk;
mod scripts;
mod serial_console;
mod show;
mod status;
mod timeline;

use crate::cli::{Command, Usage, Verb};
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::limits;
use crate::machine::Expected;
use crate::sys::linux::{self, Ended, Linux, LinuxDir, Scratch};
use crate::sys::{Dir, Kernel, Owner};
use core::fmt::Write;

/// How often a stage looks whether another has ended.
const JOIN_POLL_MS: u64 = 50;
/// Below /run/preroot: one line per finished stage, `NAME=OUTCOME MILLISECONDS`.
pub const STATUS: &str = "status";

const HELP: &str = "\
preroot: provisions a cloud VM from its initrd

usage: preroot COMMAND [--dry-run] [--root DIR] [--run DIR]

in the initrd:
  modules                load the drivers this machine needs and the kernel has not built in
  fetch [--offline|--online]
                         read the provisioning medium; take a lease and ask IMDS
  grow [--disk DISK]     grow the root partition; of a DISK or image only show today and tomorrow
  persist --root DIR     put the seed on the mounted root (last hook)
  kvp --early            answer the host from when there is a failure to tell until persist
  initrd                 all of these, each in its own process
in the real root:
  apply                  make this system what the seed says
  report [--early] [--failed REASON]
                         tell the platform: Ready, or why not
  kvp                    answer the host in place of hv_kvp_daemon
  pool                   wait for the owner of a VM that was started before it had one, or for IMDS
  resource-disk          format the temporary disk if it is fresh; mount it, make its swap
  include                fetch what user data include, and apply it
  scripts                run the image's scripts that are due, and customData if it is to run
  host-name              have the DHCP client tell the platform a new host name
for people:
  status [--wait] [--json], timeline, version, help
  show [--from DEVICE|DIR|FILE]
                         which facts the seed holds; or what a medium says, on any machine
  config [--explain]     what the configuration files settle, and which line did
  deprovision [--user] [--logs] [--force]
                         make the image nobody's again, to be captured; asks before
  growpart DISK NUMBER   as growpart of cloud-guest-utils; also by that name
  serialconsole          make the kernel of this image speak on the serial console

exit codes: 0 done, 1 failed, 2 usage, 75 needs network, 76 not applicable here, 101 bug
";

/// Runs a command; returns the exit code.
#[must_use]
#[inline(never)]
pub fn run(command: &Command) -> u8 {
    match command.verb {
        Verb::Help => print(HELP),
        Verb::Grow if command.disk.is_some() => run_for_people(command),
        Verb::Initrd => initrd::run(command),
        Verb::Version => print(concat!("preroot ", env!("CARGO_PKG_VERSION"), "\n")),
        Verb::Status
        | Verb::Timeline
        | Verb::Show
        | Verb::Config
        | Verb::Deprovision
        | Verb::SerialConsole => run_for_people(command),
        _ => run_for_boot(&mut Own, command),
    }
}

/// A stage of the boot: each that somebody waits for has a supervisor.
fn run_for_boot(processes: &mut impl Processes, command: &Command) -> u8 {
    match command.verb {
        Verb::Fetch => fetch::run_both(processes, command),
        Verb::Modules => supervise(processes, command, limits::MODULES_MS),
        Verb::Grow => supervise(processes, command, limits::GROW_MS),
        Verb::Persist => supervise(processes, command, limits::PERSIST_MS),
        Verb::Report if command.early => supervise(processes, command, limits::REPORT_EARLY_MS + 1_000),
        Verb::Kvp if command.early => begin_again(processes, command, limits::KVP_LIVES, 0),
        // Here, not by its unit: whatever is ordered behind it must not begin meanwhile.
        Verb::Pool => begin_again(processes, command, limits::POOL_LIVES, limits::POOL_LIFE_PAUSE_MS),
        _ => processes.run_stage(command),
    }
}

/// Whoever answers the host, or waits for an owner, is begun again when lost, under any init, `lives` times in all. Each
/// pause is twice as long as the one before: memory or processes may be short for a while. What ends it that often ends
/// the next, too; who lived for long counts anew.
fn begin_again(processes: &mut impl Processes, command: &Command, lives: u32, pause_ms: u64) -> u8 {
    let mut losses = 0;
    loop {
        let begin_us = processes.now_us();
        let code = supervise(processes, command, limits::YEAR_MS);
        let life_ms = processes.now_us().saturating_sub(begin_us) / 1000;
        losses = if life_ms > limits::LONG_LIFE_MS { 1 } else { losses + 1 };
        if code != LOST || losses >= lives {
            return code;
        }
        processes.sleep_ms(pause_ms << (losses - 1).min(5));
    }
}

/// A look at what happened, on standard output. It leaves no trace in `status` or the log.
fn run_for_people(command: &Command) -> u8 {
    let Some(scratch) = linux::take_scratch() else { return 1 };
    let mut linux = match Linux::open(command.root, command.run, true) {
        Ok(linux) => linux,
        Err(error) => return cannot_start(error),
    };
    let (mut kernel, out) = (linux.kernel(), &mut linux::Stdout);
    let outcome = match command.verb {
        Verb::Grow => grow::show::run(&mut kernel, &mut scratch.bytes, command.disk.unwrap_or_default(), out),
        Verb::Timeline => timeline::run(&mut kernel, &mut scratch.bytes, out),
        Verb::SerialConsole => serial_console::run(&mut kernel, &mut scratch.bytes, command, out),
        Verb::Show if let Some(from) = command.from => show::from::run(&mut kernel, scratch, from, out),
        Verb::Show => show::run(&mut kernel, &mut scratch.facts, &mut scratch.bytes, out),
        Verb::Config => config::run(kernel.root, &mut scratch.bytes, command.explain, out),
        Verb::Deprovision => {
            deprovision::run(&mut kernel, &mut scratch.bytes, command, &mut linux::answer, out)
        }
        _ => {
            return status::run(&mut kernel, &mut scratch.bytes, command, out)
                .map_or_else(|e| e.exit_code(), |()| 0);
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(out, "preroot: {error}");
            error.exit_code()
        }
    }
}

/// Explains a usage error; returns exit code 2.
#[must_use]
pub fn usage(error: Usage) -> u8 {
    linux::print(match error {
        Usage::Missing => HELP,
        Usage::UnknownCommand => "preroot: no such command; see `preroot help`\n",
        Usage::UnknownOption => "preroot: no such option for this command; see `preroot help`\n",
        Usage::MissingValue => "preroot: an option lacks its value; see `preroot help`\n",
        Usage::NotText => "preroot: an argument is not UTF-8\n",
    });
    2
}

fn print(text: &str) -> u8 {
    linux::print(text);
    0
}

/// One stage in this process: open the kernel, run, say how it ended, note it in `status`.
fn run_stage(command: &Command) -> u8 {
    let Some(scratch) = linux::take_scratch() else { return 1 };
    let mut linux = match Linux::open(command.root, command.run, command.dry_run) {
        Ok(linux) => linux,
        Err(error) => return cannot_start(error),
    };
    if matches!(command.verb, Verb::FetchOffline | Verb::FetchOnline)
        && let Err(error) = linux.obey_cancel(command.run)
    {
        return cannot_start(error);
    }
    let is_off = linux.options.is_off;
    run_with(&mut linux.kernel(), scratch, command, is_off)
}

fn run_with(kernel: &mut Kernel<'_>, scratch: &mut Scratch, command: &Command, is_off: bool) -> u8 {
    let begin = kernel.clock.now_us();
    let outcome = match is_off {
        true => Err(not_applicable!("rd.preroot=0 on the kernel command line")),
        false => dispatch(kernel, scratch, command),
    };
    let ms = kernel.clock.now_us().saturating_sub(begin) / 1000;
    conclude(kernel, &mut scratch.bytes, command, outcome, ms)
}

#[inline(never)]
fn dispatch(kernel: &mut Kernel<'_>, scratch: &mut Scratch, command: &Command) -> Result<()> {
    beside::note(kernel, command);
    match command.verb {
        Verb::Modules => on_our_platform(kernel).and_then(|()| modules::run(kernel, &mut scratch.bytes)),
        Verb::FetchOffline => fetch::offline(kernel, scratch),
        Verb::FetchOnline => fetch::online(kernel, scratch, command.failed.is_some()),
        Verb::Grow => grow_root(kernel, &mut scratch.bytes, command),
        Verb::Persist => persist_seed(kernel, scratch, command),
        Verb::Apply => {
            let Scratch { facts, bytes, net, .. } = scratch;
            apply::run(kernel, facts, bytes, net, command)
        }
        Verb::Pool => pool::run(kernel, scratch, command.dry_run),
        Verb::ResourceDisk => resource_disk::run(kernel, &mut scratch.bytes, command),
        Verb::Include => {
            let Scratch { facts, bytes, net, .. } = scratch;
            apply::include::run(kernel, facts, bytes, net, command)
        }
        Verb::Scripts => scripts::run(kernel, &mut scratch.bytes, command.root, command.dry_run),
        Verb::HostName => host_name::run(kernel, &mut scratch.bytes, command.dry_run),
        Verb::Report => report::run(kernel, scratch, command),
        Verb::Kvp => kvp::run(kernel, &mut scratch.bytes, command),
        // Told apart by `run` before they come here.
        _ => Err(unsupported!("preroot", "not a stage")),
    }
}

/// A machine that is nobody's we know is left alone: no driver is loaded, no partition grown, no packet sent.
fn on_our_platform(kernel: &mut Kernel<'_>) -> Result<()> {
    match identity::observe(kernel).platform {
        Some(_) => Ok(()),
        None => Err(not_applicable!("not a platform of ours")),
    }
}

/// Where nobody is sure of a medium, fetch's short look may have come before its drive did.
fn persist_seed(kernel: &mut Kernel<'_>, scratch: &mut Scratch, command: &Command) -> Result<()> {
    let is_early = persist::join_unsure(kernel, &mut scratch.bytes);
    if is_early && !command.dry_run {
        let mut machine = identity::observe(kernel);
        machine.media.expected = Expected::No;
        // What it would say was said.
        let _ = fetch::from_label(kernel, scratch, &machine);
    }
    persist::run(kernel, &mut scratch.bytes, command.root)
}

/// Looking is allowed anywhere. Where `root=` names nothing that is there yet, `persist` grows after the mount.
fn grow_root(kernel: &mut Kernel<'_>, bytes: &mut [u8], command: &Command) -> Result<()> {
    if !command.dry_run
        && let Err(error) = on_our_platform(kernel)
    {
        // A medium may still say that it is.
        let _ = kernel.run.create_unsynced(persist::GROW_LATER, Owner::root(0o644), b"");
        return Err(error);
    }
    if grow::run(kernel, bytes, command)? == grow::Outcome::NotFound && !command.dry_run {
        let _ = kernel.run.create_unsynced(persist::GROW_LATER, Owner::root(0o644), b"");
    }
    Ok(())
}

/// Says how a stage ended and returns its exit code. "Not applicable" is said only in `status`: on every
/// second boot, and on every machine that is not ours, silence is the right message, but to a person at a terminal.
fn conclude(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    command: &Command,
    outcome: Result<()>,
    ms: u64,
) -> u8 {
    let stage = command.verb.word();
    kernel.log.enter(stage);
    let (word, code) = match outcome {
        Ok(()) => ("done", 0),
        Err(error) if error.is(Kind::NotApplicable) => {
            if linux::has_terminal() {
                let _ = writeln!(linux::Stdout, "preroot {stage}: {error}");
            }
            ("not-applicable", error.exit_code())
        }
        Err(error) if error.is(Kind::NeedNetwork) => ("needs-network", error.exit_code()),
        Err(error) if error == Error::STOPPED => {
            kernel.say(Level::Info, "stopped: it was asked to", &[]);
            ("stopped", 1)
        }
        Err(error) => {
            kernel.say(Level::Error, "failed: {}; the boot goes on", &[Value::Why(error)]);
            kvp::tell_trouble(kernel, bytes, command);
            ("failed", error.exit_code())
        }
    };
    // A dry run did nothing: `status` would speak of it as of the stage itself.
    if !command.dry_run && outcome != Err(scripts::BUSY) {
        note(kernel.run, stage, word, ms);
        if matches!(command.verb, Verb::Apply | Verb::Pool | Verb::Report) {
            status::tell(kernel, bytes);
        }
    }
    code
}

/// What a stage ends with that did not end by itself.
const LOST: u8 = 101;

/// How stages get processes, and what their supervisor has beside them: nothing of it takes SIGTERM away from it.
trait Processes {
    /// A directory.
    type Directory: Dir;
    /// Opens one.
    fn open(&mut self, path: &str) -> Result<Self::Directory>;
    /// Microseconds since boot.
    fn now_us(&mut self) -> u64;
    /// Pauses this process.
    fn sleep_ms(&mut self, ms: u64);
    /// One stage in this process; returns its exit code.
    fn run_stage(&mut self, command: &Command) -> u8;
    /// One stage in a process of its own, for `deadline_ms` at most.
    fn fork_stage(&mut self, command: &Command, deadline_ms: u64) -> Result<Ended>;
    /// Lends the supervisor all the rest, once a stage is dead.
    fn afterwards(&mut self, command: &Command, work: &mut dyn FnMut(&mut Kernel<'_>, &mut [u8]));
}

/// Those of the real kernel.
struct Own;

impl Processes for Own {
    type Directory = LinuxDir;
    fn open(&mut self, path: &str) -> Result<LinuxDir> {
        LinuxDir::open(path)
    }
    fn now_us(&mut self) -> u64 {
        linux::monotonic_us()
    }
    fn sleep_ms(&mut self, ms: u64) {
        linux::sleep_ms(ms);
    }
    fn run_stage(&mut self, command: &Command) -> u8 {
        run_stage(command)
    }
    fn fork_stage(&mut self, command: &Command, deadline_ms: u64) -> Result<Ended> {
        linux::fork_stage(deadline_ms, &mut || run_stage(command))
    }
    fn afterwards(&mut self, command: &Command, work: &mut dyn FnMut(&mut Kernel<'_>, &mut [u8])) {
        // By a process of its own, too: the buffers are lent once in each, and who comes next wants them.
        let mut say = || match (Linux::open("/", command.run, command.dry_run), linux::take_scratch()) {
            (Ok(mut linux), Some(scratch)) => {
                work(&mut linux.kernel(), &mut scratch.bytes);
                0
            }
            _ => 1,
        };
        if linux::fork_stage(limits::SLACK_MS, &mut say).is_err() {
            say();
        }
    }
}

/// One stage in a process of its own; returns its exit code, or [`LOST`] when it panicked, was killed or hung.
fn supervise(processes: &mut impl Processes, command: &Command, deadline_ms: u64) -> u8 {
    let ended = processes.fork_stage(command, deadline_ms);
    if let Ok(Ended::Exit(code @ (0..=2 | 75..=76))) = ended {
        return code;
    }
    processes.afterwards(command, &mut |kernel, bytes| say_lost(kernel, bytes, command, ended));
    LOST
}

/// Says that a stage did not end by itself, to people and to the host.
fn say_lost(kernel: &mut Kernel<'_>, bytes: &mut [u8], command: &Command, ended: Result<Ended>) {
    kernel.log.enter(command.verb.word());
    let text = match ended {
        Ok(Ended::Exit(_)) => "ended by a bug of ours; its facts are lost, the boot goes on",
        Ok(Ended::Signal(_)) => "was killed; its facts are lost, the boot goes on",
        Ok(Ended::Deadline) => "did not end in time and was stopped; the boot goes on",
        Err(_) => "got no process; the boot goes on",
    };
    kernel.say(Level::Error, text, &[]);
    if command.verb == Verb::Persist {
        // Its record would wake a server that nobody ends any more.
        kvp::stop(kernel);
    }
    kvp::tell_trouble(kernel, bytes, command);
    if command.verb == Verb::Kvp {
        // From now on no record changes any more.
        kvp::note_lost(kernel);
    }
    // What runs beside fetch must not put back the link that fetch is at work on.
    if !matches!(command.verb, Verb::Modules | Verb::Grow | Verb::Kvp) {
        online::give_back(kernel);
    }
}

/// A line in [`STATUS`].
fn note(run: &mut dyn Dir, stage: &str, word: &str, ms: u64) {
    let mut line = heapless::String::<64>::new();
    if writeln!(line, "{stage}={word} {ms}").is_err() {
        return;
    }
    if run.append(STATUS, line.as_bytes()).is_err() {
        let _ = run.create_unsynced(STATUS, Owner::root(0o644), line.as_bytes());
    }
}

/// Text from outside, for a terminal.
fn print_plain(text: &str, out: &mut dyn Write) -> core::fmt::Result {
    text.chars().try_for_each(|c| out.write_char(if c.is_control() { '?' } else { c }))
}

fn cannot_start(error: Error) -> u8 {
    let mut line = heapless::String::<192>::new();
    let _ = writeln!(line, "preroot: cannot start: {error}");
    linux::print(&line);
    1
}

#[cfg(test)]
mod tests {
    use super::{LOST, Processes, begin_again};
    use crate::cli::{self, Command};
    use crate::error::{Errno, Result};
    use crate::limits;
    use crate::sys::Kernel;
    use crate::sys::fake::FakeDir;
    use crate::sys::linux::Ended;
    use std::vec::Vec;

    /// A stage whose lives last so many milliseconds and end so.
    struct Lives {
        now_us: u64,
        lives: Vec<(u64, Result<Ended>)>,
        pauses: Vec<u64>,
    }

    impl Processes for Lives {
        type Directory = FakeDir;
        fn open(&mut self, _: &str) -> Result<FakeDir> {
            Ok(FakeDir::default())
        }
        fn now_us(&mut self) -> u64 {
            self.now_us
        }
        fn sleep_ms(&mut self, ms: u64) {
            self.pauses.push(ms);
        }
        fn run_stage(&mut self, _: &Command) -> u8 {
            0
        }
        fn fork_stage(&mut self, _: &Command, _: u64) -> Result<Ended> {
            let (ms, ended) = self.lives.remove(0);
            self.now_us += ms * 1000;
            ended
        }
        fn afterwards(&mut self, _: &Command, _: &mut dyn FnMut(&mut Kernel<'_>, &mut [u8])) {}
    }

    fn begun(lives: Vec<(u64, Result<Ended>)>) -> (u8, Vec<u64>, usize) {
        let command = cli::parse(&mut ["pool"].iter().map(|word| Some(*word))).unwrap();
        let mut processes = Lives { now_us: 0, lives, pauses: Vec::new() };
        let code = begin_again(&mut processes, &command, 8, 1_000);
        (code, processes.pauses, processes.lives.len())
    }

    #[test]
    fn who_is_lost_is_begun_again_after_pauses_that_grow() {
        let killed = || Ok(Ended::Signal(9));
        let no_process = || Err(os!("start a process", Errno::AGAIN));
        let lives = [(1, killed()), (1, no_process()), (1, Ok(Ended::Exit(101))), (1, Ok(Ended::Exit(76)))];
        assert_eq!(begun(lives.to_vec()), (76, [1_000, 2_000, 4_000].to_vec(), 0));
        let (code, pauses, left) = begun([(1, killed())].repeat(20));
        assert_eq!((code, left), (LOST, 12));
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000]);
    }

    #[test]
    fn losses_of_days_are_not_summed_up() {
        let mut lives = [(limits::LONG_LIFE_MS + 1, Ok(Ended::Signal(9)))].repeat(30);
        lives.push((1, Ok(Ended::Exit(0))));
        assert_eq!(begun(lives), (0, [1_000].repeat(30), 0));
    }
}
