//! How do raw frames look to smoltcp? As the packets of one connection, and no others.

use super::neighbour::{HEADER, IPV4, Mac, Meaning, Neighbour, Path, seal};
use crate::error::{Error, Result};
use crate::sys::{Frames, Only};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// Frames looked at in one step: a flood must not keep us from what we have to send, nor from the deadline.
const BUDGET: usize = 256;

/// One connection on one link, and the frames it is working on.
pub struct Device<'d> {
    frames: &'d mut dyn Frames,
    rx: &'d mut [u8],
    tx: &'d mut [u8],
    index: u32,
    path: Path,
    neighbour: &'d mut Neighbour,
    now_us: u64,
    budget: usize,
    /// Why the link stopped working; smoltcp has no way to say it.
    failed: Option<Error>,
}

impl<'d> Device<'d> {
    /// On the link `index`. `rx` holds the largest frame that may come (GRO makes them 64 KiB), `tx` the largest that
    /// is sent: that is the MTU.
    ///
    /// # Errors
    /// `Os`.
    pub fn new(
        frames: &'d mut dyn Frames,
        (rx, tx): (&'d mut [u8], &'d mut [u8]),
        index: u32,
        path: Path,
        neighbour: &'d mut Neighbour,
    ) -> Result<Self> {
        frames.narrow(&Only { index, ours: path.ours, peer: path.peer, port: path.port })?;
        Ok(Self { frames, rx, tx, index, path, neighbour, now_us: 0, budget: 0, failed: None })
    }

    /// Whom it connects.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// Waits as [`Frames::wait`] does.
    ///
    /// # Errors
    /// `Os`.
    pub fn wait(&mut self, until_us: u64) -> Result<()> {
        self.frames.wait(until_us)
    }

    /// Why the link stopped working, if it did.
    #[must_use]
    pub const fn failed(&self) -> Option<Error> {
        self.failed
    }

    /// A step begins. Until the next hop's card is known, says when to come back for it.
    pub fn begin(&mut self, now_us: u64) -> Option<u64> {
        (self.now_us, self.budget) = (now_us, BUDGET);
        while self.neighbour.of(self.path.hop).is_none() && self.next_packet().is_some() {}
        if self.neighbour.of(self.path.hop).is_some() {
            return None;
        }
        if let Some(question) = self.neighbour.ask(&self.path, now_us) {
            self.send(&question);
        }
        Some(self.neighbour.next_us())
    }

    fn send(&mut self, frame: &[u8]) {
        if let Err(error) = self.frames.send(self.index, frame) {
            self.failed = Some(error);
        }
    }

    /// The next frame that is a packet of the connection: its end in `rx`.
    fn next_packet(&mut self) -> Option<usize> {
        while self.budget > 0 {
            self.budget -= 1;
            let frame = match self.frames.receive(self.rx) {
                Ok(frame) => frame?,
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            };
            if frame.index != self.index {
                continue;
            }
            let bytes = self.rx.get(..frame.length).unwrap_or_default();
            match self.path.weigh(bytes, frame.is_intact) {
                Meaning::Segment(_) => return Some(frame.length),
                Meaning::Answered(mac) => self.neighbour.learn(self.path.hop, mac),
                Meaning::Asked(arp) => {
                    if let Some(answer) = self.neighbour.answer(&self.path, arp, self.now_us) {
                        self.send(&answer);
                    }
                }
                Meaning::Nothing => {}
            }
        }
        None
    }

    fn sending(&mut self) -> Sending<'_> {
        let to = self.neighbour.of(self.path.hop);
        let Self { frames, tx, index, path, failed, .. } = self;
        Sending { frames: *frames, tx, index: *index, from: path.mac, to, failed }
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sending<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let end = self.next_packet()?;
        let to = self.neighbour.of(self.path.hop);
        let Self { frames, rx, tx, index, path, failed, .. } = self;
        let packet = rx.get(HEADER..end).unwrap_or_default();
        let sending = Sending { frames: *frames, tx, index: *index, from: path.mac, to, failed };
        Some((Received(packet), sending))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(self.sending())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.tx.len().saturating_sub(HEADER);
        // Only on send: what came was looked at in `Path::weigh`, which knows when there is nothing to look at.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A packet that came.
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    #[inline(never)]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a packet to send.
pub struct Sending<'a> {
    frames: &'a mut dyn Frames,
    tx: &'a mut [u8],
    index: u32,
    from: Mac,
    to: Option<Mac>,
    failed: &'a mut Option<Error>,
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        // smoltcp asks for no more than the MTU, which is the buffer's length.
        let end = length.saturating_add(HEADER).min(self.tx.len());
        let (frame, _) = self.tx.split_at_mut(end);
        let result = write(frame.get_mut(HEADER..).unwrap_or_default());
        if let Some(to) = self.to {
            seal(frame, to, self.from, IPV4);
            if let Err(error) = self.frames.send(self.index, frame) {
                *self.failed = Some(error);
            }
        }
        result
    }
}
