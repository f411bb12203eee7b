//! Which program writes a medium, and how is it called?

use crate::tree::{Content, Names, Random, Tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A way to write a tree to a medium.
pub(crate) struct Writer {
    pub(crate) name: &'static str,
    pub(crate) names: Names,
    pub(crate) programs: &'static [&'static str],
    pub(crate) write: fn(&Tree, &Path) -> Made,
}

/// A medium.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    /// First byte of the partition.
    pub(crate) start: u64,
    /// First byte of the last session, where only the drive knows it.
    pub(crate) session_bytes: u64,
    /// What the writer adds to the tree.
    pub(crate) ignore: &'static [&'static str],
}

impl Writer {
    pub(crate) fn is_installed(&self) -> bool {
        let is_there = |program: &str| {
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
            path.split(':').any(|directory| Path::new(directory).join(program).exists())
        };
        self.programs.iter().all(|program| is_there(program))
    }
}

macro_rules! writers {
    ($($name:literal $names:ident [$($program:literal)*] $write:expr;)*) => {
        /// All of them.
        pub(crate) const ALL: &[Writer] = &[$(Writer {
            name: $name, names: Names::$names, programs: &["blkid", $($program),*], write: $write,
        }),*];
    };
}

writers! {
    "genisoimage, level 1" Dos ["genisoimage"] |tree, work| genisoimage(tree, work, &["-iso-level", "1"]);
    "FAT12" Fat ["mkfs.vfat" "mcopy"] |tree, work| fat(tree, work, 12);
    "genisoimage, relaxed names" Relaxed ["genisoimage"] |tree, work| genisoimage(
        tree, work, &["-relaxed-filenames", "-allow-lowercase", "-l"]);
    "FAT16" Fat ["mkfs.vfat" "mcopy"] |tree, work| fat(tree, work, 16);
    "genisoimage, Joliet" Joliet ["genisoimage"] |tree, work| genisoimage(tree, work, &["-J"]);
    "FAT32" Fat ["mkfs.vfat" "mcopy"] |tree, work| fat(tree, work, 32);
    "genisoimage, Rock Ridge" RockRidge ["genisoimage"] |tree, work| genisoimage(tree, work, &["-R"]);
    "genisoimage, Joliet and Rock Ridge" Joliet ["genisoimage"] |tree, work| genisoimage(tree, work, &["-J", "-r"]);
    "genisoimage, UDF bridge" Joliet ["genisoimage"] |tree, work| genisoimage(tree, work, &["-udf", "-J", "-r"]);
    "genisoimage, UDF alone" Joliet ["genisoimage"] |tree, work| genisoimage(tree, work, &["-udf"]);
    "genisoimage, second session" Joliet ["genisoimage"] second_session;
    "xorriso, level 3" Dos ["xorriso"] |tree, work| xorriso(tree, work, &["-iso-level", "3"]);
    "xorriso, Joliet and Rock Ridge" Joliet ["xorriso"] |tree, work| xorriso(tree, work, &["-J", "-r"]);
    "xorriso, Rock Ridge" RockRidge ["xorriso"] |tree, work| xorriso(tree, work, &["-R"]);
    "xorriso, second session" RockRidge ["xorriso"] grown;
}

/// Runs a program that has to succeed.
fn run(program: &str, arguments: &[&str]) {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path).env("LC_ALL", "C.UTF-8").env("MTOOLS_SKIP_CHECK", "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// The tree on disk, and a place for the image.
fn begin(tree: &Tree, work: &Path) -> (PathBuf, PathBuf) {
    let (from, image) = (work.join("tree"), work.join("image"));
    let _ = fs::remove_dir_all(&from);
    let _ = fs::remove_file(&image);
    tree.write(&from);
    (from, image)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn made(path: PathBuf) -> Made {
    Made { path, start: 0, session_bytes: 0, ignore: &["rr_moved", "obstacles"] }
}

fn genisoimage(tree: &Tree, work: &Path, options: &[&str]) -> Made {
    let (from, image) = begin(tree, work);
    let fixed = ["-quiet", "-input-charset", "utf-8", "-V", &tree.label, "-o", text(&image)];
    run("genisoimage", &[&fixed, options, &[text(&from)]].concat());
    made(image)
}

fn xorriso(tree: &Tree, work: &Path, options: &[&str]) -> Made {
    let (from, image) = begin(tree, work);
    let fixed = ["-as", "mkisofs", "-quiet", "-V", &tree.label, "-o", text(&image)];
    run("xorriso", &[&fixed, options, &[text(&from)]].concat());
    made(image)
}

/// A tree of which the first half of the files is in a session before.
fn halves(tree: &Tree, work: &Path) -> PathBuf {
    let first = work.join("first");
    let _ = fs::remove_dir_all(&first);
    fs::create_dir_all(&first).unwrap();
    fs::write(first.join("gone-in-the-second"), b"old").unwrap();
    for (path, content) in tree.entries.iter().filter(|(path, _)| !path.contains('/')) {
        if let Content::File(bytes) = content {
            fs::write(first.join(path), &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    first
}

/// As cdrecord -multi does: the drive says where the last session is.
fn second_session(tree: &Tree, work: &Path) -> Made {
    let (from, image) = begin(tree, work);
    let (first, second) = (halves(tree, work), work.join("second"));
    let fixed = ["-quiet", "-input-charset", "utf-8", "-J", "-r"];
    run("genisoimage", &[&fixed[..], &["-V", "OLD", "-o", text(&image), text(&first)]].concat());
    // The second begins at a multiple of 16 sectors behind the first.
    let sectors = fs::metadata(&image).unwrap().len().div_ceil(2048).next_multiple_of(16) + 11_400;
    let place = format!("0,{sectors}");
    let more = ["-C", &place, "-M", text(&image), "-V", &tree.label, "-o", text(&second), text(&from)];
    run("genisoimage", &[&fixed[..], &more].concat());
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(&fs::read(&second).unwrap(), sectors * 2048).unwrap();
    Made { session_bytes: sectors * 2048, ignore: &["rr_moved", "gone-in-the-second"], ..made(image) }
}

/// As on a medium that can be overwritten: the first descriptors are those of the last session.
fn grown(tree: &Tree, work: &Path) -> Made {
    let (from, image) = begin(tree, work);
    let first = halves(tree, work);
    let device = format!("stdio:{}", text(&image));
    let common = ["-abort_on", "FAILURE", "-outdev", &device, "-volid"];
    run("xorriso", &[&common[..], &["OLD", "-map", text(&first), "/", "-commit"]].concat());
    let dev = ["-abort_on", "FAILURE", "-dev", &device, "-volid", &tree.label];
    run(
        "xorriso",
        &[&dev[..], &["-rm", "/gone-in-the-second", "--", "-update_r", text(&from), "/", "-commit"]].concat(),
    );
    made(image)
}

/// Every width with every size of sector and cluster that Linux mounts; every third in a partition.
fn fat(tree: &Tree, work: &Path, width: u32) -> Made {
    let (from, image) = begin(tree, work);
    let mut random = Random::new(tree.seed ^ 0xFA7);
    let sector = random.pick(&[512_u64, 512, 1024, 2048, 4096]);
    let per_cluster = random.pick(&[1_u64, 2, 4, 8]);
    let cluster = sector * per_cluster;
    // How many clusters make the width (fatgen103); mkfs.vfat checks it, but for FAT32.
    let (least, most) = match width {
        12 => (200, 4080),
        16 => (4200, 65_000),
        _ => (65_600, 200_000),
    };
    // A cluster for each file's end.
    let needed = tree.size_bytes() / cluster + tree.entries.len() as u64 * 3 + 500;
    let clusters = needed.max(least);
    if clusters > most {
        return fat_of(
            tree,
            work,
            &from,
            &image,
            width,
            [4096, 8, needed.div_ceil(4).clamp(least, most)],
            &mut random,
        );
    }
    fat_of(tree, work, &from, &image, width, [sector, per_cluster, clusters], &mut random)
}

fn fat_of(
    tree: &Tree,
    work: &Path,
    from: &Path,
    image: &Path,
    width: u32,
    [sector, per_cluster, clusters]: [u64; 3],
    random: &mut Random,
) -> Made {
    let start = if random.below(3) == 0 { 1 << 20 } else { 0 };
    let size_bytes = (clusters * per_cluster + clusters * 4 / sector * 2 + 200) * sector;
    fs::File::create(image).unwrap().set_len(start + size_bytes).unwrap();
    let offset = (start / sector).to_string();
    let [width, sector, per_cluster] = [u64::from(width), sector, per_cluster].map(|n| n.to_string());
    let kib = (size_bytes / 1024).to_string();
    let mut arguments = vec!["-F", &width, "-S", &sector, "-s", &per_cluster, "--offset", &offset];
    if !tree.label.is_empty() {
        arguments.extend(["-n", &tree.label]);
    }
    run("mkfs.vfat", &[&arguments[..], &[text(image), &kib]].concat());
    let drive = format!("{}@@{start}", text(image));
    let tops: Vec<_> =
        tree.entries.keys().filter(|path| !path.contains('/')).map(|path| from.join(path)).collect();
    let tops: Vec<_> = tops.iter().map(|path| text(path)).collect();
    if random.below(2) == 0 {
        scatter(work, &drive, random);
    }
    run("mcopy", &[&["-s", "-Q", "-i", &drive][..], &tops, &["::/"]].concat());
    Made { start, ..made(image.into()) }
}

/// Leaves holes between small files that stay: what comes then is in pieces.
fn scatter(work: &Path, drive: &str, random: &mut Random) {
    let small = work.join("small");
    let _ = fs::remove_dir_all(&small);
    fs::create_dir_all(&small).unwrap();
    let names: Vec<_> = (0..60 + random.below(100)).map(|i| format!("hole-{i:04}")).collect();
    let paths: Vec<_> = names.iter().map(|name| small.join(name)).collect();
    paths.iter().for_each(|path| fs::write(path, b"hole").unwrap());
    let paths: Vec<_> = paths.iter().map(|path| text(path)).collect();
    run("mmd", &["-i", drive, "::/obstacles"]);
    run("mcopy", &[&["-Q", "-i", drive][..], &paths, &["::/obstacles"]].concat());
    let gone: Vec<_> = names.iter().step_by(2).map(|name| format!("::/obstacles/{name}")).collect();
    let gone: Vec<_> = gone.iter().map(String::as_str).collect();
    run("mdel", &[&["-i", drive][..], &gone].concat());
}
