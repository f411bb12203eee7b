//! /etc/fstab: which entries does cloud-config's `mounts` ask for, and how do they get in beside everybody else's lines?
//!
//! Wanted entries come as lines of fstab's own form (fstab(5)): fields escaped, `-` for a field that is to have its
//! default. What they mean is cloud-init's (config/cc_mounts.py): entries made earlier go, a device without a mount
//! point takes back the entries before it.

use super::text::{Out, bare, lines};
use crate::error::Result;
use crate::limits;

/// An option that does nothing: by it entries made for an instance are known again. cloud-init's, so that an
/// image which had it before has each entry once.
const MARK: &[u8] = b"comment=cloudconfig";
/// Defaults of an image with systemd. `nofail`: a disk that is not there holds up nothing.
pub const DEFAULTS: &[u8] = b"- - auto defaults,nofail,x-systemd.after=preroot-apply.service,_netdev 0 2";
/// The same without systemd.
pub const DEFAULTS_WITHOUT_SYSTEMD: &[u8] = b"- - auto defaults,nofail 0 2";

/// A field of an entry, escaped.
pub type Field = heapless::Vec<u8, { limits::PATH }>;

/// Where a field stands.
const DEVICE: usize = 0;
const POINT: usize = 1;
const KIND: usize = 2;
const OPTIONS: usize = 3;
const FIELDS: usize = 6;

/// What an fstab shall have.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// Its entries, a line each.
    pub mounts: &'w [u8],
    /// Defaults of all fields, one line.
    pub defaults: &'w [u8],
    /// A swap file, absolute and escaped.
    pub swap_file: Option<&'w [u8]>,
}

/// One entry, its fields in their order; `-` is one without a value.
#[derive(Clone, Copy)]
struct Entry<'t>([Option<&'t [u8]>; FIELDS]);

impl<'t> Entry<'t> {
    fn parse(line: &'t [u8], defaults: &'t [u8]) -> Self {
        let given = |line| words(line).map(|word| Some(word).filter(|word| *word != b"-"));
        let mut fields = given(line).chain(core::iter::repeat(None));
        let mut defaults = given(defaults).chain(core::iter::repeat(None));
        Self([(); FIELDS].map(|()| {
            let default = defaults.next().flatten();
            fields.next().flatten().or(default)
        }))
    }

    fn field(&self, at: usize) -> Option<&'t [u8]> {
        self.0.get(at).copied().flatten()
    }

    fn put(&self, device: &[u8], out: &mut Out<'_>) -> Result<()> {
        out.put(device)?;
        for at in POINT..FIELDS {
            out.put_all(&[b"\t", self.field(at).unwrap_or(b"0")])?;
            if at == OPTIONS {
                out.put_all(&[b",", MARK])?;
            }
        }
        out.put(b"\n")
    }
}

/// The file as it shall be. `resolve` says which device a name means (`ephemeral0.1`, `sdc`); names it does not know
/// stay as they are. Lines that are not ours stay byte for byte, and a device that one of them names is theirs.
///
/// # Errors
/// `TooMany` when it does not fit.
pub fn merge(
    old: &[u8],
    wanted: &Wanted<'_>,
    resolve: &mut dyn FnMut(&[u8]) -> Option<Field>,
    out: &mut Out<'_>,
) -> Result<()> {
    for line in others(old, wanted) {
        out.put(line)?;
    }
    out.end_line()?;
    let mut rest = wanted.mounts;
    while let Some((line, behind)) = first_line(rest) {
        rest = behind;
        let entry = Entry::parse(line, wanted.defaults);
        let (Some(name), Some(_)) = (entry.field(DEVICE), entry.field(POINT)) else { continue };
        let resolved = resolve(name);
        let device = resolved.as_deref().unwrap_or(name);
        let is_theirs = others(old, wanted).any(|line| Entry::parse(line, b"").field(DEVICE) == Some(device));
        if !is_theirs && !is_taken_back(device, behind, wanted.defaults, resolve) {
            entry.put(device, out)?;
        }
    }
    match wanted.swap_file {
        Some(file) => out.put_all(&[file, b"\tnone\tswap\tsw\t0\t0\n"]),
        None => Ok(()),
    }
}

/// The mount points among wanted entries that are directories, unescaped.
pub fn mount_points<'w>(wanted: &'w Wanted<'_>) -> impl Iterator<Item = Field> + use<'w> {
    let entries = lines(wanted.mounts).map(|line| Entry::parse(line, wanted.defaults));
    let points = entries.filter_map(|entry| entry.field(DEVICE).and(entry.field(POINT)));
    points.filter(|point| point.starts_with(b"/")).filter_map(unescape)
}

/// Types of file systems that somebody else has (systemd, src/basic/mountpoint-util.c, `fstype_is_network`).
const REMOTE: &[&[u8]] = &[
    b"nfs",
    b"nfs4",
    b"cifs",
    b"smb3",
    b"smbfs",
    b"ceph",
    b"glusterfs",
    b"afs",
    b"lustre",
    b"davfs",
    b"pvfs2",
    b"sshfs",
];

/// Wanted entries that are to be mounted, by their directory, and whether they are another machine's, so that there has to
/// be a network first.
pub fn to_mount<'w>(wanted: &'w Wanted<'_>) -> impl Iterator<Item = (Field, bool)> + use<'w> {
    let entries = lines(wanted.mounts).map(|line| Entry::parse(line, wanted.defaults));
    entries.filter_map(|entry| {
        let (device, point) = (entry.field(DEVICE)?, entry.field(POINT)?);
        let kind = entry.field(KIND).unwrap_or_default();
        let is_auto =
            entry.field(OPTIONS).unwrap_or_default().split(|byte| *byte == b',').all(|it| it != b"noauto");
        let is_named = !device.starts_with(b"/") && device.windows(2).any(|pair| pair == b":/");
        let is_remote =
            REMOTE.contains(&kind) || kind.starts_with(b"fuse.") || device.starts_with(b"//") || is_named;
        if point.starts_with(b"/") && is_auto { Some((unescape(point)?, is_remote)) } else { None }
    })
}

/// True when one of the entries is for swap.
#[must_use]
pub fn has_swap(wanted: &Wanted<'_>) -> bool {
    let mut entries = lines(wanted.mounts).map(|line| Entry::parse(line, wanted.defaults));
    wanted.swap_file.is_some() || entries.any(|entry| entry.field(KIND) == Some(b"swap"))
}

/// True when an entry of anybody's names this directory, unescaped, as its mount point.
#[must_use]
pub fn has_mount_point(text: &[u8], point: &[u8]) -> bool {
    let points = lines(text).filter_map(|line| Entry::parse(line, b"").field(POINT));
    points.filter_map(unescape).any(|it| it.trim_ascii_end() == point)
}

/// The fields of a line; a comment has none. `#` begins one only at the start (fstab(5)).
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = if line.trim_ascii_start().starts_with(b"#") { b"" } else { line };
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn first_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = lines(text).next()?;
    Some((bare(line), text.get(line.len()..).unwrap_or_default()))
}

/// The lines that no instance made.
fn others<'t>(text: &'t [u8], wanted: &'t Wanted<'_>) -> impl Iterator<Item = &'t [u8]> {
    lines(text).filter(|line| !is_ours(line) && !is_swap_of(line, wanted.swap_file))
}

fn is_ours(line: &[u8]) -> bool {
    line.windows(MARK.len()).any(|part| part == MARK)
}

/// True for the line of this swap file, which is written as it stands there.
#[must_use]
pub fn is_swap_of(line: &[u8], file: Option<&[u8]>) -> bool {
    let entry = Entry::parse(line, b"");
    file.is_some() && entry.field(DEVICE) == file && entry.field(KIND) == Some(b"swap")
}

/// True when a later line has the device without a mount point.
fn is_taken_back(
    device: &[u8],
    behind: &[u8],
    defaults: &[u8],
    resolve: &mut dyn FnMut(&[u8]) -> Option<Field>,
) -> bool {
    lines(behind).any(|line| {
        let entry = Entry::parse(line, defaults);
        let Some(name) = entry.field(DEVICE).filter(|_| entry.field(POINT).is_none()) else { return false };
        resolve(name).as_deref().unwrap_or(name) == device
    })
}

/// Appends a field as fstab(5) wants it: blanks, ends of lines, `\` and `#` in octal.
///
/// # Errors
/// `TooMany`.
pub fn put_escaped(field: &[u8], out: &mut Out<'_>) -> Result<()> {
    for byte in field {
        match byte {
            b' ' => out.put(br"\040"),
            b'\t' => out.put(br"\011"),
            b'\n' => out.put(br"\012"),
            b'#' => out.put(br"\043"),
            b'\\' => out.put(br"\134"),
            _ => out.put(core::slice::from_ref(byte)),
        }?;
    }
    Ok(())
}

/// The text behind a field; `None` when it is too long.
#[must_use]
pub fn unescape(field: &[u8]) -> Option<Field> {
    let mut text = Field::new();
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(octal);
        text.push(octal.unwrap_or(*first)).ok()?;
        rest = if octal.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    Some(text)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(core::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::{DEFAULTS, Field, Wanted, has_mount_point, merge, mount_points, put_escaped, unescape};
    use crate::format::cases::{self, Answer, Case};
    use crate::format::text::{Out, lines};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};
    use std::string::String;
    use std::vec::Vec;

    fn escaped(field: &[u8]) -> Vec<u8> {
        let mut buf = std::vec![0; 4 * field.len()];
        let mut out = Out::new(too_many!("test"), &mut buf);
        put_escaped(field, &mut out).unwrap();
        out.as_bytes().to_vec()
    }

    fn merged(old: &[u8], wanted: &Wanted<'_>, resolve: &mut dyn FnMut(&[u8]) -> Option<Field>) -> Vec<u8> {
        let mut buf = std::vec![0; 4096];
        let mut out = Out::new(too_many!("test"), &mut buf);
        merge(old, wanted, resolve, &mut out).unwrap();
        out.as_bytes().to_vec()
    }

    /// A list of cloud-config's as a line.
    fn line(list: &Value) -> String {
        let field = |value: &Value| {
            value.as_str().map_or("-".into(), |text| String::from_utf8(escaped(text.as_bytes())).unwrap())
        };
        list.as_array().unwrap().iter().map(field).collect::<Vec<String>>().join(" ") + "\n"
    }

    /// What the devices of a case are called; the module asks sysfs.
    fn resolve(case: &Case, name: &[u8]) -> Option<Field> {
        let text = core::str::from_utf8(name).unwrap();
        let (base, number) = text.split_once('.').map_or((text, None), |(base, number)| (base, Some(number)));
        let alias = case.input["aliases"][base].as_str();
        let disk =
            alias.map_or_else(|| std::format!("/dev/{}", base.trim_start_matches("/dev/")), Into::into);
        let has = |list: &str, name: &str| {
            case.input[list].as_array().is_some_and(|list| list.iter().any(|it| it == name))
        };
        let partitions = ["", "-part"].map(|middle| std::format!("{disk}{middle}{}", number.unwrap_or("1")));
        let found = partitions.into_iter().find(|partition| has("parts", partition));
        let found = found.or_else(|| has("existing", &disk).then_some(disk.clone()))?;
        Some(Field::from_slice(found.as_bytes()).unwrap())
    }

    #[test]
    fn fstab_becomes_what_cloud_init_makes_of_it() {
        cases::run("mounts_fstab", |case| {
            let config = &case.input["cfg"];
            let mounts: String = config["mounts"].as_array().into_iter().flatten().map(line).collect();
            if case.input["aliases"]["ephemeral0"].is_string() && mounts.is_empty() {
                return Answer::Differs("the resource disk is mounted without an entry, on every boot");
            }
            let defaults = match &config["mount_default_fields"] {
                Value::Null => String::from_utf8(DEFAULTS.to_vec()).unwrap(),
                list => line(list),
            };
            let swap = &config["swap"];
            let swap_file = swap["filename"].as_str().filter(|_| swap["size"] != 0).map(str::as_bytes);
            let wanted = Wanted { mounts: mounts.as_bytes(), defaults: defaults.as_bytes(), swap_file };
            let old = case.text("fstab").as_bytes();
            let new = merged(old, &wanted, &mut |name| resolve(case, name));
            assert_eq!(merged(&new, &wanted, &mut |name| resolve(case, name)), new, "twice: {}", case.name);
            let directories: Vec<String> =
                mount_points(&wanted).map(|point| String::from_utf8(point.to_vec()).unwrap()).collect();
            // The commands are the module's; the unit is ours.
            let fstab = String::from_utf8(new).unwrap();
            let fstab = fstab.replace("preroot-apply.service", "cloud-init-network.service");
            let commands = case.expected["commands"].clone();
            Answer::Is(json!({"fstab": fstab, "mkdir": directories, "commands": commands}))
        });
    }

    #[test]
    fn fields_are_escaped_as_cloud_init_does() {
        cases::run("fstab_escape", |case| {
            let field = case.input["args"][0].as_str().unwrap();
            Answer::Is(json!(String::from_utf8(escaped(field.as_bytes())).unwrap()))
        });
    }

    #[test]
    fn lines_of_others_stay_and_a_swap_file_has_one_line() {
        let old = b"# top\n\n/swap.img none swap sw 0 0\nUUID=1 / ext4 defaults 0 1\n/dev/sdc1 /x auto defaults 0 2";
        let wanted = Wanted {
            mounts: b"/dev/sdc1 /y\nsdd /z xfs\n",
            defaults: DEFAULTS,
            swap_file: Some(b"/swap.img"),
        };
        let new = String::from_utf8(merged(old, &wanted, &mut |_| None)).unwrap();
        assert_eq!(
            new,
            "# top\n\nUUID=1 / ext4 defaults 0 1\n/dev/sdc1 /x auto defaults 0 2\nsdd\t/z\txfs\t\
             defaults,nofail,x-systemd.after=preroot-apply.service,_netdev,comment=cloudconfig\t0\t2\n\
             /swap.img\tnone\tswap\tsw\t0\t0\n"
        );
        assert!(has_mount_point(new.as_bytes(), b"/z") && !has_mount_point(new.as_bytes(), b"/y"));
        assert!(has_mount_point(br"/dev/sda /my\040data ext4", b"/my data"));
    }

    proptest! {
        #[test]
        fn an_escaped_field_is_one_word_and_comes_back(field in any::<Vec<u8>>()) {
            // Other ASCII white space ends a word of ours, but not of mount(8)'s: no name has it.
            let field: Vec<u8> = field.into_iter().filter(|byte| !b"\r\x0c".contains(byte)).take(200).collect();
            let text = escaped(&field);
            prop_assert!(super::words(&text).count() <= 1);
            prop_assert_eq!(unescape(&text).unwrap().to_vec(), field);
        }

        #[test]
        fn any_file_keeps_the_lines_of_others(old in any::<Vec<u8>>(), mounts in "[-a-z/ \n0#.]{0,60}") {
            let wanted = Wanted { mounts: mounts.as_bytes(), defaults: DEFAULTS, swap_file: Some(b"/s") };
            let new = merged(&old, &wanted, &mut |_| None);
            let is_kept = |line: &[u8]| lines(&new).any(|it| super::bare(it) == super::bare(line));
            let mut others = lines(&old).filter(|line| !super::is_ours(line));
            prop_assert!(others.all(|line| super::is_swap_of(line, Some(b"/s")) || is_kept(line)));
            prop_assert_eq!(merged(&new, &wanted, &mut |_| None), new);
        }
    }
}
