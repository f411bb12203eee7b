//! disk_setup: whatever a seed's lines hold, no panic, and a script of as many lines as partitions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::disk_setup::{Disk, FileSystem, Seen};
use preroot::format::text::Out;

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|input: (&[u8], u64, &[u8])| {
    let (line, sectors, kind) = input;
    if let Some(disk) = Disk::parse(line) {
        let mut buf = vec![0; line.len() + 32 * disk.partitions() + 32];
        let mut out = Out::new(&FULL, &mut buf);
        disk.put_script(sectors, &mut out).unwrap();
        let lines = out.as_bytes().split(|byte| *byte == b'\n').count();
        assert_eq!(lines, disk.partitions());
    }
    if let Some(entry) = FileSystem::parse(line) {
        let seen =
            [Seen { number: 0, kind: b"", has_label: true }, Seen { number: 1, kind, has_label: false }];
        let _ = (entry.choose(&seen), entry.label(), entry.options().count());
    }
});
