//! How large shall a swap file be? cloud-config's sizes and its suggestion (cloud-init, config/cc_mounts.py, util.py).

use super::text::number;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A size as cloud-config writes it: `1048576`, `512M`, `0.5G`, `2GiB`, `100B`; K, M, G and T count in 1024.
#[must_use]
pub fn size_bytes(text: &str) -> Option<u64> {
    let text = text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text);
    let shift = |unit| match unit {
        'K' => Some(10_u32),
        'M' => Some(20),
        'G' => Some(30),
        'T' => Some(40),
        _ => None,
    };
    let unit = text.chars().next_back().and_then(shift);
    let digits = if unit.is_some() { text.get(..text.len().checked_sub(1)?)? } else { text };
    let unit = 1_u64.checked_shl(unit.unwrap_or_default())?;
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let (whole, part_bytes) = (digits_of(whole)?, digits_of(part)?.checked_mul(unit)?);
    let ten = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    whole.checked_mul(unit)?.checked_add(part_bytes.checked_div(ten)?)
}

/// Decimal digits only.
fn digits_of(text: &str) -> Option<u64> {
    match text.as_bytes() {
        // All that fits twenty digits; `number` ends at 32 bits.
        bytes if bytes.len() > 9 => text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?,
        bytes => number(bytes).map(u64::from),
    }
}

/// What suits a machine of `memory` bytes on a file system with `free` bytes: as much as memory below 4 GiB of it,
/// 4 GiB below 16, then the square root in GiB; at most `most`, or else a quarter of what is free. Whole MiB.
#[must_use]
pub fn suggested_bytes(memory: u64, free: Option<u64>, most: Option<u64>) -> u64 {
    let twice = memory.saturating_mul(2);
    let most = match (free, most) {
        // Nine tenths.
        (Some(free), Some(most)) => most.min(free.saturating_sub(free / 10)),
        (Some(free), None) => twice.min(free / 4),
        (None, most) => most.unwrap_or(twice),
    };
    let suited = match memory / GIB {
        0..4 => memory,
        4..16 => 4 * GIB,
        _ => rounded_root(memory / (GIB / 4)).saturating_mul(GIB),
    };
    let size = suited.min(most);
    size.saturating_sub(size % MIB)
}

/// The square root of `quarters / 4`, rounded: the largest n with (2n - 1)^2 <= `quarters`.
fn rounded_root(quarters: u64) -> u64 {
    quarters.isqrt().saturating_add(1) / 2
}

#[cfg(test)]
mod tests {
    use super::{GIB, MIB, size_bytes, suggested_bytes};
    use crate::format::cases::{self, Answer};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use serde_json::json;

    #[test]
    fn sizes_are_read_as_cloud_init_reads_them() {
        cases::run("human_sizes", |case| {
            Answer::Is(json!(size_bytes(case.input["args"][0].as_str().unwrap())))
        });
        assert_eq!(size_bytes("2G"), Some(2 * GIB));
        assert_eq!(size_bytes("20000000000"), Some(20_000_000_000));
        for bad in ["", "G", "1.5.5G", "1e3", "+1", "99999999999999999999", "99999999T", ".", "1 G"] {
            assert_eq!(size_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn suggestions_are_cloud_init_s() {
        cases::run("swap_suggested_size", |case| {
            let number = |at: usize, name: &str| {
                case.input["args"][at].as_u64().or_else(|| case.input["kwargs"][name].as_u64())
            };
            // JSON has no infinity; the file was made to say null.
            let is_unbounded = case.input["args"].as_array().is_some_and(|args| args.len() == 3);
            let most = if is_unbounded { Some(u64::MAX) } else { number(1, "maxsize") };
            Answer::Is(json!(suggested_bytes(number(0, "memsize").unwrap(), None, most)))
        });
    }

    proptest! {
        #[test]
        fn no_text_panics(text: std::string::String) {
            let _ = size_bytes(&text);
        }

        #[test]
        fn what_is_printed_is_read(n: u32) {
            prop_assert_eq!(size_bytes(&std::format!("{n}M")), Some(u64::from(n) * MIB));
        }

        #[test]
        fn a_suggestion_leaves_room(memory: u64, free: u64, most in any::<Option<u64>>()) {
            let size = suggested_bytes(memory, Some(free), most);
            prop_assert!(size <= free - free / 10 && size.is_multiple_of(MIB));
        }
    }
}
