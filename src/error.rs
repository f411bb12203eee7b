//! What can go wrong, in words that may leave the machine.
//!
//! An error names the object and the rule, never the value: the platform shows [`Error::reason`] to people,
//! and a value may be a password. All text is static for the same reason.

use crate::format::text::split_once;

/// A Linux error number, kept as the kernel gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub u16);

impl Errno {
    /// No such file or directory.
    pub const NOENT: Self = Self(2);
    /// Interrupted.
    pub const INTR: Self = Self(4);
    /// I/O error.
    pub const IO: Self = Self(5);
    /// Try again.
    pub const AGAIN: Self = Self(11);
    /// Permission denied.
    pub const ACCES: Self = Self(13);
    /// Device or resource busy.
    pub const BUSY: Self = Self(16);
    /// File exists.
    pub const EXIST: Self = Self(17);
    /// Another file system is mounted there.
    pub const XDEV: Self = Self(18);
    /// No such device: a driver whose hardware is absent.
    pub const NODEV: Self = Self(19);
    /// Not a directory.
    pub const NOTDIR: Self = Self(20);
    /// Is a directory.
    pub const ISDIR: Self = Self(21);
    /// Invalid argument.
    pub const INVAL: Self = Self(22);
    /// No space left on device.
    pub const NOSPC: Self = Self(28);
    /// Read-only file system.
    pub const ROFS: Self = Self(30);
    /// The reader is gone.
    pub const PIPE: Self = Self(32);
    /// File name too long.
    pub const NAMETOOLONG: Self = Self(36);
    /// Function not implemented.
    pub const NOSYS: Self = Self(38);
    /// Directory not empty.
    pub const NOTEMPTY: Self = Self(39);
    /// A symbolic link where none is allowed.
    pub const LOOP: Self = Self(40);
    /// No such address on the link.
    pub const ADDRNOTAVAIL: Self = Self(99);
    /// Network is down.
    pub const NETDOWN: Self = Self(100);
    /// Network is unreachable.
    pub const NETUNREACH: Self = Self(101);
    /// Connection reset by peer.
    pub const CONNRESET: Self = Self(104);
    /// More came than the kernel keeps.
    pub const NOBUFS: Self = Self(105);
    /// Connection timed out.
    pub const TIMEDOUT: Self = Self(110);
    /// Connection refused.
    pub const CONNREFUSED: Self = Self(111);
    /// No route to host.
    pub const HOSTUNREACH: Self = Self(113);
    /// No medium found.
    pub const NOMEDIUM: Self = Self(123);
}

/// Result with our [`Error`].
pub type Result<T> = core::result::Result<T, Error>;

/// The ways to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The kernel refused; the number is its [`Errno`].
    Os = b'o',
    /// Valid, but something we do not do. Worth a report to us.
    Unsupported = b'u',
    /// Bytes that break a rule of their format; the number says where: a byte offset, block or line, as the
    /// format counts, 0 where that says nothing.
    Malformed = b'm',
    /// More than we hold (see `limits.rs`), never a silent cut; the number is the limit.
    TooMany = b't',
    /// A deadline passed; the number is how long, in milliseconds.
    Deadline = b'd',
    /// Nothing is broken, but there is no way over the network yet (exit code 75).
    NeedNetwork = b'n',
    /// Not our platform, or nothing to do here (exit code 76).
    NotApplicable = b'a',
}

/// What can be broken, as one text known at compile time: the [`Kind`]'s letter, the object ("ovf-env.xml",
/// "open directory"), a NUL and the rule. One text and not three fields, because there are 500 rules. The
/// macros of this file make the constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule(&'static str);

impl Rule {
    /// The rule that [`words_of_rule`] wrote.
    #[must_use]
    pub const fn new(words: &'static [u8]) -> Self {
        match core::str::from_utf8(words) {
            Ok(words) => Self(words),
            Err(_) => Self(""),
        }
    }

    /// The error of breaking it; `number` means what the [`Kind`] says.
    #[must_use]
    pub const fn at(&'static self, number: u64) -> Error {
        Error { rule: self, number }
    }

    /// As [`at`](Self::at), for limits.
    #[must_use]
    pub const fn above(&'static self, limit: usize) -> Error {
        self.at(limit as u64)
    }

    /// As [`at`](Self::at), for the kernel's answers.
    #[must_use]
    pub const fn refused(&'static self, errno: Errno) -> Error {
        self.at(errno.0 as u64)
    }

    const fn kind(&self) -> Kind {
        match self.0.as_bytes() {
            [b'o', ..] => Kind::Os,
            [b'u', ..] => Kind::Unsupported,
            [b't', ..] => Kind::TooMany,
            [b'd', ..] => Kind::Deadline,
            [b'n', ..] => Kind::NeedNetwork,
            [b'a', ..] => Kind::NotApplicable,
            _ => Kind::Malformed,
        }
    }

    /// The object and the rule.
    #[inline(never)]
    fn words(&self) -> (&'static str, &'static str) {
        split_once(self.0.get(1..).unwrap_or_default(), "\0").unwrap_or_default()
    }
}

/// The words of a [`Rule`]; `N` is their length and 2.
#[must_use]
pub const fn words_of_rule<const N: usize>(kind: Kind, what: &str, rule: &str) -> [u8; N] {
    let mut words = [0; N];
    let (letter, rest) = words.split_at_mut(1);
    letter.copy_from_slice(&[kind as u8]);
    let (object, rest) = rest.split_at_mut(what.len());
    object.copy_from_slice(what.as_bytes());
    rest.split_at_mut(1).1.copy_from_slice(rule.as_bytes());
    words
}

/// Why something could not be done: two words, because nearly every function returns it in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    rule: &'static Rule,
    number: u64,
}

/// The [`Rule`] of these words.
macro_rules! rule {
    ($kind:ident, $what:expr, $rule:expr) => {
        const {
            const WORDS: &[u8] = &$crate::error::words_of_rule::<{ $what.len() + $rule.len() + 2 }>(
                $crate::error::Kind::$kind,
                $what,
                $rule,
            );
            &$crate::error::Rule::new(WORDS)
        }
    };
}

/// `os!("open directory", errno)`: the kernel refused. Without the number: the [`Rule`].
macro_rules! os {
    ($what:expr) => {
        rule!(Os, $what, "")
    };
    ($what:expr, $errno:expr) => {
        os!($what).refused($errno)
    };
}

/// `unsupported!("disk", "MBR")`: valid, but not done here. `unsupported!(rule "disk", "MBR")`: the [`Rule`].
macro_rules! unsupported {
    (rule $what:expr, $rule:expr) => {
        rule!(Unsupported, $what, $rule)
    };
    ($what:expr, $rule:expr) => {
        unsupported!(rule $what, $rule).at(0)
    };
}

/// `malformed!("GPT", "header size", at)`: bytes break a rule. Without the number: the [`Rule`].
macro_rules! malformed {
    ($what:expr, $rule:expr) => {
        rule!(Malformed, $what, $rule)
    };
    ($what:expr, $rule:expr, $at:expr) => {
        malformed!($what, $rule).at($at)
    };
}

/// `too_many!("DHCP routes", ROUTES)`: more than we hold. Without the number: the [`Rule`].
macro_rules! too_many {
    ($what:expr) => {
        rule!(TooMany, $what, "")
    };
    ($what:expr, $limit:expr) => {
        too_many!($what).above($limit)
    };
}

/// `deadline!("DHCP answer", after_ms)`: nothing came in time.
macro_rules! deadline {
    ($what:expr, $after_ms:expr) => {
        rule!(Deadline, $what, "").at($after_ms)
    };
}

/// `not_applicable!("provisioned already")`: nothing to do here.
macro_rules! not_applicable {
    ($why:expr) => {
        rule!(NotApplicable, "", $why).at(0)
    };
}

impl Error {
    /// This process was asked to stop.
    pub const STOPPED: Self = os!("asked to stop", Errno::INTR);

    /// There is no way over the network yet.
    pub const NEED_NETWORK: Self = rule!(NeedNetwork, "", "network needed").at(0);

    /// The same, in cloud-init's words: this machine has no card to ask over.
    pub const NO_CARD: Self = rule!(NeedNetwork, "", "failure to find DHCP interface").at(0);

    /// The same, in cloud-init's words: no card got a lease.
    pub const NO_LEASE: Self = rule!(NeedNetwork, "", "failure to obtain DHCP lease").at(0);

    /// Which way it failed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.rule.kind()
    }

    /// True if it failed this way.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.rule.0.as_bytes().first() == Some(&(kind as u8))
    }

    /// The object; empty where there is none.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.rule.words().0
    }

    /// The number; [`Kind`] says of what.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The kernel's number, if the kernel said it.
    #[must_use]
    #[inline(never)]
    pub fn errno(&self) -> Option<Errno> {
        u16::try_from(self.number).ok().filter(|_| self.is(Kind::Os)).map(Errno)
    }

    /// True for "there is no such file".
    #[must_use]
    #[inline(never)]
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NOTDIR))
    }

    /// The same failure, told of another rule.
    #[must_use]
    pub const fn told_as(&self, rule: &'static Rule) -> Self {
        Self { rule, number: self.number }
    }

    /// The same failure as one of `rules`, the one that ends with this one's words; as it is, where none does.
    #[must_use]
    pub fn told_by(&self, rules: &'static [&'static Rule]) -> Self {
        let told =
            rules.iter().find(|rule| self.is(rule.kind()) && rule.words().1.ends_with(self.rule.words().1));
        told.map_or(*self, |rule| self.told_as(rule))
    }

    /// Stable, lower-case text for the platform's report; `docs/reasons.md` lists them all.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let (what, rule) = self.rule.words();
        if rule.is_empty() { what } else { rule }
    }

    /// The exit code a stage ends with when this is its outcome.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.kind() {
            Kind::NeedNetwork => 75,
            Kind::NotApplicable => 76,
            _ => 1,
        }
    }
}
