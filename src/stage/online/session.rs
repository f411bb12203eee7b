//! How does one exchange with the platform go, over our own stack or over the kernel's?

use super::nics::{Name, Nic};
use crate::error::{Errno, Error, Result};
use crate::event::{Level, Value};
use crate::limits;
use crate::net::Buffers;
use crate::net::device::Device;
use crate::net::http_client::{self, Outcome, Request, Response};
use crate::net::lease::{self, Ipv4, Lease};
use crate::net::neighbour::Neighbour;
use crate::net::stack::{Room, Stack, Step};
use crate::sys::{Clock, Links, Log};

/// Ports we connect from (RFC 6335: dynamic).
const PORTS: (u16, u16) = (49_152, 16_384);

/// A way to the platform, while it lasts.
pub struct Session<'s> {
    pub(super) clock: &'s mut dyn Clock,
    pub(super) log: &'s mut dyn Log,
    pub(super) buffers: &'s mut Buffers,
    pub(super) random: u64,
    pub(super) links: &'s mut dyn Links,
    /// Our own TCP/IP; nothing: the kernel's.
    pub(super) own: Option<Own<'s>>,
}

/// What our own TCP/IP goes by, over raw frames.
pub(super) struct Own<'s> {
    lease: &'s Lease,
    index: u32,
    /// The longest packet that link and lease allow.
    mtu: usize,
    neighbour: Neighbour,
    /// Of the last connection. Each has the next one: a server remembers the ports of the last minute.
    port: u16,
    /// The interface's name.
    name: Name,
}

impl<'s> Own<'s> {
    pub(super) fn new(lease: &'s Lease, nic: &Nic, random: u64) -> Self {
        // A smaller one than IPv4's least would be a mistake (RFC 791); a larger one than Ethernet's is of no use.
        let mtu = lease.mtu.unwrap_or(1500).clamp(576, 1500).min(nic.mtu);
        Self {
            lease,
            index: nic.index,
            mtu: mtu.into(),
            neighbour: Neighbour::default(),
            port: (random >> 48) as u16,
            name: nic.name.clone(),
        }
    }
}

impl Session<'_> {
    /// The lease; `None` when the kernel's own network is used.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.own.as_ref().map(|own| own.lease)
    }

    /// The kernel's number of the interface; `None` when the kernel's own network is used.
    #[must_use]
    pub fn link_index(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.index)
    }

    /// How often the carrier of the interface came or went; `None` when nobody knows.
    #[must_use]
    pub fn carrier_changes(&mut self) -> Option<u32> {
        let index = self.link_index()?;
        self.links.carrier_changes(index)
    }

    /// Where it says things.
    pub fn log(&mut self) -> &mut dyn Log {
        self.log
    }

    /// Address of the wireserver.
    #[must_use]
    pub fn wireserver(&self) -> Ipv4 {
        self.lease().and_then(|lease| lease.wireserver).unwrap_or(lease::WIRESERVER)
    }

    /// Microseconds since boot.
    pub fn now_us(&mut self) -> u64 {
        self.clock.now_us()
    }

    /// Time.
    pub fn clock(&mut self) -> &mut dyn Clock {
        self.clock
    }

    /// True once the process was asked to stop.
    pub fn is_cancelled(&mut self) -> bool {
        self.clock.is_cancelled()
    }

    /// Sleeps, or returns early when the process was asked to stop.
    pub fn sleep_ms(&mut self, ms: u64) {
        self.clock.sleep_ms(ms);
    }

    /// Says something, as [`Kernel::say`](crate::sys::Kernel::say) does.
    pub fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        self.log.say(level, text, values);
    }

    /// One HTTP exchange with port 80 of `address`, over before `until_us`. The body of a 2xx goes to
    /// `body` as it comes, at most `limit` bytes; other bodies are dropped.
    ///
    /// # Errors
    /// `Deadline`, `Os`, `Malformed`, `TooMany`, and whatever `body` returns.
    pub fn exchange(
        &mut self,
        address: Ipv4,
        request: &Request<'_>,
        limit: u64,
        until_us: u64,
        body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        if self.clock.is_cancelled() {
            return Err(Error::STOPPED);
        }
        let Buffers { frame_rx, frame_tx, tcp_rx, tcp_tx, head, .. } = &mut *self.buffers;
        let mut response = Response::new(head, limit);
        let Some(own) = &mut self.own else {
            return over_kernel(self.links, address, request, frame_rx, &mut response, body, until_us);
        };
        self.random = self.random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        own.port = own.port.wrapping_add(1);
        let (first, count) = PORTS;
        let port = first + own.port % count;
        let begin_us = self.clock.now_us();
        let frame_tx = frame_tx.get_mut(..own.mtu.saturating_add(14)).unwrap_or_default();
        let path = own.lease.path(address, port)?;
        let frames = (&mut frame_rx[..], frame_tx);
        let mut device = Device::new(self.links, frames, own.index, path, &mut own.neighbour)?;
        let mut room = [Room::EMPTY];
        let buffers = (&mut tcp_rx[..], &mut tcp_tx[..]);
        let stack = Stack::connect(&mut room, buffers, &mut device, self.random ^ begin_us, begin_us)?;
        let open_us = begin_us.saturating_add(limits::CONNECT_MS * 1000);
        let mut talk = Talk { stack, device: &mut device, clock: self.clock, begin_us, open_us, until_us };
        let outcome = talk.exchange(request, &mut response, body);
        if !talk.stack.was_open() {
            own.neighbour.forget();
        }
        if let Err(error) = outcome
            && matches!(error.errno(), Some(Errno::CONNRESET | Errno::CONNREFUSED))
            && self.links.state(&own.name).is_ok_and(|state| state.has_address)
        {
            // It was the kernel that reset us.
            let text = "the kernel has an address on {} now: its sockets are used";
            self.log.say(Level::Info, text, &[Value::Name(&own.name)]);
            self.own = None;
        }
        outcome
    }
}

fn over_kernel(
    links: &mut dyn Links,
    address: Ipv4,
    request: &Request<'_>,
    scratch: &mut [u8],
    response: &mut Response<'_>,
    body: &mut dyn FnMut(&[u8]) -> Result<()>,
    until_us: u64,
) -> Result<Outcome> {
    let mut outcome = Err(Error::NEED_NETWORK);
    links.connect(address, 80, until_us, &mut |stream| {
        outcome = http_client::exchange(stream, request, scratch, response, body, until_us);
        Ok(())
    })?;
    outcome
}

/// Our stack at work: it decides, this waits.
struct Talk<'f, 'd, 'b> {
    stack: Stack<'b>,
    device: &'f mut Device<'d>,
    clock: &'f mut dyn Clock,
    begin_us: u64,
    /// When the connection must be open.
    open_us: u64,
    until_us: u64,
}

impl Talk<'_, '_, '_> {
    fn exchange(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
        body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        loop {
            let now_us = self.clock.now_us();
            let next_us = match self.stack.step(now_us, self.device, request, response, body)? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Wait { until_us } => until_us,
            };
            if self.clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            let after_ms = now_us.saturating_sub(self.begin_us) / 1000;
            if now_us >= self.until_us && self.stack.was_open() {
                return Err(deadline!("HTTP answer", after_ms));
            }
            let mut until_us = self.until_us;
            if !self.stack.was_open() {
                until_us = until_us.min(self.open_us);
                if now_us >= until_us {
                    return Err(deadline!("TCP connection", after_ms));
                }
            }
            // The wish to stop may be a file, which no wait sees.
            let look_us = now_us.saturating_add(limits::STOP_LOOK_MS * 1000);
            self.device.wait(next_us.min(until_us).min(look_us))?;
        }
    }
}
