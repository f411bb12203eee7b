//! What the program says: a fixed sentence with typed values in its `{}` holes.
//!
//! No variant of [`Value`] can hold free text from outside, so a log line cannot carry a secret or a
//! terminal escape. Sinks (console, timeline) live in `sys` and `stage`.

use crate::error::{Errno, Error, Kind};
use crate::format::text::split_once;
use core::fmt::{self, Write};

/// How loud. The numbers are syslog's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// The stage did not reach its goal (3: shown on the console even with `quiet`).
    Error = 3,
    /// Something is not as expected, the stage goes on (4).
    Warning = 4,
    /// Progress (6).
    Info = 6,
    /// Detail for the timeline; on the console only with `rd.preroot.debug` (7).
    Debug = 7,
}

/// One typed value of a message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// A count.
    Number(u64),
    /// Printed with a binary unit: `7.9 GiB`.
    SizeBytes(u64),
    /// Printed as `12 ms`.
    Millis(u64),
    /// Our own text.
    Text(&'static str),
    /// A kernel name (device, link, module): printed only if it is `[A-Za-z0-9._:/!+-]`, else `?`.
    Name(&'a str),
    /// Dotted quad.
    Ipv4([u8; 4]),
    /// Colon form.
    Mac([u8; 6]),
    /// Why something failed.
    Why(Error),
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// How loud.
    pub level: Level,
    /// The stage that speaks: "fetch", "grow" ...
    pub stage: &'static str,
    /// The sentence; each `{}` takes the next value.
    pub text: &'static str,
    /// Its values.
    pub values: &'a [Value<'a>],
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.iter();
        let mut rest = self.text;
        while let Some((before, behind)) = split_once(rest, "{}") {
            f.write_str(before)?;
            match values.next() {
                Some(value) => value.fmt(f)?,
                None => f.write_str("?")?,
            }
            rest = behind;
        }
        f.write_str(rest)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::SizeBytes(n) => write_size(f, *n),
            Self::Millis(n) => write!(f, "{n} ms"),
            Self::Text(text) => f.write_str(text),
            Self::Name(name) => f.write_str(if is_plain_name(name) { name } else { "?" }),
            Self::Ipv4([a, b, c, d]) => write!(f, "{a}.{b}.{c}.{d}"),
            Self::Mac(mac) => {
                for (i, byte) in mac.iter().enumerate() {
                    if i > 0 {
                        f.write_char(':')?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Why(error) => write!(f, "{error}"),
        }
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/!+-".contains(&b))
}

/// Binary units with one decimal, as `lsblk` prints them: "512 B", "2.0 GiB".
fn write_size(f: &mut fmt::Formatter<'_>, bytes: u64) -> fmt::Result {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return write!(f, "{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    let unit = UNITS.get(power as usize - 1).copied().unwrap_or("PiB");
    let shift = power * 10;
    let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
    write!(f, "{}.{tenths} {unit}", bytes >> shift)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, rule, number) = (self.what(), self.reason(), self.number());
        match self.kind() {
            Kind::Os => write!(f, "{what}: {}", self.errno().unwrap_or(Errno(0))),
            Kind::Unsupported => write!(f, "{what}: not supported: {rule}"),
            Kind::Malformed if number == 0 => write!(f, "{what}: malformed: {rule}"),
            Kind::Malformed => write!(f, "{what}: malformed at {number}: {rule}"),
            Kind::TooMany => write!(f, "{what}: more than {number}"),
            Kind::Deadline => write!(f, "{what}: nothing after {number} ms"),
            Kind::NeedNetwork | Kind::NotApplicable => f.write_str(rule),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::NOENT => "no such file",
            Self::ACCES => "permission denied",
            Self::IO => "I/O error",
            Self::BUSY => "busy",
            Self::EXIST => "exists already",
            Self::NODEV => "no such device",
            Self::NOTDIR => "not a directory",
            Self::INVAL => "invalid argument",
            Self::NOSPC => "no space left",
            Self::ROFS => "read-only file system",
            Self::LOOP => "symbolic link where none is allowed",
            Self::NETUNREACH => "network unreachable",
            Self::CONNRESET => "connection reset",
            Self::TIMEDOUT => "timed out",
            Self::CONNREFUSED => "connection refused",
            Self::NOMEDIUM => "no medium",
            Self(n) => return write!(f, "errno {n}"),
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Level, Value};
    use std::string::ToString;

    #[test]
    fn values_fill_the_holes_in_order() {
        let values = [Value::Ipv4([10, 0, 0, 4]), Value::Name("eth0"), Value::Millis(12)];
        let event =
            Event { level: Level::Info, stage: "fetch", text: "lease {} on {} after {}", values: &values };
        assert_eq!(event.to_string(), "lease 10.0.0.4 on eth0 after 12 ms");
    }

    #[test]
    fn names_with_escapes_are_not_printed() {
        assert_eq!(Value::Name("eth0\x1b[2J").to_string(), "?");
    }

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2 << 30, "2.0 GiB"), (u64::MAX, "16383.9 PiB")]
        {
            assert_eq!(Value::SizeBytes(bytes).to_string(), text);
        }
    }
}
