//! What is a plain scalar? YAML 1.1's implicit types, by the expressions of `PyYAML`'s resolver.py; a number too large
//! for us is text.

use super::Value;

/// Resolves a plain scalar without a tag.
pub(super) fn resolve(text: &str) -> Result<Value, &'static str> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    if let Some(truth) = boolean(text) {
        return Ok(Value::Bool(truth));
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Ok(Value::Text(text.into()));
    }
    if is_integer(text) {
        return Ok(integer(text).map_or_else(|| Value::Text(text.into()), Value::Int));
    }
    if is_float(text) {
        return Ok(float(text).map_or_else(|| Value::Text(text.into()), Value::Float));
    }
    match date(text) {
        Some(true) => Ok(Value::Date(text.into())),
        Some(false) => Err("a date that is none"),
        None => Ok(Value::Text(text.into())),
    }
}

/// `!!bool`, and plain words.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> (&str, i128) {
    match text.as_bytes().first() {
        Some(b'-') => (&text[1..], -1),
        Some(b'+') => (&text[1..], 1),
        _ => (text, 1),
    }
}

fn all(text: &str, is: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'_' || is(byte))
}

/// `(:[0-5]?[0-9])+` behind the first colon.
fn is_sixty(parts: &str) -> bool {
    parts.split(':').all(|part| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    })
}

fn is_decimal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && all(text, |byte| byte.is_ascii_digit())
}

fn is_integer(text: &str) -> bool {
    let (text, _) = unsigned(text);
    if let Some(digits) = text.strip_prefix("0b") {
        return all(digits, |byte| matches!(byte, b'0' | b'1'));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |byte| byte.is_ascii_hexdigit());
    }
    if text == "0" {
        return true;
    }
    if let Some(digits) = text.strip_prefix('0') {
        return all(digits, |byte| (b'0'..=b'7').contains(&byte));
    }
    match text.split_once(':') {
        Some((first, rest)) => is_decimal(first) && is_sixty(rest),
        None => is_decimal(text),
    }
}

/// Of a scalar that is one; `None` where it does not fit.
pub(super) fn integer(text: &str) -> Option<i128> {
    let clean = text.replace('_', "");
    let (text, sign) = unsigned(&clean);
    // A second sign would be from_str_radix's.
    if text.starts_with(['+', '-']) || text.get(2..).is_some_and(|digits| digits.starts_with(['+', '-'])) {
        return None;
    }
    let number = if let Some(digits) = text.strip_prefix("0b") {
        i128::from_str_radix(digits, 2).ok()?
    } else if let Some(digits) = text.strip_prefix("0x") {
        i128::from_str_radix(digits, 16).ok()?
    } else if text.len() > 1 && text.starts_with('0') && !text.contains(':') {
        i128::from_str_radix(text, 8).ok()?
    } else {
        text.split(':').try_fold(0_i128, |sum, part| {
            sum.checked_mul(60)?.checked_add(part.parse::<u64>().ok()?.into())
        })?
    };
    number.checked_mul(sign)
}

fn is_float(text: &str) -> bool {
    let (bare, _) = unsigned(text);
    if matches!(bare, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) =
        bare.find(['e', 'E']).map_or((bare, None), |at| (&bare[..at], Some(&bare[at + 1..])));
    // An exponent has a sign.
    let is_exponent = |text: &str| {
        text.strip_prefix(['+', '-'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    if exponent.is_some_and(|text| !is_exponent(text)) {
        return false;
    }
    let Some((whole, fraction)) = mantissa.split_once('.') else { return false };
    let has_fraction = fraction.bytes().all(|byte| byte == b'_' || byte.is_ascii_digit());
    if whole.is_empty() {
        // No sign before a bare point.
        return text.starts_with('.') && has_fraction && fraction.starts_with(|c: char| c.is_ascii_digit());
    }
    match whole.split_once(':') {
        Some((first, rest)) => is_decimal(first) && is_sixty(rest) && has_fraction && exponent.is_none(),
        None => is_decimal(whole) && has_fraction,
    }
}

/// Of a scalar that is one.
pub(super) fn float(text: &str) -> Option<f64> {
    let clean = text.replace('_', "").to_ascii_lowercase();
    let (bare, sign) = unsigned(&clean);
    #[expect(clippy::cast_precision_loss, reason = "it is 1 or -1")]
    let sign = sign as f64;
    match bare {
        ".inf" => return Some(sign * f64::INFINITY),
        ".nan" => return Some(f64::NAN),
        _ => {}
    }
    let mut sum = 0.0;
    for part in bare.split(':') {
        sum = sum * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(sign * sum)
}

/// A date or a time: whether it can be one; `None` for neither.
fn date(text: &str) -> Option<bool> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes.get(4) != Some(&b'-') || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (day_text, time) =
        text.find(['T', 't', ' ', '\t']).map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let mut parts = day_text.split('-').skip(1);
    let (month, day) = (parts.next()?, parts.next()?);
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    if parts.next().is_some() || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    match time {
        None if month.len() != 2 || day.len() != 2 => return None,
        None => {}
        Some(time) if !is_time(time.trim_start()) => return None,
        Some(_) => {}
    }
    let (month, day) = (month.parse::<u8>().ok()?, day.parse::<u8>().ok()?);
    Some((1..=12).contains(&month) && (1..=31).contains(&day))
}

/// `H?H:MM:SS(.ffff)?` and a zone.
fn is_time(text: &str) -> bool {
    let at = text.find(['Z', '+', '-', ' ', '\t']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(at);
    let zone = zone.trim_start_matches([' ', '\t']);
    let is_zone = zone.is_empty()
        || zone == "Z"
        || zone.strip_prefix(['+', '-']).is_some_and(|zone| {
            let (hours, minutes) = zone.split_once(':').unwrap_or((zone, "00"));
            (1..=2).contains(&hours.len())
                && minutes.len() == 2
                && (hours.to_owned() + minutes).bytes().all(|b| b.is_ascii_digit())
        });
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let is_number = |part: Option<&str>, least: usize| {
        part.is_some_and(|part| (least..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_clock = is_number(parts.next(), 1) && is_number(parts.next(), 2) && is_number(parts.next(), 2);
    is_clock && parts.next().is_none() && is_zone && fraction.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{Value, resolve};

    #[test]
    fn plain_scalars_are_what_pyyaml_says() {
        let int = |n: i128| Value::Int(n);
        let text = |text: &str| Value::Text(text.into());
        for (plain, meant) in [
            ("0644", int(420)),
            ("0o644", text("0o644")),
            ("644", int(644)),
            ("08", text("08")),
            ("0x1F", int(31)),
            ("0b11", int(3)),
            ("-1_000", int(-1000)),
            ("1:30", int(90)),
            ("20:30:20", int(73820)),
            ("1:60", text("1:60")),
            ("08:00", text("08:00")),
            ("52:54:00:12:34:56", int(52 * 777_600_000 + 54 * 12_960_000 + 12 * 3600 + 34 * 60 + 56)),
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("y", text("y")),
            ("nO", text("nO")),
            ("~", Value::Null),
            ("1.", Value::Float(1.0)),
            ("1e3", text("1e3")),
            ("1.0e3", text("1.0e3")),
            ("1.0e+3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("+.5", text("+.5")),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("1.2.3", text("1.2.3")),
            ("190:20:30.15", Value::Float(685_230.15)),
            ("2012-09-01", Value::Date("2012-09-01".into())),
            ("2001-12-14t21:59:43.10-05:00", Value::Date("2001-12-14t21:59:43.10-05:00".into())),
            ("2012-9-1", text("2012-9-1")),
            ("-", text("-")),
            ("+", text("+")),
            (
                "99999999999999999999999999999999999999999999",
                text("99999999999999999999999999999999999999999999"),
            ),
        ] {
            assert_eq!(resolve(plain).unwrap(), meant, "{plain}");
        }
        assert!(resolve("2012-13-01").is_err());
    }
}
