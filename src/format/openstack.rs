//! What does an instance's metadata say? meta_data.json of a config drive, and NoCloud's meta-data, whose names differ.
//!
//! OpenStack nova, `nova/api/metadata/base.py`; cloud-init, sources/helpers/openstack.py and DataSourceNoCloud.py. What
//! is not asked for is skipped, a value of another type counts as absent, of a repeated key the last counts.

use super::base64::{Decoder, base64_rules};
use super::fields::{Scalar, Visit};
use super::sha256::Sha256;
use crate::error::{Error, Kind, Result};
use crate::facts::{Hostname, InstanceId, SshKey, SshKeys};
use crate::limits;
use crate::secret::Secret;
use core::fmt::Write as _;
use zeroize::Zeroize as _;

/// Bytes of a random seed that are kept; nova sends 512.
const RANDOM_SEED: usize = 512;

/// What cannot be used that is remembered; more are too many for a person.
const FAULTS: usize = 8;

/// A file to be made of another one of the medium.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InjectedFile {
    /// Where it belongs.
    pub path: heapless::String<{ limits::PATH }>,
    /// Its content below `openstack/`, without a leading `/`.
    pub content: heapless::String<{ limits::PATH }>,
}

/// What it says. 50 KiB: a static, not a local.
pub struct MetaData {
    /// `uuid`, `instance-id`.
    pub id: Option<InstanceId>,
    /// `hostname`, `local-hostname`.
    pub hostname: Option<Hostname>,
    /// What cannot be used, and is left out alone.
    pub faults: heapless::Vec<Error, FAULTS>,
    /// `public_keys` in every form, and the `ssh` ones of `keys`.
    pub keys: SshKeys,
    /// Lines of them that are no OpenSSH keys.
    pub refused_keys: u32,
    /// Keys there is no room for.
    pub lost_keys: u32,
    /// `admin_pass`, in clear.
    pub password: Secret<{ limits::PASSWORD }>,
    /// `random_seed`, decoded, as much of it as is used.
    pub random: heapless::Vec<u8, RANDOM_SEED>,
    /// `files`.
    pub files: heapless::Vec<InjectedFile, { limits::INJECTED_FILES }>,
    /// `launch_index`.
    pub launch_index: Option<u32>,
    /// `dsmode` says that this is none.
    pub is_disabled: bool,
    /// `seedfrom`: more is to be had elsewhere.
    pub names_seed: bool,
    file: InjectedFile,
    /// The item of `keys` being read: it is an SSH key; its line came first.
    is_ssh: bool,
    key: heapless::String<{ limits::SSH_KEY }>,
}

impl MetaData {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: None,
            hostname: None,
            faults: heapless::Vec::new(),
            keys: SshKeys::new(),
            refused_keys: 0,
            lost_keys: 0,
            password: Secret::new(),
            random: heapless::Vec::new(),
            files: heapless::Vec::new(),
            launch_index: None,
            is_disabled: false,
            names_seed: false,
            file: InjectedFile { path: heapless::String::new(), content: heapless::String::new() },
            is_ssh: false,
            key: heapless::String::new(),
        }
    }

    /// Forgets what was read.
    pub fn reset(&mut self) {
        (self.id, self.hostname, self.launch_index) = (None, None, None);
        self.faults.clear();
        self.keys.clear();
        self.password.wipe();
        self.forget_random();
        self.files.clear();
        (self.refused_keys, self.lost_keys, self.is_disabled, self.names_seed) = (0, 0, false, false);
        self.file = InjectedFile::default();
        (self.is_ssh, self.key) = (false, heapless::String::new());
    }

    /// Takes a host name, made fit where that is plain: `_` becomes `-` as glean has it, an address `ip-10-0-0-4`.
    pub fn set_hostname(&mut self, text: &str) {
        match hostname_of(text) {
            Ok(name) => self.hostname = name,
            Err(error) => self.note(error),
        }
    }

    fn add_keys(&mut self, text: &str) {
        for line in key_lines(text) {
            match SshKey::parse(line).and_then(|key| self.keys.push(key)) {
                Ok(()) => {}
                Err(error) if error.is(Kind::TooMany) => self.lost_keys = self.lost_keys.saturating_add(1),
                Err(_) => self.refused_keys = self.refused_keys.saturating_add(1),
            }
        }
    }

    /// True where somebody is to log in by a key, be it one that cannot be used.
    #[must_use]
    pub fn has_any_key(&self) -> bool {
        !self.keys.is_empty() || self.refused_keys > 0 || self.lost_keys > 0
    }

    fn note(&mut self, error: Error) {
        let _ = self.faults.push(error);
    }

    fn set_password(&mut self, text: &str) {
        self.password.wipe();
        if let Err(error) = self.password.push(too_many!("bytes of admin_pass"), text.as_bytes()) {
            // Half of it is no password.
            self.password.wipe();
            self.note(error);
        }
    }

    fn forget_random(&mut self) {
        self.random.as_mut_slice().zeroize();
        self.random.clear();
    }

    /// A text that is longer than any we keep.
    fn long(&mut self, place: &str) {
        match place {
            _ if is_key(place) || place == "keys/#/data" => self.lost_keys = self.lost_keys.saturating_add(1),
            "admin_pass" | "hostname" | "local-hostname" | "files/#/path" | "files/#/content_path" => {
                self.note(too_many!("bytes of a value of metadata", limits::SSH_KEY));
            }
            _ => {}
        }
    }

    /// A path; what is longer than any of ours leaves its file out.
    fn fitting(&mut self, text: &str) -> heapless::String<{ limits::PATH }> {
        heapless::String::try_from(text).unwrap_or_else(|_| {
            self.note(too_many!("path", limits::PATH));
            heapless::String::new()
        })
    }

    /// Python's decoder skips what is no character of base64; so the seed counts as far as it can be read.
    fn set_random(&mut self, text: &str) {
        self.forget_random();
        let random = &mut self.random;
        let mut decoder = Decoder::new(base64_rules!("random_seed"), limits::SSH_KEY);
        let mut keep = |bytes: &[u8]| {
            let room = random.capacity().saturating_sub(random.len());
            let _ = random.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
            Ok(())
        };
        let _ = decoder.push(text.as_bytes(), &mut keep).and_then(|()| decoder.finish(&mut keep));
    }
}

impl Default for MetaData {
    fn default() -> Self {
        Self::new()
    }
}

impl Visit for MetaData {
    fn scalar(&mut self, place: &str, value: Scalar<'_>) -> Result<()> {
        let text = match value {
            // Numbers are as good as strings where a name is wanted.
            Scalar::Text(text) | Scalar::Number(text) => text,
            Scalar::Bool(_) | Scalar::Null => return Ok(()),
            Scalar::Long => {
                self.long(place);
                return Ok(());
            }
        };
        match place {
            "uuid" | "instance-id" => self.id = id_of(text),
            "hostname" | "local-hostname" => self.set_hostname(text),
            "admin_pass" => self.set_password(text),
            "random_seed" => self.set_random(text),
            "dsmode" | "meta/dsmode" => self.is_disabled = text == "disabled",
            "launch_index" => self.launch_index = super::text::number(text.as_bytes()),
            "seedfrom" => self.names_seed = true,
            "files/#/path" => self.file.path = self.fitting(text),
            "files/#/content_path" => self.file.content = self.fitting(text.trim_start_matches('/')),
            "keys/#/type" => self.is_ssh = text == "ssh",
            "keys/#/data" => self.key = heapless::String::try_from(text).unwrap_or_default(),
            _ if is_key(place) && matches!(value, Scalar::Text(_)) => self.add_keys(text),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, place: &str) -> Result<()> {
        match place {
            "files/#" => {
                let file = core::mem::take(&mut self.file);
                let is_whole = !file.path.is_empty() && !file.content.is_empty();
                if is_whole && self.files.push(file).is_err() {
                    self.note(too_many!("injected files", limits::INJECTED_FILES));
                }
            }
            "keys/#" => {
                let key = core::mem::take(&mut self.key);
                if core::mem::take(&mut self.is_ssh) {
                    self.add_keys(&key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn wants_lines(&self, place: &str) -> bool {
        is_key(place)
    }
}

/// `public_keys` itself, or anything below it: a text, a list, a mapping to texts or lists (cloud-init's
/// `normalize_pubkey_data`), or to EC2's `openssh-key`.
fn is_key(place: &str) -> bool {
    ["public_keys", "public-keys"]
        .iter()
        .any(|name| place.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The keys of one text, a line each.
fn key_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The id as it is where it fits into a file's name; else its digest, so that two ids stay two.
#[must_use]
pub fn id_of(text: &str) -> Option<InstanceId> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    InstanceId::parse(text).ok().or_else(|| {
        let mut digest = Sha256::new();
        digest.push(text.as_bytes());
        let mut name = heapless::String::<64>::new();
        name.push_str("id-").ok()?;
        for byte in digest.finish().iter().take(24) {
            write!(name, "{byte:02x}").ok()?;
        }
        InstanceId::parse(&name).ok()
    })
}

/// `None` for an empty one: nobody named this machine.
///
/// # Errors
/// `Malformed` for what is no host name even so.
pub fn hostname_of(text: &str) -> Result<Option<Hostname>> {
    let text = text.trim_ascii().trim_end_matches('.');
    if text.is_empty() {
        return Ok(None);
    }
    let is_address = text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok());
    let mut name = heapless::String::<{ limits::HOSTNAME }>::new();
    let long = malformed!("host name", "host name longer than 64", 0);
    if is_address {
        name.push_str("ip-").map_err(|_| long)?;
    }
    for character in text.chars() {
        let character = match character {
            '_' => '-',
            '.' if is_address => '-',
            character => character,
        };
        name.push(character).map_err(|_| long)?;
    }
    Hostname::parse(&name).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{MetaData, hostname_of, id_of, is_key, key_lines};
    use crate::error::Result;
    use crate::format::cases::{Answer, run};
    use crate::format::fields::{Fields, Scalar, Visit};
    use proptest::prelude::{any, proptest};
    use serde_json::{Value, json};
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn read(document: &str) -> Result<Box<MetaData>> {
        let (mut fields, mut meta) = (Fields::new(), Box::new(MetaData::new()));
        fields.push(document.as_bytes(), &mut *meta)?;
        fields.finish(&mut *meta)?;
        Ok(meta)
    }

    #[test]
    fn a_drive_s_document_is_read() {
        let meta = read(
            r##"{"uuid":"3F1D2C8A-5b7e-4a90-9a55-1c0d7e2f9b11","hostname":"web_01.example.com","name":"web",
            "public_keys":{"mykey":"ssh-ed25519 AAAAC3Nz me@host\n"},
            "keys":[{"name":"mykey","type":"ssh","data":"ssh-ed25519 AAAAC3Nz me@host\n"},
                    {"data":"ssh-rsa AAAAB3Nz b","type":"ssh"},{"type":"x509","data":"ssh-rsa AAAAcert"}],
            "meta":{"dsmode":"local"},"files":[{"path":"/etc/motd","content_path":"/content/0000"},{"path":"x"}],
            "random_seed":"AAECAw==","devices":[{"uuid":"x"}],"admin_pass":"Qs634jUssypC"}"##,
        )
        .unwrap();
        assert_eq!(meta.id.as_ref().unwrap().as_str(), "3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11");
        assert_eq!(meta.hostname.as_ref().unwrap().as_str(), "web-01.example.com");
        assert_eq!(meta.keys.as_str(), "ssh-ed25519 AAAAC3Nz me@host\nssh-rsa AAAAB3Nz b\n");
        assert_eq!((meta.password.expose(), &meta.random[..]), (&b"Qs634jUssypC"[..], &[0, 1, 2, 3][..]));
        assert_eq!(meta.files.len(), 1);
        assert_eq!((&*meta.files[0].path, &*meta.files[0].content), ("/etc/motd", "content/0000"));
        assert!(!meta.is_disabled && meta.refused_keys == 0);
    }

    #[test]
    fn keys_of_one_long_text_are_all_read_and_what_has_no_room_is_counted_apart() {
        let key = |n: usize, length: usize| std::format!("ssh-rsa AAAA{} k{n}", "A".repeat(length));
        let keys: Vec<_> = (0..20).map(|n| key(n, 716)).collect();
        for keys in
            [json!(keys.join("\n")), json!([keys.join("\r\n")]), json!({"a": keys.join("\n"), "b": []})]
        {
            let meta = read(&json!({"uuid": "a", "public_keys": keys}).to_string()).unwrap();
            assert_eq!((meta.keys.lines().count(), meta.refused_keys, meta.lost_keys), (20, 0, 0));
        }
        let many: Vec<_> = (0..60).map(|n| key(n, 716)).collect();
        let text = std::format!("{}\nno key\n{}", many.join("\n"), key(60, 5000));
        let meta = read(&json!({"uuid": "a", "public_keys": text}).to_string()).unwrap();
        let kept = u32::try_from(meta.keys.lines().count()).unwrap();
        assert!(
            kept > 40 && meta.refused_keys == 1 && kept + meta.lost_keys == 61,
            "{kept} {}",
            meta.lost_keys
        );
    }

    #[test]
    fn one_odd_item_costs_itself_alone() {
        let file = |path: &str| json!({"path": path, "content_path": "/content/0"});
        let mut files: Vec<_> = (0..18).map(|n| file(&n.to_string())).collect();
        files[0] = file(&"x".repeat(300));
        let document = json!({"uuid": "a", "hostname": "x".repeat(5000), "admin_pass": "p".repeat(300),
            "files": files, "public_keys": "ssh-rsa AAAA"});
        let meta = read(&document.to_string()).unwrap();
        assert_eq!((meta.files.len(), meta.keys.lines().count(), meta.faults.len()), (16, 1, 4));
        assert!(meta.password.is_empty() && meta.files[0].path == "1");
    }

    #[test]
    fn a_reset_leaves_nothing() {
        let mut meta = read(r##"{"uuid":"a","admin_pass":"b","public_keys":"ssh-rsa AAAA","files":[{"path":"a","content_path":"b"}]}"##).unwrap();
        meta.reset();
        assert!(
            meta.id.is_none() && meta.password.is_empty() && meta.keys.is_empty() && meta.files.is_empty()
        );
    }

    #[test]
    fn two_ids_stay_two() {
        assert_eq!(id_of("iid-local01").unwrap().as_str(), "iid-local01");
        let (a, b) = (id_of("a/b").unwrap(), id_of("a:b").unwrap());
        assert!(a != b && a.as_str().starts_with("id-") && a == id_of("a/b\n").unwrap());
        assert!(id_of(" ").is_none() && id_of(&"x".repeat(100)).is_some() && id_of("..").is_some());
    }

    #[test]
    fn recorded_host_names() {
        run("metadata_hostname", |case| {
            let text = case.input["metadata"]["local-hostname"].as_str().unwrap_or_default();
            Answer::Is(match hostname_of(text).unwrap() {
                Some(name) => {
                    // The whole name is known only where the source said one.
                    let whole = name.as_str();
                    let short = json!([name.short(), false]);
                    json!({"hostname": short, "fqdn": [whole, false], "metadata_only": short})
                }
                // cloud-init's "localhost" is a default that changes nothing.
                None => {
                    json!({"hostname": ["localhost", true], "fqdn": ["localhost", true], "metadata_only": [null, false]})
                }
            })
        });
    }

    /// Key lines without asking whether they are keys: the recorded ones are not.
    struct Lines(Vec<String>);

    impl Visit for Lines {
        fn scalar(&mut self, place: &str, value: Scalar<'_>) -> Result<()> {
            if let (true, Scalar::Text(text)) = (is_key(place), value) {
                self.0.extend(key_lines(text).map(String::from));
            }
            Ok(())
        }
        fn end(&mut self, _: &str) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn recorded_public_keys() {
        run("pubkeys_normalize", |case| {
            let document = json!({"public_keys": case.input["args"][0]}).to_string();
            let (mut fields, mut lines) = (Fields::new(), Lines(Vec::new()));
            fields.push(document.as_bytes(), &mut lines).unwrap();
            fields.finish(&mut lines).unwrap();
            let trimmed = |line: &Value| line.as_str().unwrap().trim_end().to_string();
            let wanted: Vec<_> = case.expected.as_array().unwrap().iter().map(trimmed).collect();
            // The end of a line belongs to the file it is put into.
            if lines.0 == wanted { Answer::Is(case.expected.clone()) } else { Answer::Is(json!(lines.0)) }
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let (mut fields, mut meta) = (Fields::new(), Box::new(MetaData::new()));
            let _ = fields.push(&bytes, &mut *meta).and_then(|()| fields.finish(&mut *meta));
        }

        #[test]
        fn any_text_is_a_host_name_or_not(text in ".*") {
            if let Ok(Some(name)) = hostname_of(&text) {
                proptest::prop_assert!(name.as_str().len() <= 64);
            }
        }
    }
}
