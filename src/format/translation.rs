//! What does the translator of user data say to `apply`? Frames on a pipe, and notes by number.
//!
//! A frame is `WORD NAME LENGTH`, a line feed, LENGTH bytes, a line feed. To the translator: `input NAME` (docs/cloud-config.md
//! has the names) and `end -`. From it: `entry NAME`, an entry of the seed with a part of its bytes (several make one), `note
//! RULE.KEY.SOURCE.PART.LINE` without bytes, and `end -` once it said everything. What lacks the end does not count.
//!
//! Notes are numbers, so that nothing of a document can reach the log.

use super::text::{number, split_once};
use crate::error::Result;
use crate::limits;

/// Bytes of a frame's first line, without its end.
pub const HEAD: usize = 96;
const WHAT: &str = "cloud-config";

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// To the translator.
    Input,
    /// Bytes of an entry of the seed.
    Entry,
    /// [`Note`].
    Note,
    /// The last one.
    End,
}

/// The first line of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'h> {
    /// What it is.
    pub word: Word,
    /// Of an input or an entry: its name.
    pub name: &'h str,
    /// Bytes that follow.
    pub length: usize,
}

impl<'h> Head<'h> {
    /// Reads a first line without its end.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(line: &'h [u8]) -> Result<Self> {
        let bad = malformed!(WHAT, "no frame of the translator", 0);
        let text = core::str::from_utf8(line).map_err(|_| bad)?;
        let (word, rest) = split_once(text, " ").ok_or(bad)?;
        let (name, length) = split_once(rest, " ").ok_or(bad)?;
        let word = match word {
            "input" => Word::Input,
            "entry" => Word::Entry,
            "note" => Word::Note,
            "end" => Word::End,
            _ => return Err(bad),
        };
        let length = number(length.as_bytes()).and_then(|length| usize::try_from(length).ok()).ok_or(bad)?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if is_name { Ok(Self { word, name, length }) } else { Err(bad) }
    }
}

/// Something a person should know about a line of user data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it is.
    pub rule: Rule,
    /// The key it is about, one of [`KEYS`]; empty for none or another.
    pub key: &'static str,
    /// 0 for user data, N for text N of vendor data, from 1.
    pub source: u32,
    /// The part, from 1; 0 for the whole.
    pub part: u32,
    /// The line in it, from 1; 0 for none.
    pub line: u32,
}

impl Note {
    /// Reads the name of its frame: `RULE.KEY.SOURCE.PART.LINE`.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(name: &str) -> Result<Self> {
        let bad = malformed!(WHAT, "no note of the translator", 0);
        let mut numbers = name.split('.').map(|part| number(part.as_bytes()));
        let mut next = || numbers.next().flatten().ok_or(bad);
        let rule = usize::try_from(next()?).ok().and_then(|at| RULES.get(at)).copied().ok_or(bad)?;
        let key = usize::try_from(next()?).ok().and_then(|at| KEYS.get(at)).copied().ok_or(bad)?;
        let note = Self { rule, key, source: next()?, part: next()?, line: next()? };
        if numbers.next().is_some() { Err(bad) } else { Ok(note) }
    }
}

/// Keys that cloud-init knows at the top of cloud-config, for notes; the first is for none.
pub const KEYS: &[&str] = &[
    "",
    "ansible",
    "apk_repos",
    "apt",
    "apt_pipelining",
    "autoinstall",
    "bootcmd",
    "byobu_by_default",
    "ca_certs",
    "ca-certs",
    "chef",
    "chpasswd",
    "create_hostname_file",
    "device_aliases",
    "disable_ec2_metadata",
    "disable_root",
    "disable_root_opts",
    "disk_setup",
    "drivers",
    "fan",
    "final_message",
    "fqdn",
    "fs_setup",
    "groups",
    "growpart",
    "hostname",
    "keyboard",
    "landscape",
    "launch-index",
    "locale",
    "locale_configfile",
    "lxd",
    "manage_etc_hosts",
    "manage_resolv_conf",
    "mcollective",
    "merge_how",
    "merge_type",
    "migrate",
    "mount_default_fields",
    "mounts",
    "nameservers",
    "network",
    "no_ssh_fingerprints",
    "ntp",
    "ntp_servers",
    "output",
    "package_reboot_if_required",
    "package_update",
    "package_upgrade",
    "packages",
    "password",
    "phone_home",
    "power_state",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "puppet",
    "random_seed",
    "reporting",
    "resize_rootfs",
    "resolv_conf",
    "rh_subscription",
    "rpi",
    "rsyslog",
    "runcmd",
    "salt_minion",
    "snap",
    "spacewalk",
    "ssh",
    "ssh_authorized_keys",
    "ssh_deletekeys",
    "ssh_fp_console_blacklist",
    "ssh_genkeytypes",
    "ssh_import_id",
    "ssh_key_console_blacklist",
    "ssh_keys",
    "ssh_publish_hostkeys",
    "ssh_pwauth",
    "ssh_quiet_keygen",
    "swap",
    "system_info",
    "timezone",
    "ubuntu_advantage",
    "ubuntu_pro",
    "updates",
    "user",
    "users",
    "vendor_data",
    "version",
    "wireguard",
    "write_files",
    "yum_repo_dir",
    "yum_repos",
    "zypper",
];

/// Who takes what the translator says.
pub trait Sink {
    /// Bytes of an entry; the first make it, even if there are none.
    ///
    /// # Errors
    /// Its own; they end the reading.
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    /// A note.
    fn note(&mut self, note: Note);
}

/// Where the reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Head,
    /// Bytes of an entry that are still to come.
    Body(usize),
    /// The line feed behind them.
    Tail,
    /// Behind the last frame.
    Done,
}

/// Reads frames in whatever pieces they come.
pub struct Reader {
    head: heapless::Vec<u8, HEAD>,
    at: At,
}

impl Default for Reader {
    fn default() -> Self {
        Self { head: heapless::Vec::new(), at: At::Head }
    }
}

impl Reader {
    /// True once the translator said that this was all.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.at == At::Done
    }

    /// The next bytes.
    ///
    /// # Errors
    /// `Malformed` for what is no frame of the translator's; those of `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        let bad = malformed!(WHAT, "no frame of the translator", 0);
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.at {
                At::Head => {
                    let (piece, behind, ends) = match rest.iter().position(|byte| *byte == b'\n') {
                        Some(end) => {
                            (rest.get(..end), rest.get(end.saturating_add(1)..).unwrap_or_default(), true)
                        }
                        None => (Some(rest), &[][..], false),
                    };
                    self.head.extend_from_slice(piece.unwrap_or_default()).map_err(|_| bad)?;
                    rest = behind;
                    if ends {
                        self.begin(sink)?;
                    }
                }
                At::Body(left) => {
                    let (piece, behind) = rest.split_at(left.min(rest.len()));
                    sink.entry(Head::parse(&self.head)?.name, piece)?;
                    rest = behind;
                    let left = left.saturating_sub(piece.len());
                    self.at = if left == 0 { At::Tail } else { At::Body(left) };
                }
                At::Tail => {
                    rest = rest.strip_prefix(b"\n").ok_or(bad)?;
                    self.at = if self.head.starts_with(b"end ") { At::Done } else { At::Head };
                    self.head.clear();
                }
                At::Done => return Err(bad),
            }
        }
        Ok(())
    }

    /// A first line is whole.
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let head = Head::parse(&self.head)?;
        match (head.word, head.length) {
            (Word::Entry, 0) => sink.entry(head.name, b"")?,
            (Word::Note, 0) => sink.note(Note::parse(head.name)?),
            (Word::Entry, _) | (Word::End, 0) => {}
            _ => return Err(malformed!(WHAT, "no frame of the translator", 0)),
        }
        self.at = if head.length == 0 { At::Tail } else { At::Body(head.length) };
        Ok(())
    }
}

/// True for what may be fetched: http and https, whatever else a program could fetch, and nothing that ends a quoted word.
#[must_use]
pub fn is_url(text: &[u8]) -> bool {
    let rest = |scheme: &[u8]| {
        let (head, rest) = text.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte);
    let host = rest(b"http://").or_else(|| rest(b"https://")).and_then(<[u8]>::first);
    text.len() <= limits::INCLUDE_URL
        && text.iter().all(is_plain)
        && host.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'[')
}

/// A document that the translator lacks: a line `SOURCE PART LINE URL` of the entry `include`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted<'w> {
    /// As in a [`Note`].
    pub source: u32,
    /// The part that names it.
    pub part: u32,
    /// The line in it.
    pub line: u32,
    /// Where it is: may be a secret.
    pub url: &'w str,
}

impl<'w> Wanted<'w> {
    /// Reads a line without its end; `None` for what is none.
    #[must_use]
    pub fn parse(line: &'w [u8]) -> Option<Self> {
        let text = core::str::from_utf8(line).ok()?;
        let mut words = text.split(' ');
        let mut next = || number(words.next()?.as_bytes());
        let (source, part, line) = (next()?, next()?, next()?);
        let url = words.next().filter(|url| is_url(url.as_bytes()) && words.next().is_none())?;
        Some(Self { source, part, line, url })
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])? $name:ident $severity:ident $text:expr;)*) => {
        /// What there is to be said.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }
        /// By number.
        const RULES: &[Rule] = &[$(Rule::$name),*];
        impl Rule {
            /// In words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// Something that was asked for is not done.
            #[must_use]
            pub const fn is_fault(self) -> bool {
                match self { $(Self::$name => rules!(@$severity),)* }
            }
        }
    };
    (@fault) => { true };
    (@note) => { false };
}

rules! {
    TooLarge fault "larger than 16 MiB, or than 32 MiB with the others: left out";
    Gzip fault "broken gzip: the part is left out";
    TooManyParts fault "too many parts: the rest is left out";
    TooDeep fault "parts inside of parts, too deep: left out";
    Unknown fault "neither cloud-config nor a script: left out";
    Include fault "#include: nothing is fetched where Provisioning.Include is not y: left out";
    PartHandler fault "#part-handler is Python: left out";
    Template fault "more of Jinja than {{ variables }}: the part is left out";
    MissingVariable fault "a variable of Jinja that nobody knows";
    Yaml fault "no YAML: the part is left out";
    NoMapping fault "no mapping: the part is left out";
    Empty note "empty";
    MergeHow fault "merge_how cannot be read: the part is left out";
    Patch fault "a JSON patch that cannot be applied: the part is left out";
    UnknownKey fault "an unknown key";
    Unsupported fault "a module that preroot does not have";
    UnsupportedValue fault "a key or value that preroot does not have";
    BadValue fault "a value that cannot be used: left out";
    Commands fault "a list of commands, each a text or a list of texts, was expected: left out";
    File fault "an entry of write_files that cannot be used: left out";
    FileSource fault "write_files: nothing is fetched; left out";
    User fault "a user that cannot be used, or a value of one: left out";
    Password fault "a password that cannot be used: left out";
    Disk fault "an entry of disk_setup or fs_setup that cannot be used: left out";
    Mount fault "an entry of mounts or swap that cannot be used: left out";
    Ephemeral note "the resource disk is looked after by `preroot resource-disk`: left to it";
    Early note "done before, in the initrd or by apply";
    Nothing note "means nothing to preroot";
    VendorOff note "vendor data is switched off by user data";
    Opaque note "nothing that cloud-init knows: kept for whoever reads it";
    Base64 note "base64 around it was taken off";
    TooMuch fault "nested too deep, or more values or copies than are taken: the part is left out";
    SameName fault "two scripts of one name: the last one counts";
    IncludeUrl fault "#include: a URL with http or https, of 2048 letters at most, was expected: left out";
    IncludeTooMuch fault "#include: too many documents, or documents in documents too deep: left out";
    IncludeAgain note "#include: this document was included before";
}

#[cfg(test)]
mod tests {
    use super::{Head, Note, RULES, Reader, Rule, Sink, Wanted, Word};
    use crate::error::Result;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use std::collections::BTreeMap;
    use std::string::String;
    use std::vec::Vec;

    #[derive(Default, PartialEq, Debug)]
    struct Kept(BTreeMap<String, Vec<u8>>, Vec<Note>);

    impl Sink for Kept {
        fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
            self.0.entry(name.into()).or_default().extend_from_slice(bytes);
            Ok(())
        }

        fn note(&mut self, note: Note) {
            self.1.push(note);
        }
    }

    const SAID: &[u8] = b"entry a 3\nx\ny\nentry a 2\nzz\nentry b 0\n\nnote 9.0.0.1.7 0\n\nend - 0\n\n";

    #[test]
    fn any_pieces_say_the_same_and_only_the_end_is_the_end() {
        for step in 1..SAID.len() {
            let (mut reader, mut kept) = (Reader::default(), Kept::default());
            for (n, piece) in SAID.chunks(step).enumerate() {
                assert!(!reader.is_whole(), "{n}");
                reader.push(piece, &mut kept).unwrap();
            }
            assert!(reader.is_whole());
            assert_eq!(kept.0["a"], b"x\nyzz");
            assert!(kept.0["b"].is_empty() && kept.1.len() == 1);
            assert!(reader.push(b"x", &mut kept).is_err());
        }
    }

    #[test]
    fn what_is_no_frame_ends_the_reading() {
        for bad in ["entry a 1\nxx", "input a 0\n", "note 1.0.0.0.0 1\n", "end - 1\n", "note x 0\n", "x\n"] {
            assert!(Reader::default().push(bad.as_bytes(), &mut Kept::default()).is_err(), "{bad}");
        }
        assert!(Reader::default().push(&[b'x'; 97], &mut Kept::default()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..5), step in 1usize..9) {
            let (mut whole, mut parts) = (Kept::default(), Kept::default());
            let all = [SAID, &pieces.concat()].concat();
            let first = Reader::default().push(&all, &mut whole).is_ok();
            let mut reader = Reader::default();
            let second = all.chunks(step).try_for_each(|piece| reader.push(piece, &mut parts)).is_ok();
            prop_assert_eq!(first, second);
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn only_urls_of_http_are_wanted() {
        let wanted = Wanted::parse(b"0 2 14 HTTPS://[::1]:8/x?sig=a%2f{b}&c=[1-2]").unwrap();
        assert_eq!((wanted.source, wanted.part, wanted.line), (0, 2, 14));
        assert_eq!(wanted.url, "HTTPS://[::1]:8/x?sig=a%2f{b}&c=[1-2]");
        let bad = [
            "file:///etc/shadow",
            "http://",
            "http://-x",
            "ftp://x",
            "http://x\n",
            "http://x y",
            "http://x\"",
            "http://x\\",
        ];
        for url in bad {
            assert_eq!(Wanted::parse(std::format!("0 1 2 {url}").as_bytes()), None, "{url}");
        }
        assert_eq!(Wanted::parse(std::format!("0 1 2 http://{}", "x".repeat(2042)).as_bytes()), None);
        assert!(Wanted::parse(b"0 1 http://x").is_none() && Wanted::parse(b"").is_none());
    }

    #[test]
    fn frames_are_read_as_they_are_written() {
        let head = Head::parse(b"entry files/0/content 12").unwrap();
        assert_eq!(head, Head { word: Word::Entry, name: "files/0/content", length: 12 });
        for bad in [
            "",
            "entry",
            "entry x",
            "entry  1",
            "entry x y",
            "entry x -1",
            "other x 1",
            "entry x 1 ",
            "entry \x07 1",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn notes_are_numbers_and_nothing_else() {
        let note = Note::parse("9.1.0.2.14").unwrap();
        assert_eq!(note, Note { rule: Rule::Yaml, key: "ansible", source: 0, part: 2, line: 14 });
        for bad in ["", "1.2.3", "1.2.3.4.5.6", "x.0.0.0.0", "9999.0.0.0.0", "0.9999.0.0.0"] {
            assert!(Note::parse(bad).is_err(), "{bad}");
        }
        for (number, rule) in RULES.iter().enumerate() {
            assert_eq!(*rule as usize, number);
        }
    }
}
