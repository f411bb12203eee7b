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

/// Why something could not be done. `what` is the object ("ovf-env.xml HostName", "/dev/sr0"), `rule` what it broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The kernel refused: `what` was being done.
    Os {
        /// The operation and its object.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Valid, but something we do not do. Worth a report to us.
    Unsupported {
        /// The object.
        what: &'static str,
        /// The feature it needs.
        rule: &'static str,
    },
    /// Bytes that break a rule of their format.
    Malformed {
        /// The object.
        what: &'static str,
        /// The rule that was broken.
        rule: &'static str,
        /// Where: a byte offset, block or line, as the format counts; 0 where that says nothing.
        at: u64,
    },
    /// More than we hold. Never a silent cut.
    TooMany {
        /// What there was too much of.
        what: &'static str,
        /// How much we hold (see `limits.rs`).
        limit: usize,
    },
    /// A deadline passed.
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// How long, in milliseconds.
        after_ms: u64,
    },
    /// The facts are on the network (exit code 75).
    NeedNetwork,
    /// Not our platform, or nothing to do here (exit code 76).
    NotApplicable {
        /// Why.
        why: &'static str,
    },
}

impl Error {
    /// This process was asked to stop.
    pub const STOPPED: Self = Self::Os { what: "asked to stop", errno: Errno::INTR };

    /// Shorthand for [`Error::Malformed`].
    #[must_use]
    pub const fn malformed(what: &'static str, rule: &'static str, at: u64) -> Self {
        Self::Malformed { what, rule, at }
    }

    /// Shorthand for [`Error::Os`].
    #[must_use]
    pub const fn os(what: &'static str, errno: Errno) -> Self {
        Self::Os { what, errno }
    }

    /// The kernel's number, if the kernel said it.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// True for "there is no such file".
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NOTDIR))
    }

    /// Stable, lower-case text for the platform's report; `docs/reasons.md` lists them all.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Os { what, .. } => what,
            Self::Unsupported { rule, .. } | Self::Malformed { rule, .. } => rule,
            Self::TooMany { what, .. } | Self::Deadline { what, .. } => what,
            Self::NeedNetwork => "network needed",
            Self::NotApplicable { why } => why,
        }
    }

    /// The exit code a stage ends with when this is its outcome.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NeedNetwork => 75,
            Self::NotApplicable { .. } => 76,
            _ => 1,
        }
    }
}
