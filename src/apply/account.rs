//! Who is the administrator in this image's passwd, and may the platform change that account?

use super::{Buffers, PathText, join, read};
use crate::error::{Error, Result};
use crate::facts::UserName;
use crate::format::login_defs::LoginDefsRepr;
use crate::format::passwd::{UserRepr, find};
use crate::limits;
use crate::sys::Dir;

/// Users.
pub(super) const PASSWD: &str = "etc/passwd";
/// Their passwords.
pub(super) const SHADOW: &str = "etc/shadow";
/// Groups.
pub(super) const GROUP: &str = "etc/group";
/// Passwords and members of groups.
pub(super) const GSHADOW: &str = "etc/gshadow";
/// User ids for containers of users.
pub(super) const SUBUID: &str = "etc/subuid";
/// Group ids for them.
pub(super) const SUBGID: &str = "etc/subgid";
const LOGIN_DEFS: &str = "etc/login.defs";
/// lckpwdf(3)'s file. shadow-utils makes `/etc/passwd.lock` and the like too, but takes this one first, and
/// systemd takes only this one: so one lock is enough.
const LOCK: &str = "etc/.pwd.lock";
/// Nobody could wait any longer for it.
pub(super) const LOCKED: Error = deadline!("lock held by another program", limits::PASSWORD_LOCK_MS);
/// `nobody`, who owns nothing.
const NOBODY: u32 = 65_534;

/// An existing account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home, relative to the root; empty when it is the root itself.
    pub home: PathText,
}

/// login.defs of the image, or shadow's defaults.
///
/// # Errors
/// `Os`, `TooMany`.
pub fn login_defs(dir: &mut dyn Dir, buffers: &mut Buffers<'_>) -> Result<LoginDefsRepr> {
    read(dir, LOGIN_DEFS, object!(LOGIN_DEFS), buffers.old).map(LoginDefsRepr::parse)
}

/// The account of this name, if there is one.
///
/// # Errors
/// `Unsupported` for a system account (uid below UID_MIN), which the platform may not take over unless `allows_system`:
/// root must not get a password because somebody named the administrator `root`. `Malformed`, `Os`, `TooMany`.
pub fn lookup(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    user: &UserName,
    allows_system: bool,
) -> Result<Option<Account>> {
    let first = login_defs(dir, buffers)?.uids.min;
    let passwd = read(dir, PASSWD, object!(PASSWD), buffers.old)?;
    let Some(line) = find(passwd, user.as_str()) else { return Ok(None) };
    let user = UserRepr::parse(line)?;
    if user.uid == NOBODY || (user.uid < first && !allows_system) {
        return Err(unsupported!("administrator", "the name of a system account"));
    }
    let home = join(&[user.home.trim_matches('/')])?;
    Ok(Some(Account { uid: user.uid, gid: user.gid, home }))
}

/// As [`lookup`], for modules that come after `users`.
///
/// # Errors
/// As [`lookup`]; `Malformed` when there is no such user.
pub fn require(
    dir: &mut dyn Dir,
    buffers: &mut Buffers<'_>,
    user: &UserName,
    allows_system: bool,
) -> Result<Account> {
    lookup(dir, buffers, user, allows_system)?.ok_or(malformed!(PASSWD, "administrator has no account", 0))
}

/// Works while no other program changes the account files.
///
/// # Errors
/// `Deadline` when the lock stays taken; what `work` returns.
pub fn locked(dir: &mut dyn Dir, work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>) -> Result<()> {
    dir.lock(LOCK, limits::PASSWORD_LOCK_MS, work)
}
