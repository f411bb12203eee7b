//! Which paths of an instance document are wanted?

use super::WHAT;
use crate::error::Rule;

/// A container of the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Around the document.
    Document,
    /// The outermost object.
    Root,
    /// `compute`
    Compute,
    /// `compute.osProfile`
    OsProfile,
    /// `compute.publicKeys`
    PublicKeys,
    /// `compute.publicKeys[]`
    PublicKey,
    /// `network`
    Network,
    /// `network.interface`
    Interfaces,
    /// `network.interface[]`
    Interface,
    /// `network.interface[].ipv4` or `ipv6`
    Family,
    /// `network.interface[].ipv4.ipAddress`
    Addresses,
    /// `network.interface[].ipv4.ipAddress[]`
    Address,
    /// `network.interface[].ipv4.subnet`
    Subnets,
    /// `network.interface[].ipv4.subnet[]`
    Subnet,
    /// `extended`
    Extended,
    /// `extended.compute`
    ExtendedCompute,
    /// Any other.
    Other,
}

/// A wanted value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    AdminUsername,
    ComputerName,
    DisablePasswordLogin,
    KeyData,
    UserData,
    VmId,
    MacAddress,
    PrivateAddress,
    PrefixLength,
    HasCustomData,
    PpsType,
}

impl Field {
    /// The rule that a bad value breaks, in cloud-init's words (`errors.py`, `ReportableErrorImdsInvalidMetadata`).
    pub(super) fn rule(self) -> &'static Rule {
        match self {
            Self::AdminUsername => {
                malformed!(WHAT, "invalid IMDS metadata for key=compute.osProfile.adminUsername")
            }
            Self::ComputerName => {
                malformed!(WHAT, "invalid IMDS metadata for key=compute.osProfile.computerName")
            }
            Self::DisablePasswordLogin => {
                malformed!(
                    WHAT,
                    "invalid IMDS metadata for key=compute.osProfile.disablePasswordAuthentication"
                )
            }
            Self::KeyData => malformed!(WHAT, "invalid IMDS metadata for key=compute.publicKeys"),
            Self::UserData => malformed!(WHAT, "invalid IMDS metadata for key=compute.userData"),
            Self::VmId => malformed!(WHAT, "invalid IMDS metadata for key=compute.vmId"),
            Self::MacAddress => {
                malformed!(WHAT, "invalid IMDS metadata for key=network.interface.macAddress")
            }
            Self::PrivateAddress => {
                malformed!(WHAT, "invalid IMDS metadata for key=network.interface.ipAddress.privateIpAddress")
            }
            Self::PrefixLength => {
                malformed!(WHAT, "invalid IMDS metadata for key=network.interface.subnet.prefix")
            }
            Self::HasCustomData => {
                malformed!(WHAT, "invalid IMDS metadata for key=extended.compute.hasCustomData")
            }
            Self::PpsType => malformed!(WHAT, "invalid IMDS metadata for key=extended.compute.ppsType"),
        }
    }
}

/// What the value of a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Object(Place),
    Array(Place),
    Value(Field),
}

/// Bytes of the longest wanted key.
pub(super) const KEY: usize = 29;

/// The one of the two families' keys that is told apart.
pub(super) const IPV6: &str = "ipv6";

const PATHS: &[(Place, &str, Target)] = &[
    (Place::Root, "compute", Target::Object(Place::Compute)),
    (Place::Compute, "osProfile", Target::Object(Place::OsProfile)),
    (Place::OsProfile, "adminUsername", Target::Value(Field::AdminUsername)),
    (Place::OsProfile, "computerName", Target::Value(Field::ComputerName)),
    (Place::OsProfile, "disablePasswordAuthentication", Target::Value(Field::DisablePasswordLogin)),
    (Place::Compute, "publicKeys", Target::Array(Place::PublicKeys)),
    (Place::PublicKey, "keyData", Target::Value(Field::KeyData)),
    (Place::Compute, "userData", Target::Value(Field::UserData)),
    (Place::Compute, "vmId", Target::Value(Field::VmId)),
    (Place::Root, "network", Target::Object(Place::Network)),
    (Place::Network, "interface", Target::Array(Place::Interfaces)),
    (Place::Interface, "macAddress", Target::Value(Field::MacAddress)),
    (Place::Interface, "ipv4", Target::Object(Place::Family)),
    (Place::Interface, IPV6, Target::Object(Place::Family)),
    (Place::Family, "ipAddress", Target::Array(Place::Addresses)),
    (Place::Address, "privateIpAddress", Target::Value(Field::PrivateAddress)),
    (Place::Family, "subnet", Target::Array(Place::Subnets)),
    (Place::Subnet, "prefix", Target::Value(Field::PrefixLength)),
    (Place::Root, "extended", Target::Object(Place::Extended)),
    (Place::Extended, "compute", Target::Object(Place::ExtendedCompute)),
    (Place::ExtendedCompute, "hasCustomData", Target::Value(Field::HasCustomData)),
    (Place::ExtendedCompute, "ppsType", Target::Value(Field::PpsType)),
];

/// What is wanted of the value behind `key` in `parent`.
pub(super) fn find(parent: Place, key: &[u8]) -> Option<Target> {
    let found = PATHS.iter().find(|(place, name, _)| *place == parent && name.as_bytes() == key);
    found.map(|(_, _, target)| *target)
}
