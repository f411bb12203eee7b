//! How is the platform reached over the network without touching the kernel's?
//!
//! The story: choose an interface, raise it, take a lease, talk, put the interface back as it was found. The
//! kernel never gets an address, a route or a neighbour of ours. Where it has an address already, it is used
//! through its own sockets instead: it would reset our connections.

mod hunt;
mod imds;
pub(in crate::stage) mod nics;
mod session;

pub use hunt::give_back;
pub use imds::{Body, Refusal, ask_imds, refused};
pub use session::Session;

use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::Hostname;
use crate::limits;
use crate::net::Buffers;
use crate::net::lease::{IMDS, Lease};
use crate::sys::{Clock, Dir, Disks, Kernel, LinkState, Links, Log, System};
use hunt::{Hunt, Wanted};
use nics::{Nic, Nics};

/// Between two looks for interfaces and their names.
const NIC_POLL_MS: u64 = 10;

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

/// What to do with a session.
pub type Work<'w> = &'w mut dyn FnMut(&mut Session<'_>, &mut Rest<'_>) -> Result<()>;

/// Takes a lease on the primary interface and works over it. Every link is left as it was found.
///
/// # Errors
/// `NeedNetwork` when no interface gets a lease, `Error::STOPPED`, and what `work` returns.
pub fn with_lease(
    kernel: &mut Kernel<'_>,
    buffers: &mut Buffers,
    hostname: Option<&Hostname>,
    work: Work<'_>,
) -> Result<()> {
    let (mut online, mut rest) = Online::split(kernel, buffers);
    let nics = online.await_nics(limits::NIC_MS)?;
    if nics.is_empty() {
        return Err(Error::NO_CARD);
    }
    if online.kernel_has_way(&nics) {
        return work(&mut online.kernel_session(), &mut rest);
    }
    Hunt::new(&mut online, &mut rest, Wanted::Any(hostname)).run(nics, work)
}

/// Works over a lease taken earlier: no DHCP; the interface is found by its MAC, whatever its name is now.
/// Its carrier is waited for until `until_us` at most.
///
/// # Errors
/// `NeedNetwork` when the interface is not there or has no carrier, and what `work` returns.
pub fn with_saved_lease(
    kernel: &mut Kernel<'_>,
    buffers: &mut Buffers,
    lease: &Lease,
    until_us: u64,
    work: Work<'_>,
) -> Result<()> {
    let left_ms = until_us.saturating_sub(kernel.clock.now_us()) / 1000;
    let (mut online, mut rest) = Online::split(kernel, buffers);
    if lease.until_s.is_some_and(|until_s| online.talk.clock.now_us() / 1_000_000 >= until_s) {
        online.talk.say(Level::Info, "the lease is over", &[]);
        return Err(Error::NEED_NETWORK);
    }
    let mut nics = online.await_nics(0)?;
    nics.retain(|nic| nic.mac == lease.mac);
    if nics.is_empty() {
        return Err(Error::NEED_NETWORK);
    }
    if online.kernel_has_way(&nics) {
        return work(&mut online.kernel_session(), &mut rest);
    }
    let limit_ms = limits::CARRIER_EARLY_MS.min(left_ms);
    Hunt::new(&mut online, &mut rest, Wanted::Saved { lease, limit_ms }).run(nics, work)
}

/// Works over the kernel's own network, as it is configured.
///
/// # Errors
/// What `work` returns.
pub fn with_kernel_network(kernel: &mut Kernel<'_>, buffers: &mut Buffers, work: Work<'_>) -> Result<()> {
    let (mut online, mut rest) = Online::split(kernel, buffers);
    work(&mut online.kernel_session(), &mut rest)
}

/// What the network needs of the kernel.
struct Online<'o> {
    host: &'o mut dyn Dir,
    links: &'o mut dyn Links,
    talk: Talk<'o>,
}

/// What a conversation needs beside the links.
struct Talk<'o> {
    clock: &'o mut dyn Clock,
    log: &'o mut dyn Log,
    buffers: &'o mut Buffers,
    random: u64,
}

impl<'o> Online<'o> {
    fn split(kernel: &'o mut Kernel<'_>, buffers: &'o mut Buffers) -> (Self, Rest<'o>) {
        let Kernel { clock, log, host, root, run, disks, links, system } = kernel;
        let mut random = [0; 8];
        // Transactions and ports need to differ, not to be secret: the time will do.
        if system.random(&mut random).is_err() {
            random = clock.now_us().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
        }
        let random = u64::from_ne_bytes(random);
        let talk = Talk { clock: *clock, log: *log, buffers, random };
        let online = Self { host: *host, links: *links, talk };
        (online, Rest { root: *root, run: *run, disks: *disks, system: *system })
    }

    /// The interfaces, once there is one (drivers bring them a moment after they were loaded) and udev has given
    /// them their names.
    fn await_nics(&mut self, first_ms: u64) -> Result<Nics> {
        let begin_us = self.talk.clock.now_us();
        loop {
            let nics = nics::choose(self.host, self.links)?;
            let is_half = nics.iter().all(Nic::is_half);
            let limit_ms = if is_half { first_ms } else { limits::UDEV_MS };
            let is_ready = !is_half && nics::are_named(self.host, &nics);
            let clock = &mut *self.talk.clock;
            if is_ready || clock.now_us().saturating_sub(begin_us) >= limit_ms * 1000 {
                return Ok(nics);
            }
            if clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            clock.sleep_ms(NIC_POLL_MS);
        }
    }

    /// An address on one of them, and a route to the platform: a storage network has the one without the other.
    fn kernel_has_way(&mut self, nics: &[Nic]) -> bool {
        let found = nics.iter().find(|nic| {
            self.links.state(&nic.name).is_ok_and(|state: LinkState| state.is_up && state.has_address)
        });
        let Some(nic) = found.filter(|_| self.links.has_route(IMDS)) else { return false };
        let text = "the kernel has an address on {}: its sockets are used, the link is left alone";
        self.talk.say(Level::Info, text, &[Value::Name(&nic.name)]);
        true
    }

    fn kernel_session(&mut self) -> Session<'_> {
        let Talk { clock, log, buffers, random, .. } = &mut self.talk;
        Session { clock: *clock, log: *log, buffers, random: *random, links: self.links, own: None }
    }
}

impl Talk<'_> {
    #[inline(never)]
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        self.log.say(level, text, values);
    }
}

#[cfg(test)]
mod tests;
