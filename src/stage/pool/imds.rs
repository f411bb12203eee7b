//! IMDS did not answer the initrd, and nothing else says who this VM is to be: does it answer now?
//!
//! cloud-init asks for 300 s, 410 may last 70 (Microsoft's IMDS page). The boot waits where it would wait for an owner:
//! the serial console has its login, but no network is configured and no sshd runs, so that `apply` comes in time.

use crate::error::Result;
use crate::facts::InstanceId;
use crate::format::cmdline;
use crate::format::text::number;
use crate::limits;
use crate::stage::fetch;
use crate::sys::Kernel;
use crate::sys::linux::Scratch;

/// Asks until it answers well, or the time is over; what is known then is this boot's seed.
///
/// # Errors
/// The verdict, where it is fatal; `Error::STOPPED`.
pub(super) fn await_answer(kernel: &mut Kernel<'_>, scratch: &mut Scratch, id: &InstanceId) -> Result<()> {
    kernel.log.enter("imds");
    let limit_ms = limit_ms(kernel, &mut scratch.bytes);
    kernel.clock.watch(limit_ms + limits::POOL_WATCH_MS);
    let until_us = kernel.clock.now_us().saturating_add(limit_ms * 1000);
    fetch::ask_again(kernel, scratch, id, until_us)
}

/// `rd.preroot.imds=SECONDS`, else [`limits::IMDS_AGAIN_MS`].
fn limit_ms(kernel: &mut Kernel<'_>, bytes: &mut [u8]) -> u64 {
    let length = kernel.host.read("proc/cmdline", bytes).unwrap_or_default();
    let line = bytes.get(..length).and_then(|line| core::str::from_utf8(line).ok()).unwrap_or_default();
    let asked_s = cmdline::value(line, "rd.preroot.imds").and_then(|word| number(word.as_bytes()));
    asked_s.map_or(limits::IMDS_AGAIN_MS, |s: u32| u64::from(s.min(3600)) * 1000)
}
