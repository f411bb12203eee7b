//! `preroot show --from`: what does this medium say, on any machine? A device, an image of one, a directory with its files,
//! or an ovf-env.xml alone. Nothing is kept, and no secret is shown.

use super::{count, print_facts, row};
use crate::error::{Errno, Error, Result};
use crate::facts::{DeviceName, Facts, Provenance};
use crate::format::ReadAt;
use crate::format::cloud_config::Entries;
use crate::format::sha512_crypt::RANDOM;
use crate::format::text::{PathText, join, split_once};
use crate::format::volume::Volume;
use crate::limits;
use crate::seed;
use crate::source::AdminPass;
use crate::source::azure_ovf::OvfReader;
use crate::source::cloud_config::Said;
use crate::source::instance::{InstanceReader, Learned};
use crate::source::labelled::{self, Medium};
use crate::source::tree::{DirTree, Tree, VolumeTree, stream};
use crate::stage::fetch::read_tree;
use crate::stage::print_plain;
use crate::sys::linux::Scratch;
use crate::sys::{Dir, FileType, Kernel, System};
use core::fmt::{self, Write};

/// Bytes read at once; NoCloud's meta-data is read whole.
const WINDOW: usize = limits::NOCLOUD_META_DATA;
const OVF: &str = "ovf-env.xml";
/// Entries that are listed, and what is shown of one.
const ROWS: usize = 40;
const SHOWN: usize = 44;
/// Entries that say nothing secret.
const OPEN: &[&str] =
    &["ntp", "resolv-conf", "timezone", "locale", "hosts/manage", "fqdn", "preserve-hostname"];

/// Prints what `from` says.
///
/// # Errors
/// `Os` when it cannot be read; why nothing can be made of it.
#[inline(never)]
pub(in crate::stage) fn run(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    from: &str,
    out: &mut dyn Write,
) -> Result<()> {
    let path = absolute(kernel.host, from)?;
    let Scratch { facts, bytes, ovf, instance, .. } = scratch;
    let window = bytes.get_mut(..WINDOW).unwrap_or_default();
    let mut shown = Shown::new(kernel.system);
    let mut reader = Reader { ovf, instance, facts, window, shown: &mut shown };
    let learned = match device_of(kernel.host, &path)? {
        Place::Device(name) => {
            let mut learned = Ok(None);
            kernel.disks.open_read(name.as_str(), &mut |device| {
                learned = reader.volume(device);
                Ok(())
            })?;
            learned
        }
        Place::Directory => reader.tree(&mut DirTree::new(kernel.host, &path)),
        Place::File(_) if is_document(kernel.host, &path)? => {
            let (base, name) = path.rsplit_once('/').unwrap_or(("", &path));
            reader.ovf(&mut DirTree::new(kernel.host, base), name)
        }
        Place::File(size_bytes) => reader.volume(&mut Image { dir: kernel.host, path: &path, size_bytes }),
    }?;
    // Standard output that takes nothing is not our fault.
    let _ = print(out, facts, &shown, learned.as_ref());
    Ok(())
}

/// From `/`, without it; a relative path begins where we stand.
fn absolute(host: &mut dyn Dir, path: &str) -> Result<PathText> {
    if path.starts_with('/') {
        return join(&[path.trim_matches('/')]);
    }
    let mut buf = [0; limits::PATH];
    let length = host.read_link("proc/self/cwd", &mut buf)?;
    let here = buf.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
    let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
    let path = if path == "." { "" } else { path };
    let here = here.trim_matches('/');
    join(&[here, if here.is_empty() || path.is_empty() { "" } else { "/" }, path])
}

/// What a path stands for.
enum Place {
    /// A device by its kernel name.
    Device(DeviceName),
    Directory,
    /// Its size in bytes.
    File(u64),
}

fn device_of(host: &mut dyn Dir, path: &str) -> Result<Place> {
    if path.is_empty() {
        return Ok(Place::Directory);
    }
    let stat = host.stat(path)?;
    match stat.file_type {
        FileType::BlockDevice => Ok(Place::Device(last_of(path)?)),
        // /dev/cdrom, /dev/disk/by-label/config-2
        FileType::Symlink if path.starts_with("dev/") => {
            let mut buf = [0; limits::PATH];
            let length = host.read_link(path, &mut buf)?;
            let target = buf.get(..length).and_then(|text| core::str::from_utf8(text).ok());
            Ok(Place::Device(last_of(target.unwrap_or_default())?))
        }
        FileType::Directory => Ok(Place::Directory),
        FileType::File => Ok(Place::File(stat.size)),
        _ => {
            Err(unsupported!("medium", "neither a device, a directory nor a file; name what a link leads to"))
        }
    }
}

fn last_of(path: &str) -> Result<DeviceName> {
    DeviceName::parse(path.rsplit('/').next().unwrap_or_default())
}

/// XML, not an image: the first byte that is no blank is a `<`.
fn is_document(host: &mut dyn Dir, path: &str) -> Result<bool> {
    let mut head = [0; 64];
    let length = host.read_at(path, 0, &mut head)?;
    let head = head.get(..length).unwrap_or_default();
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    Ok(head.first() == Some(&b'<'))
}

/// A file that is an image of a device.
struct Image<'d> {
    dir: &'d mut dyn Dir,
    path: &'d str,
    size_bytes: u64,
}

impl ReadAt for Image<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.dir.read_at(self.path, offset, buf)? {
            length if length == buf.len() => Ok(()),
            _ => Err(os!("read disk", Errno::IO)),
        }
    }
}

struct Reader<'r, 's> {
    ovf: &'r mut OvfReader,
    instance: &'r mut InstanceReader,
    facts: &'r mut Facts,
    window: &'r mut [u8],
    shown: &'r mut Shown<'s>,
}

impl Reader<'_, '_> {
    #[inline(never)]
    fn volume(&mut self, device: &mut dyn ReadAt) -> Result<Option<Learned>> {
        let volume: Volume = labelled::open(device)?.ok_or(crate::format::volume::NONE_OF_ALL)?;
        self.shown.label.clear();
        let label = if volume.label().is_empty() { volume.boot_label() } else { volume.label() };
        let _ = label.chars().try_for_each(|c| self.shown.label.push(c));
        self.shown.kind = volume.kind().name();
        self.tree(&mut VolumeTree::new(device, &volume))
    }

    /// By what is in it: somebody asks for this one, whatever its label.
    fn tree(&mut self, tree: &mut dyn Tree) -> Result<Option<Learned>> {
        match tree.open(OVF) {
            Ok(_) => return self.ovf(tree, OVF),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let medium = match tree.open("meta-data") {
            Ok(_) => Medium::NoCloud,
            Err(_) => Medium::ConfigDrive,
        };
        self.shown.from = medium.provenance();
        read_tree(medium, tree, self.instance, self.window, self.shown, &mut self.facts.network)?;
        let random = self.shown.random();
        if self.instance.has_mapping() {
            self.shown.said.merge(self.facts, Provenance::VendorData);
        }
        self.instance.finish(self.facts, medium.provenance(), random).map(Some)
    }

    #[inline(never)]
    fn ovf(&mut self, tree: &mut dyn Tree, name: &str) -> Result<Option<Learned>> {
        let limit = (too_many!("bytes of ovf-env.xml"), limits::OVF_DOCUMENT);
        let ovf = &mut *self.ovf;
        let read = stream(tree, name, limit, self.window, &mut |bytes| ovf.push(bytes, &mut |_| Ok(())))?;
        read.ok_or(os!("find file", Errno::NOENT))?;
        let random = self.shown.random();
        self.ovf.finish(self.facts, random).map(|_| None)
    }
}

/// An entry that would be in the seed.
struct Row {
    name: heapless::String<40>,
    length_bytes: u64,
    /// The beginning of it, where it is not secret.
    text: heapless::String<SHOWN>,
}

/// What is remembered of entries.
struct Shown<'s> {
    system: &'s mut dyn System,
    rows: heapless::Vec<Row, ROWS>,
    more: u32,
    said: Said,
    label: heapless::String<{ limits::LABEL }>,
    kind: &'static str,
    from: Provenance,
}

impl<'s> Shown<'s> {
    fn new(system: &'s mut dyn System) -> Self {
        let (rows, label) = (heapless::Vec::new(), heapless::String::new());
        let from = Provenance::OvfMedium;
        Self { system, rows, more: 0, said: Said::default(), label, kind: "", from }
    }
}

impl Entries for Shown<'_> {
    fn put(&mut self, entry: &str, bytes: &[u8]) -> Result<()> {
        if self.said.take(entry, bytes) {
            return Ok(());
        }
        let at = self.rows.iter().position(|row| row.name == entry);
        let at = at.unwrap_or_else(|| {
            let name = heapless::String::try_from(entry).unwrap_or_default();
            let _ = self.rows.push(Row { name, length_bytes: 0, text: heapless::String::new() });
            self.rows.len().saturating_sub(1)
        });
        let Some(row) = self.rows.get_mut(at).filter(|row| row.name == entry) else {
            self.more = self.more.saturating_add(1);
            return Ok(());
        };
        row.length_bytes = row.length_bytes.saturating_add(bytes.len() as u64);
        let is_part = |part: &str| entry.ends_with(part);
        if OPEN.contains(&entry) || ["/path", "/mode", "/owner"].into_iter().any(is_part) {
            let text = core::str::from_utf8(bytes).unwrap_or("?");
            let _ = text.chars().try_for_each(|c| row.text.push(if c == '\n' { ' ' } else { c }));
        }
        Ok(())
    }

    fn forget(&mut self, entry: &str) -> Result<()> {
        self.said.forget(entry);
        self.rows.retain(|row| row.name != entry);
        Ok(())
    }

    fn random(&mut self) -> Option<[u8; RANDOM]> {
        let mut random = [0; RANDOM];
        self.system.random(&mut random).is_ok().then_some(random)
    }
}

fn print(out: &mut dyn Write, facts: &Facts, shown: &Shown<'_>, learned: Option<&Learned>) -> fmt::Result {
    if !shown.kind.is_empty() {
        write!(out, "{:<16} ", "medium")?;
        print_plain(&shown.label, out)?;
        writeln!(out, " ({})", shown.kind)?;
    }
    print_facts(out, facts)?;
    if let Some(from) = facts.network_from {
        count(out, "network links", Some((facts.network.positions().count() as u64, from)), ["", ""])?;
    }
    for entry in &shown.rows {
        let mut value = heapless::String::<96>::new();
        match entry.text.is_empty() {
            true => write!(value, "<redacted, {} bytes>", entry.length_bytes)?,
            false => print_plain(entry.text.trim_end(), &mut value)?,
        }
        let from = if is_of_medium(&entry.name) { shown.from } else { Provenance::VendorData };
        row(out, &entry.name, Some((&value, from)))?;
    }
    if shown.more > 0 {
        writeln!(out, "{:<16} more entries than are listed", "...")?;
    }
    let Some(learned) = learned else { return Ok(()) };
    let mapping = learned.mapping.unwrap_or_default();
    for error in learned.faults.iter().chain(&mapping.fault) {
        fault(out, *error)?;
    }
    for (count, text) in [
        (learned.refused_keys, "keys are no OpenSSH keys"),
        (learned.lost_keys, "keys are too long, or too many"),
        (u32::from(learned.admin_pass == AdminPass::NoEntropy), "password: no randomness for a salt"),
        (learned.vendor_texts, "texts of vendor data: not acted upon"),
        (mapping.refused, "values of vendor data cannot be used"),
    ] {
        if count > 0 {
            writeln!(out, "{:<16} {count} {text}", "left out")?;
        }
    }
    mapping.left().try_for_each(|name| writeln!(out, "{:<16} {name}: not acted upon", "left out"))
}

/// What metadata brings along; its files are counted from the end.
fn is_of_medium(entry: &str) -> bool {
    let number = entry.strip_prefix("files/").and_then(|rest| split_once(rest, "/")?.0.parse::<usize>().ok());
    [seed::USER_DATA, seed::NETWORK_CONFIG].contains(&entry)
        || number.is_some_and(|n| n >= limits::FILES.saturating_sub(limits::INJECTED_FILES))
}

fn fault(out: &mut dyn Write, error: Error) -> fmt::Result {
    writeln!(out, "{:<16} {error}", "left out")
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::format::media::image;
    use crate::stage::fetch::tests::scratch;
    use crate::sys::fake::{FakeDisk, World};
    use std::string::String;

    fn shown(world: &mut World, from: &str) -> (String, u8) {
        let mut out = String::new();
        let outcome = run(&mut world.kernel(), &mut scratch(), from, &mut out);
        (out, outcome.map_or_else(|error| error.exit_code(), |()| 0))
    }

    #[test]
    fn a_drive_is_shown_wherever_it_is() {
        let mut world = World::new();
        world.host.put("tmp/drive.img", image("config-drive-iso"));
        world.host.put_symlink("dev/disk/by-label/CONFIG-2", "../../vdb");
        world.disks.disks.insert("vdb".into(), FakeDisk::new(image("config-drive-fat")));
        for (from, medium) in
            [("/tmp/drive.img", "config-2 (ISO 9660)"), ("/dev/disk/by-label/CONFIG-2", "CONFIG-2 (FAT)")]
        {
            let (out, code) = shown(&mut world, from);
            assert_eq!(code, 0, "{out}");
            assert!(out.starts_with(&std::format!("medium           {medium}\n")), "{out}");
            assert!(out.contains("host name        VM-1-17-centos "), "{out}");
            assert!(out.contains("user-data        <redacted, ") && out.contains("config-drive\n"), "{out}");
            assert!(!out.contains("#!/bin/bash") && !out.contains("root:$6$"), "{out}");
        }
        assert!(world.run.dump().is_empty(), "nothing is kept");
    }

    #[test]
    fn what_is_left_out_is_shown_and_who_said_what() {
        let mut world = World::new();
        let meta =
            r#"{"uuid":"i-1","public_keys":"no key","files":[{"path":"/a","content_path":"/content/0"}]}"#;
        world.host.put("a/openstack/latest/meta_data.json", meta).put("a/openstack/content/0", "x");
        world.host.put("a/openstack/latest/vendor_data.json", r##"["#!/bin/sh"]"##);
        let (out, _) = shown(&mut world, "/a");
        assert!(out.contains("left out         1 keys are no OpenSSH keys\n"), "{out}");
        assert!(out.contains("left out         1 texts of vendor data"), "{out}");
        let row = out.lines().find(|line| line.starts_with("files/255/path")).unwrap();
        assert!(row.ends_with(" config-drive"), "{out}");
    }

    #[test]
    fn directories_and_single_documents_are_shown() {
        let mut world = World::new();
        world.host.put("a/meta-data", "instance-id: i-1\nlocal-hostname: vm1\n").put("a/user-data", "CANARY");
        let ovf = include_bytes!("../../../tests/fixtures/ovf/sample-a-password/input.xml");
        world
            .host
            .put("b/ovf-env.xml", ovf)
            .put("c/x.xml", ovf)
            .put("d/x", "")
            .put_symlink("proc/self/cwd", "/a");
        assert!(shown(&mut world, "/a/").0.contains("host name        vm1 "));
        assert!(shown(&mut world, ".").0.contains("instance id      i-1 "));
        for from in ["/b", "/c/x.xml"] {
            assert!(shown(&mut world, from).0.contains("password hash    <redacted"), "{from}");
        }
        assert_eq!(shown(&mut world, "/d").1, 1);
        assert_eq!(shown(&mut world, "/d/x").1, 1);
        assert_eq!(shown(&mut world, "/none").1, 1);
    }
}
