//! The few big buffers: statics, so that `.bss` pays and untouched pages cost nothing.
#![expect(unsafe_code, reason = "a static that is lent once")]

use crate::facts::Facts;
use crate::limits;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// What stages borrow for their work.
pub struct Scratch {
    /// The facts being gathered.
    pub facts: Facts,
    /// Frames received.
    pub frame_rx: [u8; limits::FRAME_RX],
    /// Frames to send.
    pub frame_tx: [u8; limits::FRAME_TX],
    /// TCP window towards us.
    pub tcp_rx: [u8; 16 * 1024],
    /// TCP data from us.
    pub tcp_tx: [u8; 4 * 1024],
    /// Whole small files and disk structures.
    pub bytes: [u8; 256 * 1024],
}

struct Once {
    is_taken: AtomicBool,
    scratch: UnsafeCell<Scratch>,
}

// SAFETY: `take` hands out at most one reference, whatever thread asks.
unsafe impl Sync for Once {}

static ONCE: Once = Once {
    is_taken: AtomicBool::new(false),
    scratch: UnsafeCell::new(Scratch {
        facts: Facts::new(),
        frame_rx: [0; limits::FRAME_RX],
        frame_tx: [0; limits::FRAME_TX],
        tcp_rx: [0; 16 * 1024],
        tcp_tx: [0; 4 * 1024],
        bytes: [0; 256 * 1024],
    }),
};

/// Lends the buffers, once per process.
#[must_use]
pub fn take() -> Option<&'static mut Scratch> {
    if ONCE.is_taken.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the flag makes this the only reference that is ever made.
    Some(unsafe { &mut *ONCE.scratch.get() })
}
