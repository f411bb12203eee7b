//! The root is on LVM or LUKS, and somebody asked for all of it to grow: partition, mapping, volumes.
//!
//! In the real root only, by the image's own programs, bottom up. What is as large as can be is not touched: on a second
//! boot no program runs.

use super::{Outcome, STAGE, grow_partition, settle};
use crate::disk::root::{self, RootDisk, Stack};
use crate::disk::table::Space;
use crate::disk::{filesystem, sysfs};
use crate::error::Result;
use crate::event::{Level, Value};
use crate::format::root_arg::DeviceName;
use crate::format::text::join;
use crate::limits;
use crate::sys::Kernel;

/// Mappings on the way from the file system to the partition: LVM on LUKS is the most seen.
type Layers = heapless::Vec<(DeviceName, Stack), 4>;
/// How LVM's programs end that did not do it.
const NOTHING_FREE: i32 = 5;
/// A LUKS header takes up to 16 MiB, the metadata of LVM and an extent that does not fit a few; less than this more than
/// the mappings have is not worth a program.
const SLACK_BYTES: u64 = 64 << 20;

/// Grows what the root at `path` is stacked on, where that is LVM or LUKS.
///
/// # Errors
/// `Os`, `Malformed` ... as [`before_mount`](super::before_mount); a program that fails is said.
#[inline(never)]
pub fn grow(kernel: &mut Kernel<'_>, scratch: &mut [u8], path: &str) -> Result<Outcome> {
    let before = kernel.log.enter(STAGE);
    let result = grow_layers(kernel, scratch, path);
    let result = settle(kernel, result);
    kernel.log.enter(before);
    result
}

/// True when the root is on LVM: whether all of it shall grow is the image's to say, and apply's to ask.
pub fn is_growable(kernel: &mut Kernel<'_>, path: &str) -> bool {
    let Ok(device) = filesystem::root_device(kernel, path) else { return false };
    let mut buf = [0; 256];
    sysfs::attribute(kernel.host, &device, "dm/uuid", &mut buf).is_ok_and(|uuid| uuid.starts_with("LVM-"))
}

fn grow_layers(kernel: &mut Kernel<'_>, scratch: &mut [u8], path: &str) -> Result<Outcome> {
    let mut space = Space::new(scratch)?;
    super::ours(super::command_line(kernel, space.window)?)?;
    super::left_to_repart(kernel)?;
    let mut layers = Layers::new();
    let device = filesystem::root_device(kernel, path)?;
    let Some(root) = descend(kernel, &device, &mut layers)? else { return Ok(Outcome::Nothing) };
    let outcome = grow_partition(kernel, &root, None, &mut space, false)?;
    let mut below = sysfs::partition_name(&root.disk, root.number)?;
    for (device, stack) in layers.iter().rev() {
        match stack {
            Stack::Lvm => grow_volume(kernel, path, &below, device)?,
            _ => grow_mapping(kernel, path, &below, device)?,
        }
        below = device.clone();
    }
    Ok(outcome)
}

/// The mappings from the top down, and the partition below; `None` where there is no mapping.
fn descend(kernel: &mut Kernel<'_>, device: &str, layers: &mut Layers) -> Result<Option<RootDisk>> {
    let mut device = sysfs::device_name(device)?;
    let mut stack = Stack::Plain;
    while sysfs::partition_number(kernel.host, &device).is_none() {
        let mut buf = [0; 256];
        let uuid = sysfs::attribute(kernel.host, &device, "dm/uuid", &mut buf).unwrap_or_default();
        stack = match uuid.get(..4) {
            Some("LVM-") => Stack::Lvm,
            Some("CRYP") if uuid.starts_with("CRYPT-LUKS") => Stack::Luks,
            _ if layers.is_empty() => return Ok(None),
            _ => return Err(unsupported!("root", "stacked on more than LVM and LUKS")),
        };
        let below = sysfs::only(kernel.host, &device, "slaves");
        let below = below.ok_or(unsupported!("root", "a logical volume on several devices"))?;
        layers.push((device, stack)).map_err(|_| too_many!("mappings below the root", layers.capacity()))?;
        device = below;
    }
    if layers.is_empty() {
        return Ok(None);
    }
    root::partition_below(kernel.host, &device, stack).map(Some)
}

/// `pvresize` and `lvextend`, where the volumes leave room in the physical volume's device: it grew, or a cut came between the
/// two. What the physical volume knows of its size is in the metadata: its label keeps the size that pvcreate saw. Room in
/// another physical volume of the group is somebody's.
fn grow_volume(kernel: &mut Kernel<'_>, path: &str, below: &str, device: &str) -> Result<()> {
    let held_bytes = sysfs::held_bytes(kernel.host, below)?;
    let room_bytes = sysfs::size_bytes(kernel.host, below)?.saturating_sub(held_bytes);
    if room_bytes < SLACK_BYTES {
        return Ok(());
    }
    let name = Value::Name(below);
    let below = join(&["/dev/", below])?;
    let volume = mapping(kernel, device)?;
    run(kernel, path, &["pvresize", &below])?;
    if run(kernel, path, &["lvextend", "-l", "+100%FREE", &volume, &below])? == NOTHING_FREE {
        let text = "{}: the {} that no active volume has are an inactive one's: no room";
        kernel.say(Level::Info, text, &[name, Value::SizeBytes(room_bytes)]);
    }
    Ok(())
}

/// `cryptsetup resize`, where the mapping is smaller than what it is on.
fn grow_mapping(kernel: &mut Kernel<'_>, path: &str, below: &str, device: &str) -> Result<()> {
    let (lower, upper) = (sysfs::size_bytes(kernel.host, below)?, sysfs::size_bytes(kernel.host, device)?);
    if lower.saturating_sub(upper) < SLACK_BYTES {
        return Ok(());
    }
    let name = mapping(kernel, device)?;
    let name = name.strip_prefix("/dev/mapper/").unwrap_or_default();
    // A key that the kernel no longer has would be asked for, and nobody answers.
    run(kernel, path, &["cryptsetup", "resize", name]).map(|_| ())
}

/// `/dev/mapper/NAME` of a mapping.
fn mapping(kernel: &mut Kernel<'_>, device: &str) -> Result<heapless::String<{ limits::PATH }>> {
    let mut buf = [0; 192];
    join(&["/dev/mapper/", sysfs::attribute(kernel.host, device, "dm/name", &mut buf)?])
}

/// Where images have such programs; one without a merged /usr has them in the second.
const PLACES: [&str; 3] = ["/usr/sbin/", "/sbin/", "/usr/bin/"];
/// As a shell counts it.
const NOT_FOUND: i32 = 127;

fn run(kernel: &mut Kernel<'_>, path: &str, argv: &[&str]) -> Result<i32> {
    let (name, words) = argv.split_first().unwrap_or((&"", &[]));
    let mut status = NOT_FOUND;
    for place in PLACES {
        let program = join(&[place, name])?;
        let full = too_many!("words of a command", 8);
        let mut argv = heapless::Vec::<&str, 8>::new();
        argv.push(&program).map_err(|_| full)?;
        argv.extend_from_slice(words).map_err(|_| full)?;
        status = kernel.system.run(path, &argv, limits::GROW_PROGRAM_MS)?;
        if status != NOT_FOUND {
            break;
        }
    }
    let level = if status == 0 { Level::Info } else { Level::Warning };
    let values = [Value::Name(name), Value::Number(u64::from(status.unsigned_abs()))];
    kernel.say(level, "{} ended with {}", &values);
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Machine, scratch};
    use super::super::tests::enlarged;
    use super::{Outcome, grow};

    /// dm-1, an LV, on dm-0, a LUKS mapping, on sda1.
    fn machine(luks_sectors: u64, volume_sectors: u64) -> Machine {
        let mut disk = enlarged();
        disk.put(128 << 20, b"LUKS\xba\xbe");
        let mut machine = Machine::boot(disk, "/dev/mapper/vg-root");
        let mut put = |dm: u32, uuid: &str, name: &str, below: &str, sectors: u64| {
            let base = std::format!("sys/devices/virtual/block/dm-{dm}");
            machine
                .world
                .host
                .put(&std::format!("{base}/dm/uuid"), std::format!("{uuid}\n"))
                .put(&std::format!("{base}/dm/name"), std::format!("{name}\n"))
                .put(&std::format!("{base}/dev"), std::format!("253:{dm}\n"))
                .put(&std::format!("{base}/size"), std::format!("{sectors}\n"))
                .put_dir(&std::format!("{base}/slaves/{below}"))
                .put_symlink(
                    &std::format!("sys/class/block/dm-{dm}"),
                    &std::format!("../../devices/virtual/block/dm-{dm}"),
                );
        };
        put(0, "CRYPT-LUKS2-1-c", "c", "sda1", luks_sectors);
        put(1, "LVM-2", "vg-root", "dm-0", volume_sectors);
        machine.world.host.put_dir("sys/devices/virtual/block/dm-0/holders/dm-1");
        machine.world.host.put_symlink("sys/dev/block/0:0", "../../devices/virtual/block/dm-1");
        for program in ["/sbin/cryptsetup", "/usr/sbin/pvresize", "/usr/sbin/lvextend"] {
            machine.world.system.programs.insert(program.into(), 0);
        }
        machine.world.system.programs.insert("/usr/sbin/cryptsetup".into(), 127);
        machine
    }

    #[test]
    fn each_layer_grows_from_below_by_the_images_programs() {
        let mut machine = machine(3_000_000, 2_000_000);
        let before = machine.drive.known[&1];
        assert_eq!(grow(&mut machine.kernel(), &mut scratch(), "/"), Ok(Outcome::Grown), "{}", machine.log());
        assert!(machine.drive.known[&1].length_bytes > before.length_bytes);
        let expected = [
            "/usr/sbin/cryptsetup resize c",
            "/sbin/cryptsetup resize c",
            "/usr/sbin/pvresize /dev/dm-0",
            "/usr/sbin/lvextend -l +100%FREE /dev/mapper/vg-root /dev/dm-0",
        ];
        assert_eq!(machine.world.system.runs, expected);
    }

    #[test]
    fn a_cut_before_lvextend_is_made_up_for_and_a_full_volume_runs_no_program() {
        let programs =
            ["/usr/sbin/pvresize /dev/dm-0", "/usr/sbin/lvextend -l +100%FREE /dev/mapper/vg-root /dev/dm-0"];
        for (volume_sectors, expected) in [(2_000_000, &programs[..]), (2_990_000, &[])] {
            let mut machine = machine(3_000_000, volume_sectors);
            grow(&mut machine.kernel(), &mut scratch(), "/").unwrap();
            let runs = &mut machine.world.system.runs;
            runs.retain(|line| !line.contains("cryptsetup"));
            assert_eq!(runs, expected);
        }
    }

    /// Its extents are nobody's to sysfs; lvextend knows better.
    #[test]
    fn an_inactive_volume_is_told_as_the_reason() {
        let mut machine = machine(3_000_000, 2_000_000);
        machine.world.system.programs.insert("/usr/sbin/lvextend".into(), 5);
        grow(&mut machine.kernel(), &mut scratch(), "/").unwrap();
        assert!(machine.log().contains("lvextend ended with 5"), "{}", machine.log());
        let why = "dm-0: the 488.2 MiB that no active volume has are an inactive one's: no room";
        assert!(machine.log().contains(why), "{}", machine.log());
    }

    #[test]
    fn who_says_that_the_root_is_left_alone_means_all_of_it() {
        for (path, text) in [
            ("proc/cmdline", "root=/dev/mapper/vg-root rd.preroot.grow=0\n"),
            ("proc/cmdline", "root=/dev/mapper/root roothash=12\n"),
            ("usr/lib/repart.d/50-home.conf", ""),
        ] {
            let mut machine = machine(3_000_000, 2_000_000);
            machine.world.host.put(path, text);
            assert_eq!(grow(&mut machine.kernel(), &mut scratch(), "/"), Ok(Outcome::LeftAlone));
            assert!(machine.world.system.runs.is_empty() && machine.drive.disk.journal.is_empty());
        }
    }

    #[test]
    fn a_plain_root_runs_no_program() {
        let mut machine = Machine::boot(enlarged(), "/dev/sda1");
        machine.world.host.put_symlink("sys/dev/block/0:0", "../../devices/vmbus/block/sda/sda1");
        assert_eq!(grow(&mut machine.kernel(), &mut scratch(), "/"), Ok(Outcome::Nothing));
        assert!(machine.world.system.runs.is_empty() && machine.drive.disk.journal.is_empty());
    }
}
