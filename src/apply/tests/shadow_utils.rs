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

pub(super) const FILES: [&str; 6] =
    ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid"];
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

/// False when it refuses.
pub(super) fn run(program: &str, root: &Path, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.arg("--prefix").arg(root).args(words);
    command.env("SOURCE_DATE_EPOCH", (DAY * 86_400).to_string());
    command.output().unwrap().status.success()
}

/// Of what must succeed.
fn must(program: &str, root: &Path, words: &[&str]) {
    assert!(run(program, root, words), "{program} {words:?}");
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
        must("usermod", root, &["-a", "-G", &wanted, case.name]);
    } else {
        let primary: &[&str] = if case.has_group { &["-g", case.name] } else { &["-U"] };
        let words = [&["-l", "-m", "-s", "/bin/bash", "-p", "*", "-G", &wanted][..], primary, &[case.name]];
        must("useradd", root, &words.concat());
    }
    must("usermod", root, &["-p", case.hash, case.name]);
}

pub(super) struct Workspace(pub(super) PathBuf);

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

/// A person of the seed: lines of `users/0`, and the words useradd takes for the same.
struct Asked {
    text: String,
    options: Vec<String>,
    groups: Vec<String>,
    hash: Option<&'static str>,
    is_locked: Option<bool>,
    first_hash: bool,
}

fn asked(random: &mut Random, name: &str) -> Asked {
    let mut asked = Asked {
        text: format!("name {name}\n"),
        options: Vec::new(),
        groups: Vec::new(),
        hash: None,
        is_locked: None,
        first_hash: false,
    };
    let put = |asked: &mut Asked, key: &str, value: String, option: &[&str]| {
        asked.text += &format!("{key} {value}\n");
        let words = option.iter().map(|word| if *word == "@" { value.clone() } else { (*word).into() });
        asked.options.extend(words);
    };
    if random.one_in(2) {
        put(&mut asked, "gecos", random.pick(&["Foo B. Bar", "x", ",,,", ""]).into(), &["-c", "@"]);
    }
    if random.one_in(3) {
        put(&mut asked, "homedir", random.pick(&["/srv/foo", "/opt/a/b"]).into(), &["-d", "@"]);
    }
    let shell: &[&str] = if random.one_in(2) { &["/bin/zsh", "/usr/sbin/nologin"] } else { &["/bin/bash"] };
    put(&mut asked, "shell", random.pick(shell).into(), &["-s", "@"]);
    if random.one_in(4) {
        put(&mut asked, "uid", (1500 + random.below(9)).to_string(), &["-u", "@"]);
    }
    if random.one_in(3) {
        put(&mut asked, "expiredate", random.pick(&["2032-09-01", "1999-12-31"]).into(), &["-e", "@"]);
    }
    if random.one_in(3) {
        put(&mut asked, "inactive", random.below(40).to_string(), &["-f", "@"]);
    }
    let is_system = random.one_in(5);
    if is_system {
        put(&mut asked, "system", "true".into(), &["-r", "-M"]);
    } else if random.one_in(4) {
        put(&mut asked, "no_create_home", "true".into(), &["-M"]);
    } else {
        asked.options.push("-m".into());
    }
    if random.one_in(2) {
        let list = random.pick(&["crew", "adm,crew", "adm,sudo,new1", "new2,new1,adm"]);
        put(&mut asked, "groups", list.into(), &["-G", "@"]);
        asked.groups.extend(list.split(',').map(String::from));
    }
    match random.below(4) {
        0 => {
            let group = random.pick(&["adm", "crew", "fresh"]);
            put(&mut asked, "primary_group", group.into(), &["-g", "@"]);
            asked.groups.push(group.into());
        }
        1 => put(&mut asked, "no_user_group", "true".into(), &["-N"]),
        _ => asked.options.push("-U".into()),
    }
    if random.one_in(3) {
        put(&mut asked, "passwd", random.pick(&HASHES).into(), &["-p", "@"]);
        asked.first_hash = true;
    } else {
        asked.options.extend(["-p".into(), "*".into()]);
    }
    if random.one_in(3) {
        let hash = random.pick(&HASHES);
        put(&mut asked, "hashed_passwd", hash.into(), &[]);
        asked.hash = Some(hash);
    }
    if random.one_in(2) {
        let is_locked = random.one_in(2);
        put(&mut asked, "lock_passwd", is_locked.to_string(), &[]);
        asked.is_locked = Some(is_locked);
    }
    asked
}

fn password(root: &Path, name: &str) -> String {
    let shadow = std::fs::read_to_string(root.join("etc/shadow")).unwrap();
    let line = shadow.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(1).unwrap().into()
}

/// The same by the image's own tools, in the order cloud-init calls them.
fn by_their_tools(case: &Case, asked: &Asked, root: &Path) {
    for (path, text) in &case.files {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    }
    for directory in ["home", "srv", "opt/a"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    let list = |line: &str| line.starts_with("groups ") || !case.is_known;
    for group in
        asked.groups.iter().filter(|group| asked.text.lines().any(|line| list(line) && line.contains(*group)))
    {
        let groups = std::fs::read_to_string(root.join("etc/group")).unwrap();
        if !groups.lines().any(|line| line.starts_with(&format!("{group}:"))) {
            must("groupadd", root, &[group]);
        }
    }
    if !case.is_known {
        let mut words: Vec<&str> = std::vec!["-l"];
        words.extend(asked.options.iter().map(String::as_str));
        words.push(case.name);
        must("useradd", root, &words);
    } else if let Some(groups) = asked.text.lines().find_map(|line| line.strip_prefix("groups ")) {
        must("usermod", root, &["-a", "-G", groups, case.name]);
    }
    if let Some(hash) = asked.hash {
        must("usermod", root, &["-p", hash, case.name]);
    }
    match (asked.is_locked, password(root, case.name)) {
        (Some(true), there) if there != "*" => must("usermod", root, &["-L", case.name]),
        (Some(false), there) if there.len() > 1 && there.starts_with('!') => {
            must("usermod", root, &["-U", case.name]);
        }
        _ => {}
    }
}

#[test]
fn other_users_accounts_are_what_the_images_tools_write() {
    let (mut equal, mut different) = (0, Vec::new());
    for seed in 0..CASES {
        let mut random = Random(!seed);
        let mut case = case(seed);
        // useradd refuses a name that is a group's unless that is to be the primary one.
        if !case.is_known && case.has_group {
            case.name = "nobodys";
        }
        let asked = asked(&mut random, case.name);
        let mut image = Image::debian();
        for file in FILES {
            if image.root.text(file).is_some() {
                crate::sys::Dir::remove(&mut image.root, file).unwrap();
            }
        }
        for (path, text) in &case.files {
            image.root.put_owned(path, Owner::root(0o644), text);
        }
        image.facts.user = None;
        image.run.put("seed/users/0", &asked.text);
        for module in ["users", "password"] {
            image
                .converge(module)
                .unwrap_or_else(|error| panic!("case {seed}, {module}: {error}\n{}", asked.text));
            assert_eq!(
                image.check(module).unwrap(),
                super::State::Satisfied,
                "case {seed}, {module}\n{}",
                asked.text
            );
        }
        let place =
            Workspace(std::env::temp_dir().join(format!("preroot-people-{}-{seed}", std::process::id())));
        by_their_tools(&case, &asked, &place.0);
        let is_equal = FILES.iter().all(|file| {
            let theirs = std::fs::read_to_string(place.0.join(file)).ok();
            let ours = image.root.text(file);
            if ours != theirs {
                let (text, options) = (&asked.text, asked.options.join(" "));
                different.push(format!(
                    "case {seed}, {file}\n{text}{options}\nours:\n{ours:?}\ntheirs:\n{theirs:?}"
                ));
            }
            ours == theirs
        });
        equal += u32::from(is_equal);
    }
    std::println!("other users: {equal} of {CASES} equal to groupadd, useradd and usermod");
    let count = different.len();
    different.truncate(6);
    assert!(different.is_empty(), "{count}\n{}", different.join("\n\n"));
}
