//! login.defs(5): the numbers useradd takes from it.

use super::passwd::{IdRange, SubIds};
use super::text::{lines, words};

/// The settings we follow; [`Default`] is what shadow uses when the file says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginDefsRepr {
    /// UID_MIN, UID_MAX.
    pub uids: IdRange,
    /// GID_MIN, GID_MAX.
    pub gids: IdRange,
    /// SYS_UID_MIN, SYS_UID_MAX.
    pub system_uids: IdRange,
    /// SYS_GID_MIN, SYS_GID_MAX.
    pub system_gids: IdRange,
    /// Mode of a new home: HOME_MODE, else what UMASK leaves of 0777.
    pub home_mode: u32,
    /// PASS_MIN_DAYS; a setting that is missing leaves the field of shadow empty.
    pub min_days: Option<u32>,
    /// PASS_MAX_DAYS.
    pub max_days: Option<u32>,
    /// PASS_WARN_AGE.
    pub warn_days: Option<u32>,
    /// SUB_UID_MIN, SUB_UID_MAX, SUB_UID_COUNT.
    pub sub_uids: SubIds,
    /// SUB_GID_MIN, SUB_GID_MAX, SUB_GID_COUNT.
    pub sub_gids: SubIds,
}

impl Default for LoginDefsRepr {
    fn default() -> Self {
        let people = IdRange { min: 1000, max: 60_000 };
        let (min_days, max_days, warn_days) = (None, None, None);
        let sub = SubIds { min: 100_000, max: 600_100_000, count: 65_536 };
        let (uids, gids, sub_uids, sub_gids) = (people, people, sub, sub);
        // SYS_UID_MAX is one below UID_MIN, whatever that is.
        let system_uids = IdRange { min: 101, max: 999 };
        let system_gids = system_uids;
        Self {
            uids,
            gids,
            system_uids,
            system_gids,
            home_mode: 0o755,
            min_days,
            max_days,
            warn_days,
            sub_uids,
            sub_gids,
        }
    }
}

impl LoginDefsRepr {
    /// Reads the file. What is not a number is passed over, as shadow does; the last setting wins.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut found = [None; NAMES.len()];
        for line in lines(text) {
            let mut words = words(line);
            let (Some(key), Some(value)) = (words.next(), words.next().and_then(number)) else { continue };
            if let Some((_, place)) = NAMES.iter().zip(&mut found).find(|(name, _)| **name == key) {
                *place = Some(value);
            }
        }
        let [uid_min, uid_max, gid_min, gid_max, umask, home_mode, min_days, max_days, warn_days, sub @ ..] =
            found;
        let [uids_min, uids_max, uids_count, gids_min, gids_max, gids_count, system @ ..] = sub;
        let [system_uid_min, system_uid_max, system_gid_min, system_gid_max] = system;
        let or = Self::default();
        let ids = |min: Option<u32>, max: Option<u32>, or: IdRange| IdRange {
            min: min.unwrap_or(or.min),
            max: max.unwrap_or(or.max),
        };
        let sub_ids = |min: Option<u32>, max: Option<u32>, count: Option<u32>| SubIds {
            min: min.unwrap_or(or.sub_uids.min),
            max: max.unwrap_or(or.sub_uids.max),
            count: count.unwrap_or(or.sub_uids.count),
        };
        let uids = ids(uid_min, uid_max, or.uids);
        let gids = ids(gid_min, gid_max, or.gids);
        let below = |people: IdRange| IdRange { max: people.min.saturating_sub(1), ..or.system_uids };
        Self {
            uids,
            gids,
            system_uids: ids(system_uid_min, system_uid_max, below(uids)),
            system_gids: ids(system_gid_min, system_gid_max, below(gids)),
            home_mode: home_mode.unwrap_or(0o777 & !umask.unwrap_or(0o022)) & 0o777,
            min_days,
            max_days,
            warn_days,
            sub_uids: sub_ids(uids_min, uids_max, uids_count),
            sub_gids: sub_ids(gids_min, gids_max, gids_count),
        }
    }
}

/// The settings read, in the order [`LoginDefsRepr::parse`] takes them apart.
const NAMES: [&[u8]; 19] = [
    b"UID_MIN",
    b"UID_MAX",
    b"GID_MIN",
    b"GID_MAX",
    b"UMASK",
    b"HOME_MODE",
    b"PASS_MIN_DAYS",
    b"PASS_MAX_DAYS",
    b"PASS_WARN_AGE",
    b"SUB_UID_MIN",
    b"SUB_UID_MAX",
    b"SUB_UID_COUNT",
    b"SUB_GID_MIN",
    b"SUB_GID_MAX",
    b"SUB_GID_COUNT",
    b"SYS_UID_MIN",
    b"SYS_UID_MAX",
    b"SYS_GID_MIN",
    b"SYS_GID_MAX",
];

/// A number as C's strtol reads it with base 0: `0750` is octal, `0x1f` hexadecimal.
fn number(word: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(word).ok()?.trim_matches('"');
    if text.starts_with('+') {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        Some(digits) => u32::from_str_radix(digits, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::LoginDefsRepr;
    use proptest::prelude::{any, proptest};
    use std::vec::Vec;

    #[test]
    fn octal_is_octal_and_comments_say_nothing() {
        let text = b"#UID_MIN 5\nUID_MIN\t\t  500\nUMASK 077\nPASS_MAX_DAYS 90 # x\nGID_MAX x\n";
        let defs = LoginDefsRepr::parse(text);
        assert_eq!((defs.uids.min, defs.uids.max, defs.gids.max), (500, 60_000, 60_000));
        assert_eq!((defs.home_mode, defs.max_days), (0o700, Some(90)));
        assert_eq!(LoginDefsRepr::parse(b"UMASK 022\nHOME_MODE 0750\n").home_mode, 0o750);
        assert_eq!(LoginDefsRepr::parse(b""), LoginDefsRepr::default());
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_read(text in any::<Vec<u8>>()) {
            let defs = LoginDefsRepr::parse(&text);
            assert!(defs.home_mode <= 0o777);
        }
    }
}
