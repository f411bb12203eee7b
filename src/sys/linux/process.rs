//! How does work get its own process? `fork` for our stages (no execve), `run` for a program of the image.
#![expect(unsafe_code, reason = "clone, execve and signal masks have no safe form without libc")]

use super::raw::{checked, exit, monotonic_ns, syscall};
use super::{open_path, refused};
use crate::error::{Errno, Result};
use crate::limits;
use core::ffi::c_char;
use linux_raw_sys::general as nr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno as Code;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// After SIGTERM a process has this long to lower a link or finish a write; then SIGKILL.
const GRACE_MS: u64 = 250;
/// Between two beats of a program that is followed.
const BEAT_MS: u64 = 100;
/// Where the output of programs goes that nobody reads.
pub(super) const NOWHERE: &str = "/dev/null";
/// Words of a command line.
const ARGV: usize = 16;
/// Bytes of a command line.
pub(super) const ARGV_BYTES: usize = 2048;
/// Addresses of words, ended by a null pointer.
pub(super) type Words = [*const c_char; ARGV + 1];
/// No words yet.
pub(super) const NO_WORDS: Words = [core::ptr::null(); ARGV + 1];

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself, with this code (101 after a panic).
    Exit(u8),
    /// By this signal.
    Signal(u8),
    /// We killed it: its time was over.
    Deadline,
}

/// A process of ours. It gets SIGTERM when we die.
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Runs `work` in a copy of this process, in a process group of its own.
///
/// # Errors
/// `Os` when the kernel has no process to give.
pub fn fork(work: &mut dyn FnMut() -> u8) -> Result<Child> {
    match clone_process()? {
        Some(child) => Ok(child),
        None => {
            let _ = rustix::process::setpgid(None, None);
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
            exit(work())
        }
    }
}

/// SIGKILL to a process that need not be a child of ours.
///
/// # Errors
/// `Os`.
pub(super) fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(os!("end a process", Errno::INVAL))?;
    rustix::process::kill_process(pid, Signal::KILL).map_err(|code| refused(os!("end a process"), code))
}

/// This process goes on when the one that made it ends.
pub fn outlive_parent() {
    let _ = rustix::process::set_parent_process_death_signal(None);
}

/// A stage in its own process, so that a panic or a hang costs its facts and never the boot.
///
/// # Errors
/// `Os` when there is no process to give, or none to wait for.
pub fn fork_stage(deadline_ms: u64, work: &mut dyn FnMut() -> u8) -> Result<Ended> {
    fork(work)?.wait(deadline_ms)
}

impl Child {
    /// Waits until it ends; after `deadline_ms` its process group is terminated, then killed.
    ///
    /// # Errors
    /// `Os`.
    pub fn wait(self, deadline_ms: u64) -> Result<Ended> {
        if self.ends_within(deadline_ms)? {
            return self.reap();
        }
        self.signal(Signal::TERM);
        let _ = self.ends_within(GRACE_MS)?;
        self.signal(Signal::KILL);
        // A process that sleeps in the kernel (a drive that does not answer) dies when it wakes: whoever waited
        // for it now would miss the deadline. It is init's child once we have ended.
        if self.ends_within(GRACE_MS)? {
            let _ = self.reap();
        }
        Ok(Ended::Deadline)
    }

    /// How it ended, if it did within `ms`; otherwise it goes on by itself.
    ///
    /// # Errors
    /// `Os`.
    pub(super) fn ended_within(self, ms: u64) -> Result<Option<Ended>> {
        if self.ends_within(ms)? { self.reap().map(Some) } else { Ok(None) }
    }

    /// True when it has ended already.
    ///
    /// # Errors
    /// `Os`.
    pub fn has_ended(&self) -> Result<bool> {
        self.ends_within(0)
    }

    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
        // The group is missing for the instant before the child made it.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    fn ends_within(&self, ms: u64) -> Result<bool> {
        let end_ns = monotonic_ns().saturating_add(ms.saturating_mul(1_000_000));
        loop {
            let left_ns = end_ns.saturating_sub(monotonic_ns());
            let left = Timespec {
                tv_sec: i64::try_from(left_ns / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(left_ns % 1_000_000_000).unwrap_or(0),
            };
            let mut wanted = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut wanted, Some(&left)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("wait for a process"), code)),
            }
        }
    }

    fn reap(self) -> Result<Ended> {
        use rustix::fd::AsFd;
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    let byte = |n: Option<i32>| n.and_then(|n| u8::try_from(n & 0xff).ok());
                    let by_signal = byte(status.terminating_signal()).map(Ended::Signal);
                    let by_itself = byte(status.exit_status()).map_or(Ended::Exit(255), Ended::Exit);
                    return Ok(by_signal.unwrap_or(by_itself));
                }
                Ok(None) | Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("wait for a process"), code)),
            }
        }
    }
}

/// Runs a program of the image: chroot to `root`, clean environment, /dev/null on 0, the end of `log` on 1 and 2,
/// nothing else inherited. `argv[0]` is an absolute path inside `root`. Returns the exit status as a shell counts
/// it: 127 not found, 126 not executable, 128 + n killed by signal n.
///
/// # Errors
/// `Os`, `TooMany` for a long command line, `Deadline` (the program was killed).
pub(super) fn run(
    root: &str,
    argv: &[&str],
    log: &str,
    timeout_ms: u64,
    beat: Option<&mut dyn FnMut()>,
) -> Result<i32> {
    let mut text = [0u8; ARGV_BYTES];
    let mut words = NO_WORDS;
    write_words(argv, &mut text, &mut words)?;
    let open =
        |path, flags| open_path(path, flags).map_err(|code| refused(os!("open /dev/null or log"), code));
    let null = open(NOWHERE, OFlags::RDONLY | OFlags::CLOEXEC)?;
    let log = open(log, OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC)?;
    let child = match clone_process()? {
        Some(child) => child,
        None => become_program(root, &words, [&null, &log, &log], false),
    };
    let Some(beat) = beat else { return status(child.wait(timeout_ms)?, timeout_ms) };
    let mut left_ms = timeout_ms;
    while left_ms > 0 && !child.ends_within(left_ms.min(BEAT_MS))? {
        left_ms = left_ms.saturating_sub(BEAT_MS);
        beat();
    }
    let ended = child.wait(0);
    beat();
    status(ended?, timeout_ms)
}

pub(super) fn status(ended: Ended, timeout_ms: u64) -> Result<i32> {
    match ended {
        Ended::Exit(code) => Ok(i32::from(code)),
        Ended::Signal(number) => Ok(i32::from(number).saturating_add(128)),
        Ended::Deadline => Err(deadline!("program of the image", timeout_ms)),
    }
}

/// Copies the words, each ended by NUL, and collects their addresses, ended by a null pointer.
pub(super) fn write_words(argv: &[&str], text: &mut [u8], words: &mut [*const c_char]) -> Result<()> {
    let full = too_many!("command line", ARGV_BYTES);
    if argv.is_empty() || argv.len() >= words.len() {
        return Err(too_many!("command line words", ARGV));
    }
    let mut rest = text;
    for (word, slot) in argv.iter().zip(words.iter_mut()) {
        if word.bytes().any(|byte| byte == 0) {
            return Err(os!("command line", Errno::INVAL));
        }
        let (place, after) = rest.split_at_mut_checked(word.len().saturating_add(1)).ok_or(full)?;
        place.get_mut(..word.len()).ok_or(full)?.copy_from_slice(word.as_bytes());
        *slot = place.as_ptr().cast();
        rest = after;
    }
    Ok(())
}

/// The child's half of [`run`]; `is_nobody` takes from it all that a translator does not need.
pub(super) fn become_program(root: &str, words: &Words, streams: [&OwnedFd; 3], is_nobody: bool) -> ! {
    const PATH: &core::ffi::CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let environment = [PATH.as_ptr(), c"HOME=/root".as_ptr(), c"LANG=C.UTF-8".as_ptr(), core::ptr::null()];
    let _ = rustix::process::setpgid(None, None);
    let has_root = root == "/" || rustix::process::chroot(root).is_ok();
    if !has_root || rustix::process::chdir("/").is_err() || !has_streams(streams) {
        exit(126);
    }
    if is_nobody && !renounces() {
        exit(126);
    }
    // Behind that: a change of the user forgets it.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let nothing_blocked = 0u64;
    let program = words.first().copied().unwrap_or(core::ptr::null());
    // SAFETY: the mask is 8 bytes long and outlives the call; close_range takes integers; the strings and both
    // null-terminated pointer arrays live in this process until execve has copied them.
    let refused = unsafe {
        let mask = core::ptr::from_ref(&nothing_blocked);
        syscall(nr::__NR_rt_sigprocmask, [nr::SIG_SETMASK as usize, mask as usize, 0, 8, 0]);
        syscall(nr::__NR_close_range, [3, u32::MAX as usize, 0, 0, 0]);
        let arguments = [program as usize, words.as_ptr() as usize, environment.as_ptr() as usize, 0, 0];
        syscall(nr::__NR_execve, arguments)
    };
    exit(if checked(refused) == Err(Errno::NOENT) { 127 } else { 126 })
}

fn has_streams([input, output, errors]: [&OwnedFd; 3]) -> bool {
    rustix::stdio::dup2_stdin(input).is_ok()
        && rustix::stdio::dup2_stdout(output).is_ok()
        && rustix::stdio::dup2_stderr(errors).is_ok()
}

/// A user whom nobody else is, and who never becomes anybody else, with bounded memory and time, and no files. Not `nobody`:
/// programs of one user may read each other's memory.
fn renounces() -> bool {
    use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
    let limit =
        |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).is_ok();
    limit(Resource::As, limits::TRANSLATOR_MEMORY)
        && limit(Resource::Cpu, limits::TRANSLATOR_MS / 1000)
        && limit(Resource::Fsize, 0)
        && limit(Resource::Core, 0)
        && rustix::thread::set_thread_groups(&[]).is_ok()
        && rustix::thread::set_thread_gid(Gid::from_raw(limits::TRANSLATOR_ID)).is_ok()
        && rustix::thread::set_thread_uid(Uid::from_raw(limits::TRANSLATOR_ID)).is_ok()
        && rustix::thread::set_no_new_privs(true).is_ok()
}

/// fork, with a descriptor of the child: `None` in the child.
pub(super) fn clone_process() -> Result<Option<Child>> {
    let mut descriptor: i32 = -1;
    let flags = nr::CLONE_PIDFD as usize | nr::SIGCHLD as usize;
    let place = core::ptr::from_mut(&mut descriptor) as usize;
    // SAFETY: without CLONE_VM the child has its own copy of everything, this stack included; the kernel
    // writes one int to `descriptor` (CLONE_PIDFD, Linux 5.2). No other thread of ours holds a lock.
    let result = unsafe { syscall(nr::__NR_clone, [flags, 0, place, 0, 0]) };
    let pid = checked(result).map_err(|errno| os!("start a process", errno))?;
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    // SAFETY: the kernel made this descriptor for us and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Some(Child { pid, pidfd }))
}

/// Writes to standard output, for commands people type. A reader that went away is not our problem.
pub fn print(text: &str) {
    // SAFETY: descriptor 1 is never closed by us; if the caller closed it, the write fails.
    write_all(unsafe { rustix::stdio::stdout() }, text.as_bytes());
}

/// Standard output, for what is formatted piece by piece.
#[derive(Clone, Copy, Default)]
pub struct Stdout;

impl core::fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        print(text);
        Ok(())
    }
}

/// Standard error.
#[derive(Clone, Copy, Default)]
pub struct Stderr;

impl core::fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: as for descriptor 1.
        write_all(unsafe { rustix::stdio::stderr() }, text.as_bytes());
        Ok(())
    }
}

fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Code::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, NOWHERE, fork, fork_stage};
    use crate::error::{Errno, Kind};
    use std::time::{Duration, Instant};

    fn run(root: &str, argv: &[&str], timeout_ms: u64) -> crate::error::Result<i32> {
        super::run(root, argv, NOWHERE, timeout_ms, None)
    }

    #[test]
    fn a_followed_program_writes_to_the_end_of_its_log_and_so_do_its_children() {
        let log = std::env::temp_dir().join(std::format!("preroot-run-{}", std::process::id()));
        std::fs::write(&log, "before\n").unwrap();
        let script = "echo out; echo err >&2; (sleep 0.6; echo late) & sleep 0.25; exit 4";
        let mut beats = 0;
        let path = log.to_str().unwrap();
        let argv = ["/bin/sh", "-c", script];
        let begin = Instant::now();
        let code = super::run("/", &argv, path, 5_000, Some(&mut || beats += 1)).unwrap();
        assert!(code == 4 && beats >= 2 && begin.elapsed() < Duration::from_millis(550), "{beats}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\nout\nerr\n");
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\nout\nerr\nlate\n");
        let argv = ["/bin/sh", "-c", "sleep 60"];
        assert!(super::run("/", &argv, path, 200, Some(&mut || ())).unwrap_err().is(Kind::Deadline));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_stage_ends_with_its_code() {
        assert_eq!(fork_stage(5_000, &mut || 76).unwrap(), Ended::Exit(76));
    }

    #[test]
    fn a_hanging_stage_costs_its_deadline_and_no_more() {
        let begin = Instant::now();
        let ended = fork_stage(50, &mut || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        assert_eq!(ended.unwrap(), Ended::Deadline);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_alarm_that_is_put_off_no_more_ends_a_stage() {
        let ended = fork_stage(20_000, &mut || {
            for _ in 0..4 {
                super::super::raw::alarm(2_000);
                std::thread::sleep(Duration::from_millis(100));
            }
            super::super::raw::alarm(100);
            std::thread::sleep(Duration::from_secs(10));
            0
        });
        assert_eq!(ended.unwrap(), Ended::Signal(14));
    }

    #[test]
    fn a_stage_that_somebody_kills_was_killed() {
        let ended = fork_stage(10_000, &mut || {
            let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
            super::kill(pid).map_or(1, |()| 0)
        });
        assert_eq!(ended.unwrap(), Ended::Signal(9));
        assert!(super::kill(0).is_err() && super::kill(u32::MAX).is_err());
    }

    #[test]
    fn a_stage_runs_beside_its_parent() {
        let child = fork(&mut || {
            std::thread::sleep(Duration::from_millis(200));
            7
        })
        .unwrap();
        assert!(!child.has_ended().unwrap());
        assert_eq!(child.wait(5_000).unwrap(), Ended::Exit(7));
    }

    #[test]
    fn programs_answer_as_in_a_shell() {
        assert_eq!(run("/", &["/bin/sh", "-c", "exit 3"], 5_000).unwrap(), 3);
        assert_eq!(run("/", &["/bin/sh", "-c", "kill -9 $$"], 5_000).unwrap(), 137);
        assert_eq!(run("/", &["/nonexistent"], 5_000).unwrap(), 127);
        assert_eq!(run("/", &["/etc/passwd"], 5_000).unwrap(), 126);
    }

    #[test]
    fn programs_see_a_clean_world() {
        let script =
            "test \"$HOME\" = /root && test -z \"$CARGO\" && test -z \"$USER\" && read x; test $? = 1";
        assert_eq!(run("/", &["/bin/sh", "-c", script], 5_000).unwrap(), 0);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let hang = run("/", &["/bin/sh", "-c", "sleep 60 & sleep 60"], 50);
        assert_eq!(hang, Err(deadline!("program of the image", 50)));
    }

    #[test]
    fn impossible_command_lines_are_refused() {
        let long = "x".repeat(3_000);
        assert!(matches!(run("/", &["/bin/true", &long], 100), Err(error) if error.is(Kind::TooMany)));
        assert!(matches!(run("/", &["a"; 17], 100), Err(error) if error.is(Kind::TooMany)));
        assert!(matches!(run("/", &[], 100), Err(error) if error.is(Kind::TooMany)));
        assert_eq!(run("/", &["/bin/true", "a\0b"], 100).unwrap_err().errno(), Some(Errno::INVAL));
    }
}
