//! How does the kernel announce that an interface came, went or may carry packets?

use super::link::wait;
use super::refused;
use super::signal::StopSignal;
use crate::error::{Errno, Result};
use crate::format::rtnetlink::{self, LinkChange};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno as Code;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// `RTMGRP_LINK` (include/uapi/linux/rtnetlink.h).
const LINKS: u32 = 1;
/// An announcement has some 1,300 bytes (net/core/rtnetlink.c, `if_nlmsg_size` without virtual functions); one that is
/// longer than this counts as lost.
const MESSAGE: usize = 4096;

/// Announcements of interfaces, from when it was opened.
pub(super) struct LinkWatch {
    socket: OwnedFd,
    stop: Option<StopSignal>,
}

impl LinkWatch {
    pub(super) fn open() -> Result<Self> {
        let failed = |code| refused(os!("follow interfaces"), code);
        // No protocol is 0, NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None).map_err(failed)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, LINKS)).map_err(failed)?;
        Ok(Self { socket, stop: StopSignal::new().ok() })
    }

    pub(super) fn read(&self, until_us: u64, each: &mut dyn FnMut(LinkChange)) -> Result<()> {
        wait(&self.socket, PollFlags::IN, until_us, self.stop.as_ref())?;
        let mut message = [0; MESSAGE];
        loop {
            match rustix::net::recv(&self.socket, &mut message, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((length, whole)) if length < whole => return Err(os!("follow interfaces", Errno::NOBUFS)),
                Ok((length, _)) => rtnetlink::read(message.get(..length).unwrap_or_default(), each),
                Err(Code::AGAIN) => return Ok(()),
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("follow interfaces"), code)),
            }
        }
    }
}
