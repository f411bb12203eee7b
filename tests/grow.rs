//! `preroot grow` on loop devices: is what it leaves a table that sgdisk finds no fault with?
//!
//! Needs root, losetup, partx, sgdisk and mkfs.ext4; says so and passes where one is missing. The kernel command line
//! and the chassis are replaced by bind mounts in a private mount namespace, so the machine's own root is not
//! what is grown.
#![expect(clippy::unwrap_used, reason = "a test ends where its machine fails")]

use preroot::disk::filesystem::{self, FileSystemGrowth};
use preroot::sys::linux::Linux;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// What the tests need and a machine may lack.
fn missing() -> Option<&'static str> {
    let has = |name: &&str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(name).exists())
    };
    let is_root = run("id", &["-u"]).trim() == "0";
    let tool =
        ["losetup", "partx", "sgdisk", "mkfs.ext4", "unshare", "mount"].into_iter().find(|name| !has(name));
    tool.or((!is_root).then_some("root"))
        .or((!Path::new("/dev/loop-control").exists()).then_some("loop devices"))
}

macro_rules! needs_machine {
    () => {
        if let Some(what) = missing() {
            eprintln!("skipped: no {what}");
            return;
        }
    };
}

/// A directory with an image; both go when the test ends.
struct Bench {
    directory: PathBuf,
    label: String,
    sector: u64,
}

/// An attached loop device.
struct Loop {
    device: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

impl Loop {
    fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    fn partition_bytes(&self, number: u32) -> Option<u64> {
        let path = format!("/sys/class/block/{0}p{number}/size", self.name());
        fs::read_to_string(path).ok().map(|sectors| sectors.trim().parse::<u64>().unwrap() * 512)
    }
}

impl Bench {
    /// An image as Azure's are: number 1 last in place, 14 and 15 before it, ext4 in the root.
    fn new(name: &str, sector: u64) -> Self {
        let directory = std::env::temp_dir().join(format!("preroot-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let bench = Self { directory, label: name.to_owned(), sector };
        fs::File::create(bench.image()).unwrap().set_len(96 * MIB).unwrap();
        let disk = bench.attach();
        run(
            "sgdisk",
            &[
                "-n",
                "14:0:+3M",
                "-t",
                "14:ef02",
                "-n",
                "15:0:+20M",
                "-t",
                "15:ef00",
                "-n",
                "1:0:0",
                "-c",
                "1:root",
                "-A",
                "1:set:2",
                &disk.device,
            ],
        );
        let offset = format!("offset={}", bench.root_offset(&disk));
        run("mkfs.ext4", &["-q", "-L", name, "-E", &offset, &disk.device, "40M"]);
        bench
    }

    /// Tests run side by side, and two devices with the same label would be left alone.
    fn by_label(&self) -> String {
        format!("LABEL={}", self.label)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn image(&self) -> String {
        self.path("image")
    }

    fn enlarge(&self, bytes: u64) {
        fs::OpenOptions::new().write(true).open(self.image()).unwrap().set_len(bytes).unwrap();
    }

    fn attach(&self) -> Loop {
        let sector = self.sector.to_string();
        let device = run("losetup", &["-f", "-P", "-b", &sector, "--show", &self.image()]);
        Loop { device: device.trim().to_owned() }
    }

    /// As a kernel with GPT support does by itself; the one that runs the tests may have none.
    fn attach_with_partitions(&self) -> Loop {
        let disk = self.attach();
        if disk.partition_bytes(1).is_none() {
            run("partx", &["--add", "--sector-size", &self.sector.to_string(), &disk.device]);
        }
        disk
    }

    fn root_offset(&self, disk: &Loop) -> u64 {
        let info = run("sgdisk", &["-i", "1", &disk.device]);
        let first = info.lines().find_map(|line| line.strip_prefix("First sector: ")).unwrap();
        first.split(' ').next().unwrap().parse::<u64>().unwrap() * self.sector
    }

    /// Runs `preroot grow` where /proc/cmdline says `root=...` and the chassis is Azure's; returns what it
    /// said.
    fn grow(&self, root: &str, options: &str) -> String {
        fs::write(self.path("cmdline"), format!("ro root={root} quiet\n")).unwrap();
        for directory in ["run", "class/block", "class/dmi/id"] {
            fs::create_dir_all(self.path(directory)).unwrap();
        }
        fs::write(self.path("class/dmi/id/chassis_asset_tag"), "7783-7084-3265-9085-8269-3286-77\n").unwrap();
        let script = format!(
            "cd {} && mount --bind cmdline /proc/cmdline && mount --bind /sys/class/block class/block &&
             mount --rbind class /sys/class && exec {} grow --run $PWD/run {options} 2>&1",
            self.directory.display(),
            env!("CARGO_BIN_EXE_preroot"),
        );
        run("unshare", &["--mount", "sh", "-c", &script])
    }
}

/// What sgdisk says of the root, but for its end and size.
fn identity(disk: &Loop) -> Vec<String> {
    let info = run("sgdisk", &["-i", "1", &disk.device]);
    info.lines()
        .filter(|line| !line.starts_with("Last") && !line.contains("size"))
        .map(str::to_owned)
        .collect()
}

fn table_is_sound(disk: &Loop) {
    let text = run("sgdisk", &["-v", &disk.device]);
    assert!(text.contains("No problems found"), "{text}");
}

fn grows_to_the_end(sector: u64) {
    let bench = Bench::new(&format!("grow-{sector}"), sector);
    bench.enlarge(256 * MIB);
    let disk = bench.attach_with_partitions();
    let (before, bytes) = (identity(&disk), fs::read(bench.image()).unwrap());

    let said = bench.grow(&bench.by_label(), "--dry-run");
    assert!(said.contains("tomorrow") && fs::read(bench.image()).unwrap() == bytes, "{said}");

    let said = bench.grow(&bench.by_label(), "");
    assert!(said.contains("grown from"), "{said}");
    let end = bench.root_offset(&disk) + disk.partition_bytes(1).unwrap();
    assert!((256 * MIB - 2 * MIB..256 * MIB).contains(&end), "{end}");
    table_is_sound(&disk);
    assert_eq!(identity(&disk), before);
    assert!(!said.contains("oversized"));

    let bytes = fs::read(bench.image()).unwrap();
    let said = bench.grow(&bench.by_label(), "");
    assert!(said.contains("nothing to do") && fs::read(bench.image()).unwrap() == bytes, "{said}");
    let nodes = fs::read_dir("/")
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".preroot-"));
    assert_eq!(nodes.count(), 0, "device nodes are removed");
}

#[test]
fn sgdisk_finds_no_fault_with_a_grown_table_of_512_byte_blocks() {
    needs_machine!();
    grows_to_the_end(512);
}

#[test]
fn sgdisk_finds_no_fault_with_a_grown_table_of_4096_byte_blocks() {
    needs_machine!();
    grows_to_the_end(4096);
}

#[test]
fn a_torn_primary_is_restored_and_its_partitions_come_back() {
    needs_machine!();
    let bench = Bench::new("torn", 512);
    bench.enlarge(256 * MIB);
    drop({
        let disk = bench.attach_with_partitions();
        bench.grow(&bench.by_label(), "");
        disk
    });
    let whole = fs::read(bench.image()).unwrap();
    // The header of the grown table is there, its changed entry is not.
    let image = fs::OpenOptions::new().read(true).write(true).open(bench.image()).unwrap();
    image.write_all_at(&0_u64.to_le_bytes(), 1024 + 40).unwrap();
    let disk = bench.attach();
    assert_eq!(disk.partition_bytes(1), None, "the kernel does not use the backup");
    let said = bench.grow(&bench.by_label(), "");
    assert!(said.contains("primary partition table restored"), "{said}");
    assert!(disk.partition_bytes(1).is_some() && disk.partition_bytes(15).is_some(), "{said}");
    table_is_sound(&disk);
    assert!(fs::read(bench.image()).unwrap() == whole, "the bytes of an uncut run");
}

/// CAP_SYS_RESOURCE is bit 24 (include/uapi/linux/capability.h).
fn may_grow_file_systems() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> 24 & 1 == 1
}

/// A mounted file system.
struct Mounted(String);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_mounted_root_grows_and_its_ext4_after_it() {
    needs_machine!();
    let bench = Bench::new("mounted", 512);
    bench.enlarge(256 * MIB);
    let disk = bench.attach_with_partitions();
    let point = bench.path("root");
    fs::create_dir_all(&point).unwrap();
    run("mount", &["-t", "ext4", "-o", "ro", &format!("{}p1", disk.device), &point]);
    let mounted = Mounted(point.clone());
    let said = bench.grow("ZFS=nothing-we-know", &format!("--root {point}"));
    assert!(said.contains("grown from"), "{said}");
    table_is_sound(&disk);

    run("mount", &["-o", "remount,rw", &point]);
    if !may_grow_file_systems() {
        eprintln!("skipped: growing ext4 needs CAP_SYS_RESOURCE, which this machine withholds");
        return;
    }
    let mut linux = Linux::open(&point, &bench.path("run"), false).unwrap();
    let mut grow = || filesystem::grow(&mut linux.kernel(), &point).unwrap();
    let FileSystemGrowth::Grown { from_bytes, to_bytes, .. } = grow() else { panic!("not grown") };
    assert_eq!(from_bytes, 40 * MIB);
    assert!(to_bytes > 200 * MIB && to_bytes <= disk.partition_bytes(1).unwrap(), "{to_bytes}");
    assert_eq!(grow(), FileSystemGrowth::Full);
    drop(linux);
    drop(mounted);
    run("e2fsck", &["-fn", &format!("{}p1", disk.device)]);
}

/// On the whole device: what matters here is what the kernel makes of our ioctls.
fn grows_while_mounted(name: &str) {
    let maker = format!("mkfs.{name}");
    if missing().is_some() || !Path::new("/usr/sbin").join(&maker).exists() {
        eprintln!("skipped: no root, loop devices or {maker}");
        return;
    }
    let directory = std::env::temp_dir().join(format!("preroot-{name}-{}", std::process::id()));
    let bench = Bench { directory, label: name.to_owned(), sector: 512 };
    fs::create_dir_all(&bench.directory).unwrap();
    fs::File::create(bench.image()).unwrap().set_len(400 * MIB).unwrap();
    run(&maker, &["-q", &bench.image()]);
    bench.enlarge(900 * MIB);
    let disk = bench.attach();
    let point = bench.path("root");
    fs::create_dir_all(&point).unwrap();
    if !Command::new("mount").args(["-t", name, &disk.device, &point]).status().unwrap().success() {
        eprintln!("skipped: this kernel has no {name}");
        return;
    }
    let mounted = Mounted(point.clone());
    let mut linux = Linux::open(&point, &bench.path("run"), false).unwrap();
    assert!(!filesystem::is_full(&mut linux.kernel(), &point));
    let grown = filesystem::grow(&mut linux.kernel(), &point);
    let expected = FileSystemGrowth::Grown { from_bytes: 400 * MIB, to_bytes: 900 * MIB, unused_bytes: 0 };
    assert_eq!(grown, Ok(expected));
    assert_eq!(filesystem::grow(&mut linux.kernel(), &point), Ok(FileSystemGrowth::Full));
    let size = run("df", &["--output=size", "-B1", &point]);
    let size: u64 = size.lines().last().unwrap().trim().parse().unwrap();
    assert!(size > 800 * MIB, "{size}");
    drop(linux);
    drop(mounted);
    let checker: &[&str] =
        if name == "xfs" { &["xfs_repair", "-n"] } else { &["btrfs", "check", "--readonly"] };
    run(checker[0], &[&checker[1..], &[&disk.device]].concat());
}

#[test]
fn a_mounted_xfs_grows_to_its_device() {
    grows_while_mounted("xfs");
}

#[test]
fn a_mounted_btrfs_grows_to_its_device() {
    grows_while_mounted("btrfs");
}
