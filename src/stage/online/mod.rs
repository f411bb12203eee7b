//! How is the platform reached over the network without touching the kernel's?
//!
//! The story: choose an interface, raise it, take a lease, talk, put the interface back as it was found. The
//! kernel never gets an address, a route or a neighbour of ours. Where it has an address already, it is used
//! through its own sockets instead: it would reset our connections.

mod imds;
mod nics;
mod session;

pub use imds::{Body, ask_imds};
pub use session::Session;

use crate::error::{Errno, Error, Result};
use crate::event::{Level, Value};
use crate::facts::Hostname;
use crate::limits;
use crate::net::Buffers;
use crate::net::lease::{Client, Lease};
use crate::sys::{Clock, Dir, Disks, Kernel, Link, LinkState, Links, Log, System};
use nics::{Name, Nic, Nics};
use session::Way;

/// Frames read before looking at the clock again.
const BURST: usize = 64;
/// Between two looks for interfaces and their names.
const NIC_POLL_MS: u64 = 10;
/// First and longest pause while waiting for a carrier.
const CARRIER_POLL_MS: (u64, u64) = (2, 50);

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
        online.talk.say(Level::Warning, "no network interface", &[]);
        return Err(Error::NEED_NETWORK);
    }
    if online.kernel_has_address(&nics) {
        return work(&mut online.kernel_session(), &mut rest);
    }
    online.try_each(&nics, hostname, &mut |session| work(session, &mut rest))
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
    online.carrier_ms = limits::CARRIER_EARLY_MS.min(left_ms);
    if lease.until_s.is_some_and(|until_s| online.talk.clock.now_us() / 1_000_000 >= until_s) {
        online.talk.say(Level::Info, "the lease is over", &[]);
        return Err(Error::NEED_NETWORK);
    }
    let nic = nics::find(online.await_nics(0)?, lease.mac).ok_or(Error::NEED_NETWORK)?;
    if online.kernel_has_address(core::slice::from_ref(&nic)) {
        return work(&mut online.kernel_session(), &mut rest);
    }
    online.with_link(&nic.name, &mut |talk, link| work(&mut talk.session(link, lease), &mut rest))
}

/// Works over the kernel's own network, as it is configured.
///
/// # Errors
/// What `work` returns.
pub fn with_kernel_network(kernel: &mut Kernel<'_>, buffers: &mut Buffers, work: Work<'_>) -> Result<()> {
    let (mut online, mut rest) = Online::split(kernel, buffers);
    work(&mut online.kernel_session(), &mut rest)
}

/// What the network needs of the kernel; `links` stands apart, because an open link occupies it.
struct Online<'o> {
    host: &'o mut dyn Dir,
    links: &'o mut dyn Links,
    talk: Talk<'o>,
    carrier_ms: u64,
}

/// What a conversation over an open link needs.
struct Talk<'o> {
    clock: &'o mut dyn Clock,
    log: &'o mut dyn Log,
    buffers: &'o mut Buffers,
    random: u64,
    has_complained: bool,
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
        let talk = Talk { clock: *clock, log: *log, buffers, random, has_complained: false };
        let online = Self { host: *host, links: *links, talk, carrier_ms: limits::CARRIER_MS };
        (online, Rest { root: *root, run: *run, disks: *disks, system: *system })
    }

    /// The interfaces, once there is one (drivers bring them a moment after they were loaded) and udev has given
    /// them their names.
    fn await_nics(&mut self, first_ms: u64) -> Result<Nics> {
        let begin_us = self.talk.clock.now_us();
        loop {
            let nics = nics::choose(self.host, self.links)?;
            let limit_ms = if nics.is_empty() { first_ms } else { limits::UDEV_MS };
            let is_ready = !nics.is_empty() && nics::are_named(self.host, &nics);
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

    fn kernel_has_address(&mut self, nics: &[Nic]) -> bool {
        let found = nics.iter().find(|nic| {
            self.links.state(&nic.name).is_ok_and(|state: LinkState| state.is_up && state.has_address)
        });
        if let Some(nic) = found {
            let text = "the kernel has an address on {}: its sockets are used, the link is left alone";
            self.talk.say(Level::Info, text, &[Value::Name(&nic.name)]);
        }
        found.is_some()
    }

    fn kernel_session(&mut self) -> Session<'_> {
        let Talk { clock, log, buffers, random, .. } = &mut self.talk;
        let way = Way::Kernel { links: self.links };
        Session { clock: *clock, log: *log, buffers, random: *random, way }
    }

    /// Works over the first interface whose lease reaches the platform; failing that, over the only one that
    /// has a lease at all (platforms without option 121).
    fn try_each(
        &mut self,
        nics: &Nics,
        hostname: Option<&Hostname>,
        work: &mut dyn FnMut(&mut Session<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut others = heapless::Vec::<(&Name, Lease), 2>::new();
        for nic in nics {
            let mut outcome = None;
            let leased = self.with_link(&nic.name, &mut |talk, link| {
                let lease = talk.take_lease(link, &nic.name, hostname)?;
                if lease.is_primary() || nics.len() == 1 {
                    outcome = Some(work(&mut talk.session(link, &lease)));
                } else {
                    let _ = others.push((&nic.name, lease)); // two are as good as many
                }
                Ok(())
            });
            match (outcome, leased) {
                (Some(outcome), _) => return outcome,
                (None, Err(Error::STOPPED)) => return Err(Error::STOPPED),
                (None, Err(error)) => {
                    let values = [Value::Name(&nic.name), Value::Why(error)];
                    self.talk.say(Level::Warning, "no lease on {}: {}", &values);
                }
                (None, Ok(())) => {
                    let text = "the lease on {} has no route to the platform: not the primary interface";
                    self.talk.say(Level::Info, text, &[Value::Name(&nic.name)]);
                }
            }
        }
        let [(name, lease)] = &others[..] else { return Err(Error::NEED_NETWORK) };
        self.with_link(name, &mut |talk, link| work(&mut talk.session(link, lease)))
    }

    /// Opens a link, raised if it was down, and puts it back as it was whatever happens.
    fn with_link(
        &mut self,
        name: &str,
        work: &mut dyn FnMut(&mut Talk<'_>, &mut dyn Link) -> Result<()>,
    ) -> Result<()> {
        let was_up = self.links.state(name)?.is_up;
        let outcome = match self.raise(name, was_up) {
            Ok(()) => {
                let talk = &mut self.talk;
                self.links.open(name, &mut |link| work(talk, link))
            }
            Err(error) => Err(error),
        };
        if !was_up
            && let Err(error) = self.links.set_up(name, false)
            // Somebody pulled it.
            && error.errno() != Some(Errno::NODEV)
        {
            let values = [Value::Name(name), Value::Why(error)];
            self.talk.say(Level::Warning, "{} stays up: {}", &values);
        }
        outcome
    }

    /// Up, and with a carrier.
    fn raise(&mut self, name: &str, was_up: bool) -> Result<()> {
        if !was_up {
            self.links.set_up(name, true)?;
        }
        let clock = &mut *self.talk.clock;
        let begin_us = clock.now_us();
        let (first_ms, longest_ms) = CARRIER_POLL_MS;
        let (mut pause_ms, mut has_waited) = (first_ms, false);
        while !self.links.state(name)?.has_carrier {
            if clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            if clock.now_us().saturating_sub(begin_us) >= self.carrier_ms * 1000 {
                return Err(deadline!("carrier", self.carrier_ms));
            }
            clock.sleep_ms(pause_ms);
            pause_ms = (pause_ms * 2).min(longest_ms);
            has_waited = true;
        }
        if has_waited {
            // The kernel switches the queue on a moment after the carrier came (net/core/link_watch.c); a
            // frame sent before that is lost, and its repetition costs half a second.
            clock.sleep_ms(first_ms);
        }
        Ok(())
    }
}

impl Talk<'_> {
    #[inline(never)]
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        self.log.say(level, text, values);
    }

    fn session<'t>(&'t mut self, link: &'t mut dyn Link, lease: &'t Lease) -> Session<'t> {
        let Self { clock, log, buffers, random, .. } = self;
        Session { clock: *clock, log: *log, buffers, random: *random, way: Way::Own { link, lease } }
    }

    /// Asks for a lease until `limits::DHCP_MS` is over.
    #[inline(never)]
    fn take_lease(&mut self, link: &mut dyn Link, name: &str, hostname: Option<&Hostname>) -> Result<Lease> {
        let begin_us = self.clock.now_us();
        let until_us = begin_us.saturating_add(limits::DHCP_MS * 1000);
        let mut client = Client::new(link.mac(), hostname, self.random ^ begin_us, begin_us);
        loop {
            let now_us = self.clock.now_us();
            if let Some(lease) = self.read_frames(link, &mut client, now_us)? {
                let ms = self.clock.now_us().saturating_sub(begin_us) / 1000;
                let values = [Value::Ipv4(lease.address), Value::Name(name), Value::Millis(ms)];
                self.say(Level::Info, "lease of {} on {} after {}", &values);
                return Ok(lease);
            }
            if self.clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            if now_us >= until_us {
                return Err(deadline!("DHCP answer", limits::DHCP_MS));
            }
            let tx = &mut self.buffers.frame_tx;
            if let Some(length) = client.next_frame(now_us, tx)? {
                link.send(tx.get(..length).unwrap_or_default())?;
            }
            let look_us = now_us.saturating_add(limits::STOP_LOOK_MS * 1000);
            link.wait(client.next_deadline_us().min(until_us).min(look_us))?;
        }
    }

    /// Takes the frames that are there. A server's message that breaks a rule is said and passed over.
    fn read_frames(
        &mut self,
        link: &mut dyn Link,
        client: &mut Client,
        now_us: u64,
    ) -> Result<Option<Lease>> {
        for _ in 0..BURST {
            let Some(length) = link.receive(&mut self.buffers.frame_rx)? else { break };
            let frame = self.buffers.frame_rx.get(..length).unwrap_or_default();
            match client.on_frame(frame, now_us) {
                Ok(None) => {}
                Ok(lease) => return Ok(lease),
                Err(error) if !self.has_complained => {
                    self.say(Level::Warning, "ignored: {}", &[Value::Why(error)]);
                    self.has_complained = true; // once: whoever sends it may send many
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
