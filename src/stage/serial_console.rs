//! `preroot serialconsole`: does every boot loader file of the image make the kernel speak on the serial console?

use crate::apply::replace::{self, Target};
use crate::apply::{Buffers, next_name, object};
use crate::cli::Command;
use crate::error::{Kind, Result};
use crate::format::kernel_args::{self, Grammar};
use crate::format::text::{PathText, join};
use crate::sys::{Dir, Kernel};
use core::fmt::Write;

/// Where kernel arguments are kept: a directory, and a file in it or how the names of its files end.
const PLACES: [(&str, &str, Grammar); 8] = [
    ("etc/default/", "grub", Grammar::Grub),
    ("etc/default/grub.d/", ".cfg", Grammar::GrubLater),
    ("etc/kernel/", "cmdline", Grammar::Whole),
    ("boot/loader/entries/", ".conf", Grammar::Options),
    ("boot/efi/loader/entries/", ".conf", Grammar::Options),
    ("efi/loader/entries/", ".conf", Grammar::Options),
    ("boot/extlinux/", "extlinux.conf", Grammar::Append),
    ("boot/", "extlinux.conf", Grammar::Append),
];
/// What makes GRUB's own configuration from etc/default/grub, and what it is told. The first that is there.
const MAKE_GRUB: [&[&str]; 3] = [
    &["/usr/sbin/update-grub"],
    &["/usr/sbin/grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"],
    &["/usr/sbin/grub-mkconfig", "-o", "/boot/grub/grub.cfg"],
];
/// It looks at every disk.
const MAKE_GRUB_MS: u64 = 120_000;
/// Its initrd waits for the root device up to `rootdelay=` (init_functions, poll_device).
const WAITS: &str = "etc/mkinitcpio.conf";
/// Its initrd sleeps all of `rootdelay=` on each boot (initramfs-tools, init).
const SLEEPS: &str = "usr/share/initramfs-tools/init";

/// Edits the files below the root, says which, and has GRUB's configuration made anew.
///
/// # Errors
/// `NotApplicable` where no file of a boot loader is; the first file that could not be edited, after the others were.
#[inline(never)]
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    command: &Command,
    out: &mut dyn Write,
) -> Result<()> {
    let mut work = Work { files: 0, has_delay: false, outcome: Ok(()) };
    let waits = kernel.root.stat(WAITS).is_ok();
    for (directory, name, grammar) in PLACES {
        let mut last = PathText::new();
        while let Some(found) = next_name(kernel.root, directory, &last) {
            let is_one = if name.starts_with('.') { found.ends_with(name) } else { *found == *name };
            if is_one {
                let path = join(&[directory, &found])?;
                work.file(kernel.root, bytes, &path, (grammar, waits, command.dry_run), out);
            }
            last = found;
        }
    }
    if work.files == 0 {
        return Err(not_applicable!(
            "no file of GRUB, systemd-boot, kernel-install or extlinux that we know"
        ));
    }
    if work.has_delay && kernel.root.stat(SLEEPS).is_ok() {
        let _ = out.write_str(
            "warning: initramfs-tools sleeps for all of rootdelay=, on each boot; remove it: root devices are waited for without\n",
        );
    }
    if !command.dry_run && kernel.root.stat("etc/default/grub").is_ok() {
        make_grub(kernel, command.root, out);
    }
    work.outcome
}

/// What was met so far.
struct Work {
    files: u32,
    has_delay: bool,
    outcome: Result<()>,
}

impl Work {
    fn file(
        &mut self,
        dir: &mut dyn Dir,
        bytes: &mut [u8],
        path: &str,
        (grammar, waits, dry_run): (Grammar, bool, bool),
        out: &mut dyn Write,
    ) {
        self.files = self.files.saturating_add(1);
        let target = Target { path, ..Target::existing(object!("file of the boot loader")) };
        let mut is_new = false;
        let mut has_delay = false;
        let edited = replace::edit(dir, target, &mut Buffers::halves_of(bytes), &mut |old, new| {
            kernel_args::edit(old, grammar, waits, new)?;
            has_delay = kernel_args::mentions(old, b"rootdelay=");
            is_new = new.as_bytes() != old;
            // Looked at, not done: the file stays.
            if dry_run && is_new { Err(not_applicable!("a dry run")) } else { Ok(()) }
        });
        self.has_delay |= has_delay;
        let edited =
            edited.map(drop).or_else(|why| if why.is(Kind::NotApplicable) { Ok(()) } else { Err(why) });
        let word = match edited {
            Ok(()) if !is_new => "as it should be",
            Ok(()) if dry_run => "would be changed",
            Ok(()) => "changed",
            Err(_) => "left alone",
        };
        let _ = write!(out, "{word:<16} /");
        let _ = super::print_plain(path, out);
        if let Err(why) = edited {
            let _ = write!(out, ": {why}");
            self.outcome = self.outcome.and(edited);
        }
        let _ = out.write_char('\n');
    }
}

/// GRUB reads what its own program made of the files. That it does not run (in an image without /proc, say) is said;
/// the files are edited, and the next kernel's installation makes it anew.
fn make_grub(kernel: &mut Kernel<'_>, root: &str, out: &mut dyn Write) {
    let found = MAKE_GRUB.iter().find(|argv| {
        let path = argv.first().map(|path| path.trim_start_matches('/'));
        path.is_some_and(|path| kernel.root.stat(path).is_ok())
    });
    let Some(argv) = found else { return };
    let made = kernel.system.run(root, argv, MAKE_GRUB_MS);
    let text = match made {
        Ok(0) => "made anew",
        _ => "not made anew: run it in the image",
    };
    let _ =
        writeln!(out, "{text:<16} GRUB's configuration, by {}", argv.first().copied().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::cli;
    use crate::sys::fake::World;
    use std::string::String;

    const ALL: &str = "console=tty1 console=ttyS0,115200n8 earlyprintk=ttyS0,115200";

    fn serial_console(world: &mut World, words: &[&'static str]) -> (String, u8) {
        let words = ["serialconsole"].iter().chain(words).map(|word| Some(*word));
        let command = cli::parse(&mut words.into_iter()).unwrap();
        let mut out = String::new();
        let mut kernel = world.kernel();
        let outcome = run(&mut kernel, &mut [0; 16_384], &command, &mut out);
        (out, outcome.map_or_else(|why| why.exit_code(), |()| 0))
    }

    #[test]
    fn every_file_of_every_boot_loader_once() {
        let mut world = World::new();
        world
            .root
            .put("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n")
            .put("etc/default/grub.d/10_cloud.cfg", "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\n")
            .put("etc/default/grub.d/notes", "quiet\n")
            .put("boot/loader/entries/a.conf", "options root=1 quiet\n")
            .put("boot/loader/entries/b.conf", "options root=2 quiet\n")
            .put("usr/sbin/update-grub", "");
        world.system.programs.insert("/usr/sbin/update-grub".into(), 0);
        let (out, code) = serial_console(&mut world, &[]);
        assert_eq!(code, 0, "{out}");
        assert_eq!(out.matches("changed          /").count(), 4, "{out}");
        assert!(out.contains("made anew        GRUB's configuration, by /usr/sbin/update-grub"), "{out}");
        let grub = world.root.text("etc/default/grub").unwrap();
        assert_eq!(grub, std::format!("GRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"{ALL}\"\n"));
        assert_eq!(world.root.text("etc/default/grub.d/notes").unwrap(), "quiet\n");
        let b = world.root.text("boot/loader/entries/b.conf").unwrap();
        assert_eq!(b, std::format!("options root=2 {ALL}\n"));
        let changes = world.root.changes();
        let (out, code) = serial_console(&mut world, &[]);
        assert_eq!((code, out.matches("as it should be  /").count()), (0, 4), "{out}");
        assert_eq!(world.root.changes(), changes, "a second run writes nothing");
    }

    #[test]
    fn a_dry_run_says_and_writes_nothing() {
        let mut world = World::new();
        world.root.put("etc/kernel/cmdline", "root=1 quiet\n").put("usr/sbin/update-grub", "");
        let changes = world.root.changes();
        let (out, code) = serial_console(&mut world, &["--dry-run"]);
        assert_eq!((out.as_str(), code), ("would be changed /etc/kernel/cmdline\n", 0));
        assert_eq!(world.root.changes(), changes);
    }

    #[test]
    fn rootdelay_is_asked_for_where_it_is_a_limit_and_warned_of_where_it_is_a_sleep() {
        let mut arch = World::new();
        arch.root.put("etc/kernel/cmdline", "root=1\n").put("etc/mkinitcpio.conf", "");
        let (out, _) = serial_console(&mut arch, &[]);
        assert!(!out.contains("warning"), "{out}");
        assert!(arch.root.text("etc/kernel/cmdline").unwrap().ends_with(" rootdelay=300\n"));
        let mut debian = World::new();
        debian
            .root
            .put("etc/default/grub", "GRUB_CMDLINE_LINUX=\"rootdelay=300\"\n")
            .put("usr/share/initramfs-tools/init", "");
        let (out, _) = serial_console(&mut debian, &[]);
        assert!(out.contains("warning: initramfs-tools sleeps"), "{out}");
    }

    #[test]
    fn one_file_that_cannot_be_edited_stops_no_other_and_is_told() {
        let mut world = World::new();
        world
            .root
            .put("etc/default/grub", "GRUB_CMDLINE_LINUX=\"a \\\nb\"\n")
            .put("etc/kernel/cmdline", "root=1\n");
        let (out, code) = serial_console(&mut world, &[]);
        assert_eq!(code, 1);
        assert!(
            out.contains("left alone       /etc/default/grub: ") && out.contains("several lines"),
            "{out}"
        );
        assert!(out.contains("changed          /etc/kernel/cmdline"), "{out}");
    }

    #[test]
    fn an_image_without_a_boot_loader_is_told_so() {
        assert_eq!(serial_console(&mut World::new(), &[]), (String::new(), 76));
    }
}
