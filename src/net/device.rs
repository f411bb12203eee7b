//! How does a raw link look to smoltcp?

use crate::error::{Error, Result};
use crate::limits;
use crate::sys::Link;
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// A link and the frames it is working on.
pub struct Device<'d> {
    link: &'d mut dyn Link,
    rx: &'d mut [u8],
    tx: &'d mut [u8],
    /// Why the link stopped working; smoltcp has no way to say it.
    failed: Option<Error>,
}

impl<'d> Device<'d> {
    /// `rx` holds the largest frame that may come (GRO makes them 64 KiB), `tx` the largest that is sent:
    /// that is the MTU.
    pub fn new(link: &'d mut dyn Link, rx: &'d mut [u8], tx: &'d mut [u8]) -> Self {
        Self { link, rx, tx, failed: None }
    }

    /// Waits as [`Link::wait`] does.
    ///
    /// # Errors
    /// `Os`.
    pub fn wait(&mut self, until_us: u64) -> Result<()> {
        self.link.wait(until_us)
    }

    /// Why the link stopped working, if it did.
    #[must_use]
    pub const fn failed(&self) -> Option<Error> {
        self.failed
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
        match self.link.receive(self.rx) {
            Ok(length) => {
                let frame = self.rx.get(..length?).unwrap_or_default();
                Some((Received(frame), Sending { link: self.link, tx: self.tx, failed: &mut self.failed }))
            }
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending { link: self.link, tx: self.tx, failed: &mut self.failed })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.tx.len().min(limits::FRAME_TX);
        // Only on send: a frame from a peer on the same host comes with the checksum left to an offload.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A frame that came.
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    #[inline(never)]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame to send.
pub struct Sending<'a> {
    link: &'a mut dyn Link,
    tx: &'a mut [u8],
    failed: &'a mut Option<Error>,
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        // smoltcp asks for no more than the MTU, which is the buffer's length.
        let length = length.min(self.tx.len());
        let (frame, _) = self.tx.split_at_mut(length);
        let result = write(frame);
        if let Err(error) = self.link.send(frame) {
            *self.failed = Some(error);
        }
        result
    }
}
