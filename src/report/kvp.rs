//! What does the host read about us in Hyper-V's data exchange, and how does it get into the guest's pool?
//!
//! Sources: azure-init `libazureinit-kvp/src/store.rs`, cloud-init `reporting/handlers.py`.

use super::AGENT;
use super::health::Reason;
use super::pool::Pools;
use crate::error::Result;
use crate::facts::InstanceId;
use crate::format::kvp::{self, GUEST, RECORD, VALUE_LIMIT};
use core::fmt::{self, Write};

/// The key of how provisioning went.
pub const KEY: &str = "PROVISIONING_REPORT";

/// How the keys of what happened begin.
pub const EVENTS: &str = concat!("preroot-", env!("CARGO_PKG_VERSION"));

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

/// Puts a record into the guest's pool, in the place of the one with its key. One that is there already, but for its
/// time, stays.
///
/// # Errors
/// As [`Pools::set`].
pub fn publish(pools: &mut Pools<'_>, key: &str, value: &str) -> Result<()> {
    let record = kvp::record(key, value)?;
    let (key, value) = kvp::parts(&record);
    let mut known = [0; RECORD];
    if pools.find(GUEST, key, &mut known)? && without_time(&known) == without_time(&record) {
        return Ok(());
    }
    pools.set(GUEST, key, value)
}

/// A record up to its time, which is the last field of every report of ours.
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
    use super::{KEY, Rfc3339, failure, publish, success};
    use crate::facts::InstanceId;
    use crate::format::kvp::{GUEST, record};
    use crate::report::health::Reason;
    use crate::report::pool::{Pools, tests::all};
    use crate::sys::fake::FakeDir;
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};
    use std::format;
    use std::string::ToString;

    fn vm_id() -> InstanceId {
        InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap()
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
    fn other_agents_records_stay_and_ours_is_there_once() {
        let mut root = FakeDir::default();
        let pools = &mut Pools::of_root(&mut root);
        pools.set(GUEST, b"CLOUD_INIT|x\0", b"y\0").unwrap();
        for second in 0..3 {
            publish(pools, KEY, &success(&vm_id(), None, second)).unwrap();
        }
        let records = all(pools, GUEST);
        assert!(records.len() == 2 && records[1].1.ends_with("1970-01-01T00:00:00+00:00"));
        let failure = failure(&Reason::of("x"), None, 9);
        publish(pools, KEY, &failure).unwrap();
        assert_eq!(all(pools, GUEST)[1..], [(KEY.into(), failure.as_str().into())]);
    }

    proptest! {
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
