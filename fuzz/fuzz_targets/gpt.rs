//! Partition tables: a header that is accepted keeps its bounds, round trips, and its entries can be walked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::gpt::{BlockSize, DiskSize, GptHeader, PRIMARY_LBA, alternate_hint, is_whole};
use preroot::format::mbr::Mbr;

fuzz_target!(|input: (bool, bool, Vec<u8>)| {
    let (is_4k, fix_checksum, mut bytes) = input;
    let Ok(block) = BlockSize::new(if is_4k { 4096 } else { 512 }) else { return };
    let Ok(disk) = DiskSize::new(1 << 30, block) else { return };
    let _ = Mbr::parse(&bytes);
    let _ = alternate_hint(&bytes);
    if fix_checksum {
        repair(&mut bytes);
    }
    let Some((sector, array)) = bytes.split_at_checked(block.as_usize()) else { return };
    let Ok(header) = GptHeader::parse(sector, PRIMARY_LBA, disk) else { return };
    assert!(is_whole(sector));
    let mut again = sector.to_vec();
    assert!(header.emit(&mut again).is_ok() && GptHeader::parse(&again, PRIMARY_LBA, disk) == Ok(header));
    for entry in header.entries(array) {
        let _ = (entry.blocks(), entry.unique_guid(), entry.has_name("root"));
    }
    let _ = header.array_crc(array);
});

/// Makes the signature and the checksum good, so that what lies behind them is reached.
fn repair(sector: &mut [u8]) {
    use preroot::format::crc32::Crc32;
    let Some(head) = sector.get_mut(..92) else { return };
    head[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
    head[12..16].copy_from_slice(&92_u32.to_le_bytes());
    head[24..32].copy_from_slice(&1_u64.to_le_bytes());
    let crc = Crc32::new().with(&head[..16]).with(&[0; 4]).with(&head[20..]).value();
    head[16..20].copy_from_slice(&crc.to_le_bytes());
}
