//! What can go wrong, in words that may leave the machine.
//!
//! An error names the object and the rule, never the value: the platform shows [`Error::reason`] to people,
//! and a value may be a password. All text is static for the same reason.

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
pub enum Kind {
    /// The kernel refused; the number is its [`Errno`].
    Os,
    /// Valid, but something we do not do. Worth a report to us.
    Unsupported,
    /// Bytes that break a rule of their format; the number says where: a byte offset, block or line, as the
    /// format counts, 0 where that says nothing.
    Malformed,
    /// More than we hold (see `limits.rs`), never a silent cut; the number is the limit.
    TooMany,
    /// A deadline passed; the number is how long, in milliseconds.
    Deadline,
    /// Nothing is broken, but there is no way over the network yet (exit code 75).
    NeedNetwork,
    /// Not our platform, or nothing to do here (exit code 76).
    NotApplicable,
}

/// What can be broken: the object ("ovf-env.xml", "open directory") and the rule, known at compile time. The
/// macros of this file make the constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    kind: Kind,
    what: &'static str,
    rule: &'static str,
}

impl Rule {
    /// `what` was asked of the kernel.
    #[must_use]
    pub const fn os(what: &'static str) -> Self {
        Self { kind: Kind::Os, what, rule: "" }
    }

    /// `what` needs the feature `rule`.
    #[must_use]
    pub const fn unsupported(what: &'static str, rule: &'static str) -> Self {
        Self { kind: Kind::Unsupported, what, rule }
    }

    /// `what` has to keep `rule`.
    #[must_use]
    pub const fn malformed(what: &'static str, rule: &'static str) -> Self {
        Self { kind: Kind::Malformed, what, rule }
    }

    /// There can be too much of `what`.
    #[must_use]
    pub const fn too_many(what: &'static str) -> Self {
        Self { kind: Kind::TooMany, what, rule: "" }
    }

    /// `what` is waited for.
    #[must_use]
    pub const fn deadline(what: &'static str) -> Self {
        Self { kind: Kind::Deadline, what, rule: "" }
    }

    /// Nothing to do, because of `why`.
    #[must_use]
    pub const fn not_applicable(why: &'static str) -> Self {
        Self { kind: Kind::NotApplicable, what: "", rule: why }
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
}

/// Why something could not be done: two words, because nearly every function returns it in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    rule: &'static Rule,
    number: u64,
}

/// `os!("open directory", errno)`: the kernel refused. Without the number: the [`Rule`].
macro_rules! os {
    ($what:expr) => {
        const { &$crate::error::Rule::os($what) }
    };
    ($what:expr, $errno:expr) => {
        os!($what).refused($errno)
    };
}

/// `unsupported!("disk", "MBR")`: valid, but not done here. `unsupported!(rule "disk", "MBR")`: the [`Rule`].
macro_rules! unsupported {
    (rule $what:expr, $rule:expr) => {
        const { &$crate::error::Rule::unsupported($what, $rule) }
    };
    ($what:expr, $rule:expr) => {
        unsupported!(rule $what, $rule).at(0)
    };
}

/// `malformed!("GPT", "header size", at)`: bytes break a rule. Without the number: the [`Rule`].
macro_rules! malformed {
    ($what:expr, $rule:expr) => {
        const { &$crate::error::Rule::malformed($what, $rule) }
    };
    ($what:expr, $rule:expr, $at:expr) => {
        malformed!($what, $rule).at($at)
    };
}

/// `too_many!("DHCP routes", ROUTES)`: more than we hold. Without the number: the [`Rule`].
macro_rules! too_many {
    ($what:expr) => {
        const { &$crate::error::Rule::too_many($what) }
    };
    ($what:expr, $limit:expr) => {
        too_many!($what).above($limit)
    };
}

/// `deadline!("DHCP answer", after_ms)`: nothing came in time.
macro_rules! deadline {
    ($what:expr, $after_ms:expr) => {
        const { &$crate::error::Rule::deadline($what) }.at($after_ms)
    };
}

/// `not_applicable!("provisioned already")`: nothing to do here.
macro_rules! not_applicable {
    ($why:expr) => {
        const { &$crate::error::Rule::not_applicable($why) }.at(0)
    };
}

impl Error {
    /// This process was asked to stop.
    pub const STOPPED: Self = os!("asked to stop", Errno::INTR);

    /// There is no way over the network yet.
    pub const NEED_NETWORK: Self =
        const { &Rule { kind: Kind::NeedNetwork, what: "", rule: "network needed" } }.at(0);

    /// Which way it failed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.rule.kind
    }

    /// True if it failed this way.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.rule.kind == kind
    }

    /// The object; empty where there is none.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.rule.what
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
    pub fn told_by(&self, rules: &'static [Rule]) -> Self {
        let told =
            rules.iter().find(|rule| rule.kind == self.rule.kind && rule.rule.ends_with(self.rule.rule));
        told.map_or(*self, |rule| self.told_as(rule))
    }

    /// Stable, lower-case text for the platform's report; `docs/reasons.md` lists them all.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self.rule.kind {
            Kind::Os | Kind::TooMany | Kind::Deadline => self.rule.what,
            Kind::Unsupported | Kind::Malformed | Kind::NeedNetwork | Kind::NotApplicable => self.rule.rule,
        }
    }

    /// The exit code a stage ends with when this is its outcome.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.rule.kind {
            Kind::NeedNetwork => 75,
            Kind::NotApplicable => 76,
            _ => 1,
        }
    }
}
