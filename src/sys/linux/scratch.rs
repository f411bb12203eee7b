//! The few big buffers: statics, so that `.bss` pays and untouched pages cost nothing.
#![expect(unsafe_code, reason = "a static that is lent once")]

use crate::facts::Facts;
use crate::net::Buffers;
use crate::source::azure_imds::ImdsReader;
use crate::source::azure_ovf::OvfReader;
use crate::source::instance::InstanceReader;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// What stages borrow for their work.
pub struct Scratch {
    /// The facts being gathered.
    pub facts: Facts,
    /// The reader of ovf-env.xml.
    pub ovf: OvfReader,
    /// The reader of IMDS's reply.
    pub imds: ImdsReader,
    /// The reader of config drives and NoCloud media.
    pub instance: InstanceReader,
    /// What an exchange over the network needs.
    pub net: Buffers,
    /// Whole small files and disk structures.
    pub bytes: [u8; 256 * 1024],
}

struct Once {
    is_taken: AtomicBool,
    scratch: UnsafeCell<MaybeUninit<Scratch>>,
}

// SAFETY: `take` hands out at most one reference, whatever thread asks.
unsafe impl Sync for Once {}

// Zeroes only: one other byte would move all of it from .bss into the file.
static ONCE: Once =
    Once { is_taken: AtomicBool::new(false), scratch: UnsafeCell::new(MaybeUninit::zeroed()) };

/// Lends the buffers, once per process.
#[must_use]
pub fn take() -> Option<&'static mut Scratch> {
    if ONCE.is_taken.swap(true, Ordering::Relaxed) {
        return None;
    }
    let scratch = ONCE.scratch.get().cast::<Scratch>();
    // SAFETY: the flag makes this the only reference that is ever made; the last two fields are arrays of
    // bytes, for which zeroes are a value; the others are written before the reference exists.
    Some(unsafe {
        (&raw mut (*scratch).facts).write(Facts::new());
        (&raw mut (*scratch).ovf).write(OvfReader::new());
        (&raw mut (*scratch).imds).write(ImdsReader::new());
        (&raw mut (*scratch).instance).write(InstanceReader::new());
        &mut *scratch
    })
}
