//! What does merged cloud-config ask for? Each key at its top has a row in [`ROWS`]: who reads it.
//!
//! What the seed has an entry for goes through preroot's own `format::cloud_config`, as the mappings of vendor_data.json
//! do; what needs a shell becomes a script ([`commands`]); the rest is named with its line.

pub mod commands;
mod files;
pub(crate) mod mapping;
mod programs;
mod repositories;
mod storage;
mod users;

use crate::limits::Budget;
use crate::note::{Note, Notes, Origin};
use crate::yaml::{Node, Value};
use preroot::format::translation::{KEYS, Rule};
use std::collections::BTreeMap;

/// Entries of a seed, by name.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// Where a script is kept, which says when it runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Each boot, before the network.
    Boot,
    /// Once for each instance, before all that follow: certificates and packages.
    First,
    /// Once for this disk.
    PerOnce,
    /// Each boot.
    PerBoot,
    /// Once for each instance.
    PerInstance,
    /// Likewise; the platform's.
    Vendor,
    /// Likewise; whoever made the VM.
    User,
}

impl Place {
    /// Its directory below /var/lib/preroot/scripts.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::First => "first",
            Self::PerOnce => "per-once",
            Self::PerBoot => "per-boot",
            Self::PerInstance => "per-instance",
            Self::Vendor => "vendor",
            Self::User => "user",
        }
    }
}

/// A script to be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// When.
    pub place: Place,
    /// Scripts of one place run in the order of their names.
    pub name: String,
    /// Its text.
    pub content: Vec<u8>,
}

/// What is read from one configuration.
pub struct Reading<'r> {
    /// Documents by the numbers in their nodes.
    pub origins: &'r [Origin],
    /// What is to be told.
    pub notes: &'r mut Notes,
    /// For the seed.
    pub entries: Entries,
    /// To be run.
    pub scripts: Vec<Script>,
    /// The key at the top that is read.
    key: String,
    /// What is said of the image's default account.
    default_user: Option<Node>,
    /// Lines of the shell for accounts, once they are there.
    for_accounts: String,
    /// For what is unpacked here.
    budget: Budget,
    /// Files beside those of `write_files`: path, mode, content.
    files: Vec<(String, &'static str, String)>,
}

/// Who reads a key.
enum Act {
    /// preroot's own reader, as it is.
    Mapping,
    Users,
    Files,
    Storage,
    Commands,
    Packages,
    Ending,
    RandomSeed,
    Groups,
    Certificates,
    HostKeys,
    /// Somebody read it already.
    Quiet,
    /// Done in the initrd or by apply, whatever is said here.
    Early,
    /// Means nothing here, and does no harm.
    Nothing,
}

const ROWS: &[(&str, Act)] = &[
    ("hostname", Act::Mapping),
    ("fqdn", Act::Mapping),
    ("prefer_fqdn_over_hostname", Act::Mapping),
    ("preserve_hostname", Act::Mapping),
    ("manage_etc_hosts", Act::Mapping),
    ("timezone", Act::Mapping),
    ("locale", Act::Mapping),
    ("manage_resolv_conf", Act::Mapping),
    ("nameservers", Act::Mapping),
    ("ntp_servers", Act::Mapping),
    ("resolv_conf", Act::Mapping),
    ("ntp", Act::Mapping),
    ("ssh_authorized_keys", Act::Mapping),
    ("disable_root", Act::Mapping),
    ("ssh_pwauth", Act::Mapping),
    ("password", Act::Mapping),
    ("chpasswd", Act::Mapping),
    ("users", Act::Users),
    ("write_files", Act::Files),
    ("disk_setup", Act::Storage),
    ("fs_setup", Act::Storage),
    ("mounts", Act::Storage),
    ("mount_default_fields", Act::Quiet),
    ("swap", Act::Storage),
    ("device_aliases", Act::Quiet),
    ("runcmd", Act::Commands),
    ("bootcmd", Act::Commands),
    ("apt", Act::Packages),
    ("yum_repos", Act::Packages),
    ("yum_repo_dir", Act::Packages),
    ("zypper", Act::Packages),
    ("packages", Act::Packages),
    ("package_update", Act::Packages),
    ("package_upgrade", Act::Packages),
    ("package_reboot_if_required", Act::Packages),
    // Their names of old.
    ("apt_update", Act::Packages),
    ("apt_upgrade", Act::Packages),
    ("apt_reboot_if_required", Act::Packages),
    ("final_message", Act::Ending),
    ("power_state", Act::Ending),
    ("random_seed", Act::RandomSeed),
    ("user", Act::Quiet),
    ("groups", Act::Groups),
    ("ca_certs", Act::Certificates),
    ("ca-certs", Act::Certificates),
    ("ssh_keys", Act::HostKeys),
    ("phone_home", Act::Ending),
    // Root has no keys then, with options or without.
    ("disable_root_opts", Act::Nothing),
    ("ssh", Act::Nothing),
    ("ssh_publish_hostkeys", Act::Nothing),
    ("growpart", Act::Early),
    ("resize_rootfs", Act::Early),
    ("ssh_deletekeys", Act::Early),
    ("ssh_genkeytypes", Act::Quiet),
    ("migrate", Act::Nothing),
    ("launch-index", Act::Quiet),
    ("vendor_data", Act::Quiet),
    ("merge_how", Act::Quiet),
    ("merge_type", Act::Quiet),
    ("no_ssh_fingerprints", Act::Nothing),
    ("ssh_quiet_keygen", Act::Nothing),
    ("ssh_fp_console_blacklist", Act::Nothing),
    ("ssh_key_console_blacklist", Act::Nothing),
    ("apt_pipelining", Act::Nothing),
    ("byobu_by_default", Act::Nothing),
    ("disable_ec2_metadata", Act::Nothing),
    ("output", Act::Nothing),
    ("reporting", Act::Nothing),
    ("version", Act::Nothing),
];

fn known(config: &Node) -> Node {
    let is_known = |key: &Node| key.as_str().is_some_and(|key| ROWS.iter().any(|(name, _)| *name == key));
    let entries = config.entries().iter().filter(|(key, _)| is_known(key));
    config.with(Value::Map(entries.cloned().collect()))
}

impl<'r> Reading<'r> {
    /// Reads a whole configuration, a mapping; what is said of it is put into `notes`.
    pub fn new(origins: &'r [Origin], notes: &'r mut Notes) -> Self {
        Self {
            origins,
            notes,
            entries: Entries::new(),
            scripts: Vec::new(),
            key: String::new(),
            default_user: None,
            for_accounts: String::new(),
            budget: Budget::default(),
            files: Vec::new(),
        }
    }

    /// Reads it all.
    pub fn read(&mut self, config: &Node) {
        let mut plain = Vec::new();
        let all = config;
        // Whoever looks for a key looks at no more than there are rows.
        let config = &known(config);
        self.default_user = users::default_of(config);
        for (key, value) in all.entries() {
            self.key = key.python_text().unwrap_or_default();
            let known = ROWS.iter().find(|(name, _)| *name == self.key).map(|(_, act)| act);
            match known {
                // `key:` alone asks for nothing.
                Some(_) if value.is_null() => {}
                Some(Act::Mapping) => match mapping::prepared(&self.key, value) {
                    value if mapping::is_usable(&self.key, &value) => plain.push((key.clone(), value)),
                    _ => self.note(Rule::BadValue, value, ""),
                },
                Some(Act::Users) => plain.push((key.clone(), users::prepared(self, value))),
                Some(Act::Files) => plain.push((key.clone(), files::prepared(self, value))),
                Some(Act::Storage) => storage::read(self, config, value),
                Some(Act::Commands) => commands::read(self, value),
                Some(Act::Groups) => users::read_groups(self, value),
                Some(Act::Certificates) => programs::read_certificates(self, value),
                Some(Act::HostKeys) => files::read_host_keys(self, value),
                Some(Act::RandomSeed) => programs::read_random_seed(self, value),
                Some(Act::Ending) => programs::read_ending(self, value),
                Some(Act::Packages | Act::Quiet) => {}
                Some(Act::Early) => self.note(Rule::Early, key, ""),
                Some(Act::Nothing) => self.note(Rule::Nothing, key, ""),
                None if KEYS.contains(&self.key.as_str()) && !self.key.is_empty() => {
                    self.note(Rule::Unsupported, key, "");
                }
                None => {
                    let name = std::mem::take(&mut self.key);
                    self.note(Rule::UnknownKey, key, &name);
                }
            }
        }
        mapping::read(self, &config.with(Value::Map(plain)));
        files::put_kinds_of_keys(self, config);
        files::put_others(self);
        self.set_key("user");
        users::put_default(self);
        users::put_rest(self);
        repositories::read(self, config);
        programs::read_packages(self, config, &repositories::missing(all));
    }

    /// Notes something about a value.
    pub(crate) fn note(&mut self, rule: Rule, node: &Node, detail: &str) {
        let origin = self.origins.get(usize::from(node.document)).copied().unwrap_or_default();
        let note = Note { rule, origin, line: node.line, key: self.key.clone(), detail: detail.into() };
        self.notes.push(note);
    }

    pub(crate) fn set_key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn script(&mut self, place: Place, name: &str, content: impl Into<Vec<u8>>) {
        self.scripts.push(Script { place, name: name.into(), content: content.into() });
    }
}
