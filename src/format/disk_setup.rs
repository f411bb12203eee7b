//! What do cloud-config's `disk_setup` and `fs_setup` ask of a disk, and what is left to be done about it?
//!
//! Entries come as lines of words, escaped as in fstab(5); `-` is a word that says nothing. What they mean is
//! cloud-init's (config/cc_disk_setup.py), but for one rule: without `overwrite` nothing is taken that holds something.

use super::fstab::{Field, put_escaped, unescape};
use super::text::{Out, number, words};
use crate::error::Result;

/// Types of partition tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// In the first sector, for four partitions at most.
    Mbr,
    /// GUID partition table.
    Gpt,
}

impl Table {
    /// sfdisk's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mbr => "dos",
            Self::Gpt => "gpt",
        }
    }
}

/// An entry of `disk_setup`: `DEVICE mbr|gpt LAYOUT y|n`. The layout is percentages with types (`33,66:82`), or `-` for one
/// partition over all; the last word is `overwrite`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk<'t> {
    /// The disk's name, escaped.
    pub device: &'t [u8],
    /// Its table to be.
    pub table: Table,
    layout: &'t [u8],
    /// What is on it may go.
    pub is_overwritten: bool,
}

impl<'t> Disk<'t> {
    /// Reads a line; `None` when it is none.
    #[must_use]
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        let mut words = words(line);
        let device = words.next()?;
        let table = match words.next()? {
            b"mbr" => Table::Mbr,
            b"gpt" => Table::Gpt,
            _ => return None,
        };
        let layout = match words.next()? {
            b"-" => b"100",
            layout => layout,
        };
        let disk = Self { device, table, layout, is_overwritten: words.next()? == b"y" };
        let is_whole = disk.parts().all(|(percent, kind)| {
            percent.is_some_and(|percent| (1..=100).contains(&percent))
                && kind.iter().all(u8::is_ascii_graphic)
        });
        let fits = table == Table::Gpt || disk.partitions() <= 4;
        Some(disk).filter(|_| is_whole && fits)
    }

    fn parts(&self) -> impl Iterator<Item = (Option<u32>, &'t [u8])> + use<'t> {
        self.layout.split(|byte| *byte == b',').map(|part| {
            let mut halves = part.splitn(2, |byte| *byte == b':');
            (halves.next().and_then(number), halves.next().unwrap_or_default())
        })
    }

    /// How many partitions there shall be.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.parts().count()
    }

    /// What sfdisk reads, for a disk of this size: each partition follows the one before, the last takes the rest.
    ///
    /// # Errors
    /// `TooMany`.
    pub fn put_script(&self, sectors: u64, out: &mut Out<'_>) -> Result<()> {
        let last = self.partitions();
        for ((percent, kind), n) in self.parts().zip(1..) {
            out.put(b",")?;
            if n < last {
                let percent = u128::from(percent.unwrap_or_default());
                let size = u128::from(sectors).saturating_mul(percent) / 100;
                out.put_number(u64::try_from(size).unwrap_or(u64::MAX))?;
            }
            out.put_all(&[b",", self.kind(kind), if n < last { b"\n" } else { b"" }])?;
        }
        Ok(())
    }

    /// A partition's type as sfdisk knows it: cloud-config's are those of an MBR, or sgdisk's of four digits.
    fn kind<'k>(&self, kind: &'k [u8]) -> &'k [u8] {
        match (self.table, kind) {
            (Table::Mbr, b"") => b"83",
            (Table::Gpt, b"" | b"83" | b"8300") => b"L",
            (Table::Gpt, b"82" | b"8200") => b"S",
            (_, kind) => kind,
        }
    }
}

/// Where a file system goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The disk itself.
    Disk,
    /// This partition.
    Partition(u32),
    /// Where such a one with that label is, else the first partition that holds nothing.
    Auto,
    /// The same, whatever its label.
    Any,
}

/// An entry of `fs_setup`: `DEVICE none|auto|any|N TYPE LABEL y|n REPLACES OPTION...`; the fifth word is `overwrite`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSystem<'t> {
    /// The disk's name, escaped.
    pub device: &'t [u8],
    /// Where on it.
    pub place: Place,
    /// Its type.
    pub kind: &'t [u8],
    label: &'t [u8],
    /// What is there may go.
    pub is_overwritten: bool,
    replaces: &'t [u8],
    line: &'t [u8],
}

/// A disk or one of its partitions as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen<'s> {
    /// The partition, 0 for the disk.
    pub number: u32,
    /// What is on it: blkid's word where it has one; empty for nothing.
    pub kind: &'s [u8],
    /// Its label is the entry's.
    pub has_label: bool,
}

impl<'t> FileSystem<'t> {
    /// Reads a line; `None` when it is none.
    #[must_use]
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        let mut words = words(line);
        let mut next = || words.next().map(|word| if word == b"-" { b"" } else { word });
        let device = next()?;
        let place = match next()? {
            b"" | b"none" => Place::Disk,
            b"auto" => Place::Auto,
            b"any" => Place::Any,
            n => Place::Partition(number(n).filter(|n| *n > 0)?),
        };
        let (kind, label, is_overwritten) = (next()?, next()?, next()? == b"y");
        let entry =
            Self { device, place, kind, label, is_overwritten, replaces: next().unwrap_or_default(), line };
        Some(entry).filter(|entry| !entry.kind.is_empty())
    }

    /// Its label, empty for none.
    #[must_use]
    pub fn label(&self) -> Option<Field> {
        unescape(self.label)
    }

    /// Words for mkfs.
    pub fn options(&self) -> impl Iterator<Item = &'t [u8]> {
        words(self.line).skip(6)
    }

    /// Which of these is to be made the file system; `None`: all is well, or nothing may be taken.
    #[must_use]
    pub fn choose(&self, seen: &[Seen<'_>]) -> Option<u32> {
        let is_it = |it: &Seen<'_>| is_same_kind(it.kind, self.kind);
        let at = |number| seen.iter().find(move |it| it.number == number);
        let is_any = self.place == Place::Any;
        match self.place {
            Place::Disk | Place::Partition(_) => {
                let number = if let Place::Partition(number) = self.place { number } else { 0 };
                let is_whole = number > 0 || seen.len() <= 1;
                at(number).filter(|it| self.is_overwritten || it.kind.is_empty() && is_whole)
            }
            Place::Auto | Place::Any => {
                if let Some(it) =
                    seen.iter().find(|it| is_any && !it.kind.is_empty() && it.kind == self.replaces)
                {
                    return Some(it.number);
                }
                if seen.iter().any(|it| is_it(it) && (is_any || it.has_label)) {
                    return None;
                }
                let is_free = |it: &&Seen<'_>| it.kind.is_empty() && (it.number > 0 || seen.len() <= 1);
                seen.iter().find(is_free)
            }
        }
        .map(|it| it.number)
    }
}

/// ext2, ext3 and ext4 have one superblock.
fn is_same_kind(one: &[u8], other: &[u8]) -> bool {
    let ext = |kind: &[u8]| matches!(kind, b"ext2" | b"ext3" | b"ext4");
    one == other || ext(one) && ext(other)
}

/// Writes an entry: its words escaped, `-` for an empty one.
///
/// # Errors
/// `TooMany`.
pub fn put_entry(words: &[&[u8]], out: &mut Out<'_>) -> Result<()> {
    for (n, word) in words.iter().enumerate() {
        out.put(if n > 0 { b" " } else { b"" })?;
        if word.is_empty() { out.put(b"-")? } else { put_escaped(word, out)? }
    }
    out.put(b"\n")
}

#[cfg(test)]
mod tests {
    use super::{Disk, FileSystem, Place, Seen, Table, put_entry};
    use crate::format::cases::{self, Answer};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn entry(words: &[&str]) -> String {
        let mut buf = [0; 4096];
        let mut out = Out::new(too_many!("test"), &mut buf);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        put_entry(&words, &mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    fn layout(value: &Value) -> Option<String> {
        let part = |part: &Value| match part.as_array().map(Vec::as_slice) {
            None => Some(part.to_string()),
            Some([percent, kind]) => Some(std::format!("{percent}:{kind}")),
            Some(_) => None,
        };
        match value.as_array() {
            None => Some("-".into()),
            Some(parts) => parts.iter().map(part).collect::<Option<Vec<_>>>().map(|parts| parts.join(",")),
        }
    }

    fn script(table: &str, sectors: u64, value: &Value) -> Option<String> {
        let line = entry(&["/dev/sdb", table, &layout(value)?, "n"]);
        let mut buf = [0; 512];
        let mut out = Out::new(too_many!("test"), &mut buf);
        Disk::parse(line.as_bytes())?.put_script(sectors, &mut out).unwrap();
        Some(String::from_utf8(out.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn layouts_are_cloud_init_s() {
        cases::run("partition_layouts", |case| {
            let args = &case.input["args"];
            Answer::Is(json!(script("mbr", args[0].as_u64().unwrap(), &args[1])))
        });
        // A GPT's as cloud-init gives it to sgdisk: type and end of each partition.
        let gpt = |script: String| {
            let line = |line: &str| {
                let (size, kind) = line[1..].split_once(',').unwrap();
                let end = if size.is_empty() { json!(0) } else { json!(std::format!("+{size}")) };
                json!([if kind == "S" { json!(82) } else { Value::Null }, [0, end]])
            };
            Value::Array(script.lines().map(line).collect())
        };
        cases::run("partition_layouts_oracle", |case| {
            if case.input["layout"] == json!([]) {
                return Answer::Differs("an entry cannot hold an empty list: who writes it has to refuse");
            }
            let sectors = case.input["size_sectors"].as_u64().unwrap();
            let made = |table| script(table, sectors, &case.input["layout"]);
            // What it refuses it refuses with errors of Python's.
            let error = |table: &str| json!({"error": case.expected[table]["error"]});
            let mbr = made("mbr").map_or_else(|| error("mbr"), |text| json!(text));
            Answer::Is(json!({"mbr": mbr, "gpt": made("gpt").map_or_else(|| error("gpt"), gpt)}))
        });
    }

    /// The program's words, as the module puts them together.
    fn command(case: &cases::Case) -> Option<Vec<String>> {
        let fs = &case.input["fs"];
        let text = |key: &str| fs[key].as_str().unwrap_or_default().to_string();
        let partition =
            if fs["partition"].is_u64() { fs["partition"].to_string() } else { text("partition") };
        let overwrite = if fs["overwrite"] == true { "y" } else { "n" };
        let options: Vec<String> =
            fs["extra_opts"].as_array().into_iter().flatten().map(|it| it.as_str().unwrap().into()).collect();
        let [device, kind, label, replaces] = ["device", "filesystem", "label", "replace_fs"].map(text);
        let mut words = std::vec![device.as_str(), &partition, &kind, &label, overwrite, &replaces];
        words.extend(options.iter().map(String::as_str));
        let line = entry(&words);
        let entry = FileSystem::parse(line.as_bytes())?;
        let name = |number: u32| match number {
            0 => device.clone(),
            _ if device.ends_with(|last: char| last.is_ascii_digit()) => std::format!("{device}p{number}"),
            _ => std::format!("{device}{number}"),
        };
        // lsblk's rows, or the one device that blkid is asked about.
        let mut rows: Vec<(u32, String, String)> =
            (case.input["lsblk"].as_array().into_iter().flatten().zip(0..))
                .map(|(row, n)| {
                    let of = |key: &str| row[key].as_str().unwrap_or_default().to_string();
                    (n, of("fstype"), of("label"))
                })
                .collect();
        if let Place::Disk | Place::Partition(_) = entry.place {
            let number = if let Place::Partition(number) = entry.place { number } else { 0 };
            let of =
                |at: usize| case.input["blkid"][name(number)][at].as_str().unwrap_or_default().to_string();
            rows = std::vec![(number, of(1), of(0))];
        }
        let seen = |(number, kind, label): &(u32, String, String)| (*number, kind.clone(), label.clone());
        let rows: Vec<_> = rows.iter().map(seen).collect();
        let wanted = entry.label().unwrap();
        let seen: Vec<Seen<'_>> = (rows.iter())
            .map(|(number, kind, label)| Seen {
                number: *number,
                kind: kind.as_bytes(),
                has_label: wanted == label.as_bytes(),
            })
            .collect();
        let number = entry.choose(&seen)?;
        let is_disk = case.input["device_type"] == "disk";
        let mut argv = match kind.as_str() {
            "swap" => std::vec!["/sbin/mkswap".to_string()],
            _ => std::vec![std::format!("/sbin/mkfs.{kind}")],
        };
        if let Some(label) = entry.label().filter(|label| !label.is_empty()) {
            argv.extend(["-L".to_string(), String::from_utf8(label.to_vec()).unwrap()]);
        }
        if entry.is_overwritten || is_disk {
            argv.push(if kind.starts_with("ext") { "-F" } else { "-f" }.to_string());
        }
        argv.extend(entry.options().map(|word| String::from_utf8(word.to_vec()).unwrap()));
        argv.push(name(number));
        Some(argv)
    }

    #[test]
    fn file_systems_are_made_where_cloud_init_makes_them() {
        cases::run("fs_setup_commands", |case| match case.name.as_str() {
            "cmd" => Answer::Differs("a shell command of one's own is runcmd's"),
            "unknown_fs" => Answer::Differs("the image has no such mkfs: that is told as a failure"),
            "no_fs" => {
                assert_eq!(command(case), None);
                Answer::Is(case.expected.clone())
            }
            _ => Answer::Is(json!({"command": command(case)})),
        });
    }

    #[test]
    fn nothing_is_taken_that_holds_something() {
        let seen = |number, kind: &'static [u8]| Seen { number, kind, has_label: true };
        let ntfs = [seen(0, b""), seen(1, b"ntfs"), seen(2, b"unknown")];
        for (line, wanted) in [
            ("sdb 1 ext4 - n", None),
            ("sdb 1 ext4 - y", Some(1)),
            ("sdb 3 ext4 - y", None),
            ("sdb none ext4 - n", None),
            ("sdb none ext4 - y", Some(0)),
            ("sdb auto ext4 - n", None),
            ("sdb any ext4 - n xfs", None),
            ("sdb any ext4 - n ntfs", Some(1)),
        ] {
            assert_eq!(FileSystem::parse(line.as_bytes()).unwrap().choose(&ntfs), wanted, "{line}");
        }
        let blank = [seen(0, b"")];
        assert_eq!(FileSystem::parse(b"sdb auto ext4 - n").unwrap().choose(&blank), Some(0));
        assert_eq!(FileSystem::parse(b"sdb none xfs - n").unwrap().choose(&blank), Some(0));
        assert_eq!(FileSystem::parse(b"sdb 1 ext3 - n").unwrap().choose(&[seen(1, b"ext4")]), None);
    }

    #[test]
    fn lines_that_are_no_entries() {
        for bad in [
            "",
            "sdb",
            "sdb gpt",
            "sdb gpt 50",
            "sdb ufs - n",
            "sdb gpt 0 n",
            "sdb gpt 101 n",
            "sdb gpt 5,,5 n",
            "sdb mbr 20,20,20,20,20 n",
            "sdb gpt x n",
        ] {
            assert_eq!(Disk::parse(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["", "sdb none", "sdb 0 ext4 - n", "sdb part ext4 - n", "sdb none - - n"] {
            assert_eq!(FileSystem::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            Disk::parse(b"sdb mbr - y").map(|disk| (disk.table, disk.partitions())),
            Some((Table::Mbr, 1))
        );
    }

    proptest! {
        #[test]
        fn no_line_panics(line in any::<Vec<u8>>(), sectors: u64) {
            let mut buf = [0; 64];
            if let Some(disk) = Disk::parse(&line) {
                let _ = disk.put_script(sectors, &mut Out::new(too_many!("test"), &mut buf));
            }
            if let Some(entry) = FileSystem::parse(&line) {
                let _ = (entry.label(), entry.options().count());
            }
        }

        #[test]
        fn what_is_written_is_read(label in "[ -~]{1,12}", number in 1_u32..16, overwrite: bool) {
            let (number_text, overwrite_text) = (number.to_string(), if overwrite { "y" } else { "n" });
            let line = entry(&["/dev/sdb", &number_text, "ext4", &label, overwrite_text, "", "-i", "8192"]);
            let read = FileSystem::parse(line.as_bytes()).unwrap();
            prop_assert_eq!((read.device, read.place, read.kind), (&b"/dev/sdb"[..], Place::Partition(number), &b"ext4"[..]));
            prop_assert_eq!(read.is_overwritten, overwrite);
            // A dash alone is how nothing is said.
            prop_assert!(label == "-" || read.label().unwrap() == label.as_bytes());
            prop_assert_eq!(read.options().collect::<Vec<_>>(), [&b"-i"[..], b"8192"]);
        }
    }
}
