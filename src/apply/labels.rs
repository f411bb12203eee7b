//! SELinux labels of what we made, by the image's own policy.
//!
//! Replaced files keep their label; new ones get their directory's, which is wrong for ~/.ssh: sshd may not
//! read user_home_dir_t, and the keys would not work.

use super::{Root, State, account, exists, join, person, write_files};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::person::Person;

const ENFORCE: &str = "sys/fs/selinux/enforce";
const RESTORECON: &[&str] = &["/usr/sbin/restorecon", "/sbin/restorecon"];

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let mut has_work = facts.hostname.is_some() || facts.custom_data.is_some() || !facts.network.is_empty();
    write_files::each(root, &mut |_, _| {
        has_work = true;
        Ok(())
    })?;
    person::each(facts, root, &mut |_, _| {
        has_work = true;
        Ok(())
    })?;
    if !has_work || !exists(root.dir, ENFORCE)? {
        return Ok(State::Satisfied);
    }
    Ok(match root.program(RESTORECON) {
        Some(_) => State::Missing,
        None => {
            State::Foreign { why: "SELinux without restorecon: new files keep the label of their directory" }
        }
    })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(restorecon) = root.program(RESTORECON) else { return Ok(()) };
    let home = match &facts.user {
        None => None,
        Some(user) => {
            account::lookup(root.dir, &mut root.buffers, &user.value, root.config.allow_reset_sys_user())?
        }
    };
    let home = home.filter(|account| !account.home.is_empty());
    let home = home.map(|account| join(&["/", &account.home])).transpose()?;
    let mut argv = heapless::Vec::<&str, 16>::new();
    // -i: what this image does not have is no error.
    let _ = argv.extend_from_slice(&[restorecon, "-R", "-F", "-i", "/etc/hostname", "/etc/hosts"]);
    let _ = argv.extend_from_slice(&["/etc/sudoers.d", "/etc/ssh", "/var/lib/preroot"]);
    if !facts.network.is_empty() {
        let _ = argv.extend_from_slice(&["/etc/systemd/network", "/etc/NetworkManager", "/etc/netplan"]);
        let _ = argv.extend_from_slice(&["/etc/network", "/etc/resolv.conf"]);
    }
    if let Some(home) = &home {
        let _ = argv.push(home);
    }
    restore(root, &argv)?;
    write_files::each(root, &mut |root, file| {
        let labelled = write_files::path_of(root, file).and_then(|path| of_file(root, &path));
        root.degrade(labelled);
        Ok(())
    })?;
    person::each(facts, root, &mut |person, root| {
        if !person.is_platforms || facts.user.is_none() {
            let labelled = of_home(person, root, restorecon);
            root.degrade(labelled);
        }
        Ok(())
    })
}

fn of_home(person: &Person<'_>, root: &mut Root<'_>, restorecon: &'static str) -> Result<()> {
    let account = account::lookup(root.dir, &mut root.buffers, &person.name, person.allows_system)?;
    match account.filter(|account| !account.home.is_empty()) {
        Some(account) => restore(root, &[restorecon, "-R", "-F", "-i", &join(&["/", &account.home])?]),
        None => Ok(()),
    }
}

/// The label of one file, where there is SELinux.
pub(super) fn of_file(root: &mut Root<'_>, path: &str) -> Result<()> {
    match root.program(RESTORECON) {
        Some(restorecon) if exists(root.dir, ENFORCE)? => {
            restore(root, &[restorecon, "-F", "-i", &join(&["/", path])?])
        }
        _ => Ok(()),
    }
}

fn restore(root: &mut Root<'_>, argv: &[&str]) -> Result<()> {
    let failed = malformed!("SELinux labels", "restorecon failed");
    super::run_of_image(root.system, root.path, argv, object!("SELinux labels"), failed)
}
