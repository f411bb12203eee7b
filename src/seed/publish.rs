//! How does a seed come about, and what does it say beside the facts?

use super::lease::write_lease;
use super::network::write_network;
use super::persist::copy_value;
use super::{
    CUSTOM_DATA, DIRECTORIES, FORMAT, NAMES, PRIVATE_FILE, SEED, STAGING, TRANSLATED, each_name, path,
    remove, spooled,
};
use crate::error::{Errno, Error, Result};
use crate::facts::{DeviceName, Fact, Facts, PreProvisioning, Provenance};
use crate::format::dhcp::Lease;
use crate::format::text::split_once;
use crate::limits;
use crate::machine::Platform;
use crate::sys::{CANCEL, Dir};

/// Room for the file `source`.
pub(super) const SOURCE: usize = 512;

/// What a seed holds beside the facts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Whose machine this is.
    pub platform: Platform,
    /// The optical drive the medium was read from, to be ejected after the report.
    pub medium: Option<DeviceName>,
    /// The lease of the primary NIC: `report` speaks over it again before the OS has a network. Of it the
    /// seed keeps the interface's address, ours, the router, the routes and the wireserver.
    pub lease: Option<Lease>,
    /// What went wrong on the way ([`Error::reason`] text): a fault beside a usable seed, or why it is not usable.
    pub failure: Option<heapless::String<{ limits::REASON }>>,
    /// What may be done with it.
    pub verdict: Verdict,
}

/// What may be done with a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verdict {
    /// It may be applied.
    #[default]
    Provision,
    /// Not yet: IMDS is asked again in the real root.
    Wait,
    /// Nothing: [`Context::failure`] says why, and the platform is told.
    Fail,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Wait => "wait",
            Self::Fail => "fail",
        }
    }

    /// Only the one word allows to apply: a seed without it was not finished.
    pub(super) fn of_word(word: Option<&str>) -> Self {
        [Self::Provision, Self::Wait].into_iter().find(|v| Some(v.word()) == word).unwrap_or(Self::Fail)
    }
}

/// A reason as the seed holds it, cut at its capacity.
#[must_use]
pub fn failure(reason: &str) -> Option<heapless::String<{ limits::REASON }>> {
    let mut text = heapless::String::new();
    let _ = reason.chars().try_for_each(|c| text.push(c));
    Some(text)
}

/// Adds a fault to a seed that is there and has none yet.
///
/// # Errors
/// `Os`.
pub fn add_failure(dir: &mut dyn Dir, base: &str, text: &str) -> Result<()> {
    match dir.create_unsynced(&path(base, "failure")?, PRIVATE_FILE, text.as_bytes()) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

/// The seed being written.
pub(super) struct Writer<'d> {
    run: &'d mut dyn Dir,
    /// Where each value is from: the file `source`.
    source: heapless::String<SOURCE>,
}

impl Writer<'_> {
    /// Writes a value and the newline it has not.
    #[inline(never)]
    pub(super) fn value(&mut self, name: &str, text: &[u8]) -> Result<()> {
        let name = path(STAGING, name)?;
        self.run.create_unsynced(&name, PRIVATE_FILE, text)?;
        if text.ends_with(b"\n") { Ok(()) } else { self.run.append(&name, b"\n") }
    }

    /// Adds a line to a value of lines.
    pub(super) fn add(&mut self, name: &str, line: &[u8]) -> Result<()> {
        let name = path(STAGING, name)?;
        match self.run.append(&name, line) {
            Err(error) if error.is_not_found() => self.run.create_unsynced(&name, PRIVATE_FILE, line),
            outcome => outcome,
        }
    }

    /// Writes a value, if there is one, and where it is from.
    #[inline(never)]
    fn fact(&mut self, name: &str, fact: Option<(&str, Provenance)>) -> Result<()> {
        let Some((text, from)) = fact else { return Ok(()) };
        self.note(name, from)?;
        self.value(name, text.as_bytes())
    }

    fn truth(&mut self, name: &str, fact: &Option<Fact<bool>>) -> Result<()> {
        self.fact(name, fact.as_ref().map(|f| (if f.value { "true" } else { "false" }, f.from)))
    }

    fn note(&mut self, name: &str, from: Provenance) -> Result<()> {
        let words = [name, " ", from.word(), "\n"];
        let noted = words.iter().try_for_each(|word| self.source.push_str(word));
        noted.map_err(|_| too_many!("provenance", SOURCE))
    }
}

/// Writes the values and makes them visible in one step. What an already published seed has beside them is kept:
/// customData when nothing newer was spooled, users, files and the entries of `storage/` when none of theirs was, other
/// values one by one.
///
/// # Errors
/// `Os`; [`Error::STOPPED`] once this process was told to stop. The old seed, if any, is untouched then.
pub fn publish(run: &mut dyn Dir, facts: &Facts, context: &Context) -> Result<()> {
    write(run, facts, context)?;
    // By descriptor: once /run has moved to the real root, only this still tells that nobody waits for us.
    if run.stat(CANCEL).is_ok() {
        remove(run, STAGING)?;
        return Err(Error::STOPPED);
    }
    show(run, facts)
}

/// As [`publish`], in the real root: that the initrd's fetch was told to stop means nothing there.
///
/// # Errors
/// `Os`.
pub fn publish_in_root(run: &mut dyn Dir, facts: &Facts, context: &Context) -> Result<()> {
    write(run, facts, context)?;
    show(run, facts)
}

/// Has the seed that was published give another reason why it is not complete: whoever writes the next may be stopped.
///
/// # Errors
/// `Os`.
pub fn note_failure(run: &mut dyn Dir, reason: &str) -> Result<()> {
    if run.stat(CANCEL).is_ok() {
        return Ok(());
    }
    let name = path(SEED, "failure")?;
    let _ = run.remove(&name);
    run.create_unsynced(&name, PRIVATE_FILE, reason.as_bytes())?;
    run.append(&name, b"\n")
}

fn write(run: &mut dyn Dir, facts: &Facts, context: &Context) -> Result<()> {
    let mut writer = Writer { run, source: heapless::String::new() };
    write_facts(&mut writer, facts)?;
    write_context(&mut writer, context)
}

fn show(run: &mut dyn Dir, facts: &Facts) -> Result<()> {
    let has_old = run.stat(SEED).is_ok();
    if !has_old {
        return run.rename(STAGING, SEED);
    }
    // A translation began with all of it, and left out what does not count any more.
    if spooled(run, TRANSLATED).is_none() {
        keep(run, facts.custom_data.is_some())?;
    }
    run.exchange(STAGING, SEED)?;
    remove(run, STAGING)
}

/// Copies what the published seed has and this one has not. Users, files and disks are numbered, so they come together
/// or not at all.
#[inline(never)]
fn keep(run: &mut dyn Dir, has_custom_data: bool) -> Result<()> {
    let mut is_new = [false; DIRECTORIES.len()];
    for (is_new, directory) in is_new.iter_mut().zip(DIRECTORIES) {
        run.list(&path(STAGING, directory)?, &mut |_, _| {
            *is_new = true;
            false
        })?;
    }
    each_name(run, SEED, &mut |run, name| {
        let directory = split_once(name, "/").map(|(directory, _)| directory);
        let mut new = DIRECTORIES.iter().zip(is_new).filter(|(_, is_new)| *is_new);
        let is_there = match directory {
            Some(directory) => new.any(|(new, _)| *new == directory),
            None => run.stat(&path(STAGING, name)?).is_ok(),
        };
        let is_dropped = NAMES.contains(&name) || (name == CUSTOM_DATA && !has_custom_data);
        if is_there || is_dropped { Ok(()) } else { copy_value(run, SEED, None, STAGING, name) }
    })
}

fn write_facts(seed: &mut Writer<'_>, facts: &Facts) -> Result<()> {
    seed.value("format", FORMAT.as_bytes())?;
    seed.fact("instance-id", facts.instance_id.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    seed.fact("hostname", facts.hostname.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    seed.fact("user/name", facts.user.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    seed.fact("user/password-hash", facts.password.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    seed.truth("user/password-login", &facts.password_login)?;
    seed.fact("user/authorized-keys", facts.keys.as_ref().map(|f| (f.value.as_str(), f.from)))?;
    seed.truth("azure/has-custom-data", &facts.has_custom_data)?;
    seed.truth("azure/wants-guest-agent", &facts.wants_guest_agent)?;
    seed.truth("azure/wants-proxy-agent", &facts.wants_proxy_agent)?;
    let pre_provisioning = facts.pre_provisioning.as_ref();
    seed.fact("azure/pre-provisioning", pre_provisioning.map(|f| (word_of(f.value), f.from)))?;
    seed.truth("azure/has-os-profile", &facts.has_os_profile)?;
    if let Some(custom_data) = &facts.custom_data {
        seed.note(CUSTOM_DATA, custom_data.from)?;
    }
    if let Some(from) = facts.network_from {
        seed.note("network", from)?;
        write_network(seed, &facts.network)?;
    }
    let source = core::mem::take(&mut seed.source);
    seed.value("source", source.as_bytes())
}

fn write_context(seed: &mut Writer<'_>, context: &Context) -> Result<()> {
    seed.value("platform", context.platform.word().as_bytes())?;
    if let Some(medium) = &context.medium {
        seed.value("medium", medium.as_str().as_bytes())?;
    }
    if let Some(failure) = &context.failure {
        seed.value("failure", failure.as_bytes())?;
    }
    seed.value("verdict", context.verdict.word().as_bytes())?;
    context.lease.as_ref().map_or(Ok(()), |lease| write_lease(seed, lease))
}

fn word_of(value: PreProvisioning) -> &'static str {
    match value {
        PreProvisioning::None => "none",
        PreProvisioning::Running => "running",
        PreProvisioning::Savable => "savable",
        PreProvisioning::OsDisk => "os-disk",
        PreProvisioning::Unknown => "unknown",
    }
}
