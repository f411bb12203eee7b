//! Who is looked after? The administrator, then whoever the seed has besides: every module of accounts asks here.

use super::{Buffers, Root, SeedPlace, State, account, below, exists, include};
use crate::error::{Errno, Error, Kind, Result};
use crate::facts::{Facts, Provenance, UserName};
use crate::format::authorized_keys::KeyLine;
use crate::format::person::Person;
use crate::format::text::Out;
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

/// Applies to those for whom it is missing. One failure stops no other person's turn, but a lock that is held is waited
/// for once; the administrator's failure is returned, and another's that the next boot may not have; else another's is a
/// fault.
pub(super) fn apply(facts: &Facts, root: &mut Root<'_>, look: Part<State>, act: Part<()>) -> Result<()> {
    let (mut first, mut held) = (Ok(()), Ok(()));
    each(facts, root, &mut |person, root| {
        let outcome = match look(person, root) {
            Ok(State::Missing) => held.and_then(|()| act(person, root)),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        // What user data want of the default account is not to cost the platform's keys their account.
        let outcome = match outcome {
            Err(error) if person.is_platforms && person.is_default && !may_pass(&error) => {
                root.degrade(outcome);
                act(&person.plain(), root)
            }
            outcome => outcome,
        };
        if outcome == Err(account::LOCKED) {
            held = outcome;
        }
        match person.is_platforms || !root.is_last_try && outcome.is_err_and(|error| may_pass(&error)) {
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
    let (default, described) = default_user(facts, root)?;
    let hash = facts.password.as_ref().map_or("", |hash| hash.value.as_str());
    let keys = facts.keys.as_ref().map_or("", |keys| keys.value.as_str());
    let mut administrator = Person::administrator(&default, hash, keys);
    if include::is_at_work(root) {
        // Documents that user data include come when it was made, and without its password.
    } else if facts.user.is_some() {
        administrator.allows_system = root.config.allow_reset_sys_user();
        first = work(&administrator, root);
    } else if is_for_default(facts) {
        let text = core::mem::take(&mut root.buffers.person);
        // What is wrong with its file is told below; the platform's keys are for it all the same.
        let file = described.and_then(|n| read(facts, root, n, text, &default).ok().flatten());
        first = work(&file.unwrap_or(administrator).of_platform(&default, hash, keys), root);
        root.buffers.person = text;
    }
    for n in 0..others(root) {
        let text = core::mem::take(&mut root.buffers.person);
        let outcome = match read(facts, root, n, text, &default) {
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

/// How many files there may be. What cloud.cfg has switched off does not count for those that the platform did not name.
const fn others(root: &Root<'_>) -> usize {
    if root.is_switched_off { 0 } else { limits::USERS }
}

/// A medium has keys or a password, and names nobody: they are the image's default account's.
fn is_for_default(facts: &Facts) -> bool {
    let is_for_default = |from: Provenance| !matches!(from, Provenance::Imds | Provenance::OvfMedium);
    facts.keys.as_ref().is_some_and(|fact| is_for_default(fact.from))
        || facts.password.as_ref().is_some_and(|fact| is_for_default(fact.from))
}

/// Lines of authorized_keys that say whom to log in as, and end. Source: cloud-init `ssh_util.DISABLE_USER_OPTS`.
#[inline(never)]
fn redirecting<'t>(keys: &str, name: &UserName, to: &UserName, room: &'t mut [u8]) -> Result<&'t str> {
    let mut out = Out::new(too_many!("authorized_keys"), room);
    for key in keys.lines().filter_map(|line| KeyLine::parse(line.as_bytes())) {
        out.put_all(&[
            b"no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo 'Please login as the user \\\"",
            to.as_str().as_bytes(),
            b"\\\" rather than the user \\\"",
            name.as_str().as_bytes(),
            b"\\\".';echo;sleep 10;exit 142\" ",
            key.kind,
            b" ",
            key.blob,
            if key.comment.is_empty() { b"" } else { b" " },
            key.comment,
            b"\n",
        ])?;
    }
    let n = out.as_bytes().len();
    let text = core::str::from_utf8(room.get(..n).unwrap_or_default());
    text.map_err(|_| malformed!("seed", "not UTF-8", 0))
}

/// Who is meant where nobody is named: the platform's administrator; else whom the first file for the default account
/// names (cloud-config's `user` takes that account's place), and which file that is; else Provisioning.DefaultUser,
/// `system_info.default_user` of cloud.cfg, or root.
#[inline(never)]
pub(super) fn default_user(facts: &Facts, root: &mut Root<'_>) -> Result<(UserName, Option<usize>)> {
    if let Some(user) = &facts.user {
        return Ok((user.value.clone(), None));
    }
    let mut name = [0; 64];
    let name = match include::is_at_work(root) {
        true => super::read(root.dir, include::DEFAULT_USER, object!("default account"), &mut name)?,
        false => &[],
    };
    if let Ok(name) = core::str::from_utf8(name)
        && !name.is_empty()
    {
        return Ok((UserName::parse(name)?, None));
    }
    let images = UserName::parse(root.config.default_user())?;
    for n in 0..others(root) {
        let text = core::mem::take(&mut root.buffers.person);
        let file = read(facts, root, n, text, &images).ok().flatten();
        let name = file.filter(|person| person.is_default).map(|person| person.name);
        root.buffers.person = text;
        if let Some(name) = name {
            return Ok((name, Some(n)));
        }
    }
    Ok((images, None))
}

#[inline(never)]
fn read<'t>(
    facts: &'t Facts,
    root: &mut Root<'_>,
    n: usize,
    buf: &'t mut [u8],
    default: &UserName,
) -> Result<Option<Person<'t>>> {
    // While documents are at work that there is one is all that is known of it.
    let has_password =
        facts.password.is_some() || include::is_at_work(root) && exists(root.dir, include::HAS_PASSWORD)?;
    let (dir, base) = match root.seed {
        SeedPlace::Run(base) => (&mut *root.run, base),
        SeedPlace::Root(base) => (&mut *root.dir, base),
    };
    let name = seed::USERS.get(n).copied().unwrap_or_default();
    let n = match dir.read(&below(base, name)?, buf) {
        Err(error) if error.is_not_found() => return Ok(None),
        outcome => outcome?,
    };
    let (text, room) = buf.split_at_mut_checked(n).unwrap_or_default();
    let text = core::str::from_utf8(text).map_err(|_| malformed!("seed", "not UTF-8", 0))?;
    let mut person = Person::parse(text, default)?;
    let keys = facts.keys.as_ref().map_or("", |keys| keys.value.as_str());
    if person.is_redirected {
        person.more_keys = redirecting(keys, &person.name, default, room)?;
    } else if person.has_platforms_keys {
        person.more_keys = keys;
    }
    if person.is_default && !has_password && !(person.hash.is_empty() && person.first_hash.is_empty()) {
        // As the image's cloud.cfg has it for that account; one that the platform gave a password is open.
        person.is_locked = person.is_locked.or(Some(true));
    }
    if person.is_default && facts.user.as_ref().is_some_and(|user| user.value == person.name) {
        // Where the platform names an administrator that is the default account, which has all that comes with it; what
        // is said here comes on top.
        (person.is_default, person.is_administrator) = (false, false);
    }
    // Whoever wrote cloud-config for this VM may mean root, too.
    person.allows_system = true;
    Ok(Some(person))
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
