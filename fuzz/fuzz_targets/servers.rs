//! Time and name servers of the seed, and an image's file: an edit settles, and no value becomes a line of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::{Kind, Rule, words_of_rule};
use preroot::format::ntp::{self, Kind as Client, directory};
use preroot::format::resolv_conf;
use preroot::format::text::Out;

static FULL: Rule = Rule::new(const { &words_of_rule::<6>(Kind::TooMany, "full", "") });

fuzz_target!(|data: (&str, &[u8])| {
    let (entry, old) = data;
    let _ = (directory(old, "confdir"), directory(old, "sourcedir"));
    let (mut one, mut two) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    if let Ok(wanted) = ntp::Wanted::parse(entry) {
        for client in [Client::Chrony, Client::Ntp, Client::Openntpd] {
            let (mut once, mut again) = (Out::new(&FULL, &mut one), Out::new(&FULL, &mut two));
            if ntp::edit(client, old, &wanted, &mut once).is_ok() {
                ntp::edit(client, once.as_bytes(), &wanted, &mut again).unwrap();
                assert_eq!(once.as_bytes(), again.as_bytes());
            }
        }
        let _ = ntp::emit(Client::Timesyncd, &wanted, &mut Out::new(&FULL, &mut one));
    }
    if let Ok(wanted) = resolv_conf::Wanted::parse(entry) {
        let mut out = Out::new(&FULL, &mut one);
        resolv_conf::emit(&wanted, &mut out).unwrap();
        assert!(out.as_bytes().split(|byte| *byte == b'\n').count() <= entry.lines().count() + 2);
        resolv_conf::emit_resolved(&wanted, &mut Out::new(&FULL, &mut two)).unwrap();
    }
});
