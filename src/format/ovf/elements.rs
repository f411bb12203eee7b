//! Where in ovf-env.xml are we, and what is read there?

use super::WHAT;
use crate::error::Rule;
use crate::format::xml::{Name, Namespace};

/// Namespace of the root element (DMTF DSP8027).
const ENVIRONMENT: &str = "http://schemas.dmtf.org/ovf/environment/1";
/// Namespace of everything Azure says.
const AZURE: &str = "http://schemas.microsoft.com/windowsazure";
/// The namespaces to be told apart.
pub(super) const NAMESPACES: &[&str] = &[ENVIRONMENT, AZURE];

/// A place in the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Above the root.
    Document,
    /// `Environment`.
    Environment,
    /// `ProvisioningSection`.
    Provisioning,
    /// `LinuxProvisioningConfigurationSet`.
    ConfigurationSet,
    /// `SSH`.
    Ssh,
    /// `PublicKeys`.
    PublicKeys,
    /// `PublicKey`.
    PublicKey,
    /// `PlatformSettingsSection`.
    PlatformSection,
    /// `PlatformSettings`.
    PlatformSettings,
    /// An element whose text is read.
    Value(Field),
}

/// An element whose text is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    HostName,
    UserName,
    UserPassword,
    DisablePasswordLogin,
    CustomData,
    KeyFingerprint,
    KeyValue,
    GuestAgent,
    ProxyAgent,
    PreprovisionedVm,
    PreprovisionedVmType,
}

/// How often an element may and must be there. The rules are cloud-init's `OvfEnvXml`, so are the texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Any number.
    Any,
    /// At most once; the rule a second one breaks.
    Optional(&'static Rule),
    /// Exactly once; the rules that two and none break.
    Required(&'static Rule, &'static Rule),
}

/// One element we look for.
pub(super) struct Element {
    parent: Place,
    name: &'static str,
    pub(super) place: Place,
    pub(super) times: Times,
}

macro_rules! twice {
    ($name:literal) => {
        malformed!(
            WHAT,
            concat!(
                "unexpected metadata parsing ovf-env.xml: multiple configuration matches for '",
                $name,
                "' (2)"
            )
        )
    };
}

macro_rules! missing {
    ($name:literal) => {
        malformed!(
            WHAT,
            concat!("unexpected metadata parsing ovf-env.xml: missing configuration for '", $name, "'")
        )
    };
}

macro_rules! times {
    (any $name:literal) => {
        Times::Any
    };
    (optional $name:literal) => {
        Times::Optional(twice!($name))
    };
    (required $name:literal) => {
        Times::Required(twice!($name), missing!($name))
    };
}

macro_rules! elements {
    ($($parent:ident / $name:literal $times:ident => $place:expr;)*) => {
        &[$(Element { parent: Place::$parent, name: $name, place: $place, times: times!($times $name) },)*]
    };
}

/// In the order in which cloud-init misses them. Only direct children of their parent count.
pub(super) const ELEMENTS: &[Element] = elements! {
    Document / "Environment" any => Place::Environment;
    Environment / "ProvisioningSection" optional => Place::Provisioning;
    Provisioning / "LinuxProvisioningConfigurationSet" required => Place::ConfigurationSet;
    ConfigurationSet / "HostName" required => Place::Value(Field::HostName);
    ConfigurationSet / "UserName" optional => Place::Value(Field::UserName);
    ConfigurationSet / "UserPassword" optional => Place::Value(Field::UserPassword);
    ConfigurationSet / "DisableSshPasswordAuthentication" optional => Place::Value(Field::DisablePasswordLogin);
    ConfigurationSet / "CustomData" optional => Place::Value(Field::CustomData);
    ConfigurationSet / "SSH" optional => Place::Ssh;
    Ssh / "PublicKeys" optional => Place::PublicKeys;
    PublicKeys / "PublicKey" any => Place::PublicKey;
    PublicKey / "Fingerprint" optional => Place::Value(Field::KeyFingerprint);
    PublicKey / "Value" optional => Place::Value(Field::KeyValue);
    Environment / "PlatformSettingsSection" required => Place::PlatformSection;
    PlatformSection / "PlatformSettings" required => Place::PlatformSettings;
    PlatformSettings / "ProvisionGuestAgent" optional => Place::Value(Field::GuestAgent);
    PlatformSettings / "ProvisionGuestProxyAgent" optional => Place::Value(Field::ProxyAgent);
    PlatformSettings / "PreprovisionedVm" optional => Place::Value(Field::PreprovisionedVm);
    PlatformSettings / "PreprovisionedVMType" optional => Place::Value(Field::PreprovisionedVmType);
};

/// The element of that name in that place, and its number in [`ELEMENTS`].
pub(super) fn find(parent: Place, name: Name<'_>) -> Option<(u32, &'static Element)> {
    let namespace = if parent == Place::Document { ENVIRONMENT } else { AZURE };
    let is_it = |element: &Element| {
        element.parent == parent
            && name.namespace == Namespace::Known(namespace)
            && name.local == element.name.as_bytes()
    };
    (0..).zip(ELEMENTS).find(|(_, element)| is_it(element))
}

/// Bits of the elements directly below a place.
pub(super) fn below(parent: Place) -> u32 {
    (0..32)
        .zip(ELEMENTS)
        .filter(|(_, element)| element.parent == parent)
        .fold(0, |bits, (at, _)| bits | bit(at))
}

/// The bit of element number `at`.
pub(super) const fn bit(at: u32) -> u32 {
    1_u32.wrapping_shl(at)
}
