//! Are the account files byte for byte what Debian's useradd and usermod make of the same files?
//!
//! Needs root (useradd insists) and the package passwd; both are there where `make test` runs. The differences
//! we want are made equal before comparing, each with its reason:
//! no `-` backup files (a copy of shadow is one more place for hashes).

use super::{DAY, Image, fact};
use crate::facts::{PasswordHash, UserName};
use crate::sys::Owner;
use std::format;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::vec::Vec;

const FILES: [&str; 6] = ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid"];
const CASES: u64 = 520;
const HASHES: [&str; 6] = [
    "$6$salt$hash",
    "$1$ab$cd",
    "$2a$10$abcdefghijklmnopqrstuv",
    "$5$rounds=5000$x$y",
    "$y$j9T$a$b",
    "$6$/.$",
];

/// splitmix64: the case's number is its seed, so a failure replays.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// An image before, and who is to be made.
struct Case {
    name: &'static str,
    hash: &'static str,
    is_known: bool,
    has_group: bool,
    files: Vec<(&'static str, String)>,
}

fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let name = random.pick(&["ops", "azureuser", "a", "user-1", "_svc", "x.y"]);
    let is_known = random.one_in(4);
    let has_group = is_known || random.one_in(5);
    let has_gshadow = !random.one_in(5);
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/bash\n");
    let mut shadow = String::from("root:*:19000:0:99999:7:::\n");
    let mut group = String::from("root:x:0:\nadm:x:4:syslog\nshadow:x:42:\n");
    let mut gshadow = String::from("root:*::\nadm:*::syslog\nshadow:*::\n");
    let (mut subuid, mut subgid) = (String::new(), String::new());
    let mut uids = Vec::new();
    for n in 0..random.below(7) {
        let uid = match random.below(4) {
            0 => 990 + random.below(20),
            1 => 59_998 + random.below(3),
            _ => 1000 + random.below(8),
        };
        if uids.contains(&uid) {
            continue;
        }
        uids.push(uid);
        passwd += &format!("u{n}:x:{uid}:{uid}:,,,:/home/u{n}:/bin/sh\n");
        shadow += &format!("u{n}:!:19000:0:99999:7:::\n");
        let gid = if random.one_in(3) { 1000 + random.below(9) } else { uid };
        group += &format!("u{n}:x:{gid}:\n");
        gshadow += &format!("u{n}:!::\n");
        if random.one_in(2) {
            let first = 100_000 + 65_536 * random.below(5) + if random.one_in(4) { 7 } else { 0 };
            subuid += &format!("u{n}:{first}:65536\n");
            subgid += &format!("u{n}:{first}:{}\n", random.pick(&[1, 65_536]));
        }
    }
    for present in ["sudo", "wheel", "systemd-journal"] {
        if !random.one_in(3) {
            let members = random.pick(&["", "u0", "u0,u1", "x"]);
            group += &format!("{present}:x:{}:{members}\n", 27 + present.len());
            gshadow += &format!("{present}:*::{members}\n");
        }
    }
    if is_known {
        passwd += &format!("{name}:x:4000:4000::/home/{name}:/bin/zsh\n");
        shadow += &format!("{name}:!:18000:1:90:14:::\n");
    }
    if has_group {
        group += &format!("{name}:x:4000:\n");
        gshadow += &format!("{name}:!::\n");
    }
    if random.one_in(8) {
        passwd += "+@people::::::\n";
    }
    let mut defs = format!("UID_MIN {}\nUID_MAX\t60000\nGID_MIN 1000\n", random.pick(&[1000, 500, 1003]));
    if random.one_in(2) {
        defs += random.pick(&[
            "UMASK 077\n",
            "HOME_MODE 0750\nUMASK 022\n",
            "PASS_MAX_DAYS 90\nPASS_WARN_AGE 3\n",
        ]);
    }
    if random.one_in(3) {
        defs += random.pick(&[
            "SUB_UID_COUNT 0\nSUB_GID_COUNT 0\n",
            "SUB_UID_MIN 200000\nSUB_GID_MIN 300000\n",
            "SUB_UID_COUNT 1000\nSUB_GID_COUNT 1000\n",
        ]);
    }
    let mut files = std::vec![
        ("etc/passwd", passwd),
        ("etc/shadow", shadow),
        ("etc/group", group),
        ("etc/login.defs", defs),
    ];
    if has_gshadow {
        files.push(("etc/gshadow", gshadow));
    }
    if !random.one_in(4) {
        files.push(("etc/subuid", sorted_by_range(&subuid)));
        files.push(("etc/subgid", sorted_by_range(&subgid)));
    }
    Case { name, hash: random.pick(&HASHES), is_known, has_group, files }
}

/// useradd sorts subuid when it looks for a hole; we leave other people's lines where they are.
fn sorted_by_range(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| {
        let mut fields = line.split(':').skip(1).map(|field| field.parse::<u64>().unwrap());
        (fields.next(), fields.next())
    });
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn ours(case: &Case) -> Image {
    let mut image = Image::debian();
    for file in FILES {
        if image.root.text(file).is_some() {
            crate::sys::Dir::remove(&mut image.root, file).unwrap();
        }
    }
    for (path, text) in &case.files {
        image.root.put_owned(path, Owner::root(0o644), text);
    }
    image.facts.user = fact(UserName::parse(case.name).unwrap());
    image.facts.password = fact(PasswordHash::parse(case.hash).unwrap());
    for module in ["users", "password"] {
        image.converge(module).unwrap_or_else(|error| panic!("{module}: {error}"));
    }
    image
}

fn run(program: &str, root: &Path, words: &[&str]) {
    let mut command = Command::new(program);
    command.arg("--prefix").arg(root).args(words);
    command.env("SOURCE_DATE_EPOCH", (DAY * 86_400).to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn theirs(case: &Case, root: &Path) {
    for (path, text) in &case.files {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    }
    std::fs::create_dir_all(root.join("home")).unwrap();
    let groups = &case.files.iter().find(|(path, _)| *path == "etc/group").unwrap().1;
    let wanted: Vec<&str> = ["adm", "sudo", "wheel", "systemd-journal"]
        .into_iter()
        .filter(|group| groups.lines().any(|line| line.starts_with(&format!("{group}:"))))
        .collect();
    let wanted = wanted.join(",");
    if case.is_known {
        run("usermod", root, &["-a", "-G", &wanted, case.name]);
    } else {
        let primary: &[&str] = if case.has_group { &["-g", case.name] } else { &["-U"] };
        let words = [&["-l", "-m", "-s", "/bin/bash", "-p", "*", "-G", &wanted][..], primary, &[case.name]];
        run("useradd", root, &words.concat());
    }
    run("usermod", root, &["-p", case.hash, case.name]);
}

struct Workspace(PathBuf);

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn account_files_are_what_useradd_and_usermod_write() {
    let (mut equal, mut different) = (0, Vec::new());
    for seed in 0..CASES {
        let case = case(seed);
        let image = ours(&case);
        let place =
            Workspace(std::env::temp_dir().join(format!("preroot-accounts-{}-{seed}", std::process::id())));
        theirs(&case, &place.0);
        let is_equal = FILES.iter().all(|file| {
            let theirs = std::fs::read_to_string(place.0.join(file)).ok();
            let ours = image.root.text(file);
            if ours != theirs {
                different.push(format!("case {seed}, {file}\nours:\n{ours:?}\ntheirs:\n{theirs:?}"));
            }
            ours == theirs
        });
        equal += u32::from(is_equal);
    }
    std::println!("accounts: {equal} of {CASES} equal to useradd and usermod");
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
