//! Who is looked after? The administrator, then whoever the seed has besides: every module of accounts asks here.

use super::{Buffers, Root, SeedPlace, State, below};
use crate::error::{Errno, Error, Kind, Result};
use crate::facts::{Facts, Provenance, UserName};
use crate::format::config::Config;
use crate::format::person::Person;
use crate::limits;
use crate::seed;

/// One person's part of a module.
pub(super) type Part<T> = fn(&Person<'_>, &mut Root<'_>) -> Result<T>;

/// All satisfied, or what is not. Somebody who cannot be looked after is missing: [`apply`] says why, after the others
/// had their turn.
pub(super) fn check(facts: &Facts, root: &mut Root<'_>, part: Part<State>) -> Result<State> {
    let mut all = State::Satisfied;
    let looked = each(facts, root, &mut |person, root| {
        let state = part(person, root).unwrap_or(State::Missing);
        if all == State::Satisfied || state == State::Missing {
            all = state;
        }
        Ok(())
    });
    Ok(if looked.is_err() { State::Missing } else { all })
}

/// Applies to those for whom it is missing. One failure stops no other person's turn; the administrator's is returned,
/// and another's that the next boot may not have; else another's is a fault.
pub(super) fn apply(facts: &Facts, root: &mut Root<'_>, look: Part<State>, act: Part<()>) -> Result<()> {
    let mut first = Ok(());
    each(facts, root, &mut |person, root| {
        let outcome = match look(person, root) {
            Ok(State::Missing) => act(person, root),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match person.is_platforms || outcome.is_err_and(|error| may_pass(&error)) {
            true => first = first.and(outcome),
            false => root.degrade(outcome),
        }
        Ok(())
    })
    .and(first)
}

/// Nothing is wrong with what was asked for: somebody held the lock, or the disk had no room.
fn may_pass(error: &Error) -> bool {
    error.is(Kind::Deadline) || matches!(error.errno(), Some(Errno::NOSPC | Errno::IO))
}

/// Calls `work` for the administrator, then for `users/0` and so on. The first failure is
/// returned once all had their turn; one of the others who cannot be read is a fault.
#[inline(never)]
pub(super) fn each(
    facts: &Facts,
    root: &mut Root<'_>,
    work: &mut dyn FnMut(&Person<'_>, &mut Root<'_>) -> Result<()>,
) -> Result<()> {
    let mut first = Ok(());
    if let Some((user, is_default)) = first_person(facts, root.config)? {
        let hash = facts.password.as_ref().map_or("", |hash| hash.value.as_str());
        let keys = facts.keys.as_ref().map_or("", |keys| keys.value.as_str());
        let mut person = Person::administrator(&user, hash, keys);
        person.is_default = is_default;
        person.is_administrator = !is_default || user.as_str() != "root";
        person.allows_system = is_default || root.config.allow_reset_sys_user();
        first = work(&person, root);
    }
    // What cloud.cfg has switched off does not count for those that the platform did not name.
    let others = if root.is_switched_off { 0 } else { limits::USERS };
    for n in 0..others {
        let text = core::mem::take(&mut root.buffers.person);
        let outcome = match read(facts, root, n, text) {
            Ok(None) => Ok(()),
            Ok(Some(person)) => work(&person, root),
            Err(error) => {
                root.degrade(Err(error));
                Ok(())
            }
        };
        root.buffers.person = text;
        first = first.and(outcome);
    }
    first
}

/// The administrator; where a medium has keys or a password and names nobody, the image's default account.
fn first_person(facts: &Facts, config: &Config) -> Result<Option<(UserName, bool)>> {
    if let Some(user) = &facts.user {
        return Ok(Some((user.value.clone(), false)));
    }
    let is_for_default = |from: Provenance| !matches!(from, Provenance::Imds | Provenance::OvfMedium);
    let has_any = facts.keys.as_ref().is_some_and(|fact| is_for_default(fact.from))
        || facts.password.as_ref().is_some_and(|fact| is_for_default(fact.from));
    if has_any { default_user(config).map(|user| Some((user, true))) } else { Ok(None) }
}

fn read<'t>(facts: &Facts, root: &mut Root<'_>, n: usize, buf: &'t mut [u8]) -> Result<Option<Person<'t>>> {
    let (dir, base) = match root.seed {
        SeedPlace::Run(base) => (&mut *root.run, base),
        SeedPlace::Root(base) => (&mut *root.dir, base),
    };
    let name = seed::USERS.get(n).copied().unwrap_or_default();
    let n = match dir.read(&below(base, name)?, buf) {
        Err(error) if error.is_not_found() => return Ok(None),
        outcome => outcome?,
    };
    let text = core::str::from_utf8(buf.get(..n).unwrap_or_default());
    let text = text.map_err(|_| malformed!("seed", "not UTF-8", 0))?;
    let platforms = facts.user.as_ref().map(|fact| fact.value.clone());
    let default = platforms.clone().map_or_else(|| default_user(root.config), Ok)?;
    let mut person = Person::parse(text, &default)?;
    if person.is_default && platforms.is_some_and(|user| user == person.name) {
        // Where the platform names an administrator that is the default account, which has all that comes with it; what
        // is said here comes on top.
        (person.is_default, person.is_administrator) = (false, false);
    }
    // Whoever wrote cloud-config for this VM may mean root, too.
    person.allows_system = true;
    Ok(Some(person))
}

/// Who is meant where nobody is named: Provisioning.DefaultUser, `system_info.default_user` of cloud.cfg, or root.
pub(super) fn default_user(config: &Config) -> Result<UserName> {
    UserName::parse(config.default_user())
}

impl<'a> Buffers<'a> {
    /// Halves a buffer: files up to half its length can be edited. Of a large one a part is kept for the person who is
    /// looked after.
    #[must_use]
    pub fn halves_of(bytes: &'a mut [u8]) -> Self {
        let kept = if bytes.len() >= 4 * limits::PERSON { limits::PERSON } else { 0 };
        let (person, files) = bytes.split_at_mut(kept);
        let (old, new) = files.split_at_mut(files.len() / 2);
        Self { old, new, person }
    }
}
