//! How does one exchange with the platform go, over our own stack or over the kernel's?

use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::limits;
use crate::net::Buffers;
use crate::net::device::Device;
use crate::net::http_client::{self, Outcome, Request, Response};
use crate::net::lease::{self, Ipv4, Lease};
use crate::net::stack::{Room, Stack, Step};
use crate::sys::{Clock, Link, Links, Log};

/// A way to the platform, while it lasts.
pub struct Session<'s> {
    pub(super) clock: &'s mut dyn Clock,
    pub(super) log: &'s mut dyn Log,
    pub(super) buffers: &'s mut Buffers,
    pub(super) random: u64,
    pub(super) way: Way<'s>,
}

/// Whose TCP/IP it is.
pub(super) enum Way<'s> {
    /// Ours, over raw frames.
    Own { link: &'s mut dyn Link, lease: &'s Lease },
    /// The kernel's.
    Kernel { links: &'s mut dyn Links },
}

impl Session<'_> {
    /// The lease; `None` when the kernel's own network is used.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.way {
            Way::Own { lease, .. } => Some(lease),
            Way::Kernel { .. } => None,
        }
    }

    /// The kernel's number of the interface; `None` when the kernel's own network is used.
    #[must_use]
    pub fn link_index(&self) -> Option<u32> {
        match &self.way {
            Way::Own { link, .. } => Some(link.index()),
            Way::Kernel { .. } => None,
        }
    }

    /// How often the carrier of the interface came or went; `None` when nobody knows.
    #[must_use]
    pub fn carrier_changes(&self) -> Option<u32> {
        match &self.way {
            Way::Own { link, .. } => link.carrier_changes(),
            Way::Kernel { .. } => None,
        }
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

    /// The clock.
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
        let Buffers { frame_rx, frame_tx, tcp_rx, tcp_tx, head } = &mut *self.buffers;
        let mut response = Response::new(head, limit);
        match &mut self.way {
            Way::Kernel { links } => {
                over_kernel(*links, address, request, frame_rx, &mut response, body, until_us)
            }
            Way::Own { link, lease } => {
                self.random = self.random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let now_us = self.clock.now_us();
                let mut room = [Room::EMPTY];
                let mtu = usize::from(lease.mtu.unwrap_or(1500).clamp(576, 1500));
                let frame_tx = frame_tx.get_mut(..mtu + 14).unwrap_or_default();
                let mut device = Device::new(*link, frame_rx, frame_tx);
                let seed = self.random ^ now_us;
                let buffers = (&mut tcp_rx[..], &mut tcp_tx[..]);
                let stack = Stack::connect(&mut room, buffers, &mut device, lease, address, seed, now_us)?;
                let mut way = Frames { stack, device: &mut device, clock: self.clock, until_us };
                way.exchange(request, &mut response, body)
            }
        }
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
struct Frames<'f, 'd, 'b> {
    stack: Stack<'b>,
    device: &'f mut Device<'d>,
    clock: &'f mut dyn Clock,
    until_us: u64,
}

impl Frames<'_, '_, '_> {
    fn exchange(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
        body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        let begin_us = self.clock.now_us();
        loop {
            let now_us = self.clock.now_us();
            let next_us = match self.stack.step(now_us, self.device, request, response, body)? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Wait { until_us } => until_us,
            };
            if self.clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            if now_us >= self.until_us {
                let after_ms = now_us.saturating_sub(begin_us) / 1000;
                return Err(deadline!("HTTP answer", after_ms));
            }
            // The wish to stop may be a file, which no wait sees.
            let look_us = now_us.saturating_add(limits::STOP_LOOK_MS * 1000);
            self.device.wait(next_us.min(self.until_us).min(look_us))?;
        }
    }
}
