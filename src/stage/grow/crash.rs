//! Power cuts during `grow`: every write prefix, torn at sectors, unflushed writes dropped or reordered.

use super::Outcome;
use super::machine::{Format, Layout, Machine, SparseDisk, scratch};
use crate::disk::table::{self, Source, Space};
use std::collections::BTreeSet;
use std::vec::Vec;

const AZURE: Layout = Layout {
    kind: Format::Gpt,
    name: "Azure: number 1 last in place, behind 14 and 15",
    block: 512,
    entries: (128, 128),
    image_mib: 2048,
    parts: &[(14, 1, 4), (15, 4, 128), (1, 128, 2047)],
    root: 1,
};

/// Layout, size of the disk it is now on in bytes.
fn cases() -> [(Layout, u64); 8] {
    let gib = 1 << 30;
    [
        (AZURE, 8 * gib),
        (Layout { name: "above 2 TiB", ..AZURE }, 3000 * gib + 512),
        (
            Layout {
                name: "entry outside the header's 4 KiB",
                parts: &[(1, 1, 100), (40, 100, 2047)],
                root: 40,
                ..AZURE
            },
            8 * gib,
        ),
        (Layout { name: "4096-byte blocks", block: 4096, ..AZURE }, 8 * gib),
        (Layout { name: "256 entries", entries: (256, 128), ..AZURE }, 8 * gib),
        (Layout { name: "entries of 256 bytes", entries: (100, 256), ..AZURE }, 8 * gib),
        (
            Layout { name: "room inside, new backup over the old one", parts: &[(1, 1, 1000)], ..AZURE },
            (2 << 30) + 5 * 512,
        ),
        (Layout { name: "room inside, disk not enlarged", parts: &[(1, 1, 1000)], ..AZURE }, 2 << 30),
    ]
}

const ROOT_ARG: &str = "UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4";

/// A write of one block that power may or may not have let through.
type Piece = (u64, Vec<u8>);

/// The blocks of the writes since the last flush before `cut`, and the disk at that flush.
fn pending(start: &SparseDisk, journal: &[Option<(u64, Vec<u8>)>], cut: usize) -> (SparseDisk, Vec<Piece>) {
    let mut base = start.clone();
    let flushed = journal[..cut].iter().rposition(Option::is_none).map_or(0, |at| at + 1);
    for (offset, bytes) in journal[..flushed].iter().flatten() {
        base.put(*offset, bytes);
    }
    let block = base.size.block.as_usize();
    let pieces = journal[flushed..cut].iter().flatten().flat_map(|(offset, bytes)| {
        bytes.chunks(block).enumerate().map(move |(i, chunk)| (offset + (i * block) as u64, chunk.to_vec()))
    });
    // What is there already may arrive or not: no difference.
    let pieces = pieces.filter(|(offset, chunk)| base.get(*offset, chunk.len()) != *chunk).collect();
    (base, pieces)
}

/// Which pieces made it: all choices when they are few, else every prefix, every suffix, each alone, each
/// missing, and random ones.
fn choices(count: usize, random: &mut u64) -> Vec<Vec<bool>> {
    if count <= 10 {
        return (0..1_u32 << count).map(|bits| (0..count).map(|i| bits >> i & 1 == 1).collect()).collect();
    }
    let mut all = Vec::new();
    for k in 0..=count {
        all.push((0..count).map(|i| i < k).collect());
        all.push((0..count).map(|i| i >= k).collect());
        all.push((0..count).map(|i| i == k).collect());
        all.push((0..count).map(|i| i != k).collect());
    }
    for _ in 0..120 {
        let coin = |_| {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            *random & 1 == 1
        };
        all.push((0..count).map(coin).collect());
    }
    all
}

/// Every disk that a power cut during `journal` can leave, each once.
fn states(start: &SparseDisk, journal: &[Option<(u64, Vec<u8>)>]) -> Vec<SparseDisk> {
    let mut random = 0x2545_F491_4F6C_DD1D;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for cut in 0..=journal.len() {
        let (base, pieces) = pending(start, journal, cut);
        let flushed = journal[..cut].iter().filter(|op| op.is_none()).count();
        for choice in choices(pieces.len(), &mut random) {
            let chosen =
                || pieces.iter().zip(&choice).filter(|(_, made_it)| **made_it).map(|(piece, _)| piece);
            if seen.insert((flushed, chosen().map(|(offset, _)| *offset).collect::<Vec<_>>())) {
                let mut disk = base.clone();
                chosen().for_each(|(offset, chunk)| disk.put(*offset, chunk));
                all.push(disk);
            }
        }
    }
    all
}

#[derive(Default, Debug)]
struct Count {
    states: usize,
    torn: usize,
    cut_again: usize,
}

/// The root partition is there, with its old or its new end, by the primary or by the backup.
fn check_root(disk: &SparseDisk, layout: &Layout, ends: [u64; 2]) -> Source {
    let mut buffers = scratch();
    let mut space = Space::new(&mut buffers).unwrap();
    let table = table::read(&mut disk.clone(), disk.size.block, &mut space).unwrap();
    let root = table.header.entry(space.array, layout.root).unwrap();
    let (_, from, _) = layout.parts.iter().find(|part| part.0 == layout.root).unwrap();
    assert_eq!(table.disk.offset(root.first_lba()), from << 20);
    assert!(ends.contains(&root.last_lba()), "{}", root.last_lba());
    assert_eq!(table.header.entries(space.array).count(), layout.parts.len());
    table.source
}

/// Boots from a state and grows; the end is that of an uncut run.
fn converge(state: &SparseDisk, uncut: &Machine, layout: &Layout) -> Machine {
    let mut machine = Machine::boot(state.clone(), ROOT_ARG);
    let outcome = machine.before_mount(false).unwrap();
    assert_ne!(outcome, Outcome::LeftAlone, "{}", machine.log());
    assert!(machine.drive.disk.has_bytes_of(&uncut.drive.disk), "{}: {}", layout.name, machine.log());
    assert_eq!(machine.drive.known, uncut.drive.known, "{}: {}", layout.name, machine.log());
    machine
}

#[test]
fn the_root_is_found_and_every_run_ends_alike_at_every_power_cut() {
    let mut total = Count::default();
    for (layout, bytes) in cases() {
        let start = layout.image().enlarged(bytes);
        let mut uncut = Machine::boot(start.clone(), ROOT_ARG);
        assert_eq!(uncut.before_mount(false), Ok(Outcome::Grown), "{}", uncut.log());
        let old_end = (layout.parts.last().unwrap().2 << 20) / start.size.block.bytes() - 1;
        let new_end = new_end(&uncut, &layout);
        let mut count = Count::default();
        for state in states(&start, &uncut.drive.disk.journal) {
            count.states += 1;
            let source = check_root(&state, &layout, [old_end, new_end]);
            let repaired = converge(&state, &uncut, &layout);
            count.torn += usize::from(source == Source::Backup);
            // Power fails again: whenever the primary must be restored, and in one run with half a backup.
            if source == Source::Backup || (count.states == 200 && layout.name == AZURE.name) {
                for state in states(&state, &repaired.drive.disk.journal) {
                    count.cut_again += 1;
                    check_root(&state, &layout, [old_end, new_end]);
                    converge(&state, &uncut, &layout);
                }
            }
        }
        let mut again = Machine::boot(uncut.drive.disk.clone(), ROOT_ARG);
        assert_eq!(again.before_mount(false), Ok(Outcome::Nothing), "{}", again.log());
        assert!(again.drive.disk.journal.is_empty() && again.drive.said.is_empty());
        std::println!("{}: {count:?}", layout.name);
        total.states += count.states;
        total.torn += count.torn;
        total.cut_again += count.cut_again;
    }
    std::println!("all: {total:?}");
    assert!(total.states > 2000 && total.torn > 10 && total.cut_again > 200, "{total:?}");
}

fn new_end(uncut: &Machine, layout: &Layout) -> u64 {
    let part = uncut.drive.known[&layout.root];
    (part.start_bytes + part.length_bytes) / uncut.drive.disk.size.block.bytes() - 1
}

/// The disk grew once more between the cut and the next boot: the backup is no longer at the end.
#[test]
fn a_torn_table_is_found_after_another_enlargement() {
    let (layout, bytes) = cases()[2];
    let start = layout.image().enlarged(bytes);
    let mut first = Machine::boot(start.clone(), ROOT_ARG);
    first.before_mount(false).unwrap();
    let all = states(&start, &first.drive.disk.journal);
    // The new primary header is there and points to the new backup, its entries are not.
    let torn = all.iter().find(|state| {
        let mut buffers = scratch();
        let mut space = Space::new(&mut buffers).unwrap();
        let table = table::read(&mut (*state).clone(), state.size.block, &mut space).unwrap();
        let header = state.get(512, 512);
        table.source == Source::Backup && header == first.drive.disk.get(512, 512)
    });
    let larger = torn.unwrap().enlarged(2 * bytes);
    let mut machine = Machine::boot(larger, ROOT_ARG);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let part = machine.drive.known[&layout.root];
    assert!(part.start_bytes + part.length_bytes > 2 * bytes - (2 << 20));
}
