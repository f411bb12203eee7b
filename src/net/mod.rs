//! Talks to the platform without the kernel's network: DHCP, TCP and HTTP over raw frames.

use crate::limits;
use zeroize::Zeroize as _;

pub mod device;
pub mod http_client;
pub mod lease;
pub mod neighbour;
pub mod stack;

#[cfg(test)]
pub(crate) mod far;
#[cfg(test)]
mod loss;

use lease::Client;

/// What an exchange needs in memory; a static, because it is far too big for a stack.
pub struct Buffers {
    /// A received frame; over kernel sockets, a received piece.
    pub frame_rx: [u8; limits::FRAME_RX],
    /// The frame being sent.
    pub frame_tx: [u8; limits::FRAME_TX],
    /// TCP's receive window.
    pub tcp_rx: [u8; limits::TCP_RX],
    /// The request: head and body.
    pub tcp_tx: [u8; limits::HTTP_REQUEST],
    /// The head of the response.
    pub head: [u8; limits::HTTP_HEAD],
    /// Conversations with DHCP servers, one for each interface.
    pub clients: heapless::Vec<Client, { limits::LINKS }>,
    /// The lease that was told last: its address, the number of its interface, whether it leads to the platform.
    pub told: Option<([u8; 4], u32, bool)>,
}

impl Buffers {
    /// All zero, so that it lies in .bss.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frame_rx: [0; limits::FRAME_RX],
            frame_tx: [0; limits::FRAME_TX],
            tcp_rx: [0; limits::TCP_RX],
            tcp_tx: [0; limits::HTTP_REQUEST],
            head: [0; limits::HTTP_HEAD],
            clients: heapless::Vec::new(),
            told: None,
        }
    }
}

impl Buffers {
    /// Overwrites what was received: a provisioning document holds a password in clear.
    pub fn wipe(&mut self) {
        for buffer in [&mut self.frame_rx[..], &mut self.frame_tx, &mut self.tcp_rx, &mut self.head] {
            buffer.zeroize();
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}
