//! What does the kernel announce about network interfaces?
//!
//! Messages of `RTMGRP_LINK`: rtnetlink(7), include/uapi/linux/{netlink,rtnetlink,if_link}.h, in the byte order of the
//! machine. Only what says that an interface came, went, or may carry packets is read; anything else is passed over.

use super::bytes::{le16, le32};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct ifinfomsg`.
const INTERFACE: usize = 16;
/// `struct rtattr`.
const ATTRIBUTE: usize = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// An attribute of the interface itself: its operational state, RFC 2863, one byte.
const IFLA_OPERSTATE: u16 = 16;
/// One word.
const IFLA_CARRIER_CHANGES: u16 = 35;
const IF_OPER_NOTPRESENT: u8 = 1;
const IF_OPER_LOWERLAYERDOWN: u8 = 3;
const IF_OPER_UP: u8 = 6;
const IFF_LOOPBACK: u32 = 0x8;

/// What became of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is not there any more.
    Gone,
    /// It can carry packets.
    Up,
    /// It cannot.
    Down,
    /// It is there; the driver does not say more.
    Unknown,
}

/// An interface that changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkChange {
    /// Its index; the same name may come back with another.
    pub index: u32,
    /// What it is now.
    pub state: State,
    /// How often its carrier came or went since it is there. The kernel looks at carriers once a second
    /// (net/core/link_watch.c): of one that went and came in between only this is seen.
    pub carrier_changes: Option<u32>,
}

/// Calls `each` with every change in what one read from the socket gave, in order. A message that is cut ends it.
pub fn read(bytes: &[u8], each: &mut dyn FnMut(LinkChange)) {
    let mut rest = bytes;
    while let Some((length, message)) = next(rest, HEADER, |bytes| le32(bytes, 0)) {
        if let Some(change) = change(message) {
            each(change);
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
}

/// The first of several records that begin with their own length.
fn next(bytes: &[u8], least: usize, length: impl Fn(&[u8]) -> Option<u32>) -> Option<(usize, &[u8])> {
    let length = usize::try_from(length(bytes)?).ok()?;
    let record = bytes.get(..length).filter(|record| record.len() >= least)?;
    Some((length, record))
}

/// `NLMSG_ALIGN`, `RTA_ALIGN`.
const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn change(message: &[u8]) -> Option<LinkChange> {
    let kind = le16(message, 4)?;
    let (body, attributes) = message.get(HEADER..)?.split_at_checked(INTERFACE)?;
    // A bridge announces its ports by the family of its own.
    let is_unspecific = *body.first()? == 0;
    let (index, flags) = (le32(body, 4)?, le32(body, 8)?);
    if !is_unspecific || flags & IFF_LOOPBACK != 0 {
        return None;
    }
    let mut change = LinkChange { index, state: State::Gone, carrier_changes: None };
    match kind {
        RTM_NEWLINK => (change.state, change.carrier_changes) = present(attributes),
        RTM_DELLINK => {}
        _ => return None,
    }
    Some(change)
}

fn present(attributes: &[u8]) -> (State, Option<u32>) {
    let (mut state, mut carrier_changes) = (State::Unknown, None);
    let mut rest = attributes;
    while let Some((length, attribute)) = next(rest, ATTRIBUTE, |bytes| le16(bytes, 0).map(u32::from)) {
        match le16(attribute, 2) {
            Some(IFLA_OPERSTATE) => {
                state = match attribute.get(ATTRIBUTE) {
                    Some(&IF_OPER_UP) => State::Up,
                    Some(IF_OPER_NOTPRESENT..=IF_OPER_LOWERLAYERDOWN) => State::Down,
                    _ => State::Unknown,
                };
            }
            Some(IFLA_CARRIER_CHANGES) => carrier_changes = le32(attribute, ATTRIBUTE),
            _ => {}
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    (state, carrier_changes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{IFF_LOOPBACK, LinkChange, RTM_DELLINK, RTM_NEWLINK, State, read};
    use proptest::prelude::{any, prop, proptest};
    use std::vec::Vec;

    /// A message as the kernel's rtnl_fill_ifinfo makes it: a name first, then the state.
    fn message(kind: u16, family: u8, index: u32, flags: u32, operstate: Option<u8>) -> Vec<u8> {
        let mut attributes = Vec::from([8, 0, 3, 0, b'e', b't', b'h', 0, 6, 0, 1, 0, 2, 3, 0, 0]);
        if let Some(state) = operstate {
            attributes.extend([5, 0, 16, 0, state, 0, 0, 0]);
            attributes.extend([8, 0, 35, 0, 3, 0, 0, 0]);
        }
        let length = u32::try_from(32 + attributes.len()).unwrap();
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 10]);
        bytes.extend([family, 0, 1, 0]);
        bytes.extend(index.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes);
        bytes
    }

    fn all(bytes: &[u8]) -> Vec<LinkChange> {
        let mut all = Vec::new();
        read(bytes, &mut |change| all.push(change));
        all
    }

    #[test]
    fn interfaces_come_go_and_change() {
        let bytes = [
            message(RTM_NEWLINK, 0, 2, 0, Some(2)),
            message(RTM_NEWLINK, 0, 2, 0, Some(6)),
            message(RTM_NEWLINK, 0, 1, IFF_LOOPBACK, Some(6)),
            message(RTM_NEWLINK, 0, 3, 0, None),
            message(RTM_NEWLINK, 0, 4, 0, Some(5)),
            message(RTM_DELLINK, 7, 2, 0, None),
            message(20, 0, 2, 0, None),
            message(RTM_DELLINK, 0, 2, 0, None),
        ];
        let change = |index, state| {
            let carrier_changes =
                matches!((index, state), (2, State::Up | State::Down) | (4, _)).then_some(3);
            LinkChange { index, state, carrier_changes }
        };
        let expected = [
            change(2, State::Down),
            change(2, State::Up),
            change(3, State::Unknown),
            change(4, State::Unknown),
            change(2, State::Gone),
        ];
        assert_eq!(all(&bytes.concat()), expected);
        let whole = bytes.concat();
        for length in 0..whole.len() {
            assert!(expected.starts_with(&all(&whole[..length])));
        }
    }

    /// Found by the fuzzer: four bytes short, and nothing of the interface was missed.
    #[test]
    fn an_interface_is_gone_only_by_a_whole_message() {
        let mut bytes = message(RTM_DELLINK, 0, 2, 0, None);
        for (length, count) in [(28, 0), (31, 0), (32, 1)] {
            bytes.truncate(32);
            bytes[0] = length;
            assert_eq!(all(&bytes).len(), count, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), lengths in any::<[u8; 3]>()) {
            let _ = all(&bytes);
            let mut bytes = bytes;
            for (at, length) in [0, 32, 64].into_iter().zip(lengths) {
                if let Some(word) = bytes.get_mut(at..at + 8) {
                    word.copy_from_slice(&[length, 0, 0, 0, 16, 0, 0, 0]);
                }
            }
            let _ = all(&bytes);
        }
    }
}
