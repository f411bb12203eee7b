//! Is a network without DHCPv4 one of IPv6 alone? One question to its routers, and their answer.
//!
//! Source: RFC 4861 sections 4.1, 4.2, 6.1.2 and 6.3.7. Nothing is configured from an answer: that a router speaks is
//! all that is wanted.

/// Where routers' answers go: all nodes of the link (RFC 2464 section 7).
pub const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Octets of a solicitation.
pub const SOLICITATION: usize = 62;

const MAC: core::ops::Range<usize> = 6..12;
/// Ethernet to all routers, IPv6 from the unspecified address to ff02::2 with 255 hops, ICMPv6 type 133. As nothing in it
/// that is summed changes, its checksum is a constant.
const QUESTION: [u8; SOLICITATION] = [
    0x33, 0x33, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x86, 0xdd, //
    0x60, 0, 0, 0, 0, 8, 58, 255, //
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
    0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
    133, 0, 0x7b, 0xb8, 0, 0, 0, 0,
];

/// A router solicitation of the interface with this address.
#[must_use]
pub fn solicitation(mac: [u8; 6]) -> [u8; SOLICITATION] {
    let mut frame = QUESTION;
    if let Some(place) = frame.get_mut(MAC) {
        place.copy_from_slice(&mac);
    }
    frame
}

/// True for a router advertisement that came from this link: nobody forwards what has 255 hops left. Checksum and options
/// are not looked at, since nothing is believed but that somebody speaks.
#[must_use]
pub fn is_advertisement(frame: &[u8]) -> bool {
    let at = |n: usize| frame.get(n).copied().unwrap_or_default();
    frame.len() >= 14 + 40 + 16
        && (at(12), at(13)) == (0x86, 0xdd)
        && (at(20), at(21)) == (58, 255)
        && (at(22), at(23) & 0xc0) == (0xfe, 0x80)
        && (at(54), at(55)) == (134, 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// An answer as radvd sends it, without options.
    pub(crate) fn advertisement() -> Vec<u8> {
        let mut frame = QUESTION.to_vec();
        frame[..6].copy_from_slice(&ALL_NODES);
        frame[19] = 16;
        frame[22..24].copy_from_slice(&[0xfe, 0x80]);
        frame[53] = 1;
        frame[54] = 134;
        frame.extend([0; 8]);
        frame
    }

    #[test]
    fn the_checksum_of_the_question_is_right() {
        let frame = solicitation([0, 13, 58, 1, 2, 3]);
        let mut sum = u32::from(frame[19]) + u32::from(frame[20]);
        for pair in frame[22..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(frame[MAC], [0, 13, 58, 1, 2, 3]);
    }

    #[test]
    fn only_a_router_of_this_link_answers() {
        assert!(is_advertisement(&advertisement()));
        assert!(!is_advertisement(&solicitation([2; 6])));
        for (place, byte) in [(13, 0), (20, 17), (21, 64), (22, 0x20), (54, 135), (55, 1)] {
            let mut frame = advertisement();
            frame[place] = byte;
            assert!(!is_advertisement(&frame), "octet {place}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_frames_are_looked_at_only(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = is_advertisement(&frame);
        }
    }
}
