//! A machine with one sparse disk, for the tests of `grow`: it records writes and flushes, and its kernel
//! looks for partitions as Linux does without `gpt` on its command line.

use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::gpt::tests::{header, put_entry};
use crate::format::gpt::{BlockSize, DiskSize, GptHeader, PRIMARY_LBA};
use crate::sys::fake::{FakeDir, World};
use crate::sys::{Block, Disks, DriveStatus, Kernel, KernelPartition};
use core::ops::Range;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

const SECTOR: usize = 512;

/// A disk of any size that costs what was written to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::stage) struct SparseDisk {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    pub(super) size: DiskSize,
    /// Every write and flush; `None` is a flush.
    pub(super) journal: Vec<Option<(u64, Vec<u8>)>>,
}

impl SparseDisk {
    pub(in crate::stage) fn new(bytes: u64, block: u32) -> Self {
        let size = DiskSize::new(bytes, BlockSize::new(block).unwrap()).unwrap();
        Self { sectors: BTreeMap::new(), size, journal: Vec::new() }
    }

    /// The same disk after the host made it larger.
    pub(in crate::stage) fn enlarged(&self, bytes: u64) -> Self {
        Self { size: DiskSize::new(bytes, self.size.block).unwrap(), ..self.clone() }
    }

    /// The sectors that `len` bytes at `offset` touch: number, range in it, range in the bytes.
    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
        let mut done = 0;
        core::iter::from_fn(move || {
            let at = offset + done as u64;
            let from = (at % SECTOR as u64) as usize;
            let n = (SECTOR - from).min(len - done);
            let piece = (at / SECTOR as u64, from..from + n, done..done + n);
            done += n;
            (n > 0).then_some(piece)
        })
    }

    pub(in crate::stage) fn put(&mut self, offset: u64, bytes: &[u8]) {
        for (number, to, from) in Self::pieces(offset, bytes.len()) {
            let sector = self.sectors.entry(number).or_insert([0; SECTOR]);
            sector[to].copy_from_slice(&bytes[from]);
        }
    }

    pub(in crate::stage) fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; len];
        for (number, from, to) in Self::pieces(offset, len) {
            if let Some(sector) = self.sectors.get(&number) {
                bytes[to].copy_from_slice(&sector[from]);
            }
        }
        bytes
    }

    /// As a sparse file.
    pub(super) fn save(&self, path: &std::path::Path) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(path).unwrap();
        file.set_len(self.size.blocks * self.size.block.bytes()).unwrap();
        for (number, sector) in &self.sectors {
            file.write_all_at(sector, number * SECTOR as u64).unwrap();
        }
    }

    /// Same bytes, whatever was written to get there.
    pub(super) fn has_bytes_of(&self, other: &Self) -> bool {
        let written = |disk: &'_ Self| disk.sectors.clone().into_iter().filter(|(_, s)| *s != [0; SECTOR]);
        self.size == other.size && written(self).eq(written(other))
    }
}

impl ReadAt for SparseDisk {
    fn size_bytes(&self) -> u64 {
        self.size.blocks * self.size.block.bytes()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset + buf.len() as u64 > self.size_bytes() {
            return Err(os!("read disk", Errno::IO));
        }
        buf.copy_from_slice(&self.get(offset, buf.len()));
        Ok(())
    }
}

impl Block for SparseDisk {
    fn sector_bytes(&self) -> u32 {
        self.size.block.bytes() as u32
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        assert!(offset + buf.len() as u64 <= self.size_bytes(), "write past the end");
        assert_eq!(offset % self.size.block.bytes(), 0, "whole blocks only");
        assert_eq!(buf.len() as u64 % self.size.block.bytes(), 0, "whole blocks only");
        self.journal.push(Some((offset, buf.to_vec())));
        self.put(offset, buf);
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        self.journal.push(None);
        Ok(())
    }
}

/// Partitions of a layout: number, first MiB, last MiB (exclusive).
pub(super) type Parts = &'static [(u32, u64, u64)];

/// Which table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Gpt,
    /// With this type in the second record of the MBR.
    Hybrid(u8),
    /// The partition of that number is the extended one; 0 for none.
    Mbr(u32),
}

/// What was made by an image builder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) kind: Format,
    pub(super) name: &'static str,
    pub(super) block: u32,
    pub(super) entries: (u32, u32),
    pub(super) image_mib: u64,
    pub(super) parts: Parts,
    pub(super) root: u32,
}

impl Layout {
    /// The image: boot code, the table, an ext4 in the root partition.
    pub(super) fn image(&self) -> SparseDisk {
        let mut disk = match self.kind {
            Format::Mbr(extended) => self.mbr_image(extended),
            _ => self.gpt_image(),
        };
        let root = self.parts.iter().find(|(number, ..)| *number == self.root).unwrap();
        put_ext4(&mut disk, root.1 << 20);
        disk
    }

    /// As fdisk makes them: the record of a logical partition is 1 MiB before it.
    fn mbr_image(&self, extended: u32) -> SparseDisk {
        let mut disk = SparseDisk::new(self.image_mib << 20, self.block);
        let per_mib = (1 << 20) / u64::from(self.block);
        disk.put(0, &[0xFA; 440]);
        disk.put(440, &0xDEAD_BEEF_u32.to_le_bytes());
        let outer = self.parts.iter().find(|part| part.0 == extended).map_or(0, |part| part.1) * per_mib;
        let mut put = |at: u64, slot: u32, kind: u8, first: u64, blocks: u64| {
            let at = at * u64::from(self.block);
            let record = at + 446 + 16 * u64::from(slot);
            disk.put(record, &[0, 1, 2, 3, kind, 4, 5, 6]);
            disk.put(record + 8, &(first as u32).to_le_bytes());
            disk.put(record + 12, &(blocks as u32).to_le_bytes());
            disk.put(at + 510, &[0x55, 0xAA]);
        };
        for (number, from, to) in self.parts {
            let (first, blocks) = (from * per_mib, (to - from) * per_mib);
            let kind = if *number == extended { 0x0F } else { 0x83 };
            if *number < 5 {
                put(0, number - 1, kind, first, blocks);
                continue;
            }
            let record = first - per_mib;
            put(record, 0, kind, per_mib, blocks);
            if record != outer {
                let before = self.parts.iter().find(|part| part.0 + 1 == *number && part.0 >= 5);
                let before = before.map_or(outer, |part| (part.1 - 1) * per_mib);
                put(before, 1, 0x05, record - outer, blocks + per_mib);
            }
        }
        disk
    }

    fn gpt_image(&self) -> SparseDisk {
        let mut disk = SparseDisk::new(self.image_mib << 20, self.block);
        let size = disk.size;
        let mut primary = header(size, self.entries.0, self.entries.1);
        let padded = size.offset(size.block.blocks_for(primary.array_bytes())) as usize;
        let mut array = std::vec![0; padded];
        // Unused entries are known by their type alone; what else they hold must stay too.
        for (i, byte) in array.iter_mut().enumerate().filter(|(i, _)| i % primary.entry_bytes as usize >= 16)
        {
            *byte = (i / 7) as u8;
        }
        let per_mib = (1 << 20) / size.block.bytes();
        for (number, from, to) in self.parts {
            put_entry(&mut array, &primary, *number, from * per_mib, to * per_mib - 1);
        }
        primary.entries_crc = primary.array_crc(&array).unwrap();
        let entries_lba = size.last_lba() - size.block.blocks_for(primary.array_bytes());
        let backup =
            GptHeader { my_lba: size.last_lba(), alternate_lba: PRIMARY_LBA, entries_lba, ..primary };
        for header in [primary, backup] {
            let mut sector = std::vec![0; size.block.as_usize()];
            header.emit(&mut sector).unwrap();
            disk.put(size.offset(header.my_lba), &sector);
            disk.put(size.offset(header.entries_lba), &array);
        }
        disk.put(0, &[0xFA; 440]);
        disk.put(446 + 4, &[0xEE]);
        disk.put(446 + 8, &1_u32.to_le_bytes());
        disk.put(446 + 12, &(size.blocks as u32 - 1).to_le_bytes());
        disk.put(510, &[0x55, 0xAA]);
        if let Format::Hybrid(kind) = self.kind {
            disk.put(462, &[0x80, 0, 2, 0, kind, 0, 0, 0]);
            disk.put(470, &(self.parts[0].1 as u32 * 2048).to_le_bytes());
            disk.put(474, &2048_u32.to_le_bytes());
        }
        disk
    }
}

fn put_ext4(disk: &mut SparseDisk, offset: u64) {
    let raw = offset + 1024;
    disk.put(raw + 0x18, &2_u32.to_le_bytes());
    disk.put(raw + 0x38, &[0x53, 0xEF]);
    disk.put(raw + 0x68, &[0xE4; 16]);
    disk.put(raw + 0x78, b"cloudimg-rootfs");
}

/// A booted machine.
pub(super) struct Machine {
    pub(super) world: World,
    pub(super) drive: Drive,
}

/// The disk `sda` and what the kernel knows of it.
pub(in crate::stage) struct Drive {
    pub(in crate::stage) disk: SparseDisk,
    pub(in crate::stage) known: BTreeMap<u32, KernelPartition>,
    pub(in crate::stage) said: Vec<String>,
    /// What mappings hold, by name.
    pub(in crate::stage) others: BTreeMap<String, Vec<u8>>,
    pub(in crate::stage) twin: Option<Twin>,
    /// How often somebody else has the disk's lock; then whether we have it.
    pub(super) locked: usize,
    pub(super) is_locked: bool,
}

impl Drive {
    pub(in crate::stage) fn new(disk: SparseDisk, known: BTreeMap<u32, KernelPartition>) -> Self {
        let (said, others) = (Vec::new(), BTreeMap::new());
        Self { disk, known, said, others, twin: None, locked: 0, is_locked: false }
    }
}

/// A second disk, `sdb`, which nobody may write.
pub(in crate::stage) struct Twin {
    pub(in crate::stage) disk: SparseDisk,
    pub(in crate::stage) known: BTreeMap<u32, KernelPartition>,
    /// How many times it is not ready yet.
    pub(super) opens: usize,
}

impl Machine {
    /// Switches on: the kernel reads the primary table, or finds none.
    pub(super) fn boot(disk: SparseDisk, root_arg: &str) -> Self {
        let mut disk = disk;
        disk.journal.clear();
        let known = partitions_linux_finds(&disk);
        let mut world = World::new();
        world.host.put("proc/cmdline", std::format!("ro root={root_arg} console=ttyS0\n"));
        put_sysfs(&mut world.host, "sda", &disk, &known);
        Self { world, drive: Drive::new(disk, known) }
    }

    pub(super) fn kernel(&mut self) -> Kernel<'_> {
        Kernel { disks: &mut self.drive, ..self.world.kernel() }
    }

    pub(super) fn before_mount(&mut self, dry_run: bool) -> Result<super::Outcome> {
        super::before_mount(&mut self.kernel(), &mut scratch(), dry_run)
    }

    pub(super) fn log(&self) -> String {
        self.world.log.lines.join("\n")
    }
}

pub(super) fn scratch() -> Vec<u8> {
    std::vec![0xCC; crate::limits::GROW_SCRATCH]
}

/// block/partitions/msdos.c: as bytes say, in the words of that file.
fn partitions_of_mbr(disk: &SparseDisk) -> BTreeMap<u32, KernelPartition> {
    let mut found = BTreeMap::new();
    let block = disk.size.block.bytes();
    let number_at = |at: u64| u64::from(u32::from_le_bytes(disk.get(at, 4).try_into().unwrap()));
    let record = |sector: u64, slot: u64| {
        let at = sector * block + 446 + 16 * slot;
        (disk.get(at + 4, 1)[0], number_at(at + 8), number_at(at + 12))
    };
    let is_extended = |kind: u8| matches!(kind, 5 | 0xF | 0x85);
    let mut put = |number: u32, first: u64, size: u64| {
        let part = KernelPartition { number, start_bytes: first * block, length_bytes: size * block };
        found.insert(number, part);
    };
    let mut next = 5;
    for slot in 0..4 {
        let (kind, start, size) = record(0, slot);
        if size != 0 {
            put(slot as u32 + 1, start, if is_extended(kind) { 2 } else { size });
        }
        let mut this = start;
        while is_extended(kind) && disk.get(this * block + 510, 2) == [0x55, 0xAA] {
            let all = [0, 1, 2, 3].map(|slot| record(this, slot));
            for (_, first, size) in all.iter().filter(|(kind, _, size)| *size != 0 && !is_extended(*kind)) {
                put(next, this + first, *size);
                next += 1;
            }
            let Some(link) = all.iter().find(|(kind, _, size)| *size != 0 && is_extended(*kind)) else {
                break;
            };
            this = start + link.1;
        }
    }
    found
}

/// block/partitions/efi.c without `gpt`: the primary alone decides.
pub(in crate::stage) fn partitions_linux_finds(disk: &SparseDisk) -> BTreeMap<u32, KernelPartition> {
    if disk.get(446 + 4, 1) != [0xEE] {
        return partitions_of_mbr(disk);
    }
    let block = disk.size.block.as_usize();
    let sector = disk.get(disk.size.offset(PRIMARY_LBA), block);
    let Ok(header) = GptHeader::parse(&sector, PRIMARY_LBA, disk.size) else { return BTreeMap::new() };
    let array = disk.get(disk.size.offset(header.entries_lba), header.array_bytes() as usize);
    // is_gpt_valid: entries of other sizes are none to Linux, and userspace adds the partitions.
    if header.entry_bytes != 128 || header.array_crc(&array) != Some(header.entries_crc) {
        return BTreeMap::new();
    }
    let partition = |number, first, blocks| KernelPartition {
        number,
        start_bytes: disk.size.offset(first),
        length_bytes: disk.size.offset(blocks),
    };
    let all = header.entries(&array);
    all.map(|e| (e.number, partition(e.number, e.first_lba(), e.blocks().unwrap()))).collect()
}

pub(in crate::stage) fn put_sysfs(
    host: &mut FakeDir,
    name: &str,
    disk: &SparseDisk,
    known: &BTreeMap<u32, KernelPartition>,
) {
    let base = std::format!("sys/devices/vmbus/block/{name}");
    host.put(&std::format!("{base}/dev"), "8:0\n")
        .put(&std::format!("{base}/size"), std::format!("{}\n", disk.size_bytes() / 512))
        .put(&std::format!("{base}/queue/logical_block_size"), std::format!("{}\n", disk.size.block.bytes()))
        .put_dir(&std::format!("{base}/holders"))
        .put_symlink(
            &std::format!("sys/class/block/{name}"),
            &std::format!("../../devices/vmbus/block/{name}"),
        )
        // What other machines have too, and what must not be opened.
        .put("sys/class/block/sr0/size", "0\n")
        .put("sys/class/block/loop0/size", "0\n");
    for (number, part) in known {
        let base = std::format!("{base}/{name}{number}");
        host.put(&std::format!("{base}/dev"), std::format!("8:{number}\n"))
            .put(&std::format!("{base}/partition"), std::format!("{number}\n"))
            .put(&std::format!("{base}/start"), std::format!("{}\n", part.start_bytes / 512))
            .put(&std::format!("{base}/size"), std::format!("{}\n", part.length_bytes / 512))
            .put_dir(&std::format!("{base}/holders"))
            .put_symlink(
                &std::format!("sys/class/block/{name}{number}"),
                &std::format!("../../devices/vmbus/block/{name}/{name}{number}"),
            );
    }
}

/// A partition's bytes.
struct Slice<'d> {
    disk: &'d mut SparseDisk,
    part: KernelPartition,
}

impl ReadAt for Slice<'_> {
    fn size_bytes(&self) -> u64 {
        self.part.length_bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.disk.read_at(self.part.start_bytes + offset, buf)
    }
}

impl Disks for Drive {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        if name == "sda" {
            return work(&mut self.disk);
        }
        if let Some(bytes) = self.others.get(name) {
            return work(&mut crate::sys::fake::FakeDisk::new(bytes.clone()));
        }
        let mut places = (&mut self.disk, &self.known);
        let mut number = name.strip_prefix("sda");
        if let (Some(twin), Some(rest)) = (&mut self.twin, name.strip_prefix("sdb")) {
            if twin.opens > 0 {
                twin.opens -= 1;
                return Err(os!("open disk", Errno::NOENT));
            }
            if rest.is_empty() {
                return work(&mut twin.disk);
            }
            (places, number) = ((&mut twin.disk, &twin.known), Some(rest));
        }
        let (disk, known) = places;
        let number = number.and_then(|number| number.parse().ok());
        let part = number.and_then(|number: u32| known.get(&number).copied());
        let part = part.ok_or(os!("open disk", Errno::NOENT))?;
        work(&mut Slice { disk, part })
    }
    fn lock(&mut self, disk: Option<&str>) -> Result<()> {
        self.is_locked = false;
        if disk.is_some() && self.locked > 0 {
            self.locked -= 1;
            return Err(os!("lock disk", Errno::AGAIN));
        }
        self.is_locked = disk.is_some();
        Ok(())
    }
    fn open_write(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        assert_eq!(name, "sda");
        assert!(self.is_locked);
        work(&mut self.disk)
    }
    fn resize_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        assert_eq!(disk, "sda");
        self.said.push(std::format!("resize {}", partition.number));
        let old = self.known.get_mut(&partition.number).ok_or(os!("BLKPG", Errno::NOENT))?;
        assert_eq!(old.start_bytes, partition.start_bytes);
        *old = partition;
        Ok(())
    }
    fn add_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        assert_eq!(disk, "sda");
        self.said.push(std::format!("add {}", partition.number));
        match self.known.insert(partition.number, partition) {
            None => Ok(()),
            Some(_) => Err(os!("BLKPG", Errno::BUSY)),
        }
    }
    fn is_free(&mut self, _: &str) -> Result<bool> {
        panic!()
    }
    fn namespace_text(&mut self, _: &str, _: &mut [u8]) -> Result<usize> {
        panic!()
    }
    fn drive_status(&mut self, _: &str) -> Result<DriveStatus> {
        Err(os!("drive", Errno::INVAL))
    }
    fn eject(&mut self, _: &str) -> Result<crate::sys::Ejected> {
        Err(os!("drive", Errno::INVAL))
    }
}
