//! `preroot config`: what do the configuration files settle, and which line settled it?

use crate::config::{PathText, find, load};
use crate::error::Result;
use crate::format::config::{Config, Fault, KEYS, Place, Setting};
use crate::sys::Dir;
use core::fmt::{self, Write};

/// Faults shown; more are counted.
const FAULTS: usize = 16;
type Faults = heapless::Vec<(Place, Fault), FAULTS>;

/// Prints every setting as a line of preroot.conf; `is_explained` adds who decided it. `buf` holds one file.
///
/// # Errors
/// `Malformed` when a line of a file of ours does not count.
#[inline(never)]
pub(super) fn run(dir: &mut dyn Dir, buf: &mut [u8], is_explained: bool, out: &mut dyn Write) -> Result<()> {
    let (mut faults, mut more) = (Faults::new(), 0u64);
    let config = load(dir, buf, &mut |place, fault| {
        more = more.saturating_add(u64::from(faults.push((place, fault)).is_err()));
    });
    // Standard output that takes nothing is not our fault.
    let _ = print(dir, &config, is_explained, out);
    for (place, fault) in &faults {
        let _ = out.write_str("# ").and_then(|()| print_place(dir, &config, *place, out));
        let _ = [" ", fault, "\n"].iter().try_for_each(|text| out.write_str(text));
    }
    let lines = more.saturating_add(faults.len() as u64);
    if lines > 0 { Err(malformed!("configuration", "lines that do not count", lines)) } else { Ok(()) }
}

fn print(dir: &mut dyn Dir, config: &Config, is_explained: bool, out: &mut dyn Write) -> fmt::Result {
    if config.is_waagents() {
        out.write_str("# from /etc/waagent.conf, with waagent's defaults\n")?;
    }
    for (n, key) in KEYS.iter().enumerate() {
        let setting = config.setting(n);
        let value = if setting.value.is_empty() { "None" } else { setting.value };
        for text in [key.name, "=", value] {
            out.write_str(text)?;
        }
        if is_explained {
            out.write_str("  # ")?;
            print_origin(dir, config, &setting, out)?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

fn print_origin(
    dir: &mut dyn Dir,
    config: &Config,
    setting: &Setting<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    let Some(place) = setting.place else { return out.write_str("default") };
    if !setting.is_decided {
        out.write_str("default; no value in ")?;
    }
    print_place(dir, config, place, out)
}

fn print_place(dir: &mut dyn Dir, config: &Config, place: Place, out: &mut dyn Write) -> fmt::Result {
    let mut path = PathText::new();
    find(dir, config.is_waagents(), place.file, &mut path);
    out.write_char('/')?;
    super::print_plain(&path, out)?;
    if place.line > 0 { write!(out, ":{}", place.line) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::format::config::Config;
    use crate::sys::fake::FakeDir;
    use std::string::String;

    fn shown(dir: &mut FakeDir, is_explained: bool) -> (String, bool) {
        let mut out = String::new();
        let outcome = run(dir, &mut [0; 4096], is_explained, &mut out);
        (out, outcome.is_ok())
    }

    #[test]
    fn each_setting_says_which_line_decided_it() {
        let mut dir = FakeDir::default();
        dir.put("etc/waagent.conf", "# x\nResourceDisk.Format=y\nResourceDisk.EnableSwap=yes\n");
        let (out, is_ok) = shown(&mut dir, true);
        assert!(is_ok && out.starts_with("# from /etc/waagent.conf"), "{out}");
        assert!(out.contains("\nResourceDisk.Format=y  # /etc/waagent.conf:2\n"), "{out}");
        assert!(
            out.contains("\nResourceDisk.EnableSwap=n  # default; no value in /etc/waagent.conf:3\n"),
            "{out}"
        );
        assert!(out.contains("\nResourceDisk.Filesystem=ext3  # default\n"), "{out}");
    }

    #[test]
    fn a_line_of_ours_that_does_not_count_is_named() {
        let mut dir = FakeDir::default();
        dir.put("etc/preroot.conf", "ResourceDisk.SwapSizeMB=x\n")
            .put("etc/preroot.conf.d/5\x1b[2J.conf", "Swap=1\n");
        let (out, is_ok) = shown(&mut dir, false);
        assert!(!is_ok && out.contains("\n# /etc/preroot.conf:1 wants a number\n"), "{out}");
        assert!(out.ends_with("# /etc/preroot.conf.d/5?[2J.conf:1 names no key of preroot\n"), "{out:?}");
    }

    #[test]
    fn what_is_printed_is_a_configuration_that_says_the_same() {
        let mut dir = FakeDir::default();
        dir.put(
            "etc/preroot.conf",
            "ResourceDisk.SwapSizeMB=512\nOS.RootDeviceScsiTimeout=None\nLib.Dir=/a/b/c\n",
        );
        let (first, _) = shown(&mut dir, true);
        let mut again = Config::new(false);
        again.read(1, first.as_bytes(), &mut |place, fault| panic!("{place:?} {fault}"));
        let mut copy = FakeDir::default();
        copy.put("etc/preroot.conf", &first);
        assert_eq!(shown(&mut dir, false), shown(&mut copy, false));
    }
}
