//! A whole disk with a GPT, damaged or not, as large as it was or larger: what is written is the table's own, what is planned
//! stays off everybody else's blocks, it is read back, and there is nothing left to do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::disk::commit;
use preroot::disk::grow::{Rules, plan};
use preroot::disk::table::{self, Source, Space};
use preroot::error::Result;
use preroot::format::ReadAt;
use preroot::format::crc32::Crc32;
use preroot::format::gpt::{BlockSize, GptHeader, PRIMARY_LBA};
use preroot::format::guid::Guid;
use preroot::limits;
use preroot::sys::Block;
use std::collections::BTreeMap;

const SECTOR: u64 = 512;
/// Sectors of the image.
const IMAGE: u64 = 2048;

#[derive(Clone)]
struct Disk {
    sectors: BTreeMap<u64, [u8; SECTOR as usize]>,
    size_bytes: u64,
    written: Vec<u64>,
}

impl Disk {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let (lba, from) = ((offset + at as u64) / SECTOR, ((offset + at as u64) % SECTOR) as usize);
            let length = (SECTOR as usize - from).min(bytes.len() - at);
            let sector = self.sectors.entry(lba).or_insert([0; SECTOR as usize]);
            sector[from..from + length].copy_from_slice(&bytes[at..at + length]);
            at += length;
        }
    }

    fn header(&mut self, header: &GptHeader) {
        let mut sector = [0; SECTOR as usize];
        let _ = header.emit(&mut sector);
        self.put(header.my_lba * SECTOR, &sector);
    }
}

impl ReadAt for Disk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        assert!(offset + buf.len() as u64 <= self.size_bytes, "read past the end");
        assert!(offset % SECTOR == 0, "whole sectors");
        for (lba, piece) in (offset / SECTOR..).zip(buf.chunks_mut(SECTOR as usize)) {
            let sector = self.sectors.get(&lba).copied().unwrap_or([0; SECTOR as usize]);
            piece.copy_from_slice(&sector[..piece.len()]);
        }
        Ok(())
    }
}

impl Block for Disk {
    fn sector_bytes(&self) -> u32 {
        SECTOR as u32
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        assert!(offset % SECTOR == 0 && buf.len() as u64 % SECTOR == 0, "whole sectors");
        assert!(offset + buf.len() as u64 <= self.size_bytes, "write past the end");
        for (lba, new) in (offset / SECTOR..).zip(buf.chunks_exact(SECTOR as usize)) {
            let old = self.sectors.get(&lba).copied().unwrap_or([0; SECTOR as usize]);
            if old != *new {
                self.written.push(lba);
            }
        }
        self.put(offset, buf);
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

type Input = (Vec<(u8, u16, u16)>, (u8, u8, u16, u16), u32, Vec<(u16, u8)>, bool);

fn disk(input: &Input) -> Disk {
    let (parts, (count, gap, first, last), extra, damage, is_backup) = input;
    let (count, gap) = (u32::from(*count % 160) + 1, u64::from(*gap % 8));
    let blocks = (u64::from(count) * 128).div_ceil(SECTOR);
    let mut array = vec![0; (blocks * SECTOR) as usize];
    for (number, first, last) in parts {
        let at = usize::from(*number) * 128 % array.len();
        let entry = &mut array[at..at + 128];
        entry[..32].fill(number | 1);
        entry[32..40].copy_from_slice(&u64::from(*first % 2100).to_le_bytes());
        entry[40..48].copy_from_slice(&u64::from(*last % 2100).to_le_bytes());
    }
    let bytes = (u64::from(count) * 128) as usize;
    let primary = GptHeader {
        header_bytes: 92,
        my_lba: PRIMARY_LBA,
        alternate_lba: IMAGE - 1,
        first_usable_lba: 2 + gap + blocks + u64::from(first % 64),
        last_usable_lba: IMAGE - 2 - blocks - u64::from(last % 64),
        disk_guid: Guid::from_text_order([7; 16]),
        entries_lba: 2 + gap,
        entry_count: count,
        entry_bytes: 128,
        entries_crc: Crc32::new().with(&array[..bytes]).value(),
    };
    let backup = GptHeader {
        my_lba: IMAGE - 1,
        alternate_lba: PRIMARY_LBA,
        entries_lba: IMAGE - 1 - blocks,
        ..primary
    };
    let size_bytes = (IMAGE + u64::from(*extra)) * SECTOR;
    let mut disk = Disk { sectors: BTreeMap::new(), size_bytes, written: Vec::new() };
    disk.put(446, &[0, 0, 2, 0, 0xEE, 0, 0, 0, 1, 0, 0, 0, 0xFF, 7, 0, 0]);
    disk.put(510, &[0x55, 0xAA]);
    for header in [primary, backup] {
        disk.put(header.entries_lba * SECTOR, &array);
        disk.header(&header);
    }
    let base = if *is_backup { (IMAGE - 1 - blocks) * SECTOR } else { 0 };
    for (at, byte) in damage.iter().take(32) {
        disk.put(base + u64::from(*at) % ((blocks + 10) * SECTOR).min(size_bytes - base), &[*byte]);
    }
    disk
}

fuzz_target!(|input: Input| {
    let mut disk = disk(&input);
    let Ok(block) = BlockSize::new(SECTOR as u32) else { return };
    let mut scratch = vec![0xCC; limits::GROW_SCRATCH];
    let Ok(mut space) = Space::new(&mut scratch) else { return };
    for number in 1..=8 {
        let Ok(table) = table::read(&mut disk, block, &mut space) else { return };
        if table.is_mbr {
            return;
        }
        let Ok(growth) = plan(&table, space.array, number, None, Rules::ROOT) else { continue };
        assert!(growth.new_last_lba >= growth.old_last_lba && growth.new_last_lba < table.disk.blocks);
        let taken: Vec<_> =
            table.header.entries(space.array).map(|entry| (entry.first_lba(), entry.last_lba())).collect();
        for (first, last) in taken.iter().filter(|(first, _)| *first != growth.first_lba) {
            assert!(*last < growth.first_lba || *first > growth.new_last_lba, "into a neighbour");
        }
        if !growth.writes() && table.source == Source::Primary {
            continue;
        }
        disk.written.clear();
        if commit::write(&mut disk, &table, &growth, &mut space).is_err() {
            panic!("a plan that cannot be written");
        }
        for lba in &disk.written {
            assert!(!taken.iter().any(|(first, last)| (*first..=*last).contains(lba)), "into a partition");
            let is_primary = *lba < table.header.first_usable_lba;
            assert!(is_primary || *lba > growth.last_usable_lba, "into the room");
        }
        let Ok(again) = table::read(&mut disk, block, &mut space) else { panic!("unreadable") };
        assert!(again.source == Source::Primary && !again.backup_is_damaged);
        let Some(entry) = again.header.entry(space.array, number) else { panic!("gone") };
        assert!(entry.first_lba() == growth.first_lba && entry.last_lba() == growth.new_last_lba);
        let Ok(second) = plan(&again, space.array, number, None, Rules::ROOT) else { panic!("unsound") };
        assert!(second.is_nothing(), "not done");
    }
});
