//! Network interfaces, as traits: their state, their frames, and the kernel's own TCP.

use crate::error::{Errno, Result};

/// A frame that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its bytes in the buffer.
    pub length: usize,
    /// The interface it came by: the kernel's number, which stays whatever the name is.
    pub index: u32,
    /// The kernel vouches for the checksum of what it carries, or says that the sender left it to an offload.
    pub is_intact: bool,
}

/// The one conversation of which frames are still wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Only {
    /// The interface.
    pub index: u32,
    /// Our address; ARP for it is wanted too.
    pub ours: [u8; 4],
    /// The server, whose port is 80.
    pub peer: [u8; 4],
    /// Our port.
    pub port: u16,
}

/// Raw frames of all Ethernet interfaces, those that appear later too.
pub trait Frames {
    /// Sends a frame; a full queue, and a link that is down for the moment, look like loss.
    ///
    /// # Errors
    /// `Os` when the link is gone.
    fn send(&mut self, _index: u32, _frame: &[u8]) -> Result<()> {
        Err(os!("send a frame", Errno::NODEV))
    }
    /// The next frame, if one is there. Never waits. Frames of a VLAN are never seen.
    ///
    /// # Errors
    /// `Os`.
    fn receive(&mut self, _frame: &mut [u8]) -> Result<Option<Frame>> {
        Ok(None)
    }
    /// Waits until a frame is there, `until_us` has passed, or the process was asked to stop.
    ///
    /// # Errors
    /// `Os`.
    fn wait(&mut self, _until_us: u64) -> Result<()> {
        Ok(())
    }
    /// Wants frames to a group of an interface as well, which its card may else pass over; until the end.
    ///
    /// # Errors
    /// `Os`.
    fn join(&mut self, _index: u32, _group: [u8; 6]) -> Result<()> {
        Ok(())
    }
    /// From now on only frames of this conversation; until then what DHCP servers send, and IPv6 routers' advertisements.
    ///
    /// # Errors
    /// `Os`.
    fn narrow(&mut self, _only: &Only) -> Result<()> {
        Ok(())
    }
}

/// State of an interface as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// IFF_UP.
    pub is_up: bool,
    /// It is up and has a carrier (`/sys/class/net/X/carrier`).
    pub has_carrier: bool,
    /// The kernel has an IPv4 address on it: our own TCP would be reset, use kernel sockets.
    pub has_address: bool,
}

/// Network interfaces by name.
pub trait Links: Frames {
    /// What the kernel says of it.
    ///
    /// # Errors
    /// `Os`.
    fn state(&mut self, name: &str) -> Result<LinkState>;
    /// Raises or lowers it. Before a link is raised `disable_ipv6` is set, so that the kernel makes no
    /// address, route or neighbour of its own; after it was lowered the old value is put back. What was raised
    /// here is lowered under whatever name it has by then, and not at all once somebody gave it an address.
    ///
    /// # Errors
    /// `Os`.
    fn set_up(&mut self, name: &str, up: bool) -> Result<()>;
    /// Opens all of them for raw frames, see [`Frames`].
    ///
    /// # Errors
    /// `Os`.
    fn open(&mut self) -> Result<()> {
        Err(os!("open links", Errno::NODEV))
    }
    /// The end of that.
    fn close(&mut self) {}
    /// How often the carrier of a link came or went since it is there; `None` where the kernel does not say (before 3.16).
    fn carrier_changes(&mut self, _index: u32) -> Option<u32> {
        None
    }
    /// True when the kernel knows a way to `address`. Sends nothing.
    fn has_route(&mut self, _address: [u8; 4]) -> bool {
        true
    }
    /// Lowers a link that a process of ours raised and died over, and lets the kernel's IPv6 have it where we took it
    /// away. What somebody gave an address meanwhile stays up.
    ///
    /// # Errors
    /// `Os`.
    fn give_back(&mut self, _index: u32, _is_silenced: bool) -> Result<()> {
        Ok(())
    }
    /// A TCP connection of the kernel's own stack.
    ///
    /// # Errors
    /// `Os(NETUNREACH)`, `Os(CONNREFUSED)`, `Os(TIMEDOUT)` ...
    fn connect(
        &mut self,
        address: [u8; 4],
        port: u16,
        until_us: u64,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()>;
}

/// A connected byte stream.
pub trait Stream {
    /// Sends some of `bytes`, returns how many; waits until `until_us` at most.
    ///
    /// # Errors
    /// `Os`, `Deadline`.
    fn send(&mut self, bytes: &[u8], until_us: u64) -> Result<usize>;
    /// Receives some bytes, 0 at the end; waits until `until_us` at most.
    ///
    /// # Errors
    /// `Os`, `Deadline`.
    fn receive(&mut self, bytes: &mut [u8], until_us: u64) -> Result<usize>;
}
