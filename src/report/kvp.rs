//! What does the host read about us in Hyper-V's data exchange, and how does it get into the guest's pool?
//!
//! The distribution's hv_kvp_daemon serves `/var/lib/hyperv/.kvp_pool_1` to the host: records of a fixed size,
//! no header. Source: Linux `tools/hv/hv_kvp_daemon.c`, azure-init `libazureinit-kvp/src/store.rs`,
//! cloud-init `reporting/handlers.py`.

use super::AGENT;
use super::health::Reason;
use crate::error::{Errno, Result, Rule};
use crate::facts::InstanceId;
use crate::sys::{Dir, FileType, Owner};
use core::fmt::{self, Write};

/// The one key we write.
pub const KEY: &str = "PROVISIONING_REPORT";
/// Bytes of one record: key and value, zero padded.
pub const RECORD: usize = KEY_FIELD + VALUE_FIELD;
const KEY_FIELD: usize = 512;
const VALUE_FIELD: usize = 2048;
/// Azure's host reads this much of a key (azure-init "safe" mode).
const KEY_LIMIT: usize = 254;
/// Azure's host reads this much of a value.
const VALUE_LIMIT: usize = 1022;
const DIRECTORY: &str = "var/lib/hyperv";
/// The pool of the guest's own records, below the root.
pub const POOL: &str = "var/lib/hyperv/.kvp_pool_1";

/// A value the host reads whole.
pub type Value = heapless::String<VALUE_LIMIT>;

/// The record of a provisioned VM. `fault` is what went wrong on the way, where that was not fatal.
#[must_use]
pub fn success(vm_id: &InstanceId, fault: Option<&Reason>, wall_s: i64) -> Value {
    let mut text = Value::new();
    // Longest: 23 + 265 + 40 + 14 + 71 + 36 bytes (tested).
    let _ = text.push_str("result=success");
    if let Some(fault) = fault {
        let _ = write!(text, "|warning={}", fault.as_str());
    }
    let _ =
        write!(text, "|agent={AGENT}|pps_type=None|vm_id={}|timestamp={}", vm_id.as_str(), Rfc3339(wall_s));
    text
}

/// The record of a failure: the description that the wireserver gets, with a time.
#[must_use]
pub fn failure(reason: &Reason, vm_id: Option<&InstanceId>, wall_s: i64) -> Value {
    let mut text = Value::new();
    let description = super::health::describe(reason, vm_id);
    let _ = write!(text, "{description}|timestamp={}", Rfc3339(wall_s));
    text
}

/// Builds one record.
///
/// # Errors
/// `TooMany` above what the host reads, `Malformed` for an empty key or a NUL.
pub fn record(key: &str, value: &str) -> Result<[u8; RECORD]> {
    let mut record = [0; RECORD];
    let (key_field, value_field) = record.split_at_mut(KEY_FIELD);
    put(key, key_field, KEY_LIMIT, too_many!("KVP key"), malformed!("KVP key", "NUL in text"))?;
    put(value, value_field, VALUE_LIMIT, too_many!("KVP value"), malformed!("KVP value", "NUL in text"))?;
    if key.is_empty() {
        return Err(malformed!("KVP key", "empty", 0));
    }
    Ok(record)
}

fn put(text: &str, field: &mut [u8], limit: usize, full: &'static Rule, nul: &'static Rule) -> Result<()> {
    if text.len() > limit {
        return Err(full.above(limit));
    }
    if text.contains('\0') {
        return Err(nul.at(0));
    }
    field.get_mut(..text.len()).ok_or(full.above(limit))?.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Puts a record into the guest's pool below `root`. A pool from before this boot (`boot_s`, wall clock) or
/// with a torn record is started anew: a captured image carries its first life's records otherwise. A record
/// that is there already, but for its time, is not added again.
///
/// # Errors
/// `Os`; `Malformed` when something else has the pool's name.
pub fn publish(root: &mut dyn Dir, value: &str, boot_s: i64) -> Result<()> {
    let record = record(KEY, value)?;
    make_directory(root)?;
    match root.stat(POOL) {
        Ok(stat) if stat.file_type != FileType::File => {
            return Err(malformed!("KVP pool", "not a regular file", 0));
        }
        Ok(stat) if stat.modified < boot_s || stat.size % RECORD as u64 != 0 => root.remove(POOL)?,
        Ok(stat) if ends_with(root, stat.size, &record)? => return Ok(()),
        // No fsync: the daemon reads the page cache, and after a power cut the record is stale anyway.
        Ok(_) => return root.append(POOL, &record),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    root.create(POOL, Owner::root(0o644), &record)
}

fn make_directory(root: &mut dyn Dir) -> Result<()> {
    for directory in ["var", "var/lib", DIRECTORY] {
        match root.make_dir(directory, Owner::root(0o755)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn ends_with(root: &mut dyn Dir, size: u64, record: &[u8; RECORD]) -> Result<bool> {
    let mut last = [0; RECORD];
    let Some(offset) = size.checked_sub(RECORD as u64) else { return Ok(false) };
    let length = root.read_at(POOL, offset, &mut last)?;
    Ok(length == RECORD && without_time(&last) == without_time(record))
}

/// A record up to its time, which is the last field of every value of ours.
fn without_time(record: &[u8]) -> &[u8] {
    const FIELD: &[u8] = b"|timestamp=";
    let at = record.windows(FIELD.len()).position(|window| window == FIELD);
    record.get(..at.unwrap_or(record.len())).unwrap_or_default()
}

/// `2026-01-02T03:04:05+00:00`, from seconds since the epoch.
struct Rfc3339(i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
    }
}

/// Year, month and day of a day since 1970-01-01, proleptic Gregorian. Years begin in March here, so that the
/// leap day is the last; method: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    // i64 seconds make days far from the edges of i64: nothing overflows.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{KEY, POOL, RECORD, Rfc3339, failure, publish, record, success};
    use crate::facts::InstanceId;
    use crate::report::health::Reason;
    use crate::sys::Dir;
    use crate::sys::fake::FakeDir;
    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use std::string::{String, ToString};
    use std::{format, vec};

    fn vm_id() -> InstanceId {
        InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap()
    }

    fn pool(root: &mut FakeDir) -> std::vec::Vec<(String, String)> {
        let mut bytes = vec![0; 16 * RECORD];
        let length = root.read(POOL, &mut bytes).unwrap();
        assert_eq!(length % RECORD, 0);
        let text =
            |field: &[u8]| String::from_utf8(field.to_vec()).unwrap().trim_end_matches('\0').to_string();
        bytes[..length].chunks(RECORD).map(|r| (text(&r[..512]), text(&r[512..]))).collect()
    }

    /// Expected: `date -u -d @N +%FT%T+00:00` (GNU coreutils).
    #[test]
    fn times_are_what_date_prints() {
        for (s, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (-1, "1969-12-31T23:59:59+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_709_251_199, "2024-02-29T23:59:59+00:00"),
            (1_767_323_045, "2026-01-02T03:04:05+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
            (-2_203_891_200, "1900-03-01T00:00:00+00:00"),
        ] {
            assert_eq!(Rfc3339(s).to_string(), text);
        }
    }

    #[test]
    fn records_have_the_fields_the_host_knows() {
        assert_eq!(
            success(&vm_id(), None, 1_767_323_045).as_str(),
            format!(
                "result=success|agent={}|pps_type=None|vm_id=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\
                 |timestamp=2026-01-02T03:04:05+00:00",
                crate::report::AGENT
            )
        );
        let text = failure(&Reason::of("failure to obtain DHCP lease"), None, 0);
        assert!(text.starts_with("result=error|reason=failure to obtain DHCP lease|agent=preroot/"));
        assert!(text.ends_with("|timestamp=1970-01-01T00:00:00+00:00"));
    }

    #[test]
    fn a_first_record_makes_the_pool_with_the_daemons_modes() {
        let mut root = FakeDir::default();
        publish(&mut root, "result=success", 0).unwrap();
        assert_eq!(root.owner("var/lib/hyperv").unwrap().mode, 0o755);
        assert_eq!(root.owner(POOL).unwrap().mode, 0o644);
        assert_eq!(pool(&mut root), [(KEY.into(), "result=success".into())]);
    }

    #[test]
    fn other_agents_records_of_this_boot_stay_and_ours_is_added_once() {
        let mut root = FakeDir::default();
        root.put(POOL, record("CLOUD_INIT|x", "y").unwrap());
        for second in 0..3 {
            publish(&mut root, &success(&vm_id(), None, second), 0).unwrap();
        }
        assert_eq!(pool(&mut root).len(), 2);
        publish(&mut root, &failure(&Reason::of("x"), None, 9), 0).unwrap();
        assert_eq!(pool(&mut root).len(), 3);
    }

    #[test]
    fn a_pool_from_before_this_boot_or_torn_is_started_anew() {
        let mut root = FakeDir::default();
        root.put(POOL, record("old", "life").unwrap());
        publish(&mut root, "result=success", i64::MAX).unwrap();
        assert_eq!(pool(&mut root).len(), 1);
        root.append(POOL, b"half a record").unwrap();
        publish(&mut root, "result=other", 0).unwrap();
        assert_eq!(pool(&mut root), [(KEY.into(), "result=other".into())]);
    }

    #[test]
    fn a_link_in_place_of_the_pool_is_left_alone() {
        let mut root = FakeDir::default();
        root.put("etc/shadow", "x").put_symlink(POOL, "/etc/shadow");
        assert!(publish(&mut root, "result=success", 0).is_err());
        assert_eq!(root.text("etc/shadow").unwrap(), "x");
    }

    proptest! {
        #[test]
        fn a_record_is_always_whole(key in ".{0,200}", value in ".{0,600}") {
            if let Ok(record) = record(&key, &value) {
                prop_assert_eq!(record.len(), 2560);
                prop_assert_eq!(&record[..key.len()], key.as_bytes());
                prop_assert!(record[key.len()..512].iter().all(|b| *b == 0));
                prop_assert_eq!(&record[512..512 + value.len()], value.as_bytes());
                prop_assert!(record[512 + value.len()..].iter().all(|b| *b == 0));
            } else {
                prop_assert!(key.is_empty() || key.len() > 254 || value.len() > 1022 || (key + &value).contains('\0'));
            }
        }

        #[test]
        fn every_time_and_text_makes_a_record(reason in "\\PC{0,600}", s in any::<i64>(), id in "[a-z0-9]{64}") {
            let (reason, id) = (Reason::of(&reason), InstanceId::parse(&id).unwrap());
            for value in [success(&id, Some(&reason), s), failure(&reason, Some(&id), s)] {
                prop_assert!(value.contains("|timestamp=") && value.ends_with("+00:00"));
                prop_assert!(record(KEY, &value).is_ok());
            }
        }
    }
}
