//! `preroot growpart` beside the program it stands for, on generated images: same lines, same exit codes, the same
//! partitions, every neighbour's bytes; what sgdisk and sfdisk say of the table afterwards.
//!
//! `PREROOT_LAYOUTS=N` decides how many (100), `PREROOT_SEED=` which, `PREROOT_ORACLE_EACH=N` asks growpart for one in N.
//! growpart is `PREROOT_GROWPART` or the one in the path; without it only our side is looked at. Says so and passes where
//! sfdisk or sgdisk is missing.
#![expect(clippy::unwrap_used, reason = "a test ends where its machine fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PREROOT: &str = env!("CARGO_BIN_EXE_preroot");
const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// xorshift64*: a layout is its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit.max(1)
    }

    fn pick<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len() as u64) as usize]
    }
}

fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
}

fn growpart() -> Option<PathBuf> {
    std::env::var_os("PREROOT_GROWPART").map(PathBuf::from).or_else(|| found("growpart"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LANG", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What sfdisk reads: number to (start, size, the rest of the line).
fn partitions(image: &str) -> BTreeMap<u32, (u64, u64, String)> {
    let dump = text(&run("sfdisk", &["-d", image], "").stdout);
    let lines = dump.lines().filter_map(|line| line.strip_prefix(image));
    lines
        .map(|line| {
            let (name, fields) = line.split_once(':').unwrap();
            let number = name.trim().trim_start_matches('p').parse().unwrap();
            let value = |key: &str| {
                let rest = fields.split_once(key).unwrap().1.trim_start();
                rest.split(',').next().unwrap().parse::<u64>().unwrap()
            };
            let rest = fields.splitn(3, ',').nth(2).unwrap_or_default().to_owned();
            (number, (value("start="), value("size="), rest))
        })
        .collect()
}

const OPTIONS: &[&[&str]] =
    &[&[], &[], &[], &["--fudge", "0"], &["--free-percent=10"], &["--fudge", "20000000"]];

/// What a GPT may have gone through.
const DAMAGE: &[&str] = &[
    "header torn",
    "header gone",
    "entries torn",
    "backup header torn",
    "backup header gone",
    "backup entries torn",
];

/// A generated disk.
struct Layout {
    is_mbr: bool,
    /// One of [`DAMAGE`], and the bytes that were written there.
    damage: Option<&'static str>,
    wound: u64,
    /// Where the image ended before the disk grew, and the bytes of its entries.
    image_bytes: u64,
    array_bytes: u64,
    number: u32,
    disk_bytes: u64,
    has_grown: bool,
    options: Vec<&'static str>,
    what: String,
}

/// Makes the table with sfdisk on an image of some size, and then the disk larger, or not.
fn generate(image: &str, seed: u64) -> Option<Layout> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let is_mbr = random.below(2) == 0;
    let sectors = (16 + random.below(240)) * 2048 + [0, 0, 0, random.below(2048)][random.below(4) as usize];
    let file = fs::File::create(image).unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    let mut script = format!("label: {}\nunit: sectors\n", if is_mbr { "dos" } else { "gpt" });
    let length = *random.pick(&[128, 128, 128, 128, 128, 256, 56, 16, 20, 100]);
    if !is_mbr && length != 128 {
        script += &format!("table-length: {length}\n");
    }
    // sgdisk's and an old parted's are 34, sfdisk's own choice is 2048.
    if !is_mbr && random.below(2) == 0 {
        script += "first-lba: 66\n";
    }
    let alignment = *random.pick(&[2048, 2048, 2048, 8, 1]);
    let up = |at: u64| at.div_ceil(alignment) * alignment;
    let count = 1 + random.below(if is_mbr { 3 } else { 6 });
    let end = sectors - 100;
    let mut at = 2048;
    let mut numbers: Vec<u32> = (1..=count as u32).collect();
    if random.below(3) == 0 {
        numbers.reverse();
    }
    let mut candidates = Vec::new();
    for (place, number) in numbers.iter().enumerate() {
        let is_last = place + 1 == numbers.len();
        let room = end.saturating_sub(at);
        if room < 4096 {
            break;
        }
        let share = room / (numbers.len() - place) as u64;
        let size =
            if is_last && random.below(2) == 0 { room } else { 2048 + random.below(share.max(2049) - 2048) };
        let size = size.min(room);
        let is_extended = is_mbr && is_last && size > 40_960 && random.below(2) == 0;
        let kinds: &[&str] = if is_mbr { &["83", "82", "8e", "7"] } else { &["L", "S", "U", "V"] };
        let kind = if is_extended { "5" } else { random.pick(kinds) };
        let bootable = if is_mbr && !is_extended && random.below(5) == 0 { ", bootable" } else { "" };
        script += &format!("{number} : start={at}, size={size}, type={kind}{bootable}\n");
        candidates.push(*number);
        if is_extended {
            candidates.pop();
            let (mut inner, mut logical, inner_end) = (at + 2048, 5, at + size);
            while inner + 4096 < inner_end && logical < 9 {
                let size = (2048 + random.below(inner_end - inner - 2048)).min(inner_end - inner);
                script += &format!("{logical} : start={inner}, size={size}, type=83\n");
                candidates.push(logical);
                logical += 1;
                inner = up(inner + size + 2048 + random.below(3) * 1024);
            }
        }
        at = up(at + size + if random.below(3) == 0 { random.below(8192) } else { 0 });
    }
    let made = run("sfdisk", &["-q", "--no-reread", image], &script);
    if !made.status.success() {
        return None;
    }
    let extra = *random.pick(&[0, 1, 33, 2047, 2048, 4096, 100_000, 1 << 21, 5 << 30]);
    let disk_bytes = (sectors + extra) * SECTOR;
    file.set_len(disk_bytes).unwrap();
    let damage = (!is_mbr && random.below(3) == 0).then(|| *random.pick(DAMAGE));
    let wound = 1 + random.below(1 << 20);
    let options = *random.pick(OPTIONS);
    let number = *random.pick(&candidates);
    let what = format!("seed {seed}: {options:?} {number}, {disk_bytes} bytes, {damage:?}\n{script}");
    Some(Layout {
        is_mbr,
        damage,
        wound,
        image_bytes: sectors * SECTOR,
        array_bytes: (length as u64 * 128).div_ceil(SECTOR) * SECTOR,
        number,
        disk_bytes,
        has_grown: extra > 0,
        options: options.to_vec(),
        what,
    })
}

/// Something to lose in every partition: its first and last sector, and one between.
fn mark(image: &str, partitions: &BTreeMap<u32, (u64, u64, String)>) {
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    for (number, (start, size, rest)) in partitions {
        if rest.contains("type=5") {
            continue;
        }
        for sector in [*start, start + size / 2, start + size - 1] {
            file.write_all_at(&[*number as u8; SECTOR as usize], sector * SECTOR).unwrap();
        }
    }
}

/// Checksum of what is between the tables: everything but block 0 to 2047, the records of logical partitions, and what
/// lies behind the last partition.
fn contents(image: &str, partitions: &BTreeMap<u32, (u64, u64, String)>) -> Vec<Vec<u8>> {
    let file = fs::File::open(image).unwrap();
    let mut all = Vec::new();
    for (start, size, rest) in partitions.values() {
        if rest.contains("type=5") {
            continue;
        }
        let mut bytes = vec![0; (size.min(&1024) * SECTOR) as usize];
        file.read_exact_at(&mut bytes, start * SECTOR).unwrap();
        all.push(bytes.clone());
        let tail = (start + size) * SECTOR - bytes.len() as u64;
        file.read_exact_at(&mut bytes, tail).unwrap();
        all.push(bytes);
    }
    all
}

fn is_sound(image: &str, is_mbr: bool) -> Result<(), String> {
    let verified = run("sfdisk", &["--verify", image], "");
    let said = text(&verified.stdout) + &text(&verified.stderr);
    if !verified.status.success() || said.contains("overlap") || said.contains("outside") {
        return Err(said);
    }
    if !is_mbr {
        let said = text(&run("sgdisk", &["-v", image], "").stdout);
        if !said.contains("No problems found") {
            return Err(said);
        }
    }
    Ok(())
}

/// Why a difference from growpart is meant.
fn reason(layout: &Layout, theirs: &Output, image: &str) -> Option<&'static str> {
    let said = text(&theirs.stdout) + &text(&theirs.stderr);
    if layout.is_lost() {
        return Some("a copy is gone and the disk grew: sfdisk looks for the other at the end only");
    }
    let is_logical = layout.is_mbr && layout.number > 4;
    if is_logical && said.contains("FAILED") {
        return Some("growpart cannot grow a logical partition beyond the extended one; we grow that first");
    }
    if is_logical {
        return Some("growpart does not count the record of the next logical partition");
    }
    if layout.is_mbr && layout.disk_bytes / SECTOR > 1 << 32 {
        return Some("above 2 TiB growpart asks for the sector that an MBR cannot say, and sfdisk refuses");
    }
    let dump = text(&run("sfdisk", &["-d", image], "").stdout);
    if layout.is_mbr && layout.disk_bytes / SECTOR > 1 << 32 {
        return Some("above 2 TiB growpart asks for the sector that an MBR cannot say, and sfdisk refuses");
    }
    if dump.contains("table-length: 256") {
        return Some("growpart forgets that 256 entries take 64 sectors at the end");
    }
    None
}

#[derive(Default, Debug)]
struct Count {
    layouts: u64,
    gpt: u64,
    mbr: u64,
    grown: u64,
    nothing: u64,
    asked: u64,
    equal_to_growpart: u64,
    refused: u64,
    damaged: u64,
    mended: u64,
}

impl Layout {
    fn hurt(&self, image: &str) {
        let Some(damage) = self.damage else { return };
        let file = fs::OpenOptions::new().write(true).open(image).unwrap();
        let (bytes, end) = (self.wound.to_le_bytes(), self.image_bytes);
        match damage {
            "header torn" => file.write_all_at(&bytes[..4], SECTOR + 16),
            "header gone" => file.write_all_at(&[0; SECTOR as usize], SECTOR),
            "entries torn" => file.write_all_at(&bytes, 2 * SECTOR + 16),
            "backup header torn" => file.write_all_at(&bytes[..4], end - SECTOR + 16),
            "backup header gone" => file.write_all_at(&[0; SECTOR as usize], end - SECTOR),
            _ => file.write_all_at(&bytes, end - SECTOR - self.array_bytes + 16),
        }
        .unwrap();
    }

    /// Where tables lie: the first MiB, the end of the image and of the disk.
    fn bytes(&self, image: &str) -> Vec<u8> {
        let file = fs::File::open(image).unwrap();
        let mut bytes = vec![0; 3 * MIB as usize];
        for (piece, end) in bytes.chunks_exact_mut(MIB as usize).zip([MIB, self.image_bytes, self.disk_bytes])
        {
            file.read_exact_at(piece, end - MIB).unwrap();
        }
        bytes
    }

    /// One copy is gone, and nothing says where the other is since the disk grew.
    fn is_lost(&self) -> bool {
        self.damage.is_some() && self.has_grown
    }
}

fn one(directory: &Path, seed: u64, each: u64, count: &mut Count, reasons: &mut BTreeMap<&'static str, u64>) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (image, copy) = (path("ours"), path("theirs"));
    let Some(layout) = generate(&image, seed) else { return };
    count.layouts += 1;
    *(if layout.is_mbr { &mut count.mbr } else { &mut count.gpt }) += 1;
    count.damaged += u64::from(layout.damage.is_some());
    let before = partitions(&image);
    mark(&image, &before);
    let kept = contents(&image, &before);
    layout.hurt(&image);
    run("cp", &["--sparse=auto", &image, &copy], "");

    let number = layout.number.to_string();
    let mut words = vec![image.as_str(), &number];
    words.extend(&layout.options);
    let dry = Command::new(PREROOT).arg("growpart").arg("-N").args(&words).output().unwrap();
    let ours = Command::new(PREROOT).arg("growpart").args(&words).output().unwrap();
    let said = text(&ours.stdout);
    let what = &layout.what;
    let code = ours.status.code().unwrap();
    assert_eq!(dry.status.code().unwrap(), code, "{what}{said}");
    assert_eq!(
        text(&dry.stdout).replacen(
            "CHANGE: part",
            if code == 0 { "CHANGED: part" } else { "CHANGE: part" },
            1
        ),
        said,
        "{what}"
    );

    assert_eq!(contents(&image, &before), kept, "{what}{said}");
    if code == 2 || (code == 1 && layout.damage.is_none()) {
        assert!(layout.bytes(&image) == layout.bytes(&copy), "{what}{said}");
    }
    let after = if code == 2 { before.clone() } else { partitions(&image) };
    assert_eq!(after.len(), before.len(), "{what}{said}");
    let is_container = |rest: &str| rest.contains("type=5") || rest.contains("type=f");
    for (number, (start, size, rest)) in &before {
        let (new_start, new_size, new_rest) = &after[number];
        assert_eq!((start, rest), (new_start, new_rest), "{what}{said}");
        let may_grow = *number == layout.number || (layout.number > 4 && layout.is_mbr && is_container(rest));
        assert!(new_size == size || (may_grow && new_size > size), "{what}{said}");
    }
    match code {
        0 => {
            count.grown += 1;
            if let Err(why) = is_sound(&image, layout.is_mbr) {
                panic!("{what}{said}{why}");
            }
            count.mended += u64::from(layout.damage.is_some());
            let (start, size, _) = &after[&layout.number];
            assert!((start + size) * SECTOR <= layout.disk_bytes, "{what}");
            let again = Command::new(PREROOT).arg("growpart").args(&words).output().unwrap();
            assert_eq!(again.status.code(), Some(1), "{what}{}", text(&again.stdout));
        }
        1 => {
            count.nothing += 1;
            assert_eq!(before, after, "{what}");
            let is_sound = |image: &str| is_sound(image, layout.is_mbr).is_ok();
            assert!(layout.damage.is_some() || is_sound(&image) || !is_sound(&copy), "{what}");
            if layout.damage.is_some() {
                let read = run("sfdisk", &["-d", &image], "");
                let is_whole = !text(&read.stderr).contains("corrupt");
                assert!(is_whole || layout.is_lost(), "{what}{said}{}", text(&read.stderr));
                count.mended += u64::from(is_whole);
            }
        }
        _ => {
            assert!(layout.is_lost(), "{what}{said}");
            count.refused += 1;
        }
    }
    let Some(growpart) = growpart().filter(|_| seed.is_multiple_of(each)) else { return };
    count.asked += 1;
    words[0] = &copy;
    let theirs = run(growpart.to_str().unwrap(), &words, "");
    let is_same = theirs.status.code() == Some(code)
        && text(&theirs.stdout) == said
        && partitions(&copy).values().eq(after.values());
    if is_same || (code == 2 && theirs.status.code() == Some(2)) {
        count.equal_to_growpart += 1;
        return;
    }
    let why = reason(&layout, &theirs, &copy);
    let theirs = text(&theirs.stdout) + &text(&theirs.stderr);
    let why = why.unwrap_or_else(|| panic!("{what}ours:   {said}theirs: {theirs}"));
    *reasons.entry(why).or_default() += 1;
}

#[test]
fn generated_disks_grow_as_growpart_grows_them() {
    if found("sfdisk").is_none() || found("sgdisk").is_none() {
        eprintln!("skipped: no sfdisk or sgdisk");
        return;
    }
    if growpart().is_none() {
        eprintln!("growpart is not here: our side alone");
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, wanted) = (number("PREROOT_SEED").unwrap_or(0), number("PREROOT_LAYOUTS").unwrap_or(100));
    let each = number("PREROOT_ORACLE_EACH").unwrap_or(1).max(1);
    let directory = std::env::temp_dir().join(format!("preroot-growpart-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (mut count, mut reasons, mut seed) = (Count::default(), BTreeMap::new(), first);
    while count.layouts < wanted {
        seed += 1;
        one(&directory, seed, each, &mut count, &mut reasons);
    }
    fs::remove_dir_all(&directory).unwrap();
    println!("{count:?}\ndifferent from growpart: {reasons:#?}");
    assert!(count.refused * 10 <= count.layouts, "{count:?}");
}

#[test]
fn called_by_its_name_it_is_growpart() {
    let directory = std::env::temp_dir().join(format!("preroot-name-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("growpart");
    symlink(PREROOT, &program).unwrap();
    let call = |words: &[&str]| Command::new(&program).args(words).output().unwrap();
    let help = call(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).starts_with("growpart disk partition"));
    let missing = call(&["/no/such/disk", "1"]);
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(text(&missing.stdout), "FAILED: /no/such/disk: does not exist\n");
    let none = call(&[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).ends_with("must supply disk and partition-number\n"));
    let image = directory.join("image");
    fs::File::create(&image).unwrap().set_len(8 * MIB).unwrap();
    let blank = call(&[image.to_str().unwrap(), "1"]);
    assert_eq!(blank.status.code(), Some(2));
    assert!(text(&blank.stdout).starts_with("FAILED: "), "{}", text(&blank.stdout));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_image_is_shown_and_not_touched() {
    if found("sfdisk").is_none() || found("mkfs.ext4").is_none() {
        eprintln!("skipped: no sfdisk or mkfs.ext4");
        return;
    }
    let directory = std::env::temp_dir().join(format!("preroot-show-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let image = directory.join("image").to_str().unwrap().to_owned();
    fs::File::create(&image).unwrap().set_len(64 * MIB).unwrap();
    run(
        "sfdisk",
        &["-q", &image],
        "label: gpt\n14: size=8192, type=21686148-6449-6E6F-744E-656564454649\n1: type=L\n",
    );
    run("mkfs.ext4", &["-q", "-L", "cloudimg", "-E", "offset=5242880", &image, "40M"], "");
    fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(4096 * MIB).unwrap();
    let before = fs::metadata(&image).unwrap().modified().unwrap();
    let shown = Command::new(PREROOT).args(["grow", "--dry-run", "--disk", &image]).output().unwrap();
    let said = text(&shown.stdout);
    assert!(shown.status.success(), "{said}");
    for words in [
        "GPT, 8388608 blocks of 512 bytes",
        "BIOS boot",
        "ext4 cloudimg  <- grows",
        "4.0 GiB",
        "today",
        "tomorrow",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    println!("{said}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), before);
    fs::remove_dir_all(&directory).unwrap();
}
