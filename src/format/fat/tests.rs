//! Volumes as mkfs.vfat and mtools make them, and volumes that nobody should make.

use super::chain::Width;
use super::{Volume, parse};
use crate::error::{Errno, Kind, Result};
use crate::format::media::{DOCUMENT, Strict, image};
use crate::format::volume::SCRATCH_BYTES;
use crate::format::volume::tree::find;
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::vec;
use std::vec::Vec;

const IMAGES: [&str; 3] = ["fat-12", "fat-16", "fat-32"];

fn open(image: &[u8]) -> Volume {
    Volume::open(&mut Strict::new(image), &mut [0; SCRATCH_BYTES]).unwrap().unwrap()
}

fn read(image: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut device = Strict::new(image);
    let mut scratch = [0; SCRATCH_BYTES];
    let volume = Volume::open(&mut device, &mut scratch)?.unwrap();
    let mut file = find(&volume, &mut device, path, &mut scratch)?;
    let mut content = vec![0; usize::try_from(file.size_bytes()).unwrap()];
    let mut offset = 0;
    for part in content.chunks_mut(700) {
        assert_eq!(file.read(&mut device, offset, part), Ok(part.len()));
        offset += part.len() as u64;
    }
    Ok(content)
}

#[test]
fn each_width_is_read_whatever_the_case_of_the_path() {
    for (name, width) in IMAGES.into_iter().zip([Width::Fat12, Width::Fat16, Width::Fat32]) {
        let image = image(name);
        assert_eq!(open(&image).table.width, width);
        for path in [
            "ovf-env.xml",
            "OVF-ENV.XML",
            "openstack/latest/meta_data.json",
            "OpenStack//LATEST/Meta_Data.json",
        ] {
            assert_eq!(read(&image, path).as_deref(), Ok(DOCUMENT), "{name} {path}");
        }
        for path in ["CustomData.bin", "small 2", "price \u{20ac}.xml"] {
            assert_eq!(read(&image, path).as_deref(), Ok(&b"#!/bin/sh\n"[..]), "{name} {path}");
        }
        for none in ["none", "small 1", "ovf-env", "openstack/ovf-env.xml", ".", "openstack/..", "config-2"] {
            assert_eq!(read(&image, none), Err(os!("find file", Errno::NOENT)), "{name} {none}");
        }
        assert_eq!(read(&image, "openstack"), Err(os!("find file", Errno::ISDIR)), "{name}");
        assert_eq!(read(&image, "ovf-env.xml/x"), Err(os!("find file", Errno::NOTDIR)), "{name}");
    }
}

/// Place of the entry with this short name.
fn entry(image: &[u8], name: &[u8; 11]) -> usize {
    (0..image.len() - 32).step_by(32).find(|at| image[*at..].starts_with(name)).unwrap()
}

/// FAT16's entry of a cluster.
fn link(image: &mut [u8], cluster: u16, next: u16) {
    let at = open(image).table.start_bytes as usize + usize::from(cluster) * 2;
    image[at..at + 2].copy_from_slice(&next.to_le_bytes());
}

fn first_cluster(image: &[u8], name: &[u8; 11]) -> u16 {
    let at = entry(image, name) + 26;
    u16::from_le_bytes([image[at], image[at + 1]])
}

const DOCUMENT_ENTRY: &[u8; 11] = b"OVF-ENV XML";

#[test]
fn chains_that_lie_are_refused() {
    let good = image("fat-16");
    let first = first_cluster(&good, DOCUMENT_ENTRY);
    for (next, reason) in [
        (first, "clusters are a ring"),
        (0, "no such cluster"),
        (1, "no such cluster"),
        (0xFFF0, "no such cluster"),
        (0xFFF7, "no such cluster"),
        (0xFFF8, "file longer than its clusters"),
        (0xFFFF, "file longer than its clusters"),
    ] {
        let mut image = good.clone();
        link(&mut image, first, next);
        let error = read(&image, "ovf-env.xml").unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::Malformed, reason), "{next:#x}");
    }
    for cluster in [0_u16, 1, 0xFFF0] {
        let mut image = good.clone();
        let at = entry(&image, DOCUMENT_ENTRY) + 26;
        image[at..at + 2].copy_from_slice(&cluster.to_le_bytes());
        assert!(matches!(read(&image, "ovf-env.xml"), Err(error) if error.is(Kind::Malformed)), "{cluster}");
        let at = entry(&image, b"OPENST~1   ") + 26;
        image[at..at + 2].copy_from_slice(&cluster.to_le_bytes());
        assert!(matches!(read(&image, "openstack/x"), Err(error) if error.is(Kind::Malformed)), "{cluster}");
    }
}

#[test]
fn a_ring_in_a_directory_or_a_long_file_comes_to_an_end() {
    let mut image = image("fat-16");
    let directory = first_cluster(&image, b"OPENST~1   ");
    link(&mut image, directory, directory);
    assert!(matches!(read(&image, "openstack/x"), Err(error) if error.reason() == "clusters are a ring"));
    // 4 GiB in a ring of seven.
    let first = first_cluster(&image, DOCUMENT_ENTRY);
    for step in 0..7 {
        link(&mut image, 3000 + step, 3000 + (step + 1) % 7);
    }
    link(&mut image, first, 3000);
    let at = entry(&image, DOCUMENT_ENTRY) + 28;
    image[at..at + 4].fill(0xFF);
    assert!(matches!(read(&image, "ovf-env.xml"), Err(error) if error.reason() == "clusters are a ring"));
}

#[test]
fn a_file_in_many_more_pieces_than_are_held_is_read() {
    let mut image = image("fat-16");
    let at = entry(&image, DOCUMENT_ENTRY);
    // Every other cluster, backwards: no two are neighbours.
    let clusters: Vec<u16> = (0..400).map(|i| 4000 - 2 * i).collect();
    let (mut content, data) = (Vec::new(), open(&image).table.data_bytes as usize);
    for (i, cluster) in clusters.iter().enumerate() {
        link(&mut image, *cluster, clusters.get(i + 1).copied().unwrap_or(0xFFFF));
        let sector = data + usize::from(cluster - 2) * 512;
        image[sector..sector + 512].fill(i as u8);
        content.extend([i as u8; 512]);
    }
    content.truncate(399 * 512 + 7);
    image[at + 26..at + 28].copy_from_slice(&clusters[0].to_le_bytes());
    image[at + 28..at + 32].copy_from_slice(&(content.len() as u32).to_le_bytes());
    assert!(read(&image, "ovf-env.xml").unwrap() == content);
    let mut device = Strict::new(&image);
    let mut scratch = [0; SCRATCH_BYTES];
    let mut file = find(&open(&image), &mut device, "ovf-env.xml", &mut scratch).unwrap();
    let fresh = file.clone();
    for offset in [0, 100_000, 204_000, 5_000, 199_999, content.len() - 1, content.len()] {
        let mut piece = [0; 1000];
        let got = file.read(&mut device, offset as u64, &mut piece).unwrap();
        assert_eq!(piece[..got], content[offset..(offset + 1000).min(content.len())], "{offset}");
        assert_eq!(file, fresh, "it is the same file wherever it was read");
    }
    // A chain that breaks behind what was looked at first is no early end.
    link(&mut image, clusters[300], 0xFFFF);
    let mut file = fresh;
    let result = file.read(&mut Strict::new(&image), 390 * 512, &mut [0; 10]);
    assert!(matches!(result, Err(error) if error.is(Kind::Malformed)));
    let result = file.read(&mut Strict::new(&image), 390 * 512, &mut [0; 10]);
    assert!(matches!(result, Err(error) if error.is(Kind::Malformed)), "asked again");
}

#[test]
fn long_names_that_belong_to_nobody_are_not_shown() {
    let good = image("fat-12");
    let at = entry(&good, b"CUSTOM~1BIN");
    assert_eq!(good[at - 32 + 11], 0x0F);
    for (what, place, value) in [
        ("checksum", at - 32 + 13, good[at - 32 + 13] ^ 1),
        ("order", at - 32, 2),
        ("no last part", at - 64, good[at - 64] & !0x40),
        ("part 0", at - 32, 0x40),
        ("part 63", at - 64, 0x7F),
        ("deleted", at - 32, 0xE5),
    ] {
        let mut image = good.clone();
        image[place] = value;
        assert_eq!(read(&image, "CustomData.bin"), Err(os!("find file", Errno::NOENT)), "{what}");
        assert_eq!(read(&image, "custom~1.bin").as_deref(), Ok(&b"#!/bin/sh\n"[..]), "{what}");
    }
}

#[test]
fn the_label_is_the_entry_s_and_the_boot_sector_s() {
    let mut image = image("fat-16");
    assert_eq!((open(&image).label(), open(&image).boot_label()), ("config-2", "config-2"));
    let at = entry(&image, b"config-2   ");
    image[at] = 0xE5;
    assert_eq!((open(&image).label(), open(&image).boot_label()), ("", "config-2"));
    image[at] = b'C';
    image[43..54].copy_from_slice(b"NO NAME    ");
    assert_eq!((open(&image).label(), open(&image).boot_label()), ("Config-2", ""));
}

#[test]
fn boot_sectors_that_lie_are_none() {
    let good = image("fat-16");
    for (what, place, bytes) in [
        ("signature", 510, &[0, 0][..]),
        ("sector of 0", 11, &[0, 0]),
        ("sector of 8192", 11, &[0, 32]),
        ("sector of 513", 11, &[1, 2]),
        ("cluster of 0", 13, &[0]),
        ("cluster of 3", 13, &[3]),
        ("nothing reserved", 14, &[0, 0]),
        ("no table", 16, &[0]),
        ("media byte", 21, &[0x12]),
        ("table longer than the volume", 22, &[0xFF, 0xFF]),
        ("no sectors", 19, &[0, 0, 0xF8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("HPFS", 54, b"HPFS    "),
    ] {
        let mut image = good.clone();
        image[place..place + bytes.len()].copy_from_slice(bytes);
        assert!(parse(&image[..512]).is_none(), "{what}");
    }
    for length in [0, 1, 511] {
        assert!(Volume::open(&mut Strict::new(&good[..length]), &mut [0; SCRATCH_BYTES]).unwrap().is_none());
    }
    for name in IMAGES {
        let good = image(name);
        for length in (512..100_000).step_by(512) {
            survive(&good[..length]);
        }
    }
    assert!(matches!(read(&good[..2048], "ovf-env.xml"), Err(error) if error.is(Kind::Malformed)));
}

fn survive(image: &[u8]) {
    let mut device = Strict::new(image);
    let mut scratch = [0; SCRATCH_BYTES];
    if let Ok(Some(volume)) = Volume::open(&mut device, &mut scratch) {
        for path in ["ovf-env.xml", "openstack/latest/meta_data.json"] {
            if let Ok(mut file) = find(&volume, &mut device, path, &mut scratch) {
                let _ = file.read(&mut device, file.size_bytes() / 2, &mut scratch);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_never_panic_or_hang(
        name in prop::sample::select(&IMAGES[..2]),
        flips in prop::collection::vec((0_usize..0xFFFF, any::<u8>()), 1..16),
    ) {
        let mut image = image(name);
        let used: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0 || (512..4096).contains(at)).collect();
        for (place, value) in flips {
            image[used[place % used.len()]] = value;
        }
        survive(&image);
    }

    #[test]
    fn arbitrary_bytes_never_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..4096), at in 0_usize..0x4000) {
        let mut image = image("fat-12");
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        survive(&image);
        survive(&bytes);
    }
}
