//! preroot.conf and waagent.conf: what did the image's maker settle, and which line settled it?
//!
//! Both have waagent's grammar (`ConfigurationProvider.load` of WALinuxAgent, common/conf.py): `KEY=VALUE` lines, the
//! last one of a key counts. A line without `=` or starting with `#` says nothing, a value ends at `#`, quotes and
//! blanks around it go, `None` takes back what was said. A switch is `y` or `n` in any case. A value that is none of
//! its key's leaves the default, which for some keys is not the same without any file as with a waagent.conf.

use super::cloud_cfg::{self, CloudModules, Item};
use super::text::{bare, lines, split_once};
use crate::facts::UserName;

/// Bytes of all values said together; paths and mount options, a few dozen bytes each.
const VALUES: usize = 1024;

/// What the values of a key are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `y` or `n`.
    Switch,
    /// A number as Python's `int` reads it, from 0 to 2^32 - 1.
    Number,
    /// As `Number`; there may be none by default.
    Optional,
    /// An absolute path without `..`.
    Path,
    /// Printable ASCII without blanks, or nothing.
    Word,
    /// An agent that provisions.
    Agent,
    /// A login name.
    User,
    /// A word of `manage_etc_hosts`.
    Hosts,
    /// A type of SSH host keys.
    HostKeys,
    /// A file system to be made.
    FileSystem,
    /// What the network is written for.
    Network,
}

impl Kind {
    /// What a value has to be, for a person whose value is not.
    #[must_use]
    pub const fn wanted(self) -> &'static str {
        match self {
            Self::Switch => "wants y or n",
            Self::Number | Self::Optional => "wants a number",
            Self::Path => "wants an absolute path",
            Self::Word => "wants no blanks",
            Self::User => "wants a login name",
            Self::Agent => "wants auto preroot waagent cloud-init disabled",
            Self::Hosts => "wants localhost template true false",
            Self::HostKeys => "wants auto rsa dsa ecdsa ed25519",
            Self::FileSystem => "wants ext4 ext3 ext2 xfs btrfs",
            Self::Network => "wants auto disabled networkd networkmanager ifupdown netplan",
        }
    }

    fn takes(self, text: &str) -> bool {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        match self {
            Self::Switch => switch(text).is_some(),
            Self::Number | Self::Optional => number(text).is_some(),
            // A `:` would be the end of it in passwd.
            Self::Path => {
                let is_one = is_printable && text.starts_with('/') && !text.contains(':');
                is_one && text.split('/').all(|name| name != "..")
            }
            Self::Word => is_printable,
            Self::User => UserName::parse(text).is_ok(),
            Self::Agent | Self::Hosts | Self::HostKeys | Self::FileSystem | Self::Network => {
                self.wanted().split(' ').skip(1).any(|word| word == text)
            }
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in both files: the same, so that a waagent.conf can be copied.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// Two words: the default of waagent's code, for an image that has a waagent.conf, and the one without.
    defaults: &'static str,
}

impl Key {
    /// The default; empty where it is none.
    fn default(&self, is_waagents: bool) -> &'static str {
        let (waagents, ours) = split_once(self.defaults, " ").unwrap_or_default();
        match if is_waagents { waagents } else { ours } {
            NONE => "",
            text => text,
        }
    }
}

/// Takes back what was said.
const NONE: &str = "None";

macro_rules! value_of {
    (Switch) => { bool };
    (Number) => { u32 };
    (Optional) => { Option<u32> };
    ($text:ident) => { &str };
}
macro_rules! read_as {
    (Switch, $text:expr) => {
        switch($text).unwrap_or_default()
    };
    (Number, $text:expr) => {
        number($text).unwrap_or_default()
    };
    (Optional, $text:expr) => {
        number($text)
    };
    ($kind:ident, $text:expr) => {
        $text
    };
}
macro_rules! keys {
    ($($(#[$doc:meta])* $get:ident: $kind:ident = $name:literal, $defaults:literal;)*) => {
        #[expect(non_camel_case_types, reason = "each is the position of the accessor of the same name")]
        #[derive(Clone, Copy)]
        enum At { $($get),* }

        /// Every key, in the order they are shown.
        pub const KEYS: &[Key] =
            &[$(Key { name: $name, kind: Kind::$kind, defaults: $defaults }),*];

        impl Config {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $get(&self) -> value_of!($kind) {
                    read_as!($kind, self.text(At::$get as usize))
                }
            )*
        }
    };
}

keys! {
    /// Who provisions, as the file says it; what that means is [`Config::agent`]'s to say.
    provisioning_agent: Agent = "Provisioning.Agent", "auto auto";
    /// Root's password is locked.
    delete_root_password: Switch = "Provisioning.DeleteRootPassword", "n n";
    /// The image's own host name stays.
    preserve_hostname: Switch = "Provisioning.PreserveHostname", "n n";
    /// Who looks after /etc/hosts, a word of cloud-init's `manage_etc_hosts`.
    manage_etc_hosts: Hosts = "Provisioning.ManageEtcHosts", "localhost localhost";
    /// Modules of `apply` that are not to run, between commas.
    skip_modules: Word = "Provisioning.SkipModules", "None None";
    /// Who gets keys and passwords that are for nobody by name.
    default_user: User = "Provisioning.DefaultUser", "root root";
    /// LVM and LUKS below the root grow too, by the image's own programs.
    grow_stack: Switch = "RootDisk.GrowStack", "n n";
    /// SSH host keys that came with the image are replaced.
    regenerate_ssh_host_keys: Switch = "Provisioning.RegenerateSshHostKeyPair", "n y";
    /// Which SSH host keys are made; `auto` is `ssh-keygen -A`.
    ssh_host_key_type: HostKeys = "Provisioning.SshHostKeyPairType", "rsa auto";
    /// A host name that changes later is published again.
    monitor_host_name: Switch = "Provisioning.MonitorHostName", "n n";
    /// customData is kept decoded; without, as the platform sent it.
    decode_custom_data: Switch = "Provisioning.DecodeCustomData", "n y";
    /// customData is run once.
    execute_custom_data: Switch = "Provisioning.ExecuteCustomData", "n n";
    /// What `#include` in user data names is fetched.
    include: Switch = "Provisioning.Include", "n n";
    /// The platform may name a system account as the administrator.
    allow_reset_sys_user: Switch = "Provisioning.AllowResetSysUser", "n n";
    /// The resource disk is formatted when it is fresh, and mounted.
    resource_disk_format: Switch = "ResourceDisk.Format", "n y";
    /// With this file system.
    resource_disk_file_system: FileSystem = "ResourceDisk.Filesystem", "ext3 ext4";
    /// A disk below this component of its sysfs path (`0000:00:1e.0`) is the resource disk too; an NVMe disk there is a
    /// local one. For machines whose places preroot does not know; empty for none.
    resource_disk_place: Word = "ResourceDisk.Place", "None None";
    /// Here.
    resource_disk_mount_point: Path = "ResourceDisk.MountPoint", "/mnt/resource /mnt/resource";
    /// With these options of mount(8), separated by commas; empty for none.
    resource_disk_mount_options: Word = "ResourceDisk.MountOptions", "None None";
    /// A swap file is made on it.
    resource_disk_swap: Switch = "ResourceDisk.EnableSwap", "n n";
    /// Its content is encrypted with a key of this boot.
    resource_disk_swap_encryption: Switch = "ResourceDisk.EnableSwapEncryption", "n n";
    /// Its size in MiB.
    resource_disk_swap_size_mb: Number = "ResourceDisk.SwapSizeMB", "0 0";
    /// SCSI disks get this time for an answer, in seconds; none: the kernel's.
    scsi_timeout_s: Optional = "OS.RootDeviceScsiTimeout", "None None";
    /// sshd asks a silent client for a sign of life after this time, in seconds; none: the image's choice.
    ssh_client_alive_interval_s: Optional = "OS.SshClientAliveInterval", "180 None";
    /// Homes are made here.
    home_directory: Path = "OS.HomeDir", "/home /home";
    /// What the network that the platform describes is written for, if for anything.
    network: Network = "Network.Config", "auto auto";
    /// waagent's state.
    agent_directory: Path = "Lib.Dir", "/var/lib/waagent /var/lib/waagent";
    /// Logs of waagent's extensions.
    extension_log_directory: Path = "Extension.LogDir", "/var/log/azure /var/log/azure";
}

/// A line of a file: which one is the caller's number, from 1; lines count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The file; 0 is none.
    pub file: u16,
    /// The line.
    pub line: u16,
}

/// The last line that named a key.
#[derive(Clone, Copy, Default)]
struct Said {
    place: Place,
    from: u16,
    length: u16,
    is_understood: bool,
}

impl Said {
    fn set(&mut self, place: Place, value: &str, values: &mut heapless::String<VALUES>) -> Result<(), Fault> {
        let from = values.len();
        values.push_str(value).map_err(|_| "is more than preroot holds")?;
        let short = |n: usize| u16::try_from(n).unwrap_or_default();
        *self = Self { place, from: short(from), length: short(value.len()), is_understood: true };
        Ok(())
    }
}

/// What holds for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting<'c> {
    /// Its value.
    pub value: &'c str,
    /// The last line that named it, if one did.
    pub place: Option<Place>,
    /// That line decided; otherwise the default holds in spite of it.
    pub is_decided: bool,
}

/// What is wrong with a line of a file of ours. In a waagent.conf nothing is: it speaks to waagent.
pub type Fault = &'static str;

/// Every setting. 1.5 KiB.
pub struct Config {
    cloud: CloudModules,
    said: [Said; KEYS.len()],
    values: heapless::String<VALUES>,
    is_waagents: bool,
}

impl Config {
    /// Nothing was said yet. `is_waagents`: the file to be read is waagent's, and so are the defaults.
    #[must_use]
    pub const fn new(is_waagents: bool) -> Self {
        const NOTHING: Said =
            Said { place: Place { file: 0, line: 0 }, from: 0, length: 0, is_understood: false };
        Self {
            cloud: CloudModules::new(),
            said: [NOTHING; KEYS.len()],
            values: heapless::String::new(),
            is_waagents,
        }
    }

    /// True when the settings are those of a waagent.conf.
    #[must_use]
    pub const fn is_waagents(&self) -> bool {
        self.is_waagents
    }

    /// Reads one more file, whose lines count more than those before. `fault` hears what is wrong with a line.
    pub fn read(&mut self, file: u16, text: &[u8], fault: &mut dyn FnMut(Place, Fault)) {
        for (line, n) in lines(text).zip((1..u16::MAX).chain(core::iter::repeat(u16::MAX))) {
            let place = Place { file, line: n };
            if let Err(told) = self.read_line(place, bare(line))
                && !self.is_waagents
            {
                fault(place, told);
            }
        }
    }

    fn read_line(&mut self, place: Place, line: &[u8]) -> Result<(), Fault> {
        if stripped(line, is_space).first().is_none_or(|first| *first == b'#') {
            return Ok(());
        }
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let name = stripped(halves.next().unwrap_or_default(), is_space);
        let value = halves.next().ok_or("has no =")?;
        let known = KEYS.iter().zip(&mut self.said).find(|(key, _)| key.name.as_bytes() == name);
        let (key, said) = known.ok_or("names no key of preroot")?;
        let value = value.split(|byte| *byte == b'#').next().unwrap_or_default();
        let value = stripped(stripped(value, |byte| matches!(byte, b'"' | b' ')), is_space);
        *said = Said { place, ..Said::default() };
        if value == NONE.as_bytes() {
            return Ok(());
        }
        let value = core::str::from_utf8(value).ok().filter(|value| key.kind.takes(value));
        let value = value.ok_or(key.kind.wanted())?;
        said.set(place, value, &mut self.values)
    }

    /// What holds for the n-th of [`KEYS`].
    #[must_use]
    pub fn setting(&self, n: usize) -> Setting<'_> {
        let said = self.said.get(n).copied().unwrap_or_default();
        let from = usize::from(said.from);
        let text = self.values.get(from..from.saturating_add(usize::from(said.length)));
        let default = KEYS.get(n).map_or("", |key| key.default(self.is_waagents));
        Setting {
            value: if said.is_understood { text.unwrap_or_default() } else { default },
            place: (said.place.file > 0).then_some(said.place),
            is_decided: said.is_understood,
        }
    }

    fn text(&self, n: usize) -> &str {
        self.setting(n).value
    }

    /// True when a file says that SSH host keys are to stay: not the same as no file saying anything.
    #[must_use]
    pub fn keeps_ssh_host_keys(&self) -> bool {
        self.setting(At::regenerate_ssh_host_keys as usize).is_decided && !self.regenerate_ssh_host_keys()
    }

    /// Reads a cloud.cfg or a file of cloud.cfg.d: whatever stands in one of ours counts more, so these come first.
    pub fn read_cloud(&mut self, file: u16, text: &[u8]) {
        let Self { cloud, said, values, .. } = self;
        cloud_cfg::read(text, &mut |line, it| {
            let (at, value) = match it {
                Item::List(list) => return cloud.begin(list),
                Item::Module(list, name) => return cloud.add(list, name),
                Item::PreserveHostname(is_so) => (At::preserve_hostname, if is_so { "y" } else { "n" }),
                Item::DefaultUser(name) => (At::default_user, name),
            };
            let (n, place) = (at as usize, Place { file, line });
            let takes = KEYS.get(n).is_some_and(|key| key.kind.takes(value));
            if takes && let Some(said) = said.get_mut(n) {
                // Without room the default holds.
                let _ = said.set(place, value, values);
            }
        });
    }

    /// True when the image's cloud.cfg lists the modules of cloud-init, and this one is not among them.
    #[must_use]
    pub fn cloud_lacks(&self, module: &str) -> bool {
        self.cloud.lacks(module)
    }

    /// True when a file of ours says who looks after /etc/hosts.
    #[must_use]
    pub fn decides_etc_hosts(&self) -> bool {
        self.setting(At::manage_etc_hosts as usize).is_decided
    }

    /// True for a module that is not to run.
    #[must_use]
    pub fn skips(&self, module: &str) -> bool {
        self.skip_modules().split(',').any(|name| name == module)
    }

    /// Who provisions, as preroot.conf says it. A waagent.conf tells waagent whether cloud-init does or itself, and
    /// knows nothing of preroot: that is `auto`.
    #[must_use]
    pub fn agent(&self) -> &str {
        if self.is_waagents { "auto" } else { self.provisioning_agent() }
    }
}

/// What Python's `str.strip` takes away, of ASCII.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0x1c..=0x1f)
}

/// Python's `str.strip`.
fn stripped(text: &[u8], is_waste: fn(u8) -> bool) -> &[u8] {
    let is_kept = |byte: &u8| !is_waste(*byte);
    let from = text.iter().position(is_kept).unwrap_or(text.len());
    let end = text.iter().rposition(is_kept).map_or(from, |last| last.saturating_add(1));
    text.get(from..end).unwrap_or_default()
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" => Some(true),
        "n" | "N" => Some(false),
        _ => None,
    }
}

/// Decimal digits, single underscores between them, `+` before them.
fn number(text: &str) -> Option<u32> {
    let (mut number, mut was_digit) = (0u32, false);
    for byte in text.strip_prefix('+').unwrap_or(text).bytes() {
        let is_digit = byte.is_ascii_digit();
        if is_digit {
            number = number.checked_mul(10)?.checked_add(u32::from(byte.wrapping_sub(b'0')))?;
        } else if byte != b'_' || !was_digit {
            return None;
        }
        was_digit = is_digit;
    }
    was_digit.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::{Config, KEYS, Key, Kind, number};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::string::{String, ToString};
    use std::vec::Vec;

    const CASES: &str = include_str!("../../tests/fixtures/waagent/conf.txt");

    fn is_value(key: &Key, text: &str) -> bool {
        key.kind.takes(text) || (key.kind == Kind::Optional && text.is_empty())
    }

    fn unescaped(text: &str) -> String {
        let mut chars = text.chars();
        core::iter::from_fn(|| match chars.next()? {
            '\\' => Some(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'v' => '\x0b',
                'f' => '\x0c',
                other => other,
            }),
            other => Some(other),
        })
        .collect()
    }

    fn config_of(is_waagents: bool, text: &[u8]) -> (Config, Vec<(u16, &'static str)>) {
        let (mut config, mut faults) = (Config::new(is_waagents), Vec::new());
        config.read(1, text, &mut |place, fault| faults.push((place.line, fault)));
        (config, faults)
    }

    #[test]
    fn more_lines_than_can_be_counted_are_read() {
        let text = "\n".repeat(70_000) + "Provisioning.Agent=disabled\nnonsense\n";
        let (config, faults) = config_of(false, text.as_bytes());
        assert_eq!((config.agent(), faults.len()), ("disabled", 1));
    }

    /// Where our rule for values is the narrower one, the default is to hold.
    #[test]
    fn a_waagent_conf_is_read_as_waagent_reads_it() {
        for case in CASES.lines() {
            let mut fields = case.split('\t').map(unescaped);
            let text = fields.next().unwrap();
            let said: Vec<(String, String)> = fields
                .map(|field| field.split_once('=').map(|(k, v)| (k.to_string(), v.to_string())).unwrap())
                .collect();
            let (config, faults) = config_of(true, text.as_bytes());
            assert!(faults.is_empty());
            for (n, key) in KEYS.iter().enumerate() {
                let theirs = said.iter().find(|(name, _)| name == key.name).map(|(_, value)| value.as_str());
                let ours = config.setting(n).value;
                let same = |value: &str| match key.kind {
                    Kind::Switch => ours.eq_ignore_ascii_case(value),
                    Kind::Number | Kind::Optional => number(ours) == number(value),
                    _ => ours == value,
                };
                match theirs.filter(|value| key.kind.takes(value)) {
                    Some(value) => assert!(same(value), "{text:?}: {} = {ours:?}, not {value:?}", key.name),
                    None => assert_eq!(ours, key.default(true), "{text:?}: {}", key.name),
                }
            }
        }
        assert_eq!(CASES.lines().count(), 475);
    }

    #[test]
    fn defaults_are_values_and_follow_the_file() {
        for key in KEYS {
            assert!(
                [false, true].iter().all(|is_waagents| is_value(key, key.default(*is_waagents))),
                "{}",
                key.name
            );
        }
        let (ours, waagents) = (Config::new(false), Config::new(true));
        assert!(ours.resource_disk_format() && !waagents.resource_disk_format());
        assert_eq!((ours.scsi_timeout_s(), waagents.scsi_timeout_s()), (None, None));
        assert_eq!(waagents.resource_disk_file_system(), "ext3");
    }

    #[test]
    fn every_key_is_documented_with_its_defaults() {
        let page = include_str!("../../docs/configuration.md");
        for key in KEYS {
            let row = page.lines().find(|line| line.starts_with(&std::format!("| `{}` |", key.name)));
            let mut cells = row.unwrap_or_else(|| panic!("no row for {}", key.name)).split(" | ").skip(2);
            for is_waagents in [false, true] {
                let default =
                    Some(key.default(is_waagents)).filter(|text| !text.is_empty()).unwrap_or("None");
                assert_eq!(cells.next().unwrap(), std::format!("`{default}`"), "{}", key.name);
            }
        }
        let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains('.'));
        assert_eq!(rows.count(), KEYS.len());
    }

    #[test]
    fn a_later_file_counts_and_none_takes_back() {
        let (mut config, _) = config_of(false, b"ResourceDisk.MountPoint=/a\nResourceDisk.SwapSizeMB=8\n");
        config.read(
            2,
            b"# x\nResourceDisk.MountPoint = \"/b\"  # why\nResourceDisk.SwapSizeMB=None",
            &mut |_, _| panic!("no fault"),
        );
        assert_eq!((config.resource_disk_mount_point(), config.resource_disk_swap_size_mb()), ("/b", 0));
        let at = |name| {
            let setting = config.setting(KEYS.iter().position(|key| key.name == name).unwrap());
            (setting.place.map(|place| (place.file, place.line)), setting.is_decided)
        };
        assert_eq!(at("ResourceDisk.MountPoint"), (Some((2, 2)), true));
        assert_eq!(at("ResourceDisk.SwapSizeMB"), (Some((2, 3)), false));
        assert_eq!(at("ResourceDisk.Format"), (None, false));
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_the_default_holds() {
        let text = b"ResourceDisk.Format=yes\n\n# ok\nResourceDisk.Fromat=y\nnonsense\n\xff=1\nResourceDisk.Filesystem=ufs2\nLib.Dir=/a/../..\n";
        let (config, faults) = config_of(false, text);
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4, 5, 6, 7, 8]);
        assert!(config.resource_disk_format());
        assert_eq!(config.agent_directory(), "/var/lib/waagent");
    }

    #[test]
    fn host_keys_stay_only_where_a_line_says_so() {
        let keeps = |is_waagents, text: &[u8]| config_of(is_waagents, text).0.keeps_ssh_host_keys();
        assert!(!keeps(true, b"") && !keeps(false, b""));
        assert!(keeps(true, b"Provisioning.RegenerateSshHostKeyPair=n"));
        assert!(!keeps(true, b"Provisioning.RegenerateSshHostKeyPair=y"));
        assert!(!keeps(true, b"Provisioning.RegenerateSshHostKeyPair=no"));
    }

    #[test]
    fn only_our_file_hands_provisioning_to_another() {
        for (is_waagents, text, agent) in [
            (true, &b"Provisioning.Agent=cloud-init"[..], "auto"),
            (false, b"", "auto"),
            (false, b"Provisioning.Agent=disabled", "disabled"),
        ] {
            assert_eq!(config_of(is_waagents, text).0.agent(), agent);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_leave_valid_settings(text in any::<Vec<u8>>(), is_waagents in any::<bool>()) {
            let (config, _) = config_of(is_waagents, &text);
            for (n, key) in KEYS.iter().enumerate() {
                prop_assert!(is_value(key, config.setting(n).value));
            }
        }

        #[test]
        fn what_is_written_is_read(path in "/[a-z/]{0,40}", size in any::<u32>(), is_on in any::<bool>()) {
            let switch = if is_on { "y" } else { "N" };
            let text = std::format!("ResourceDisk.MountPoint={path}\nResourceDisk.SwapSizeMB={size}\nResourceDisk.Format={switch}");
            let (config, faults) = config_of(false, text.as_bytes());
            prop_assert!(faults.is_empty());
            prop_assert_eq!(config.resource_disk_mount_point(), path);
            prop_assert_eq!((config.resource_disk_swap_size_mb(), config.resource_disk_format()), (size, is_on));
        }
    }
}
