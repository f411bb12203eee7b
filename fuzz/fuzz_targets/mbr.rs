//! An MBR and its chain of logical partitions: what is planned stays off everybody else's blocks, what is written is read
//! back, and there is nothing left to do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::disk::commit;
use preroot::disk::grow::{Rules, plan};
use preroot::disk::table::{self, Space};
use preroot::error::Result;
use preroot::format::ReadAt;
use preroot::format::gpt::BlockSize;
use preroot::limits;
use preroot::sys::Block;

const SECTOR: usize = 512;
/// Sectors of the disk that hold something; behind them is only room.
const SECTORS: usize = 16;

/// The sectors of the input, each signed, and then nothing up to some size.
#[derive(Clone)]
struct Disk {
    bytes: Vec<u8>,
    size_bytes: u64,
}

impl ReadAt for Disk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = self.bytes.get(offset as usize + i).copied().unwrap_or_default();
        }
        Ok(())
    }
}

impl Block for Disk {
    fn sector_bytes(&self) -> u32 {
        512
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        let at = offset as usize;
        self.bytes[at..at + buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: (u32, [u8; 16], Vec<[(u8, u32, u32); 4]>)| {
    let (extra, flags, sectors) = input;
    let mut bytes = vec![0; SECTORS * SECTOR];
    for (sector, records) in bytes.chunks_exact_mut(SECTOR).zip(&sectors) {
        for (raw, (kind, first, blocks)) in sector[446..510].chunks_exact_mut(16).zip(records) {
            raw[4] = *kind;
            raw[8..12].copy_from_slice(&first.to_le_bytes());
            raw[12..16].copy_from_slice(&blocks.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
    }
    bytes[446] = flags[0] & 0x80;
    let mut disk = Disk { bytes, size_bytes: (1 << 30) + u64::from(extra) * 512 };
    let Ok(block) = BlockSize::new(512) else { return };
    let mut scratch = vec![0xCC; limits::GROW_SCRATCH];
    let Ok(mut space) = Space::new(&mut scratch) else { return };
    for number in 1..=8 {
        let Ok(table) = table::read(&mut disk, block, &mut space) else { return };
        if !table.is_mbr {
            return;
        }
        let Ok(growth) = plan(&table, space.array, number, None, Rules::ROOT) else { continue };
        assert!(growth.new_last_lba >= growth.old_last_lba && growth.new_last_lba < table.disk.blocks);
        if !growth.needs_table() {
            continue;
        }
        let before = disk.clone();
        if commit::write(&mut disk, &table, &growth, &mut space).is_err() {
            disk = before;
            continue;
        }
        let Ok(again) = table::read(&mut disk, block, &mut space) else { panic!("unreadable") };
        let Some(entry) = again.header.entry(space.array, number) else { panic!("gone") };
        assert!(entry.first_lba() == growth.first_lba && entry.last_lba() == growth.new_last_lba);
        let Ok(second) = plan(&again, space.array, number, None, Rules::ROOT) else { panic!("unsound") };
        assert!(!second.needs_table());
    }
});
