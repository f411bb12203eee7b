//! Which optical drive is read next, and when is there nothing to wait for any more?
//!
//! Only optical drives count: a disk that a tenant attaches must not be able to name the administrator.
//! Time is an argument. Drives may appear late (on Azure after the root disk), be not ready for a while, and
//! without medium they are the normal state of every later boot.

use crate::error::{Error, Result};
use crate::format::volume::NO_FILE_SYSTEM;
use crate::limits::{DRIVE_MS, MEDIUM_MS, NO_DISC_MS, OPTICAL_DRIVES, POLL_MS};
use crate::order::sort_few;
use crate::sys::{Dir, Disks, DriveStatus};

/// Kernel name of an optical drive, `sr0`; the kernel's own limit is 32 (DISK_NAME_LEN).
pub type DriveName = heapless::String<16>;

/// The first pause; each is twice as long as the one before, up to `POLL_MS`, until something changes.
const FIRST_PAUSE_MS: u64 = 16;

/// Why there is no document. Ordered: of several drives the one most worth telling about counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// No optical drive appeared.
    NoDrive,
    /// Every drive says that it is empty.
    NoMedium,
    /// There is a medium without ovf-env.xml, or one that is neither UDF nor ISO 9660.
    NotOurMedium(Error),
    /// A drive did not become ready, or cannot read its medium.
    Unreadable(Error),
    /// The medium breaks the rules of its file system, or needs what we do not read.
    Malformed(Error),
    /// Somebody told us to stop.
    Stopped,
}

impl Missing {
    /// What a medium's content says.
    #[must_use]
    pub fn of_content(error: Error) -> Self {
        if error == NO_FILE_SYSTEM || error.is_not_found() {
            Self::NotOurMedium(error)
        } else {
            Self::Malformed(error)
        }
    }

    /// Stable, lower-case text for the platform's report.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDrive => "no optical drive",
            Self::NoMedium => "no provisioning medium in the optical drive",
            Self::NotOurMedium(error) if *error == NO_FILE_SYSTEM => "neither UDF nor ISO 9660",
            Self::NotOurMedium(_) => "medium without ovf-env.xml",
            Self::Unreadable(_) => "provisioning medium unreadable",
            Self::Malformed(_) => "provisioning medium malformed",
            Self::Stopped => "stopped while waiting for the provisioning medium",
        }
    }

    /// The error behind it, if there is one.
    #[must_use]
    pub const fn error(&self) -> Option<Error> {
        match self {
            Self::NotOurMedium(error) | Self::Unreadable(error) | Self::Malformed(error) => Some(*error),
            Self::NoDrive | Self::NoMedium | Self::Stopped => None,
        }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::NoDrive => 0,
            Self::NoMedium => 1,
            Self::NotOurMedium(_) => 2,
            Self::Unreadable(_) => 3,
            Self::Malformed(_) => 4,
            Self::Stopped => 5,
        }
    }
}

/// What is waited for, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// A drive to appear.
    Drive,
    /// A medium in a drive.
    Medium,
    /// A drive that is not ready, or cannot be read.
    Ready,
    /// A medium with the document in it.
    Document,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Look again after this long.
    Wait {
        /// Milliseconds.
        ms: u64,
        /// For what.
        awaited: Awaited,
    },
    /// Nothing more will come.
    GiveUp(Missing),
}

/// State of a drive as last seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No disc, or the tray is open.
    Empty,
    /// Not ready.
    NotReady,
    /// Has a medium that was not read yet.
    Loaded,
    /// Has a medium that was read in vain.
    Refused(Missing),
}

impl State {
    /// True when waiting may end before the deadline.
    const fn is_settled(self) -> bool {
        matches!(self, Self::Empty | Self::Refused(Missing::NotOurMedium(_) | Missing::Malformed(_)))
    }
}

/// A drive that exists.
#[derive(Clone, Debug)]
struct Drive {
    name: DriveName,
    state: State,
    /// Since when it has been settled without a break.
    settled_ms: Option<u64>,
    /// Its medium should be read now.
    is_due: bool,
}

impl Drive {
    fn set(&mut self, state: State, now_ms: u64) {
        self.settled_ms = state.is_settled().then(|| self.settled_ms.unwrap_or(now_ms));
        self.state = state;
    }
}

/// All optical drives, watched from `started_ms` on.
#[derive(Debug)]
pub struct Watch {
    started_ms: u64,
    pause_ms: u64,
    has_more: bool,
    drives: heapless::Vec<Drive, OPTICAL_DRIVES>,
}

impl Watch {
    /// Starts the clock.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { started_ms: now_ms, pause_ms: FIRST_PAUSE_MS, has_more: false, drives: heapless::Vec::new() }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn elapsed_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.started_ms)
    }

    /// Looks at every `sys/class/block/sr*` and asks each drive for its status.
    ///
    /// # Errors
    /// `Os` when sysfs cannot be listed.
    pub fn look(&mut self, host: &mut dyn Dir, disks: &mut dyn Disks, now_ms: u64) -> Result<()> {
        let mut seen: heapless::Vec<DriveName, OPTICAL_DRIVES> = heapless::Vec::new();
        let mut has_more = false;
        let listed = host.list("sys/class/block", &mut |name, _| {
            if let Some(name) = drive_name(name) {
                has_more |= seen.push(name).is_err();
            }
            true
        });
        // Without any block device the directory may not be there yet.
        listed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })?;
        // Kernel order is arbitrary.
        sort_few(&mut seen, &|a, b| (a.len(), a) < (b.len(), b));
        let before = self.drives.len();
        self.drives.retain(|drive| seen.contains(&drive.name));
        let mut is_changed = before != self.drives.len();
        for name in &seen {
            is_changed |= self.observe(name, disks.drive_status(name), now_ms);
        }
        sort_few(&mut self.drives, &|a, b| (a.name.len(), &a.name) < (b.name.len(), &b.name));
        self.has_more = has_more;
        if is_changed {
            self.pause_ms = FIRST_PAUSE_MS;
        }
        Ok(())
    }

    /// Notes what a drive says; returns whether that is news.
    fn observe(&mut self, name: &DriveName, status: Result<DriveStatus>, now_ms: u64) -> bool {
        let known = self.drives.iter_mut().find(|drive| drive.name == *name);
        let before = known.as_ref().map(|drive| drive.state);
        let state = match (status, before) {
            (Ok(DriveStatus::NoDisc | DriveStatus::TrayOpen), _) => State::Empty,
            (Ok(DriveStatus::NotReady), _) => State::NotReady,
            // What cannot tell, or not be asked, is read: that answers it too.
            (_, Some(refused @ State::Refused(_))) => refused,
            _ => State::Loaded,
        };
        // A verdict on a medium has to stand for NO_DISC_MS as well, so it is read again at every look.
        let is_due = matches!(state, State::Loaded | State::Refused(_));
        if let Some(drive) = known {
            drive.set(state, now_ms);
            drive.is_due = is_due;
        } else {
            let mut drive = Drive { name: name.clone(), state, settled_ms: None, is_due };
            drive.set(state, now_ms);
            self.has_more |= self.drives.push(drive).is_err();
        }
        before != Some(state)
    }

    /// A drive whose medium is to be read now; each is named once per look.
    pub fn next_due(&mut self) -> Option<DriveName> {
        let drive = self.drives.iter_mut().find(|drive| drive.is_due)?;
        drive.is_due = false;
        Some(drive.name.clone())
    }

    /// The medium of a drive was read in vain.
    pub fn refuse(&mut self, name: &str, why: Missing, now_ms: u64) {
        if let Some(drive) = self.drives.iter_mut().find(|drive| drive.name == name) {
            drive.set(State::Refused(why), now_ms);
        }
    }

    /// What to do after every due drive was read.
    #[inline(never)]
    pub fn next(&mut self, now_ms: u64) -> Next {
        let elapsed = self.elapsed_ms(now_ms);
        let left = if self.drives.is_empty() {
            DRIVE_MS.saturating_sub(elapsed)
        } else {
            // Every drive must have been settled for the whole time.
            let settled =
                self.drives.iter().map(|drive| drive.settled_ms).max_by_key(|at| at.unwrap_or(u64::MAX));
            let stable = settled.flatten().map(|at| NO_DISC_MS.saturating_sub(now_ms.saturating_sub(at)));
            stable.unwrap_or(u64::MAX)
        };
        let left = left.min(MEDIUM_MS.saturating_sub(elapsed));
        if left == 0 {
            return Next::GiveUp(self.verdict(elapsed));
        }
        let ms = self.pause_ms.min(left);
        self.pause_ms = self.pause_ms.saturating_mul(2).min(POLL_MS);
        Next::Wait { ms, awaited: self.awaited() }
    }

    fn awaited(&self) -> Awaited {
        let has = |wanted: fn(&State) -> bool| self.drives.iter().any(|drive| wanted(&drive.state));
        if self.drives.is_empty() {
            Awaited::Drive
        } else if has(|state| !state.is_settled()) {
            Awaited::Ready
        } else if has(|state| *state != State::Empty) {
            Awaited::Document
        } else {
            Awaited::Medium
        }
    }

    /// The drive most worth telling about.
    fn verdict(&self, elapsed_ms: u64) -> Missing {
        let late = deadline!("optical drive not ready", elapsed_ms);
        let full = too_many!("optical drives", OPTICAL_DRIVES);
        let of_state = |drive: &Drive| match drive.state {
            State::Empty => Missing::NoMedium,
            State::NotReady | State::Loaded => Missing::Unreadable(late),
            State::Refused(why) => why,
        };
        let unseen = self.has_more.then_some(Missing::Unreadable(full));
        let all = self.drives.iter().map(of_state).chain(unseen);
        all.max_by_key(|missing| missing.weight()).unwrap_or(Missing::NoDrive)
    }
}

/// The name, if it is an optical drive's: `sr` and a number.
fn drive_name(name: &str) -> Option<DriveName> {
    let number = name.strip_prefix("sr")?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| DriveName::try_from(name).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Awaited, DriveName, Missing, Next, Watch, drive_name};
    use crate::error::Errno;
    use crate::format::volume::NO_FILE_SYSTEM;
    use crate::limits::{MEDIUM_MS, OPTICAL_DRIVES, POLL_MS};
    use crate::sys::DriveStatus;
    use crate::sys::fake::{FakeDir, FakeDisk, FakeDisks};
    use std::borrow::ToOwned;

    fn drives(states: &[(&str, DriveStatus)]) -> (FakeDir, FakeDisks) {
        let (mut host, mut disks) = (FakeDir::default(), FakeDisks::default());
        host.put_dir("sys/class/block").put_symlink("sys/class/block/sda", "../x");
        for (name, status) in states {
            host.put_symlink(&std::format!("sys/class/block/{name}"), "../x");
            disks.disks.insert((*name).to_owned(), FakeDisk { status: Some(*status), ..FakeDisk::default() });
        }
        (host, disks)
    }

    /// Looks and waits until the end; every due drive is refused for this reason.
    fn run(states: &[(&str, DriveStatus)], why: Missing) -> (Missing, u64) {
        let (mut host, mut disks) = drives(states);
        let (mut now, mut watch) = (1000, Watch::new(1000));
        loop {
            watch.look(&mut host, &mut disks, now).unwrap();
            while let Some(drive) = watch.next_due() {
                watch.refuse(&drive, why, now);
            }
            match watch.next(now) {
                Next::Wait { ms, .. } => {
                    assert!((1..=POLL_MS).contains(&ms), "{ms}");
                    now += ms;
                }
                Next::GiveUp(missing) => return (missing, now - 1000),
            }
        }
    }

    #[test]
    fn waiting_ends_when_nothing_more_can_come() {
        use DriveStatus::{DiscOk, NoDisc, NoInfo, NotReady, TrayOpen};
        let none = Missing::of_content(os!("find file", Errno::NOENT));
        let foreign = Missing::of_content(NO_FILE_SYSTEM);
        let io = Missing::Unreadable(os!("read disk", Errno::IO));
        let late = Missing::Unreadable(deadline!("optical drive not ready", MEDIUM_MS));
        for (states, why, missing, after_ms) in [
            (&[][..], io, Missing::NoDrive, 5_000),
            (&[("sr0", NoDisc)], io, Missing::NoMedium, 2_000),
            (&[("sr0", NoDisc), ("sr1", TrayOpen)], io, Missing::NoMedium, 2_000),
            (&[("sr0", DiscOk)], none, none, 2_000),
            (&[("sr0", NoInfo)], foreign, foreign, 2_000),
            (&[("sr0", DiscOk), ("sr1", NoDisc)], none, none, 2_000),
            (&[("sr0", DiscOk)], io, io, MEDIUM_MS),
            (&[("sr0", NotReady)], io, late, MEDIUM_MS),
            (&[("sr0", NotReady), ("sr1", DiscOk)], none, late, MEDIUM_MS),
        ] {
            assert_eq!(run(states, why), (missing, after_ms), "{states:?}");
        }
    }

    #[test]
    fn the_verdicts_can_be_told_apart() {
        let error = os!("read disk", Errno::IO);
        let all = [
            Missing::NoDrive,
            Missing::NoMedium,
            Missing::Unreadable(error),
            Missing::of_content(os!("find file", Errno::NOENT)),
            Missing::of_content(NO_FILE_SYSTEM),
            Missing::of_content(malformed!("UDF medium", "no anchor", 0)),
            Missing::Stopped,
        ];
        let reasons: std::collections::BTreeSet<_> = all.iter().map(Missing::reason).collect();
        assert_eq!(reasons.len(), all.len());
        assert!(matches!(all[3], Missing::NotOurMedium(_)) && matches!(all[5], Missing::Malformed(_)));
    }

    #[test]
    fn a_change_starts_the_time_of_rest_again() {
        let (mut host, mut disks) = drives(&[("sr0", DriveStatus::NoDisc)]);
        let mut watch = Watch::new(0);
        let mut at = |watch: &mut Watch, status, now| {
            disks.disks.get_mut("sr0").unwrap().status = Some(status);
            watch.look(&mut host, &mut disks, now).unwrap();
            watch.next(now)
        };
        assert_eq!(at(&mut watch, DriveStatus::NoDisc, 0), Next::Wait { ms: 16, awaited: Awaited::Medium });
        assert!(matches!(
            at(&mut watch, DriveStatus::NotReady, 1_900),
            Next::Wait { awaited: Awaited::Ready, .. }
        ));
        assert!(matches!(at(&mut watch, DriveStatus::NoDisc, 2_100), Next::Wait { .. }));
        assert!(matches!(at(&mut watch, DriveStatus::NoDisc, 4_099), Next::Wait { ms: 1, .. }));
        assert_eq!(at(&mut watch, DriveStatus::NoDisc, 4_100), Next::GiveUp(Missing::NoMedium));
    }

    #[test]
    fn another_medium_is_another_chance() {
        let (mut host, mut disks) = drives(&[("sr0", DriveStatus::DiscOk)]);
        let mut watch = Watch::new(0);
        watch.look(&mut host, &mut disks, 0).unwrap();
        assert_eq!(watch.next_due().as_deref(), Some("sr0"));
        assert_eq!(watch.next_due(), None, "once per look");
        watch.refuse("sr0", Missing::of_content(NO_FILE_SYSTEM), 0);
        disks.disks.get_mut("sr0").unwrap().status = Some(DriveStatus::NoDisc);
        watch.look(&mut host, &mut disks, 500).unwrap();
        assert_eq!(watch.next_due(), None);
        disks.disks.get_mut("sr0").unwrap().status = Some(DriveStatus::DiscOk);
        watch.look(&mut host, &mut disks, 900).unwrap();
        assert_eq!(watch.next_due().as_deref(), Some("sr0"));
        assert!(matches!(watch.next(2_500), Next::Wait { .. }), "no verdict on this one yet");
    }

    #[test]
    fn drives_are_read_in_their_order_and_too_many_are_said() {
        let names: std::vec::Vec<_> = (0..=OPTICAL_DRIVES).map(|i| std::format!("sr{}", i + 3)).collect();
        let states: std::vec::Vec<_> = names.iter().map(|n| (n.as_str(), DriveStatus::NoDisc)).collect();
        let full = too_many!("optical drives", OPTICAL_DRIVES);
        assert_eq!(run(&states, Missing::NoDrive).0, Missing::Unreadable(full));
        let (mut host, mut disks) = drives(&[
            ("sr10", DriveStatus::DiscOk),
            ("sr2", DriveStatus::DiscOk),
            ("sr0", DriveStatus::DiscOk),
        ]);
        let mut watch = Watch::new(0);
        watch.look(&mut host, &mut disks, 0).unwrap();
        let order: std::vec::Vec<DriveName> = core::iter::from_fn(|| watch.next_due()).collect();
        assert_eq!(order, ["sr0", "sr2", "sr10"]);
    }

    #[test]
    fn only_optical_drives_count() {
        for other in ["sda", "sr", "srx", "sr0p1", "sr0/../sda", "vdb", "scd0", "sr00000000000000000"] {
            assert_eq!(drive_name(other), None, "{other}");
        }
        assert_eq!(drive_name("sr12").as_deref(), Some("sr12"));
    }
}
