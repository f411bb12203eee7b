//! Power cuts during `grow`: every write prefix, torn at sectors, unflushed writes dropped or reordered.

use super::Outcome;
use super::machine::{Format, Layout, Machine, SparseDisk, scratch};
use crate::disk::table::{self, Source, Space};
use crate::sys::KernelPartition;
use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};
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

const LOGICAL: Layout = Layout {
    kind: Format::Mbr(2),
    name: "MBR, last logical of two",
    parts: &[(1, 1, 100), (2, 100, 2047), (5, 101, 500), (6, 501, 2047)],
    root: 6,
    ..AZURE
};
const GIB: u64 = 1 << 30;

/// Layout, size of the disk it is now on in bytes.
type Cases = Vec<(Layout, u64)>;

/// `base` with another name and a change, on a disk of 8 GiB.
fn changed(base: Layout, name: &'static str, change: &dyn Fn(&mut Layout)) -> (Layout, u64) {
    let mut layout = Layout { name, ..base };
    change(&mut layout);
    (layout, 8 * GIB)
}

fn cases() -> Cases {
    [gpt_tables(), gpt_places(), gpt_sizes(), mbr_cases()].concat()
}

/// Entries and blocks of all kinds.
fn gpt_tables() -> Cases {
    let with = |name, change: &dyn Fn(&mut Layout)| changed(AZURE, name, change);
    std::vec![
        with("entry outside the header's 4 KiB", &|l| {
            l.parts = &[(1, 1, 100), (40, 100, 2047)];
            l.root = 40;
        }),
        with("entry in the last sector of the array", &|l| {
            l.parts = &[(1, 1, 100), (128, 100, 2047)];
            l.root = 128;
        }),
        with("4096-byte blocks", &|l| l.block = 4096),
        with("4096-byte blocks, 256 entries", &|l| (l.block, l.entries) = (4096, (256, 128))),
        with("4096-byte blocks, entries of 256 bytes", &|l| (l.block, l.entries) = (4096, (64, 256))),
        with("256 entries", &|l| l.entries = (256, 128)),
        with("entries of 256 bytes", &|l| l.entries = (100, 256)),
        with("entries of 512 bytes", &|l| l.entries = (56, 512)),
        with("16 entries", &|l| l.entries = (16, 128)),
        with("hybrid MBR", &|l| l.kind = Format::Hybrid(0xEF)),
        with("56 entries", &|l| l.entries = (56, 128)),
    ]
}

/// The root among others.
fn gpt_places() -> Cases {
    let with = |name, change: &dyn Fn(&mut Layout)| changed(AZURE, name, change);
    std::vec![
        with("one partition", &|l| l.parts = &[(1, 1, 2047)]),
        with("root first, small one behind, room between", &|l| l.parts = &[(1, 1, 900), (2, 1500, 2047)]),
        with("root in the middle", &|l| l.parts = &[(3, 1, 100), (1, 100, 900), (2, 1500, 2047)]),
        with("GRUB's and root", &|l| {
            l.parts = &[(1, 1, 2), (2, 2, 2047)];
            l.root = 2;
        }),
        with("ten partitions", &|l| {
            l.parts = &[
                (1, 1, 9),
                (2, 9, 20),
                (3, 20, 40),
                (4, 40, 60),
                (5, 60, 80),
                (6, 80, 90),
                (7, 90, 95),
                (8, 95, 99),
                (9, 100, 110),
                (10, 200, 2047),
            ];
            l.root = 10;
        }),
        with("numbers against places", &|l| {
            l.parts = &[(9, 1, 9), (4, 9, 20), (2, 20, 2047)];
            l.root = 2;
        }),
    ]
}

/// How much larger the disk is.
fn gpt_sizes() -> Cases {
    std::vec![
        (AZURE, 8 * GIB),
        (Layout { name: "above 2 TiB", ..AZURE }, 3000 * GIB + 512),
        (Layout { name: "to 2 TiB exactly", ..AZURE }, 2048 * GIB),
        (Layout { name: "2 MiB more", ..AZURE }, 2 * GIB + (2 << 20)),
        (
            Layout { name: "room inside, new backup over the old one", parts: &[(1, 1, 1000)], ..AZURE },
            (2 << 30) + 5 * 512,
        ),
        (Layout { name: "room inside, disk not enlarged", parts: &[(1, 1, 1000)], ..AZURE }, 2 << 30),
        (
            Layout {
                name: "room inside, 256 entries, not enlarged",
                entries: (256, 128),
                parts: &[(1, 1, 1000)],
                ..AZURE
            },
            2 << 30,
        ),
        (Layout { name: "one block more", parts: &[(1, 1, 1000)], ..AZURE }, (2 << 30) + 512),
        (Layout { name: "33 blocks more", parts: &[(1, 1, 1000)], ..AZURE }, (2 << 30) + 33 * 512),
        (Layout { name: "an odd last sector", ..AZURE }, 8 * GIB + 512 * 7),
        (Layout { name: "a tiny image", image_mib: 300, parts: &[(15, 1, 50), (1, 50, 299)], ..AZURE }, GIB),
    ]
}

fn mbr_cases() -> Cases {
    let mbr = |name, change: &dyn Fn(&mut Layout)| changed(LOGICAL, name, change);
    std::vec![
        (LOGICAL, 8 * GIB),
        mbr("MBR, one primary", &|l| (l.kind, l.parts, l.root) = (Format::Mbr(0), &[(1, 1, 2047)], 1)),
        mbr("MBR, last of four", &|l| {
            (l.kind, l.parts) = (Format::Mbr(0), &[(1, 1, 9), (2, 9, 99), (3, 99, 100), (4, 100, 2047)]);
            l.root = 4;
        }),
        mbr("MBR, 4096-byte blocks, logical", &|l| l.block = 4096),
        mbr("MBR, only logical", &|l| {
            l.parts = &[(1, 1, 100), (2, 100, 2047), (5, 101, 2047)];
            l.root = 5;
        }),
        mbr("MBR, third of the chain", &|l| {
            l.parts = &[(2, 100, 2047), (5, 101, 300), (6, 301, 500), (7, 501, 2047)];
            l.root = 7;
        }),
        mbr("MBR, chain out of order, link and neighbour of equal numbers", &|l| {
            l.parts = &[(2, 100, 2047), (5, 701, 800), (6, 102, 500)];
        }),
        mbr("MBR, logical with room behind inside", &|l| {
            l.parts = &[(2, 100, 2047), (5, 101, 300), (6, 301, 500)];
        }),
        (
            Layout {
                kind: Format::Mbr(0),
                name: "MBR, above 2 TiB",
                parts: &[(1, 1, 2047)],
                root: 1,
                ..AZURE
            },
            3000 * GIB,
        ),
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
fn choices(count: usize, seed: &mut u64) -> Vec<Vec<bool>> {
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
        all.push((0..count).map(|_| random(seed) & 1 == 1).collect());
    }
    all
}

/// Where a sector can be torn: at the fields of a header and an entry, and around.
const TEARS: [usize; 28] = [
    1, 4, 8, 12, 16, 17, 18, 19, 20, 24, 32, 33, 36, 40, 41, 44, 48, 72, 88, 89, 90, 91, 92, 128, 168, 300,
    459, 460,
];

/// One piece that the power let through up to a byte, or from it on.
#[derive(Clone, Copy, Debug)]
struct Tear {
    piece: usize,
    at: usize,
    has_head: bool,
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// All choices of [`choices`]; and, where a sector may be torn inside, each piece torn at each place behind all before
/// it, alone, and in random company.
fn plans(count: usize, may_tear: bool, seed: &mut u64) -> Vec<(Vec<bool>, Option<Tear>)> {
    let mut all: Vec<_> = choices(count, seed).into_iter().map(|choice| (choice, None)).collect();
    if !may_tear {
        return all;
    }
    for piece in 0..count {
        for at in TEARS {
            for has_head in [true, false] {
                let tear = Some(Tear { piece, at, has_head });
                all.push(((0..count).map(|i| i < piece).collect(), tear));
                all.push(((0..count).map(|_| random(seed) & 1 == 1).collect(), tear));
                if at % 8 == 0 {
                    all.push(((0..count).map(|i| i != piece).collect(), tear));
                }
            }
        }
    }
    all
}

/// Calls `each` with every disk that a power cut during `journal` can leave, each once. Only a GPT, which has checksums
/// and a copy, promises to get over sectors torn inside; what becomes of an MBR's is counted apart ([`torn_records`]).
fn each_state(
    start: &SparseDisk,
    journal: &[Option<(u64, Vec<u8>)>],
    may_tear: bool,
    each: &mut dyn FnMut(&SparseDisk),
) {
    let mut seed = 0x2545_F491_4F6C_DD1D;
    let mut seen = BTreeSet::new();
    for cut in 0..=journal.len() {
        let (base, pieces) = pending(start, journal, cut);
        let flushed = journal[..cut].iter().filter(|op| op.is_none()).count();
        for (choice, tear) in plans(pieces.len(), may_tear, &mut seed) {
            let mut disk = base.clone();
            let mut what = Vec::new();
            for (i, (offset, chunk)) in pieces.iter().enumerate() {
                let torn = tear.filter(|tear| tear.piece == i);
                if let Some(Tear { at, has_head, .. }) = torn {
                    let old = base.get(*offset, chunk.len());
                    let (head, tail) = if has_head { (chunk, &old) } else { (&old, chunk) };
                    let mixed = [&head[..at], &tail[at..]].concat();
                    if mixed == old {
                        continue;
                    }
                    disk.put(*offset, &mixed);
                    what.push((*offset, if mixed == *chunk { Vec::new() } else { mixed }));
                } else if choice[i] {
                    disk.put(*offset, chunk);
                    what.push((*offset, Vec::new()));
                }
            }
            // By its checksum: comparing them would take longer than growing them.
            let mut hasher = std::hash::DefaultHasher::new();
            (flushed, what).hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                each(&disk);
            }
        }
    }
}

/// Every disk that a power cut between whole blocks can leave.
fn states(start: &SparseDisk, journal: &[Option<(u64, Vec<u8>)>]) -> Vec<SparseDisk> {
    let mut all = Vec::new();
    each_state(start, journal, false, &mut |disk| all.push(disk.clone()));
    all
}

#[derive(Default, Debug)]
struct Count {
    states: usize,
    torn_primary: usize,
    cut_again: usize,
    read_by_tools: usize,
}

/// The root partition is there, with its old or its new end, by the primary or by the backup.
fn check_root(disk: &SparseDisk, layout: &Layout, ends: [u64; 2]) -> Source {
    let mut buffers = scratch();
    let mut space = Space::new(&mut buffers).unwrap();
    let table = table::read(&mut disk.clone(), disk.size.block, &mut space).unwrap();
    let root = table.header.entry(space.array, layout.root).unwrap();
    let (_, from, _) = layout.parts.iter().find(|part| part.0 == layout.root).unwrap();
    assert_eq!(table.disk.offset(root.first_lba()), from << 20);
    assert!(ends.contains(&root.last_lba()), "{}: {}", layout.name, root.last_lba());
    assert_eq!(table.header.entries(space.array).count(), layout.parts.len());
    for (number, from, to) in layout.parts {
        if *number != layout.root && layout.kind != Format::Mbr(*number) {
            let other = table.header.entry(space.array, *number).unwrap();
            let place = (table.disk.offset(other.first_lba()), table.disk.offset(other.last_lba() + 1));
            assert_eq!(place, (from << 20, to << 20), "{}: neighbour {number}", layout.name);
        }
    }
    table.source
}

/// What sgdisk and sfdisk find: they take the backup where the primary is torn.
fn check_by_tools(disk: &SparseDisk, layout: &Layout, ends: [u64; 2]) {
    let path = std::env::temp_dir().join(std::format!("preroot-crash-{}.img", std::process::id()));
    disk.save(&path);
    let file = path.to_str().unwrap();
    let (_, from, _) = layout.parts.iter().find(|part| part.0 == layout.root).unwrap();
    let from = from << 11;
    // sgdisk says nothing of a torn primary behind a hybrid MBR without asking a person.
    let last = if layout.kind != Format::Gpt {
        let dump = output("sfdisk", &["-d", file]);
        let line = std::format!("{file}{} :", layout.root);
        let line = dump.lines().find(|found| found.starts_with(&line));
        let line = line.unwrap_or_else(|| panic!("{}: {dump}", layout.name));
        let field = |name: &str| {
            let rest = line.split_once(name).unwrap().1.trim_start();
            rest.split(',').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(field("start="), from);
        from + field("size=") - 1
    } else {
        let info = output("sgdisk", &["-i", &std::format!("{}", layout.root), file]);
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{info}")).split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(field("First sector: "), from);
        field("Last sector: ")
    };
    std::fs::remove_file(&path).unwrap();
    assert!(ends.contains(&last), "{}: {last}", layout.name);
}

fn output(program: &str, arguments: &[&str]) -> std::string::String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    std::string::String::from_utf8_lossy(&output.stdout).into_owned()
}

fn have_tools() -> bool {
    ["sgdisk", "sfdisk"].iter().all(|name| std::path::Path::new("/usr/sbin").join(name).exists())
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

/// One in `share` states of every layout.
fn cut_everywhere(share: usize) -> Count {
    let mut total = Count::default();
    let has_tools = have_tools();
    assert!(cases().len() >= 30);
    for (layout, bytes) in cases() {
        let start = layout.image().enlarged(bytes);
        let mut uncut = Machine::boot(start.clone(), ROOT_ARG);
        assert_eq!(uncut.before_mount(false), Ok(Outcome::Grown), "{}: {}", layout.name, uncut.log());
        let root = layout.parts.iter().find(|part| part.0 == layout.root).unwrap();
        let ends = [(root.2 << 20) / start.size.block.bytes() - 1, new_end(&uncut, &layout)];
        let mut count = Count::default();
        let (mut all, mut torn_again) = (0, 0);
        let may_tear = !matches!(layout.kind, Format::Mbr(_));
        each_state(&start, &uncut.drive.disk.journal, may_tear, &mut |state| {
            all += 1;
            if may_tear && all % share != 0 {
                return;
            }
            count.states += 1;
            let source = check_root(state, &layout, ends);
            let repaired = converge(state, &uncut, &layout);
            count.torn_primary += usize::from(source == Source::Backup);
            if has_tools
                && layout.block == 512
                && layout.entries.1 == 128
                && (count.states % 50 == 1 || !may_tear)
            {
                count.read_by_tools += 1;
                check_by_tools(state, &layout, ends);
            }
            // Power fails again: while a primary is restored, and in one run with half a backup.
            if (source == Source::Backup && torn_again < 2) || (count.states == 7 && may_tear) {
                torn_again += usize::from(source == Source::Backup);
                let again = states(state, &repaired.drive.disk.journal);
                for state in again.iter().step_by(share) {
                    count.cut_again += 1;
                    check_root(state, &layout, ends);
                    converge(state, &uncut, &layout);
                }
            }
        });
        let mut again = Machine::boot(uncut.drive.disk.clone(), ROOT_ARG);
        let is_known = layout.entries.1 == 128;
        let expected = if is_known { Outcome::Nothing } else { Outcome::Repaired };
        assert_eq!(again.before_mount(false), Ok(expected), "{}", again.log());
        assert!(again.drive.disk.journal.is_empty() && again.drive.said.is_empty() == is_known);
        std::println!("{}: {count:?}", layout.name);
        total.states += count.states;
        total.torn_primary += count.torn_primary;
        total.cut_again += count.cut_again;
        total.read_by_tools += count.read_by_tools;
    }
    std::println!("{} layouts, one state in {share}: {total:?}", cases().len());
    total
}

/// What a boot makes of an MBR's sector that is half old and half new.
#[derive(Default, Debug)]
struct Torn {
    states: usize,
    /// The partitions of an uncut run (of the end in cylinders, which nobody reads, half may be old).
    alike: usize,
    /// The root ends elsewhere in the room that is free.
    elsewhere: usize,
    /// Left alone, and the kernel has no less of the root than before.
    left_alone: usize,
    /// Left alone, and the kernel has less of the root, or none: for a person to mend.
    lost: usize,
}

/// Every record's sector torn at every byte. A record has no checksum and no copy, so that it is written as a whole is
/// assumed, as every journal assumes it of its commit block; what is promised without that is less: no neighbour is
/// touched, no end is one of somebody's, and what contradicts itself is left as it is.
fn torn_records(layout: &Layout, bytes: u64, total: &mut Torn) {
    let start = layout.image().enlarged(bytes);
    let mut uncut = Machine::boot(start.clone(), ROOT_ARG);
    assert_eq!(uncut.before_mount(false), Ok(Outcome::Grown), "{}", uncut.log());
    let before = Machine::boot(start.clone(), ROOT_ARG).drive.known;
    let mut seen = BTreeSet::new();
    for cut in 0..=uncut.drive.disk.journal.len() {
        let (base, pieces) = pending(&start, &uncut.drive.disk.journal, cut);
        for (offset, new) in &pieces {
            let old = base.get(*offset, new.len());
            for at in 1..new.len() {
                for mixed in [[&new[..at], &old[at..]].concat(), [&old[..at], &new[at..]].concat()] {
                    if mixed != old && mixed != *new && seen.insert((*offset, mixed.clone())) {
                        let mut disk = base.clone();
                        disk.put(*offset, &mixed);
                        after_torn(disk, layout, &before, &uncut, total);
                    }
                }
            }
        }
    }
}

type Known = std::collections::BTreeMap<u32, KernelPartition>;

fn after_torn(disk: SparseDisk, layout: &Layout, before: &Known, uncut: &Machine, total: &mut Torn) {
    let mut machine = Machine::boot(disk.clone(), ROOT_ARG);
    let seen = machine.drive.known.clone();
    let outcome = machine.before_mount(false);
    total.states += 1;
    let has_written = !machine.drive.disk.journal.is_empty();
    let is_ours = |number: &u32| *number == layout.root || layout.kind == Format::Mbr(*number);
    let neighbours = |known: &Known| -> Vec<_> {
        known.values().filter(|part| !is_ours(&part.number)).map(|part| part.start_bytes).collect()
    };
    if machine.drive.known == uncut.drive.known {
        total.alike += 1;
    } else if matches!(outcome, Ok(Outcome::Grown | Outcome::Nothing | Outcome::Repaired)) {
        let root = machine.drive.known[&layout.root];
        let end = root.start_bytes + root.length_bytes;
        let others = machine.drive.known.values().filter(|part| part.start_bytes > root.start_bytes);
        assert!(end <= disk.size.offset(disk.size.blocks), "{}", machine.log());
        assert!(others.into_iter().all(|other| other.start_bytes >= end), "{}", machine.log());
        assert!(root.length_bytes >= before[&layout.root].length_bytes, "{}", machine.log());
        total.elsewhere += 1;
    } else {
        assert!(!has_written && machine.drive.said.is_empty(), "{outcome:?}: {}", machine.log());
        let root = seen.get(&layout.root).filter(|root| root.start_bytes == before[&layout.root].start_bytes);
        let has_all = root.is_some_and(|root| root.length_bytes >= before[&layout.root].length_bytes);
        *(if has_all { &mut total.left_alone } else { &mut total.lost }) += 1;
    }
    assert_eq!(neighbours(&machine.drive.known), neighbours(&seen));
}

#[test]
fn a_record_torn_inside_its_sector_costs_no_neighbour_anything() {
    let mut total = Torn::default();
    for (layout, _) in mbr_cases() {
        let mut here = Torn::default();
        for mib in
            [2050, 2111, 2304, 2305, 3000, 4097, 8192, 8320, 16_383, 32_770, 131_072, 1_048_575, 3_000_000]
        {
            torn_records(&layout, mib << 20, &mut here);
        }
        std::println!("{}: {here:?}", layout.name);
        total.states += here.states;
        total.alike += here.alike;
        total.elsewhere += here.elsewhere;
        total.left_alone += here.left_alone;
        total.lost += here.lost;
    }
    std::println!("torn inside of records: {total:?}");
}

#[test]
fn the_root_is_found_and_every_run_ends_alike_at_a_share_of_all_power_cuts() {
    let total = cut_everywhere(40);
    assert!(total.states > 2000 && total.torn_primary > 10 && total.cut_again > 100, "{total:?}");
}

#[test]
#[ignore = "minutes; make test-full"]
fn the_root_is_found_and_every_run_ends_alike_at_every_power_cut() {
    let total = cut_everywhere(1);
    assert!(total.states >= 100_000 && total.torn_primary > 300, "{total:?}");
}

fn new_end(uncut: &Machine, layout: &Layout) -> u64 {
    let part = uncut.drive.known[&layout.root];
    (part.start_bytes + part.length_bytes) / uncut.drive.disk.size.block.bytes() - 1
}

/// The disk grew once more between the cut and the next boot: the backup is no longer at the end.
#[test]
fn a_torn_table_is_found_after_another_enlargement() {
    let (layout, bytes) = gpt_tables()[0];
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
