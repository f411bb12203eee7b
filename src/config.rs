//! Which configuration files does this image have, and what do they settle together?
//!
//! `/etc/preroot.conf`, then `/etc/preroot.conf.d/*.conf` in the order of their names; later lines count more. Where
//! there is none of these, `/etc/waagent.conf`: an image made for waagent goes on as its maker wanted.

use crate::error::{Result, Rule};
use crate::format::config::{Config, Fault, Place};
use crate::limits;
use crate::sys::Dir;

const FILE: &str = "etc/preroot.conf";
const DROP_INS: &str = "etc/preroot.conf.d";
const WAAGENTS: &str = "etc/waagent.conf";
const UNREADABLE: Fault = "the file cannot be read";
/// Number of [`FILE`] or [`WAAGENTS`]; the drop-ins follow.
const FIRST: u16 = 1;

/// A path of ours.
pub type PathText = heapless::String<{ limits::PATH }>;

/// Reads what there is. Each file must fit into `buf`. A file or line that does not count for a reason other than
/// its absence is told to `fault`, line 0 meaning all of it: no configuration may keep a VM from its boot.
pub fn load(dir: &mut dyn Dir, buf: &mut [u8], fault: &mut dyn FnMut(Place, Fault)) -> Config {
    let has_ours = dir.stat(FILE).is_ok() || drop_in(dir, "").is_some();
    let mut config = Config::new(!has_ours && dir.stat(WAAGENTS).is_ok());
    read(dir, &mut config, if has_ours { FILE } else { WAAGENTS }, FIRST, buf, fault);
    if has_ours {
        let mut last = heapless::String::<{ limits::PATH }>::new();
        for file in FIRST.saturating_add(1).. {
            let Some(name) = drop_in(dir, &last) else { break };
            match below(&name) {
                Ok(path) => read(dir, &mut config, &path, file, buf, fault),
                Err(_) => fault(Place { file, line: 0 }, UNREADABLE),
            }
            last = name;
        }
    }
    config
}

fn read(
    dir: &mut dyn Dir,
    config: &mut Config,
    path: &str,
    file: u16,
    buf: &mut [u8],
    fault: &mut dyn FnMut(Place, Fault),
) {
    match dir.read(path, buf) {
        Ok(n) => config.read(file, buf.get(..n).unwrap_or_default(), fault),
        Err(error) if error.is_not_found() => {}
        Err(_) => fault(Place { file, line: 0 }, UNREADABLE),
    }
}

/// The path of the file that a [`Place`] counts, without a leading `/`.
///
/// # Errors
/// `Os` when it is no longer there, `TooMany`.
pub fn path_of(dir: &mut dyn Dir, config: &Config, file: u16) -> Result<PathText> {
    const GONE: &Rule = os!("configuration file");
    let gone = GONE.refused(crate::error::Errno::NOENT);
    let mut name = PathText::new();
    if file <= FIRST {
        let path = if config.is_waagents() { WAAGENTS } else { FILE };
        return PathText::try_from(path).map_err(|_| gone);
    }
    for _ in FIRST..file {
        name = drop_in(dir, &name).ok_or(gone)?;
    }
    below(&name)
}

/// The drop-in whose name comes next after `last`, in the order of bytes.
fn drop_in(dir: &mut dyn Dir, last: &str) -> Option<PathText> {
    let mut next: Option<PathText> = None;
    // No directory is no drop-in.
    let _ = dir.list(DROP_INS, &mut |name, _| {
        let is_one = name.ends_with(".conf") && !name.starts_with('.');
        if is_one && name > last && next.as_ref().is_none_or(|next| name < next.as_str()) {
            next = PathText::try_from(name).ok().or(next.take());
        }
        true
    });
    next
}

fn below(name: &str) -> Result<PathText> {
    let mut path = PathText::new();
    let full = too_many!("path", limits::PATH);
    [DROP_INS, "/", name].iter().try_for_each(|part| path.push_str(part)).map_err(|_| full)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{load, path_of};
    use crate::format::config::Config;
    use crate::sys::fake::FakeDir;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// The settings, and the faults as `FILE:LINE`.
    fn loaded(dir: &mut FakeDir) -> (Config, Vec<String>) {
        let mut told = Vec::new();
        let config = load(dir, &mut [0; 256], &mut |place, _| told.push(place));
        let named = told.iter().map(|place| {
            std::format!("{}:{}", path_of(&mut dir.clone(), &config, place.file).unwrap(), place.line)
        });
        let named = named.collect();
        (config, named)
    }

    #[test]
    fn waagents_file_counts_only_where_there_is_none_of_ours() {
        let mut dir = FakeDir::default();
        assert!(!loaded(&mut dir).0.is_waagents());
        dir.put("etc/waagent.conf", "ResourceDisk.Format=n\nExtensions.Enabled=y\n");
        let (config, faults) = loaded(&mut dir);
        assert!(config.is_waagents() && !config.resource_disk_format() && faults.is_empty());
        for path in ["etc/preroot.conf", "etc/preroot.conf.d/10-disk.conf"] {
            let mut both = FakeDir::default();
            both.put("etc/waagent.conf", "ResourceDisk.Format=n\n").put(path, "");
            let (config, _) = loaded(&mut both);
            assert!(!config.is_waagents() && config.resource_disk_format(), "{path}");
        }
    }

    #[test]
    fn drop_ins_count_in_the_order_of_their_names() {
        let mut dir = FakeDir::default();
        dir.put("etc/preroot.conf", "ResourceDisk.SwapSizeMB=1\nx=1\n")
            .put("etc/preroot.conf.d/9.conf", "ResourceDisk.SwapSizeMB=9\n")
            .put("etc/preroot.conf.d/10.conf", "ResourceDisk.SwapSizeMB=10\nno\n")
            .put("etc/preroot.conf.d/99.conf.rpmsave", "ResourceDisk.SwapSizeMB=99\n")
            .put("etc/preroot.conf.d/.hidden.conf", "ResourceDisk.SwapSizeMB=98\n");
        let (config, faults) = loaded(&mut dir);
        assert_eq!(config.resource_disk_swap_size_mb(), 9);
        assert_eq!(faults, ["etc/preroot.conf:2", "etc/preroot.conf.d/10.conf:2"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_the_others_count() {
        let mut dir = FakeDir::default();
        dir.put_dir("etc/preroot.conf")
            .put("etc/preroot.conf.d/1.conf", "#".repeat(257))
            .put("etc/preroot.conf.d/2.conf", "ResourceDisk.EnableSwap=y\n");
        let (config, faults) = loaded(&mut dir);
        assert!(config.resource_disk_swap());
        assert_eq!(faults, ["etc/preroot.conf:0".to_string(), "etc/preroot.conf.d/1.conf:0".to_string()]);
    }
}
