//! Talks to the platform without the kernel's network: DHCP, TCP and HTTP over raw frames.

pub mod http_client;
