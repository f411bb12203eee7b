//! Bridge media, and media that are none.

use super::{FileKind, Kind, NO_FILE_SYSTEM, NONE_OF_ALL, SCRATCH_BYTES, Stat, Volume, find_file};
use crate::error::{Errno, Error};
use crate::format::ReadAt;
use crate::format::media::{DOCUMENT, Strict, image};
use core::ops::ControlFlow;
use std::string::{String, ToString as _};
use std::vec::Vec;

fn find(image: &[u8], path: &str) -> Result<(Kind, u64), Error> {
    let found = find_file(&mut Strict::new(image), path, &mut [0; SCRATCH_BYTES]);
    found.map(|(kind, file)| (kind, file.size_bytes()))
}

#[test]
fn udf_is_read_before_iso_and_iso_when_udf_is_broken() {
    let size = DOCUMENT.len() as u64;
    let mut bridge = image("bridge");
    assert_eq!(find(&bridge, "ovf-env.xml"), Ok((Kind::Udf, size)));
    assert_eq!(find(&image("iso-plain"), "ovf-env.xml"), Ok((Kind::Iso9660, size)));
    let none = os!("find file", Errno::NOENT);
    assert_eq!(find(&bridge, "none"), Err(none));
    bridge[256 * 2048] ^= 1;
    let last = bridge.len() - 2048;
    bridge[last] ^= 1;
    assert_eq!(find(&bridge, "ovf-env.xml"), Ok((Kind::Iso9660, size)));
    assert!(matches!(find(&bridge, "none"), Err(error) if error.reason() == "no anchor"));
}

#[test]
fn a_medium_without_file_system_is_named() {
    for size in [0, 2048, 1 << 20] {
        assert_eq!(find(&std::vec![0x55; size], "x"), Err(NO_FILE_SYSTEM), "{size}");
    }
}

/// A device of which one block is bad.
struct Scratched<'i>(Strict<'i>, u64);

impl ReadAt for Scratched<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        if (offset..offset + buf.len() as u64).contains(&self.1) {
            return Err(os!("read disk", Errno::IO));
        }
        self.0.read_at(offset, buf)
    }
}

#[test]
fn a_bad_block_is_the_device_s_error_or_made_good_by_a_second_copy() {
    let image = image("bridge");
    let mut failures = 0;
    for block in 16..image.len() as u64 / 2048 {
        let mut device = Scratched(Strict::new(&image), block * 2048);
        match find_file(&mut device, "ovf-env.xml", &mut [0; SCRATCH_BYTES]) {
            Ok((kind, _)) => assert_eq!(kind, Kind::Udf),
            Err(error) => {
                assert_eq!(error, os!("read disk", Errno::IO), "{block}");
                failures += 1;
            }
        }
    }
    assert!((3..12).contains(&failures), "{failures}");
}

fn open(image: &[u8]) -> (Volume, Strict<'_>) {
    let mut device = Strict::new(image);
    let volume = Volume::open(&mut device, &mut [0; SCRATCH_BYTES]).unwrap();
    (volume, device)
}

fn names(image: &[u8], path: &str) -> Result<Vec<String>, Error> {
    let (volume, mut device) = open(image);
    let mut names = Vec::new();
    volume.list(&mut device, path, &mut [0; SCRATCH_BYTES], &mut |entry| {
        names.push(entry.name.to_string());
        Ok(ControlFlow::Continue(()))
    })?;
    names.sort();
    Ok(names)
}

#[test]
fn every_kind_is_listed_and_named() {
    for (name, kind, label) in [
        ("bridge", Kind::Udf, "UDF Volume"),
        ("udf-vat", Kind::Udf, "UDF Volume"),
        ("iso-joliet", Kind::Iso9660, "JOLIET"),
        ("iso-rock-ridge", Kind::Iso9660, "RR"),
        ("iso-plain", Kind::Iso9660, "PLAIN"),
        ("fat-12", Kind::Fat, "config-2"),
        ("fat-32", Kind::Fat, "config-2"),
    ] {
        let image = image(name);
        let (volume, _) = open(&image);
        assert_eq!((volume.kind(), volume.label()), (kind, label), "{name}");
        assert_eq!(volume.boot_label(), if kind == Kind::Fat { label } else { "" }, "{name}");
    }
    for name in ["bridge", "iso-joliet", "iso-rock-ridge", "iso-xorriso", "bd-250"] {
        let mut names = names(&image(name), "").unwrap();
        names.retain(|name| name != "BDMV" && name != "CERTIFICATE");
        assert_eq!(names, ["CustomData.bin", "ovf-env.xml"], "{name}");
    }
    assert_eq!(names(&image("iso-plain"), "").unwrap(), ["customda.bin", "ovf_env.xml"]);
    assert_eq!(names(&image("udf-vat"), "").unwrap(), ["lost+found"; 0]);
    let linux = image("linux-201-512");
    assert_eq!(names(&linux, "").unwrap(), ["CustomData.bin", "ovf-env.xml", "sub"]);
    assert_eq!(names(&linux, "sub").unwrap(), ["price \u{20ac}.xml"]);
    assert_eq!(names(&linux, "ovf-env.xml"), Err(os!("find file", Errno::NOTDIR)));
}

#[test]
fn what_is_at_a_path_is_said() {
    let image = image("fat-16");
    let (volume, mut device) = open(&image);
    let mut stat = |path| volume.stat(&mut device, path, &mut [0; SCRATCH_BYTES]);
    let size_bytes = DOCUMENT.len() as u64;
    assert_eq!(stat("openstack/latest/meta_data.json"), Ok(Stat { kind: FileKind::File, size_bytes }));
    assert_eq!(stat("/OPENSTACK//LATEST/").map(|stat| stat.kind), Ok(FileKind::Directory));
    assert_eq!(stat("").map(|stat| stat.kind), Ok(FileKind::Directory));
    assert_eq!(stat("none"), Err(os!("find file", Errno::NOENT)));
}

#[test]
fn a_list_ends_when_it_is_told_to() {
    let image = image("bridge");
    let (volume, mut device) = open(&image);
    let mut seen = 0;
    let listed = volume.list(&mut device, "", &mut [0; SCRATCH_BYTES], &mut |_| {
        seen += 1;
        Ok(ControlFlow::Break(()))
    });
    assert_eq!((listed, seen), (Ok(()), 1));
    let error = malformed!("receiver", "full", 0);
    let listed = volume.list(&mut device, "", &mut [0; SCRATCH_BYTES], &mut |_| Err(error));
    assert_eq!(listed, Err(error));
}

#[test]
fn what_claims_nothing_is_nothing() {
    for size in [0, 511, 512, 2048, 1 << 20] {
        let image = std::vec![0x55; size];
        let opened = Volume::open(&mut Strict::new(&image), &mut [0; SCRATCH_BYTES]);
        assert_eq!(opened.err(), Some(NONE_OF_ALL), "{size}");
    }
}
