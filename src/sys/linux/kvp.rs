//! How do messages go to and from the kernel's end of Hyper-V's data exchange (drivers/hv/hv_utils_transport.c)?

use super::link::wait;
use super::signal::StopSignal;
use super::{open_path, refused};
use crate::error::{Errno, Result};
use crate::sys::Messages;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

/// The device, held open.
pub(super) struct Device {
    fd: OwnedFd,
    stop: Option<StopSignal>,
}

impl Device {
    /// # Errors
    /// `Os`: `BUSY` when another process has it.
    pub(super) fn open() -> Result<Self> {
        let fd = open_path("/dev/vmbus/hv_kvp", OFlags::RDWR | OFlags::CLOEXEC)
            .map_err(|code| refused(os!("open /dev/vmbus/hv_kvp"), code))?;
        Ok(Self { fd, stop: StopSignal::new().ok() })
    }
}

impl Messages for Device {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        match rustix::io::write(&self.fd, message) {
            Ok(written) if written == message.len() => Ok(()),
            Ok(_) => Err(os!("write /dev/vmbus/hv_kvp", Errno::IO)),
            Err(code) => Err(refused(os!("write /dev/vmbus/hv_kvp"), code)),
        }
    }

    /// The driver's read waits whatever the descriptor's flags say; its poll does not.
    fn receive(&mut self, message: &mut [u8]) -> Result<Option<usize>> {
        let failed = |code| refused(os!("read /dev/vmbus/hv_kvp"), code);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&now)).map_err(failed)? {
            0 => Ok(None),
            _ => rustix::io::read(&self.fd, message).map(Some).map_err(failed),
        }
    }

    fn wait(&mut self, until_us: u64) -> Result<()> {
        wait(&self.fd, PollFlags::IN, until_us, self.stop.as_ref())
    }
}
