//! fstab: whatever it holds, an edit keeps the lines of others, and a second one changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Rule;
use preroot::format::fstab::{
    DEFAULTS, Wanted, has_mount_point, has_swap, merge, mount_points, put_escaped, unescape,
};
use preroot::format::text::Out;

const FULL: Rule = Rule::new(b"tfuzz\0");

fuzz_target!(|input: (&[u8], &[u8], &[u8])| {
    let (old, mounts, field) = input;
    let wanted = Wanted { mounts, defaults: DEFAULTS, swap_file: Some(b"/swap.img") };
    let room = old.len() + mounts.len() * 100 + 200;
    let (mut first, mut second) = (vec![0; room], vec![0; 2 * room]);
    let mut once = Out::new(&FULL, &mut first);
    merge(old, &wanted, &mut |_| None, &mut once).unwrap();
    let mut twice = Out::new(&FULL, &mut second);
    merge(once.as_bytes(), &wanted, &mut |_| None, &mut twice).unwrap();
    assert_eq!(once.as_bytes(), twice.as_bytes());
    assert!(has_swap(&wanted));
    let _ = (mount_points(&wanted).count(), has_mount_point(old, field));
    let mut escaped = vec![0; 4 * field.len()];
    let mut out = Out::new(&FULL, &mut escaped);
    put_escaped(field, &mut out).unwrap();
    if let Some(text) = unescape(out.as_bytes()) {
        assert_eq!(text, field);
    }
});
