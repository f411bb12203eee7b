//! Makes the system what the facts say: the table of modules, in the order they run.
//!
//! A module asks "is the world as it should be?" (`check`) and makes it so (`apply`). Both are safe to run
//! again after a power cut anywhere: files are replaced whole, and nothing is believed that was not looked at.

/// `object!("etc/passwd")`: an [`Object`], known at compile time.
macro_rules! object {
    ($name:expr) => {
        const {
            &$crate::apply::Object {
                name: $name,
                refused: os!($name),
                full: too_many!($name),
        linked: unsupported!(rule $name, "a symbolic link stands in the file's place"),
        special: unsupported!(rule $name, "no regular file"),
            }
        }
    };
}
pub(crate) use object;

pub mod account;
pub mod boot_scripts;
mod custom_data;
pub mod data_disks;
pub mod deferred;
pub mod deprovision;
mod doas;
mod home;
pub(crate) mod hostname;
pub(crate) mod hosts;
pub mod include;
mod labels;
mod locale;
pub mod machine_id;
pub(crate) mod network;
mod ntp;
pub(crate) mod old_scripts;
mod password;
mod persistent_net;
mod person;
pub mod replace;
mod resolv_conf;
pub mod resource_disk;
mod root_password;
pub(crate) mod scsi_timeout;
mod ssh_host_keys;
mod ssh_keys;
mod sshd;
mod sudo;
mod timezone;
mod users;
mod waagent;
mod write_files;

use crate::error::{Error, Kind, Result, Rule};
use crate::facts::{Facts, InstanceId};
use crate::format::config::Config;
use crate::format::text::{PathText, join};
use crate::limits;
use crate::seed;
use crate::sys::{Clock, Dir, Disks, System};

/// A part of the system by its name in errors, with what may go wrong with it.
#[derive(Debug)]
pub struct Object {
    /// Its name; for a file of the system the path.
    pub name: &'static str,
    /// The kernel refused.
    pub refused: &'static Rule,
    /// It is larger than we hold.
    pub full: &'static Rule,
    /// A link where a file should be.
    pub linked: &'static Rule,
    /// Something else where a file should be.
    pub special: &'static Rule,
}

impl Object {
    #[inline(never)]
    fn tell(&'static self, error: Error) -> Error {
        match error.kind() {
            Kind::Os => error.told_as(self.refused),
            Kind::TooMany => error.told_as(self.full),
            _ => error,
        }
    }
}

/// What a module finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it should be, or no fact asks for anything.
    Satisfied,
    /// To be made.
    Missing,
    /// Not ours to make in this image; no failure.
    Foreign {
        /// What the image lacks or does its own way.
        why: &'static str,
    },
}

/// Two buffers for whole files: as it is, and as it shall be.
pub struct Buffers<'a> {
    /// What is there.
    pub old: &'a mut [u8],
    /// What shall be there.
    pub new: &'a mut [u8],
    /// Who is looked after.
    pub person: &'a mut [u8],
}

/// Where the seed that is being applied lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeedPlace<'a> {
    /// Below /run/preroot.
    Run(&'a str),
    /// Below the root.
    Root(&'a str),
}

/// The system that is provisioned, and what its modules may use.
pub struct Root<'a> {
    /// Its files.
    pub dir: &'a mut dyn Dir,
    /// `/run/preroot`.
    pub run: &'a mut dyn Dir,
    /// `/` of the running system: `sys/`, `proc/`.
    pub host: &'a mut dyn Dir,
    /// Block devices.
    pub disks: &'a mut dyn Disks,
    /// The kernel, and programs of the image.
    pub system: &'a mut dyn System,
    /// For what waits, or has to end in time.
    pub clock: &'a mut dyn Clock,
    /// No program runs longer than this, by `clock`; `u64::MAX`: each has its own time only.
    pub until_us: u64,
    /// Where `dir` is mounted, absolute; `/` is the running system.
    pub path: &'a str,
    /// The seed, for what is not in the facts.
    pub seed: SeedPlace<'a>,
    /// What the image's maker settled.
    pub config: &'a Config,
    /// The image's cloud.cfg has switched off what this module does for others than the platform.
    pub is_switched_off: bool,
    /// Another boot would give this VM up: what might pass is not waited for any more.
    pub is_last_try: bool,
    /// What user data ask for and cannot have: the first of it. The boot goes on.
    pub partly: Option<Error>,
    /// Which VM this is.
    pub id: &'a InstanceId,
    /// Seconds since the epoch.
    pub wall_s: i64,
    /// For whole files.
    pub buffers: Buffers<'a>,
}

impl Root<'_> {
    /// What others than the platform asked for, and what became of it: that it failed is a fault, and no failure.
    fn degrade(&mut self, outcome: Result<()>) {
        self.partly = self.partly.or(outcome.err());
    }

    /// True when the system provisioned is the one that runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.path == "/"
    }

    /// Waits until it is so of the running system, until then by `clock`, or until the stage has to end.
    fn wait_until(&mut self, until_us: u64, is_so: &mut dyn FnMut(&mut dyn Dir) -> bool) {
        while !is_so(self.host) && self.clock.now_us() < until_us && !self.clock.is_cancelled() {
            self.clock.sleep_ms(limits::POLL_MS);
        }
    }

    /// True when this root was another VM's before: the mark that ends apply names it, or there is what apply had done for
    /// it, where that did not come to its end. What that VM owned is not this one's: its customData, its host keys.
    fn was_another_vms(&mut self) -> Result<bool> {
        let mut last = PathText::new();
        while let Some(name) = next_name(self.dir, seed::STATE, &last) {
            if name.strip_prefix("marks-").is_some_and(|id| id != self.id.as_str()) {
                return Ok(true);
            }
            last = name;
        }
        Ok(exists(self.dir, seed::PROVISIONED)? && !seed::is_marked(self.dir, seed::PROVISIONED, self.id))
    }

    /// A file of the seed that may be missing; then it is empty.
    fn seed_file<'b>(&mut self, name: &str, buf: &'b mut [u8]) -> Result<&'b [u8]> {
        let (dir, base) = match self.seed {
            SeedPlace::Run(base) => (&mut *self.run, base),
            SeedPlace::Root(base) => (&mut *self.dir, base),
        };
        read(dir, &below(base, name)?, object!("seed"), buf)
    }

    /// Days since the epoch as shadow counts them; `None` before the clock was set (0 would force a new
    /// password at the first login).
    #[must_use]
    pub fn day(&self) -> Option<u32> {
        u32::try_from(self.wall_s.div_euclid(86_400)).ok().filter(|day| *day > 0)
    }

    /// Runs the first of these programs that the image has, with these words behind its name; `failed` is what its
    /// refusal means.
    fn call_program(
        &mut self,
        paths: &[&'static str],
        words: &[&str],
        object: &'static Object,
        failed: &'static Rule,
    ) -> Result<()> {
        let mut argv = heapless::Vec::<&str, 32>::new();
        // As a shell says it.
        let _ = argv.push(self.program(paths).ok_or(failed.at(127))?);
        argv.extend_from_slice(words).map_err(|_| too_many!("command line words", 32))?;
        let left_ms = self.left_ms()?;
        run_within(self.system, self.path, &argv, left_ms, object, failed)
    }

    /// How long a program may run now.
    fn left_ms(&mut self) -> Result<u64> {
        match self.until_us.saturating_sub(self.clock.now_us()) / 1000 {
            0 => Err(deadline!("all data disks", limits::DATA_DISKS_MS)),
            left => Ok(left.min(limits::PROGRAM_MS)),
        }
    }

    /// The first of these programs that the image has.
    fn program(&mut self, paths: &[&'static str]) -> Option<&'static str> {
        let relative = |path: &'static str| path.trim_start_matches('/');
        paths.iter().copied().find(|path| self.dir.stat(relative(path)).is_ok())
    }
}

/// Runs a program of the image; `failed` names what its refusal means.
fn run_of_image(
    system: &mut dyn System,
    mount: &str,
    argv: &[&str],
    object: &'static Object,
    failed: &'static Rule,
) -> Result<()> {
    run_within(system, mount, argv, limits::PROGRAM_MS, object, failed)
}

/// As [`run_of_image`], with at most this time.
fn run_within(
    system: &mut dyn System,
    mount: &str,
    argv: &[&str],
    most_ms: u64,
    object: &'static Object,
    failed: &'static Rule,
) -> Result<()> {
    let is_check = argv.first().is_some_and(|path| path.ends_with("visudo") || path.ends_with("restorecon"));
    let timeout_ms = if is_check { limits::CHECK_MS } else { most_ms };
    match system.run(mount, argv, timeout_ms).map_err(named(object))? {
        0 => Ok(()),
        status => Err(failed.at(u64::try_from(status).unwrap_or_default())),
    }
}

/// One row of [`MODULES`].
pub struct Module {
    /// Its name: the file it lives in, and its mark.
    pub name: &'static str,
    /// Is the world as it should be? Changes nothing.
    pub check: fn(&Facts, &mut Root<'_>) -> Result<State>,
    /// Makes it so.
    pub apply: fn(&Facts, &mut Root<'_>) -> Result<()>,
}

macro_rules! module {
    ($name:ident) => {
        Module { name: stringify!($name), check: $name::check, apply: $name::apply }
    };
}

/// All modules, in order: the what is mounted before what lives on it, the account before what lives in its home; labels last, over all files made.
pub const MODULES: &[Module] = &[
    module!(old_scripts),
    module!(boot_scripts),
    module!(hostname),
    module!(hosts),
    module!(timezone),
    module!(locale),
    module!(ntp),
    module!(data_disks),
    module!(users),
    module!(password),
    module!(root_password),
    module!(ssh_keys),
    module!(sudo),
    module!(doas),
    module!(sshd),
    module!(ssh_host_keys),
    module!(persistent_net),
    module!(network),
    module!(resolv_conf),
    module!(scsi_timeout),
    module!(write_files),
    module!(include),
    module!(custom_data),
    module!(waagent),
    module!(labels),
];

/// Why a module does nothing for others than the platform.
const SWITCHED_OFF: &str = "cloud.cfg's lists of modules do not name it";

/// The modules of cloud-init that do what a module of ours does; an image that has switched one off wants nothing of it,
/// where the platform itself did not ask. With `true` nobody but others asks for any of it.
const SWITCHES: &[(&str, &str, bool)] = &[
    ("timezone", "timezone", true),
    ("locale", "locale", true),
    ("ntp", "ntp", true),
    ("write_files", "write_files", true),
    ("resolv_conf", "resolv_conf", true),
    ("hostname", "set_hostname", false),
    ("hosts", "update_etc_hosts", false),
    ("users", "users_groups", false),
    ("ssh_keys", "users_groups", false),
    ("sudo", "users_groups", false),
    ("doas", "users_groups", false),
    ("password", "set_passwords", false),
];

impl Module {
    /// True when the image has switched off what this does for others, and whether that is all of it.
    #[must_use]
    pub fn switch(&self, config: &Config) -> (bool, bool) {
        let switch = SWITCHES.iter().find(|(name, ..)| *name == self.name);
        switch.map_or((false, false), |(_, theirs, is_all)| (config.cloud_lacks(theirs), *is_all))
    }

    /// True when only others than the platform ask for any of it: user data, or the medium in their place.
    #[must_use]
    pub fn is_others(&self) -> bool {
        ["data_disks", "boot_scripts", "include"].contains(&self.name)
            || SWITCHES.iter().any(|(name, _, is_all)| *name == self.name && *is_all)
    }

    /// As [`Module::check`], but for what the image has switched off.
    ///
    /// # Errors
    /// Its own.
    pub fn look(&self, facts: &Facts, root: &mut Root<'_>) -> Result<State> {
        if root.config.skips(self.name) {
            return Ok(State::Foreign { why: "Provisioning.SkipModules names it" });
        }
        let (is_off, is_all) = self.switch(root.config);
        root.is_switched_off = is_off && !root.seed_file(seed::ASKED_BY, &mut [0; 64])?.is_empty();
        if root.is_switched_off && is_all {
            return Ok(State::Foreign { why: SWITCHED_OFF });
        }
        (self.check)(facts, root)
    }
}

/// `name` below a directory; "" is the top.
#[inline(never)]
fn below(directory: &str, name: &str) -> Result<PathText> {
    join(&[directory, if directory.is_empty() { "" } else { "/" }, name])
}

/// Directory and last component.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Names the object in an error of the kernel, which knows only the operation.
fn named(object: &'static Object) -> impl Fn(Error) -> Error {
    move |error| object.tell(error)
}

/// True when something has this name.
pub(crate) fn exists(dir: &mut dyn Dir, path: &str) -> Result<bool> {
    match dir.stat(path) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The name in a directory that comes next after `last`, in the order of bytes; hidden ones do not count.
pub(crate) fn next_name(dir: &mut dyn Dir, path: &str, last: &str) -> Option<PathText> {
    let mut next: Option<PathText> = None;
    // No directory has no names.
    let _ = dir.list(path, &mut |name, _| {
        let is_next =
            !name.starts_with('.') && name > last && next.as_ref().is_none_or(|next| name < next.as_str());
        if is_next {
            next = PathText::try_from(name).ok().or(next.take());
        }
        true
    });
    next
}

/// A file that may be missing; then it is empty.
fn read<'b>(dir: &mut dyn Dir, path: &str, object: &'static Object, buf: &'b mut [u8]) -> Result<&'b [u8]> {
    match dir.read(path, buf) {
        Ok(n) => Ok(buf.get(..n).unwrap_or_default()),
        Err(error) if error.is_not_found() => Ok(&[]),
        Err(error) => Err(named(object)(error)),
    }
}

pub(crate) fn ignore_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
