//! Whatever disks a machine has: none is formatted that is not provably temporary and fresh.

use super::{Choice, Contents, DiskFacts, Place, choose, joined};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use std::vec::Vec;

fn disk() -> impl Strategy<Value = DiskFacts> {
    let place = prop_oneof![Just(Place::Lasting), Just(Place::Resource), Just(Place::LocalNvme)];
    let contents = prop_oneof![
        Just(Contents::Untouched),
        Just(Contents::Blank),
        Just(Contents::Member),
        any::<bool>().prop_map(|is_ours| Contents::FileSystem { is_ours }),
        Just(Contents::Unknown),
        Just(Contents::Foreign { why: "somebody's" }),
    ];
    (place, contents, any::<bool>(), any::<bool>(), 0_u8..26).prop_map(
        |(place, contents, is_free, was_begun, letter)| {
            let name = std::format!("sd{}", char::from(b'a' + letter));
            DiskFacts {
                name: name.as_str().try_into().unwrap(),
                target: std::format!("{name}1").as_str().try_into().unwrap(),
                place,
                contents,
                is_free,
                was_begun,
            }
        },
    )
}

/// Written apart from the chooser, as the sentence in the documentation has it.
fn is_provably_temporary_and_fresh(disk: &DiskFacts, disks: &[DiskFacts]) -> bool {
    let fresh = matches!(
        (disk.place, disk.contents),
        (Place::Resource, Contents::Untouched) | (Place::LocalNvme, Contents::Blank)
    );
    let half_made =
        disk.was_begun && matches!(disk.contents, Contents::Unknown | Contents::Blank | Contents::Untouched);
    let is_begun = |it: &DiskFacts| it.was_begun && it.place == Place::LocalNvme;
    let of_half_made =
        disk.place == Place::LocalNvme && disk.contents == Contents::Member && disks.iter().any(is_begun);
    disk.place != Place::Lasting && disk.is_free && (fresh || half_made || of_half_made)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn only_what_is_provably_temporary_is_ever_picked(disks in proptest::collection::vec(disk(), 0..8)) {
        match choose(&disks) {
            Choice::Format(disk) => {
                prop_assert!(is_provably_temporary_and_fresh(disk, &disks), "{disk:?}");
                for part in joined(&disks) {
                    prop_assert!(is_provably_temporary_and_fresh(part, &disks), "{part:?}");
                }
            }
            Choice::Assemble => {
                let is_member = |disk: &DiskFacts| disk.contents == Contents::Member && disk.is_free;
                prop_assert!(disks.iter().any(|disk| disk.place == Place::LocalNvme && is_member(disk)));
            }
            Choice::Mount(disk) => {
                prop_assert!(disk.place != Place::Lasting && disk.is_free);
                let has_one = matches!(disk.contents, Contents::FileSystem { .. });
                prop_assert!(has_one);
            }
            Choice::Nothing { .. } => {
                // And nothing is missed: with one temporary disk, that one is taken if it may be.
                let temporary: Vec<_> = disks.iter().filter(|disk| disk.place != Place::Lasting).collect();
                if let [disk] = temporary[..] {
                    prop_assert!(!is_provably_temporary_and_fresh(disk, &disks), "{disk:?}");
                }
            }
        }
    }

    #[test]
    fn other_disks_change_nothing(disks in proptest::collection::vec(disk(), 0..8)) {
        let temporary: Vec<_> = disks.iter().filter(|disk| disk.place != Place::Lasting).cloned().collect();
        prop_assert_eq!(choose(&disks), choose(&temporary));
    }
}

fn facts(name: &str, place: Place, contents: Contents) -> DiskFacts {
    let [name, target] = [name; 2].map(|name| name.try_into().unwrap());
    DiskFacts { name, target, place, contents, is_free: true, was_begun: false }
}

#[test]
fn two_disks_in_one_place_are_left_alone() {
    let one = facts("sdb", Place::Resource, Contents::Untouched);
    assert!(matches!(choose(core::slice::from_ref(&one)), Choice::Format(_)));
    assert!(matches!(choose(&[one.clone(), one]), Choice::Nothing { .. }));
}

#[test]
fn what_was_made_before_goes_before_a_blank_disk() {
    let blank = facts("nvme0n1", Place::LocalNvme, Contents::Blank);
    let ours = facts("nvme1n1", Place::LocalNvme, Contents::FileSystem { is_ours: true });
    let theirs = facts("nvme2n1", Place::LocalNvme, Contents::FileSystem { is_ours: false });
    let disks = [theirs, blank, ours];
    assert_eq!(choose(&disks), Choice::Mount(&disks[2]));
    assert_eq!(choose(&disks[..2]), Choice::Format(&disks[1]));
    assert!(matches!(choose(&disks[..1]), Choice::Nothing { .. }));
}

#[test]
fn a_resource_disk_is_not_raw() {
    let blank = facts("sdb", Place::Resource, Contents::Blank);
    assert!(matches!(choose(&[blank]), Choice::Nothing { .. }), "the platform's has its NTFS");
    let ntfs = facts("nvme0n1", Place::LocalNvme, Contents::Untouched);
    assert!(matches!(choose(&[ntfs]), Choice::Nothing { .. }), "the platform's has no NTFS");
}
