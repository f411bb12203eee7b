//! What has a name or an address in a network: cards, interfaces, domains, prefixes. None of them can break a file.

use super::WHAT;
use crate::error::{Error, Result};
use crate::limits;
use core::net::IpAddr;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Six bytes in two hexadecimal digits of any case, between colons or dashes.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = malformed!(WHAT, "MAC address", 0);
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad)?;
        }
        if parts.next().is_some() { Err(bad) } else { Ok(Self(mac)) }
    }
}

/// A text of letters, digits and the other bytes that are `allowed`, at least one, the first none of `not_first`.
fn plain<const N: usize>(
    text: &str,
    allowed: &[u8],
    not_first: &[char],
    bad: Error,
) -> Result<heapless::String<N>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || allowed.contains(&byte);
    if text.is_empty() || text.starts_with(not_first) || !text.bytes().all(is_plain) {
        return Err(bad);
    }
    heapless::String::try_from(text).map_err(|_| bad)
}

/// The name of an interface: at most 15 bytes (the kernel's `IFNAMSIZ`), and fewer characters than the kernel takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkName(heapless::String<{ limits::LINK_NAME }>);

impl LinkName {
    /// Validates.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        plain(text, b"._-@", &['.', '-'], malformed!(WHAT, "name of an interface", 0)).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a kernel module that drives a card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Driver(heapless::String<{ limits::DRIVER }>);

impl Driver {
    /// Validates.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        plain(text, b"_-", &[], malformed!(WHAT, "name of a driver", 0)).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A domain to search names in: letters, digits, `.`, `_`, `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain(heapless::String<{ limits::DOMAIN }>);

impl Domain {
    /// Validates.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        plain(text, b"._-", &['-'], malformed!(WHAT, "search domain", 0)).map(Self)
    }

    /// The domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address or network and how many of its bits are the network's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// Checks the length.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn new(address: IpAddr, length: u8) -> Result<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length > most {
            return Err(malformed!(WHAT, "length of a prefix", 0));
        }
        Ok(Self { address, length })
    }

    /// Reads `ADDRESS/LENGTH`.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = malformed!(WHAT, "address with its prefix", 0);
        let (address, length) = crate::format::text::split_once(text, "/").ok_or(bad)?;
        let length = crate::format::text::number(length.as_bytes()).and_then(|n| u8::try_from(n).ok());
        Self::new(address.parse().map_err(|_| bad)?, length.ok_or(bad)?)
    }

    /// True when `other` is in the same network.
    #[must_use]
    pub fn holds(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let rest = bits.saturating_sub(u32::from(self.length));
            a.checked_shr(rest) == b.checked_shr(rest)
        };
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }

    /// True for all of a family's addresses: the default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Domain, LinkName, MacAddr};

    #[test]
    fn a_value_cannot_break_a_file() {
        for bad in ["", "a/b", "a b", "a\nb", "[x]", "a=b", "..", "-a", "0123456789abcdef", "a:b", "a*"] {
            assert!(LinkName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["eth0", "bond-wan", "enp0s31f6.4094", "0123456789abcde"] {
            assert!(LinkName::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a b", "a;b", "a\n"] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mac_addresses_are_six_bytes() {
        let mac = MacAddr([0xfa, 0x16, 0x3e, 0x69, 0xb0, 0x58]);
        for good in ["fa:16:3e:69:b0:58", "FA:16:3E:69:B0:58", "fa-16-3e-69-b0-58"] {
            assert_eq!(MacAddr::parse(good).unwrap(), mac);
        }
        for bad in
            ["", "fa:16:3e:69:b0", "fa:16:3e:69:b0:58:00", "fa:16:3e:69:b0:5", "fa:16:3e:69:b0:+8", "x"]
        {
            assert!(MacAddr::parse(bad).is_err(), "{bad:?}");
        }
    }
}
