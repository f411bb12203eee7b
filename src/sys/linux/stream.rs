//! How does one TCP connection of the kernel's own stack go, with a deadline on every step?

use super::link::wait;
use super::refused;
use super::signal::StopSignal;
use crate::error::{Error, Result};
use crate::sys::Stream;
use core::net::{Ipv4Addr, SocketAddrV4};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno as Code;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A connected socket.
pub(super) struct KernelStream<'s> {
    socket: OwnedFd,
    begin_us: u64,
    stop: Option<&'s StopSignal>,
}

/// Connects, or fails by `until_us`.
///
/// # Errors
/// `Os`, `Deadline`.
pub(super) fn connect(
    address: [u8; 4],
    port: u16,
    until_us: u64,
    stop: Option<&StopSignal>,
) -> Result<KernelStream<'_>> {
    let failed = |code| refused(os!("connect"), code);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
    let stream = KernelStream { socket: socket.map_err(failed)?, begin_us: super::link::now_us(), stop };
    match rustix::net::connect(&stream.socket, &SocketAddrV4::new(Ipv4Addr::from(address), port)) {
        Ok(()) => return Ok(stream),
        Err(Code::INPROGRESS | Code::INTR) => {}
        Err(code) => return Err(failed(code)),
    }
    loop {
        // Still connecting: EALREADY; done: EISCONN or success; failed: the reason.
        stream.wait(PollFlags::OUT, until_us)?;
        rustix::net::sockopt::socket_error(&stream.socket).map_err(failed)?.map_err(failed)?;
        match rustix::net::getpeername(&stream.socket) {
            Ok(_) => return Ok(stream),
            Err(Code::NOTCONN) => {}
            Err(code) => return Err(failed(code)),
        }
    }
}

impl KernelStream<'_> {
    /// `Deadline` when its time is over, `STOPPED` when we were asked to stop. Looked at before each step: a peer that
    /// is always ready never makes us wait.
    fn check(&self, until_us: u64) -> Result<()> {
        if self.stop.is_some_and(StopSignal::is_set) {
            return Err(Error::STOPPED);
        }
        let now_us = super::link::now_us();
        if now_us >= until_us {
            return Err(deadline!("TCP connection", now_us.saturating_sub(self.begin_us) / 1000));
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, until_us: u64) -> Result<()> {
        self.check(until_us)?;
        wait(&self.socket, events, until_us, self.stop)
    }
}

impl Stream for KernelStream<'_> {
    fn send(&mut self, bytes: &[u8], until_us: u64) -> Result<usize> {
        loop {
            self.check(until_us)?;
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Ok(sent),
                Err(Code::AGAIN) => self.wait(PollFlags::OUT, until_us)?,
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("send"), code)),
            }
        }
    }

    fn receive(&mut self, bytes: &mut [u8], until_us: u64) -> Result<usize> {
        loop {
            self.check(until_us)?;
            match rustix::net::recv(&self.socket, &mut *bytes, RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Ok(length),
                Err(Code::AGAIN) => self.wait(PollFlags::IN, until_us)?,
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("receive"), code)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::connect;
    use crate::error::{Errno, Kind};
    use crate::sys::Stream;
    use crate::sys::linux::link::now_us;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn bytes_go_both_ways_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut peer = listener.accept().unwrap().0;
            let mut got = [0; 4];
            peer.read_exact(&mut got).unwrap();
            peer.write_all(b"pong").unwrap();
            got
        });
        let until = now_us() + 5_000_000;
        let mut stream = connect([127, 0, 0, 1], port, until, None).unwrap();
        assert_eq!(stream.send(b"ping", until).unwrap(), 4);
        let mut answer = std::vec::Vec::new();
        let mut piece = [0; 3];
        loop {
            match stream.receive(&mut piece, until).unwrap() {
                0 => break,
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
        assert_eq!((&server.join().unwrap(), &answer[..]), (b"ping", &b"pong"[..]));
    }

    #[test]
    fn a_silent_peer_costs_the_deadline_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut stream = connect([127, 0, 0, 1], port, now_us() + 5_000_000, None).unwrap();
        let error = stream.receive(&mut [0; 8], now_us() + 30_000);
        assert!(matches!(error, Err(error) if error.is(Kind::Deadline)));
    }

    #[test]
    fn a_peer_that_never_stops_costs_the_deadline_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut peer = listener.accept().unwrap().0;
            while peer.write_all(&[b'e'; 4096]).is_ok() {}
        });
        let begin = now_us();
        let until = begin + 300_000;
        let mut stream = connect([127, 0, 0, 1], port, until, None).unwrap();
        let error = loop {
            if let Err(error) = stream.receive(&mut [0; 64], until) {
                break error;
            }
        };
        assert!(error.is(Kind::Deadline) && now_us() - begin < 2_000_000, "{error}");
        drop(stream);
        server.join().unwrap();
    }

    #[test]
    fn a_closed_port_is_refused() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = connect([127, 0, 0, 1], port, now_us() + 5_000_000, None).err().unwrap();
        assert_eq!(error.errno(), Some(Errno::CONNREFUSED));
    }
}
