//! How does an image become nobody's again? Walks the table of what is one machine's, listing it or taking it away.
//!
//! Nothing outside the root is reached: paths resolve inside it, as chroot would, and below a directory that users
//! may write to no symbolic link is followed at all. Another file system mounted in a tree is left alone.

mod edits;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use table::{Action, Group, LAST, TABLE, When};

use super::account::{self, Account, GROUP, PASSWD};
use super::{Buffers, PathText, exists, read, ssh_keys};
use crate::error::{Error, Result};
use crate::facts::UserName;
use crate::format::config::Config;
use crate::format::fstab::{Field, unescape};
use crate::format::passwd::is_private_group;
use crate::format::text::Out;
use crate::seed;
use crate::sys::Dir;
use walk::Walk;

/// Writes a file as it shall be.
pub type Edit = fn(&Context<'_>, &[u8], &mut Out<'_>) -> Result<()>;

/// What decides about rows, known before anything changes.
pub struct Context<'c> {
    /// The image's configuration.
    pub config: &'c Config,
    takes: Takes,
    /// The administrator's name; empty when nobody knows.
    user: &'c str,
    account: Option<Account>,
    /// The file of the administrator's keys, where it is not below the home.
    keys: Option<PathText>,
    /// The group of that name goes along.
    drops_group: bool,
    has_cloud_init: bool,
    /// Of preroot's own entries in fstab, if there are some: the swap file's field, or nothing.
    fstab: Option<Field>,
}

/// What is taken away beside what always is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Takes {
    /// The administrator.
    pub user: bool,
    /// Logs and histories.
    pub logs: bool,
}

/// One path of the table that is there.
pub struct Found<'f> {
    /// Its rows.
    pub group: &'static Group,
    /// The path below the root, without a leading `/`.
    pub path: &'f str,
    /// What kept it from being done.
    pub failure: Option<Error>,
}

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Names what would go; a directory with all that is in it by its own name alone.
    Overview,
    /// Names every path.
    List,
    /// Does it; names failures only.
    Act,
}

impl<'c> Context<'c> {
    /// Looks at the image. `user` is the administrator, if known; no account is touched unless `takes` says so.
    ///
    /// # Errors
    /// `Unsupported` when that is a system account, which is never removed; `Malformed`, `Os`, `TooMany`.
    pub fn observe(
        dir: &mut dyn Dir,
        bytes: &mut [u8],
        config: &'c Config,
        user: Option<&'c UserName>,
        takes: Takes,
    ) -> Result<Self> {
        let mut buffers = Buffers::halves_of(bytes);
        let mut context = Self {
            config,
            takes,
            user: user.map_or("", UserName::as_str),
            account: None,
            keys: None,
            drops_group: false,
            has_cloud_init: crate::config::is_cloud_init_there(dir),
            fstab: None,
        };
        if exists(dir, seed::FSTAB)? {
            let note = read(dir, seed::FSTAB, object!(seed::FSTAB), buffers.old)?.trim_ascii();
            context.fstab = Field::from_slice(note).ok();
        }
        if let Some(user) = user.filter(|_| takes.user) {
            context.account = account::lookup(dir, &mut buffers, user, false)?;
        }
        if let (Some(account), Some(user)) = (&context.account, user) {
            context.keys = ssh_keys::outside_home(dir, &mut buffers, user, account)?;
            let groups = read(dir, GROUP, object!(GROUP), buffers.old)?;
            context.drops_group = is_private_group(groups, context.user, account.gid);
        }
        Ok(context)
    }
}

impl Context<'_> {
    /// The first field of the line of preroot's own swap file.
    fn swap_line(&self) -> Option<&[u8]> {
        self.fstab.as_deref().filter(|field| !field.is_empty())
    }

    /// The path of that file below the root; none that would mean others too.
    fn swap_file(&self) -> PathText {
        let path = self.swap_line().and_then(unescape).unwrap_or_default();
        let path = core::str::from_utf8(&path).unwrap_or_default().trim_start_matches('/');
        let is_plain = !path.contains(['*', '@']) && path.split('/').all(|name| name != "..");
        PathText::try_from(if is_plain { path } else { "" }).unwrap_or_default()
    }
}

/// Walks the table; `tell` hears of what the purpose names. `bytes` are lent for names and whole files.
///
/// # Errors
/// The first of the failures that `tell` heard of; `Deadline` when somebody else holds the account files.
pub fn walk(
    dir: &mut dyn Dir,
    bytes: &mut [u8],
    context: &Context<'_>,
    purpose: Purpose,
    tell: &mut dyn FnMut(&Found<'_>),
) -> Result<()> {
    let mut walk = Walk::new(context, purpose, tell);
    if purpose != Purpose::Act {
        return walk.all(dir, bytes);
    }
    // As userdel does; an image without accounts has no such lock.
    match exists(dir, PASSWD)? {
        true => account::locked(dir, &mut |dir| walk.all(dir, bytes)),
        false => walk.all(dir, bytes),
    }
}
