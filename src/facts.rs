//! Who this VM is to be. A value in here is valid: nothing downstream checks again.

pub mod network;

use crate::error::Result;
use crate::limits;
use network::Network;

/// Where a fact came from. Later in this list loses, except where [`Facts`] says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Provenance {
    /// cloud-config in user data: whoever made this VM wrote it.
    UserData,
    /// Azure instance metadata service.
    Imds,
    /// ovf-env.xml on the provisioning medium.
    OvfMedium,
    /// The kernel command line, or SMBIOS's serial number (`ds=nocloud;..`).
    Cmdline,
    /// vendor_data of a config drive.
    VendorData,
    /// meta_data.json of a config drive.
    ConfigDrive,
    /// meta-data of a NoCloud medium.
    NoCloud,
    /// The DHCP lease.
    Lease,
    /// SMBIOS of this machine.
    Dmi,
}

impl Provenance {
    const ALL: [Self; 9] = [
        Self::UserData,
        Self::Imds,
        Self::OvfMedium,
        Self::Cmdline,
        Self::VendorData,
        Self::ConfigDrive,
        Self::NoCloud,
        Self::Lease,
        Self::Dmi,
    ];

    /// The word `preroot show` prints.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UserData => "user-data",
            Self::Imds => "imds",
            Self::OvfMedium => "ovf",
            Self::Cmdline => "cmdline",
            Self::VendorData => "vendor-data",
            Self::ConfigDrive => "config-drive",
            Self::NoCloud => "nocloud",
            Self::Lease => "lease",
            Self::Dmi => "dmi",
        }
    }

    /// The source a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|from| from.word() == word)
    }
}

/// A value and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Its source.
    pub from: Provenance,
}

/// A host name: RFC 1123 labels, at most 64 bytes in all; may have dots (then it is an FQDN).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hostname(heapless::String<{ limits::HOSTNAME }>);

impl Hostname {
    /// Validates after trimming ASCII white space.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(malformed!("host name", "empty host name", 0));
        }
        for label in text.split('.') {
            let edge_is_hyphen = label.starts_with('-') || label.ends_with('-');
            if label.is_empty() || label.len() > 63 || edge_is_hyphen {
                return Err(malformed!("host name", "host name label", 0));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(malformed!("host name", "host name character", 0));
            }
        }
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| malformed!("host name", "host name longer than 64", 0))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first dot.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

/// A login name, by useradd's rule with upper case allowed: `[A-Za-z_][A-Za-z0-9_.-]*[$]?` without the `$`, at most 32.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserName(heapless::String<{ limits::USER_NAME }>);

impl UserName {
    /// Validates after trimming ASCII white space.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_ascii();
        let first = text.bytes().next().ok_or(malformed!("user name", "empty user name", 0))?;
        if !(first.is_ascii_alphabetic() || first == b'_') {
            return Err(malformed!("user name", "user name first character", 0));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            return Err(malformed!("user name", "user name character", 0));
        }
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| malformed!("user name", "user name longer than 32", 0))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A crypt(3) hash: `$id$...`, no `:`, no control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(heapless::String<{ limits::PASSWORD_HASH }>);

impl PasswordHash {
    /// Validates.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.starts_with('$') || !text.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return Err(malformed!("password hash", "not a crypt hash", 0));
        }
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| malformed!("password hash", "password hash too long", 0))
    }

    /// The hash, for /etc/shadow.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One authorized_keys line, borrowed: `[options] type base64 [comment]`, no control characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SshKey<'a>(&'a str);

impl<'a> SshKey<'a> {
    /// Validates a line. White space around it is dropped.
    ///
    /// # Errors
    /// `Malformed`, naming the rule ("certificate, not an OpenSSH key" for PEM).
    pub fn parse(line: &'a str) -> Result<Self> {
        let line = line.trim_ascii();
        if line.starts_with("-----BEGIN") {
            return Err(malformed!("SSH key", "certificate, not an OpenSSH key", 0));
        }
        if line.len() > limits::SSH_KEY {
            return Err(too_many!("SSH key", limits::SSH_KEY));
        }
        if line.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
            return Err(malformed!("SSH key", "control character in SSH key", 0));
        }
        let has_type = line.split_ascii_whitespace().zip(line.split_ascii_whitespace().skip(1));
        let mut pairs = has_type.filter(|(kind, blob)| is_key_type(kind) && is_key_blob(blob));
        pairs.next().map(|_| Self(line)).ok_or(malformed!("SSH key", "not an OpenSSH key", 0))
    }

    /// The line without a newline.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-", "rsa-sha2-"].iter().any(|p| word.starts_with(p))
}

fn is_key_blob(word: &str) -> bool {
    word.starts_with("AAAA") && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// Validated authorized_keys lines, each ended by a newline; no line twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SshKeys {
    text: heapless::String<{ limits::SSH_KEYS }>,
}

impl SshKeys {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: heapless::String::new() }
    }

    /// Adds one; a line that is there already is not added twice.
    ///
    /// # Errors
    /// `TooMany`; nothing is added then.
    pub fn push(&mut self, key: SshKey<'_>) -> Result<()> {
        if self.lines().any(|line| line == key.as_str()) {
            return Ok(());
        }
        let full = too_many!("SSH keys", limits::SSH_KEYS);
        if key.as_str().len() + 1 > self.text.capacity() - self.text.len() {
            return Err(full);
        }
        self.text.push_str(key.as_str()).and_then(|()| self.text.push('\n')).map_err(|_| full)
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Becomes the same as `other`, in place: 32 KiB do not belong on the stack.
    pub fn copy_from(&mut self, other: &Self) {
        self.text.clear();
        // The capacity is the same: it fits.
        let _ = self.text.push_str(&other.text);
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> + Clone {
        self.text.lines()
    }

    /// The text of an authorized_keys file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// A VM id or other cloud's instance id: lower-case `[a-z0-9._-]`, 1 to 64 bytes, safe in a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceId(heapless::String<64>);

impl InstanceId {
    /// Validates, lower-cases.
    ///
    /// # Errors
    /// `Malformed`, naming the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with('.') {
            return Err(malformed!("instance id", "empty instance id", 0));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(malformed!("instance id", "instance id character", 0));
        }
        let mut id = heapless::String::try_from(text)
            .map_err(|_| malformed!("instance id", "instance id longer than 64", 0))?;
        id.make_ascii_lowercase();
        Ok(Self(id))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same UUID with the bytes of its first three fields reversed, as Gen1 firmware and waagent
    /// spell it; `None` when this is no UUID. Source: cloud-init `sources/azure/identity.py`.
    #[must_use]
    pub fn swapped(&self) -> Option<Self> {
        let text = self.0.as_bytes();
        let shape_is_uuid = text.len() == 36
            && text.iter().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => *b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        if !shape_is_uuid {
            return None;
        }
        const ORDER: [usize; 18] = [6, 7, 4, 5, 2, 3, 0, 1, 8, 11, 12, 9, 10, 13, 16, 17, 14, 15];
        let mut id = heapless::String::new();
        for at in ORDER.into_iter().chain(18..36) {
            id.push(char::from(*text.get(at)?)).ok()?;
        }
        Some(Self(id))
    }

    /// True when `other` names the same VM, in either byte order.
    #[must_use]
    pub fn is_same_vm(&self, other: &Self) -> bool {
        self == other || self.swapped().is_some_and(|swapped| swapped == *other)
    }
}

/// A kernel name of a network link or block device: `[A-Za-z0-9._:!-]`, at most 31 bytes, no `/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceName(heapless::String<31>);

impl DeviceName {
    /// Validates.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = malformed!("device name", "device name", 0);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:!-".contains(&b);
        if text.is_empty() || text.starts_with('.') || !text.bytes().all(is_plain) {
            return Err(bad);
        }
        heapless::String::try_from(text).map(Self).map_err(|_| bad)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a VM was prepared before a customer asked for it (facts: PPS types).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PreProvisioning {
    /// A normal VM.
    None,
    /// Waits for a network switch.
    Running,
    /// Waits frozen.
    Savable,
    /// Only its disk is kept.
    OsDisk,
    /// A word we do not know.
    Unknown,
}

impl PreProvisioning {
    /// Azure's word for it, in ovf-env.xml (PreprovisionedVMType) and IMDS (ppsType).
    #[must_use]
    pub fn of_azure(word: &str) -> Self {
        match word {
            "" | "None" => Self::None,
            "Running" => Self::Running,
            "Savable" => Self::Savable,
            "PreprovisionedOSDisk" => Self::OsDisk,
            _ => Self::Unknown,
        }
    }
}

/// Everything the sources said, merged. The rules of the merge: IMDS wins over the medium for host name,
/// user name, password login and keys (keys only if all of them are OpenSSH); password and customData come
/// from the medium only; userData (IMDS) stands in when there is no customData.
pub struct Facts {
    /// Which VM this is.
    pub instance_id: Option<Fact<InstanceId>>,
    /// Its name.
    pub hostname: Option<Fact<Hostname>>,
    /// The administrator.
    pub user: Option<Fact<UserName>>,
    /// Hash of the administrator's password.
    pub password: Option<Fact<PasswordHash>>,
    /// Whether sshd takes passwords; `None`: leave the image's setting.
    pub password_login: Option<Fact<bool>>,
    /// The administrator's keys.
    pub keys: Option<Fact<SshKeys>>,
    /// Length of customData in the seed, decoded.
    pub custom_data: Option<Fact<u64>>,
    /// The platform says customData exists (IMDS `extended.compute.hasCustomData`).
    pub has_custom_data: Option<Fact<bool>>,
    /// Azure's own agent is wanted in the guest (ProvisionGuestAgent).
    pub wants_guest_agent: Option<Fact<bool>>,
    /// Unsigned requests are refused (ProvisionGuestProxyAgent): ask nothing before the proxy agent runs.
    pub wants_proxy_agent: Option<Fact<bool>>,
    /// Pre-provisioning type.
    pub pre_provisioning: Option<Fact<PreProvisioning>>,
    /// IMDS has an `osProfile`: false there and no medium means a specialised disk, which is left alone.
    pub has_os_profile: Option<Fact<bool>>,
    /// Its network; empty where nobody said anything about it.
    pub network: Network,
    /// Who said it.
    pub network_from: Option<Provenance>,
}

impl Facts {
    /// Nothing known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            instance_id: None,
            hostname: None,
            user: None,
            password: None,
            password_login: None,
            keys: None,
            custom_data: None,
            has_custom_data: None,
            wants_guest_agent: None,
            wants_proxy_agent: None,
            pre_provisioning: None,
            has_os_profile: None,
            network: Network::new(),
            network_from: None,
        }
    }
}

impl Facts {
    /// Of what pool this VM is, as far as anybody said.
    #[must_use]
    pub fn pool(&self) -> PreProvisioning {
        self.pre_provisioning.as_ref().map_or(PreProvisioning::None, |fact| fact.value)
    }
}

impl Fact<bool> {
    /// True when somebody said so.
    #[must_use]
    pub fn is_true(fact: Option<&Self>) -> bool {
        fact.is_some_and(|fact| fact.value)
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Hostname, InstanceId, PasswordHash, SshKey, SshKeys, UserName};

    #[test]
    fn a_user_name_cannot_break_passwd() {
        for bad in ["", "a:b", "a\nb", "-x", "1a", "a b", "../a", "ü", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(UserName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["azureuser", "_svc", "a.b-c_d", " ops\n", "Admin"] {
            assert!(UserName::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_host_name_is_rfc_1123() {
        for bad in ["", "-a", "a-", "a..b", "a_b", "a b", "a\nb", ".a"] {
            assert!(Hostname::parse(bad).is_err(), "{bad:?}");
        }
        let name = Hostname::parse(" edge-vm-01.example \n").unwrap();
        assert_eq!((name.as_str(), name.short()), ("edge-vm-01.example", "edge-vm-01"));
        assert!(Hostname::parse(&std::string::String::from_iter(['a'; 65])).is_err());
    }

    #[test]
    fn a_hash_cannot_break_shadow() {
        assert!(PasswordHash::parse("$6$salt$abc/.").is_ok());
        for bad in ["", "plain", "$6$a:b", "$6$a\nb", "$6$a b"] {
            assert!(PasswordHash::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_kept_once_and_in_order() {
        let mut keys = SshKeys::new();
        let (a, b) = ("ssh-ed25519 AAAAC3Nz a@b", "from=\"10.0.0.0/8\" ecdsa-sha2-nistp256 AAAAE2Vj c");
        for line in [a, b, " ssh-ed25519 AAAAC3Nz a@b\n"] {
            keys.push(SshKey::parse(line).unwrap()).unwrap();
        }
        assert_eq!(keys.as_str(), std::format!("{a}\n{b}\n"));
        for bad in
            ["", "ssh-rsa", "-----BEGIN CERTIFICATE-----", "ssh-rsa AAAA\nssh-rsa AAAA", "ssh-rsa BBBB"]
        {
            assert!(SshKey::parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Vectors: cloud-init tests/unittests/sources/azure/test_identity.py.
    #[test]
    fn the_swapped_form_names_the_same_vm() {
        for (system, vm) in [
            ("527c2691-029f-fe4c-b1f4-a4da7ebac2cf", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf"),
            ("550E8400-E29B-41D4-A716-446655440000", "00840e55-9be2-d441-a716-446655440000"),
            ("544cdfd0-cb4e-4b4a-9954-5bdf3ed5c3b8", "d0df4c54-4ecb-4a4b-9954-5bdf3ed5c3b8"),
        ] {
            let system = InstanceId::parse(system).unwrap();
            let vm = InstanceId::parse(vm).unwrap();
            assert_eq!(system.swapped().unwrap(), vm);
            assert_eq!(vm.swapped().unwrap(), system);
            assert!(vm.is_same_vm(&system) && system.is_same_vm(&vm));
        }
        assert!(InstanceId::parse("i-123").unwrap().swapped().is_none());
        assert!(InstanceId::parse("../etc").is_err());
    }
}
