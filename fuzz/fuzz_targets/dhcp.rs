//! DHCP replies: no message panics, and what is accepted is an address a host can have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::dhcp::{Kind, Reply};

fuzz_target!(|message: &[u8]| {
    let Ok(reply) = Reply::parse(message) else { return };
    assert_eq!(reply.lease.is_some(), matches!(reply.kind, Kind::Offer | Kind::Ack));
    if let Some(lease) = reply.lease {
        assert!(lease.prefix <= 32 && !matches!(lease.address[0], 0 | 127 | 224..));
        assert!(lease.routes.iter().all(|route| route.prefix <= 32));
        let _ = (lease.is_primary(), lease.next_hop([169, 254, 169, 254]));
    }
});
