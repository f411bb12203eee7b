//! How is the platform reached over the network without touching the kernel's?
//!
//! The story: choose an interface, raise it, take a lease, talk, put the interface back as it was found.

use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::Hostname;
use crate::net::Buffers;
use crate::net::http_client::{Outcome, Request};
use crate::net::lease::{Ipv4, Lease};
use crate::sys::{Dir, Disks, Kernel, System};

/// What the network does not need: free for use while a [`Session`] lasts.
pub struct Rest<'r> {
    /// The root being provisioned.
    pub root: &'r mut dyn Dir,
    /// `/run/preroot`.
    pub run: &'r mut dyn Dir,
    /// Block devices.
    pub disks: &'r mut dyn Disks,
    /// The rest.
    pub system: &'r mut dyn System,
}

/// A way to the platform, while it lasts.
pub struct Session<'s> {
    lease: Option<&'s Lease>,
}

/// What to do with a session.
pub type Work<'w> = &'w mut dyn FnMut(&mut Session<'_>, &mut Rest<'_>) -> Result<()>;

impl Session<'_> {
    /// The lease; `None` when the kernel's own network is used.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease
    }

    /// Address of the wireserver.
    #[must_use]
    pub fn wireserver(&self) -> Ipv4 {
        todo()
    }

    /// Microseconds since boot.
    pub fn now_us(&mut self) -> u64 {
        todo()
    }

    /// True once the process was asked to stop.
    pub fn is_cancelled(&mut self) -> bool {
        todo()
    }

    /// Sleeps, or returns early when the process was asked to stop.
    pub fn sleep_ms(&mut self, _ms: u64) {
        todo()
    }

    /// Says something, as [`Kernel::say`] does.
    pub fn say(&mut self, _level: Level, _text: &'static str, _values: &[Value<'_>]) {}

    /// One HTTP exchange with port 80 of `address`, over before `until_us`. The body of a 2xx goes to
    /// `body` as it comes, at most `limit` bytes; other bodies are dropped.
    ///
    /// # Errors
    /// `Deadline`, `Os`, `Malformed`, `TooMany`, and whatever `body` returns.
    pub fn exchange(
        &mut self,
        _address: Ipv4,
        _request: &Request<'_>,
        _limit: u64,
        _until_us: u64,
        _body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        Err(Error::NeedNetwork)
    }
}

/// Takes a lease on the primary interface and works over it. Every link is left as it was found.
///
/// # Errors
/// `NeedNetwork` when no interface gets a lease; what `work` returns.
pub fn with_lease(
    _kernel: &mut Kernel<'_>,
    _buffers: &mut Buffers,
    _stage: &'static str,
    _hostname: Option<&Hostname>,
    _work: Work<'_>,
) -> Result<()> {
    Err(Error::NeedNetwork)
}

/// Works over a lease taken earlier: no DHCP; the interface is found by its MAC, whatever its name is now.
///
/// # Errors
/// As [`with_lease`].
pub fn with_saved_lease(
    _kernel: &mut Kernel<'_>,
    _buffers: &mut Buffers,
    _stage: &'static str,
    _lease: &Lease,
    _work: Work<'_>,
) -> Result<()> {
    Err(Error::NeedNetwork)
}

/// Works over the kernel's own network, as it is configured.
///
/// # Errors
/// What `work` returns.
pub fn with_kernel_network(
    _kernel: &mut Kernel<'_>,
    _buffers: &mut Buffers,
    _stage: &'static str,
    _work: Work<'_>,
) -> Result<()> {
    Err(Error::NeedNetwork)
}

/// A document as it comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A (new) try starts: forget what came before.
    Begin,
    /// The next bytes.
    Bytes(&'a [u8]),
    /// That was all. An error here (malformed JSON) leads to another try while there is time.
    End,
}

/// Asks IMDS for the instance document until it answers well or `limits::IMDS_MS` is over.
///
/// # Errors
/// `Deadline`, the last try's error, or what `body` returns that a new try cannot help.
pub fn ask_imds(_session: &mut Session<'_>, _body: &mut dyn FnMut(Body<'_>) -> Result<()>) -> Result<()> {
    Err(Error::NeedNetwork)
}

fn todo<T: Default>() -> T {
    T::default()
}
