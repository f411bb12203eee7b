//! How does a program that we do not trust read what we say, and say what it makes of it? One socket is its standard input
//! and output; whoever writes and nobody reads waits for nobody: both sides are polled, with one deadline.

use super::process::{
    ARGV_BYTES, Child, NO_WORDS, NOWHERE, become_program, clone_process, status, write_words,
};
use super::raw::monotonic_ns;
use super::{open_path, refused};
use crate::error::Result;
use crate::sys::Talk;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno as Code;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

/// See [`System::run_talking`](crate::sys::System::run_talking).
pub(super) fn run(
    root: &str,
    argv: &[&str],
    timeout_ms: u64,
    room: &mut [u8],
    talk: &mut dyn Talk,
) -> Result<i32> {
    let (mut text, mut words) = ([0u8; ARGV_BYTES], NO_WORDS);
    write_words(argv, &mut text, &mut words)?;
    let null = open_path(NOWHERE, OFlags::RDWR | OFlags::CLOEXEC)
        .map_err(|code| refused(os!("open /dev/null or log"), code))?;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|code| refused(os!("make a socket"), code))?;
    let child = match clone_process()? {
        Some(child) => child,
        None => become_program(root, &words, [&theirs, &theirs, &null], true),
    };
    drop(theirs);
    let until_ns = monotonic_ns().saturating_add(timeout_ms.saturating_mul(1_000_000));
    let talked = exchange(&ours, until_ns, room, talk);
    drop(ours);
    end(child, talked, until_ns, timeout_ms)
}

/// One that talked to its end may take the rest of its time; another has none.
fn end(child: Child, talked: Result<bool>, until_ns: u64, timeout_ms: u64) -> Result<i32> {
    let left_ms = match talked {
        Ok(true) => until_ns.saturating_sub(monotonic_ns()) / 1_000_000,
        _ => 0,
    };
    let ended = child.wait(left_ms)?;
    match talked? {
        true => status(ended, timeout_ms),
        false => Err(deadline!("program of the image", timeout_ms)),
    }
}

/// Both directions until the program closed its end; false when the time was over before.
fn exchange(socket: &OwnedFd, until_ns: u64, room: &mut [u8], talk: &mut dyn Talk) -> Result<bool> {
    let failed = |code| refused(os!("talk to a program"), code);
    let (out, input) = room.split_at_mut(room.len() / 2);
    let (mut from, mut to, mut is_fed) = (0, 0, false);
    loop {
        if from == to && !is_fed {
            (from, to) = (0, talk.feed(out)?.min(out.len()));
            is_fed = to == 0;
            if is_fed {
                let _ = rustix::net::shutdown(socket, Shutdown::Write);
            }
        }
        let wanted = if from < to { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let Some(ready) = wait(socket, wanted, until_ns)? else { return Ok(false) };
        if ready.contains(PollFlags::OUT) && from < to {
            let piece = out.get(from..to).unwrap_or_default();
            match rustix::net::send(socket, piece, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => from = from.saturating_add(n),
                // It wants no more; what it says may be whole all the same.
                Err(Code::PIPE | Code::CONNRESET) => (from, to, is_fed) = (0, 0, true),
                Err(Code::AGAIN | Code::INTR) => {}
                Err(code) => return Err(failed(code)),
            }
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match rustix::net::recv(socket, &mut *input, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Code::CONNRESET) => return Ok(true),
                Ok((n, _)) => talk.take(input.get(..n).unwrap_or_default())?,
                Err(Code::AGAIN | Code::INTR) => {}
                Err(code) => return Err(failed(code)),
            }
        }
    }
}

/// What the socket is ready for; `None` when the time is over.
fn wait(socket: &OwnedFd, wanted: PollFlags, until_ns: u64) -> Result<Option<PollFlags>> {
    let left_ns = until_ns.saturating_sub(monotonic_ns());
    let left = Timespec {
        tv_sec: i64::try_from(left_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(left_ns % 1_000_000_000).unwrap_or(0),
    };
    let mut looked = [PollFd::new(socket, wanted)];
    match poll(&mut looked, Some(&left)) {
        // Whoever is always ready has an end, too.
        _ if left_ns == 0 => Ok(None),
        Ok(0) => Ok(None),
        Ok(_) => Ok(looked.first().map(PollFd::revents)),
        Err(Code::INTR) => Ok(Some(PollFlags::empty())),
        Err(code) => Err(refused(os!("wait for a program"), code)),
    }
}

#[cfg(test)]
mod tests {
    use crate::error::{Kind, Result};
    use crate::sys::Talk;
    use std::vec::Vec;

    /// Says `say`, keeps what comes, up to `most`.
    struct Peer {
        say: Vec<u8>,
        heard: Vec<u8>,
        most: usize,
    }

    impl Talk for Peer {
        fn feed(&mut self, room: &mut [u8]) -> Result<usize> {
            let n = self.say.len().min(room.len());
            room[..n].copy_from_slice(&self.say[..n]);
            self.say.drain(..n);
            Ok(n)
        }

        fn take(&mut self, bytes: &[u8]) -> Result<()> {
            self.heard.extend_from_slice(bytes);
            if self.heard.len() > self.most { Err(too_many!("test", self.most)) } else { Ok(()) }
        }
    }

    fn talk(script: &str, say: &[u8], ms: u64) -> (Result<i32>, Vec<u8>) {
        let mut peer = Peer { say: say.to_vec(), heard: Vec::new(), most: 2 << 20 };
        let argv = ["/bin/sh", "-c", script];
        let outcome = super::run("/", &argv, ms, &mut std::vec![0; 8192], &mut peer);
        (outcome, peer.heard)
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn a_megabyte_goes_both_ways_at_once() {
        if is_root() {
            let say = std::vec![b'x'; 1 << 20];
            let (outcome, heard) = talk("cat", &say, 10_000);
            assert_eq!((outcome.unwrap(), heard.len()), (0, 1 << 20));
        }
    }

    #[test]
    fn it_is_nobody_without_privileges_and_files() {
        if is_root() {
            let script =
                "id -u; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status; ls /proc/self/fd | wc -l";
            let (_, heard) = talk(script, b"", 10_000);
            let heard = std::string::String::from_utf8(heard).unwrap();
            assert!(
                heard.starts_with("65523\n65523\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"),
                "{heard}"
            );
            // 0, 1, 2 and the directory itself.
            assert!(heard.ends_with("4\n"), "{heard}");
        }
    }

    #[test]
    fn one_that_hangs_floods_or_does_not_listen_ends() {
        if is_root() {
            assert!(talk("sleep 60", b"", 100).0.unwrap_err().is(Kind::Deadline));
            assert!(talk("exec >/dev/null <&1 2>&1; sleep 60", b"", 100).0.unwrap_err().is(Kind::Deadline));
            assert!(talk("yes", b"", 10_000).0.unwrap_err().is(Kind::TooMany));
            let (outcome, heard) = talk("exec <&-; echo hi; exit 3", &[b'x'; 100_000], 10_000);
            assert_eq!((outcome.unwrap(), &heard[..]), (3, &b"hi\n"[..]));
            assert_eq!(
                super::run(
                    "/",
                    &["/nonexistent"],
                    1000,
                    &mut [0; 64],
                    &mut Peer { say: Vec::new(), heard: Vec::new(), most: 1 }
                ),
                Ok(127)
            );
        }
    }
}
