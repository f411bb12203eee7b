//! Disks, file systems, mounts and swap of a seed, with programs that leave the traces the image's do.

use super::Image;
use crate::apply::data_disks::resolve;
use crate::error::Kind;
use crate::format::cases::{self, Answer};
use crate::sys::Dir as _;
use crate::sys::fake::{FakeDir, FakeDisk};
use serde_json::json;
use std::string::{String, ToString};
use std::vec::Vec;

const SFDISK: &str = r#"/bin/sh -c printf '%s\n' "$1" | sfdisk -q --force --wipe always --wipe-partitions always -X "$2" "$3" sh"#;

/// A disk of 16 MiB in sysfs, and its partitions.
fn attach(host: &mut FakeDir, disk: &str, partitions: u32) {
    host.put(&std::format!("sys/class/block/{disk}/dev"), "8:32\n");
    host.put(&std::format!("sys/class/block/{disk}/size"), "32768\n");
    for number in 1..=partitions {
        host.put(&std::format!("sys/class/block/{disk}/{disk}{number}/partition"), "1\n");
        host.put(&std::format!("sys/class/block/{disk}{number}/dev"), "8:33\n");
    }
}

/// A Debian with a blank sdc, what sfdisk will make of it, and these entries.
fn image(entries: &[(&str, &str)]) -> Image {
    let mut image = Image::debian();
    for program in ["usr/sbin/mkfs.ext4", "usr/sbin/mkfs.xfs", "usr/sbin/mkswap", "usr/sbin/swapon"] {
        image.root.put(program, "");
    }
    for program in ["bin/sh", "usr/bin/mount", "usr/bin/fallocate", "usr/lib/systemd/systemd"] {
        image.root.put(program, "");
    }
    image.root.put("etc/fstab", "# the image's\nUUID=1 / ext4 defaults 0 1\n").put_dir("var/swap");
    attach(&mut image.host, "sdc", 0);
    image.host.put("proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 1 kB\n");
    for name in ["sdc", "sdc1", "sdc2"] {
        image.disks.disks.insert(name.into(), FakeDisk::new(std::vec![0; 128 * 1024]));
    }
    for (name, text) in entries {
        image.run.put(&std::format!("seed/storage/{name}"), text);
    }
    let (mut host, mut root) = (image.host.clone(), image.root.clone());
    image.system.acts = Some(std::boxed::Box::new(move |argv: &[&str]| {
        match argv[0] {
            "/bin/sh" => attach(&mut host, "sdc", argv[4].lines().count() as u32),
            "/usr/bin/fallocate" => {
                let bytes: usize = argv[2].parse().unwrap();
                root.append(argv[3].trim_start_matches('/'), &std::vec![0; bytes])?;
            }
            "/usr/sbin/swapon" if argv[1] != "-a" => {
                host.put("proc/swaps", std::format!("Filename Type\n{} file\n", argv[1]));
            }
            _ => {}
        }
        Ok(0)
    }));
    image
}

/// The start of an ext4 with this label.
fn ext4(label: &str) -> Vec<u8> {
    let mut bytes = std::vec![0; 128 * 1024];
    bytes[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
    bytes[1024 + 0x18] = 2;
    bytes[1024 + 0x78..][..label.len()].copy_from_slice(label.as_bytes());
    bytes
}

/// Puts on the disks what the programs have made so far, and counts them.
fn come_true(image: &mut Image) -> usize {
    let mut made = 0;
    for run in image.system.runs.drain(..).filter(|run| run.contains("/dev/")) {
        let name = run.rsplit('/').next().unwrap();
        let bytes = &mut image.disks.disks.get_mut(name).unwrap().bytes;
        made += 1;
        if run.contains("mkswap") {
            bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
        } else if run.contains("mkfs.ext4") {
            *bytes = ext4(if run.contains("-L my data ") { "my data" } else { "" });
        }
    }
    made
}

#[test]
fn what_may_go_goes_once_though_something_else_fails() {
    for (entries, made) in [("sdc 1 ext4 - y", 2), ("sdc any xfs - n ext4", 2), ("sdc any ext4 - n ext4", 2)]
    {
        let mut image = image(&[
            ("disks", "sdc mbr - y\n"),
            ("filesystems", &std::format!("{entries}\nsdz none ext4 - n\n")),
        ]);
        image.disks.disks.get_mut("sdc").unwrap().bytes[0] = 1;
        image.disks.disks.get_mut("sdc1").unwrap().bytes = ext4("theirs");
        assert!(image.converge("data_disks").is_err(), "there is no sdz");
        assert_eq!(come_true(&mut image), made, "{entries}");
        // The next boot, after somebody has written to it and divided the rest.
        image.disks.disks.get_mut("sdc1").unwrap().bytes = ext4("theirs");
        attach(&mut image.host, "sdc", 2);
        image.root.power_on(false);
        assert!(image.converge("data_disks").is_err());
        assert_eq!(image.system.runs, [""; 0], "{entries}");
    }
}

#[test]
fn without_room_for_its_note_nothing_is_taken() {
    for n in 1.. {
        let mut image = image(&[("filesystems", "sdc none ext4 - y\n")]);
        image.root.fail_at(n, crate::error::Errno::NOSPC);
        if image.converge("data_disks").is_ok() {
            assert!(n > 4, "{n}");
            break;
        }
        let noted = image.root.dump().keys().any(|path| path.contains("/making") || path.contains("/made-"));
        assert!(noted || image.system.runs.is_empty(), "{n}");
    }
}

const ALL: &[(&str, &str)] = &[
    ("disks", "/dev/sdc gpt 50,50:82 n\n"),
    ("filesystems", "sdc 1 ext4 my\\040data n - -i 8192\nsdc 2 swap - n\n"),
    ("mounts", "sdc.1 /srv/my\\040data\nsdc.2 none swap sw\n"),
    ("swap", "/var/swap/file 1M -\n"),
];

/// The same for disks that hold something.
const OVERWRITE: &[(&str, &str)] = &[
    ("disks", "/dev/sdc gpt 50,50:82 y\n"),
    ("filesystems", "sdc 1 ext4 my\\040data y - -i 8192\nsdc 2 swap - y\n"),
    ALL[2],
    ALL[3],
];

#[test]
fn a_blank_disk_gets_all_that_is_asked_for_and_a_second_run_makes_nothing() {
    let mut image = image(ALL);
    image.converge("data_disks").unwrap();
    assert_eq!(
        image.system.runs,
        [
            &std::format!("{SFDISK} ,16384,L\n,,S gpt /dev/sdc"),
            "/usr/sbin/mkfs.ext4 -q -E nodiscard -L my data -i 8192 /dev/sdc1",
            "/usr/sbin/mkswap /dev/sdc2",
            "/usr/bin/fallocate -l 1048576 /var/swap/file",
            "/usr/sbin/mkswap /var/swap/file",
            "/usr/sbin/swapon /var/swap/file",
            "/usr/sbin/swapon -a",
            "/usr/bin/mount /srv/my data",
        ]
    );
    let fstab = "# the image's\nUUID=1 / ext4 defaults 0 1\n\
                 /dev/sdc1\t/srv/my\\040data\tauto\tdefaults,nofail,x-systemd.after=preroot-apply.service,_netdev,comment=cloudconfig\t0\t2\n\
                 /dev/sdc2\tnone\tswap\tsw,comment=cloudconfig\t0\t2\n/var/swap/file\tnone\tswap\tsw\t0\t0\n";
    assert_eq!(image.text("etc/fstab"), fstab);
    assert!(
        image.root.owner("srv/my data").is_some() && image.root.owner("var/swap/file").unwrap().mode == 0o600
    );
    // As the programs left it, and once more.
    image.disks.disks.get_mut("sdc1").unwrap().bytes = ext4("my data");
    image.disks.disks.get_mut("sdc2").unwrap().bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
    image.system.runs.clear();
    let changes = image.root.changes();
    image.converge("data_disks").unwrap();
    assert_eq!(image.system.runs, ["/usr/sbin/swapon -a", "/usr/bin/mount /srv/my data"]);
    assert_eq!(image.text("etc/fstab"), fstab);
    // Mount points are made as if they were missing.
    assert!(image.root.changes() - changes <= 2);
}

#[test]
fn what_holds_something_stays_unless_it_may_go() {
    // Of 4 MiB: zeros but at this place.
    let at = |place: usize| {
        let mut bytes = std::vec![0; 4 << 20];
        bytes[place] = 1;
        bytes
    };
    let contents: [(&str, Vec<u8>); 7] = [
        ("bcache, or a disk whose first sectors were zeroed", at(4096 + 24)),
        ("an ISO or JFS", at(32 * 1024 + 1)),
        ("ZFS, its last label", at((4 << 20) - 1)),
        ("an ext4", ext4("theirs")),
        ("LUKS", [b"LUKS\xba\xbe".to_vec(), std::vec![0; 128 * 1024]].concat()),
        ("NTFS", [b"\xeb\x52\x90NTFS    ".to_vec(), std::vec![0; 128 * 1024]].concat()),
        ("something", [b"x".to_vec(), std::vec![0; 128 * 1024]].concat()),
    ];
    for (what, bytes) in contents {
        for (overwrite, runs) in [("n", 0), ("y", 2)] {
            let mut image = image(&[
                ("disks", &std::format!("sdc mbr - {overwrite}\n")),
                ("filesystems", &std::format!("sdc 1 xfs - {overwrite}\n")),
            ]);
            image.disks.disks.get_mut("sdc").unwrap().bytes = bytes.clone();
            image.disks.disks.get_mut("sdc1").unwrap().bytes = bytes.clone();
            // Where it was not divided there is no such partition.
            assert_eq!(image.converge("data_disks").is_ok(), overwrite == "y", "{what}");
            assert_eq!(
                image.system.runs.len(),
                runs,
                "{what}, overwrite {overwrite}: {:?}",
                image.system.runs
            );
        }
    }
    // In use it is nobody's to take.
    let mut image = image(&[("disks", "sdc mbr - y\n"), ("filesystems", "sdc none xfs - y\n")]);
    image.disks.disks.get_mut("sdc").unwrap().in_use = true;
    image.converge("data_disks").unwrap();
    assert!(image.system.runs.is_empty());
}

#[test]
fn a_bad_entry_is_told_and_stops_no_other() {
    let mut image = image(&[
        ("disks", "sdz gpt - n\nnonsense\n"),
        ("filesystems", "sdc none zzz - n\nsdc none xfs - n\n"),
        ("mounts", "sdc /data\nserver:/export /net nfs\n"),
    ]);
    let error = image.converge("data_disks").unwrap_err();
    assert!(error.is(Kind::Unsupported) && error.reason() == "no such device", "{error}");
    assert_eq!(image.system.runs, ["/usr/sbin/mkfs.xfs -q -K -f /dev/sdc", "/usr/bin/mount /data"]);
    assert!(image.run.text("remote-mounts").is_some(), "what is another machine's waits for the network");
    let fstab = image.text("etc/fstab");
    assert!(
        fstab.contains("/dev/sdc\t/data\tauto") && fstab.contains("server:/export\t/net\tnfs"),
        "{fstab}"
    );
}

#[test]
fn what_is_mounted_stays_and_of_a_network_nothing_is_mounted_here() {
    let mut mounts = String::from("sdc /data\nsdd /there\nsde /never - noauto\n");
    for n in 0..200 {
        mounts +=
            &std::format!("//acct.file.core.windows.net/s{n} /mnt/{n} cifs nofail,credentials=/etc/c{n}\n");
    }
    mounts += "srv:/x /y\n";
    let mut image = image(&[("mounts", &mounts)]);
    image.host.put("proc/mounts", "/dev/sdd /there ext4 rw 0 0\n");
    image.converge("data_disks").unwrap();
    assert_eq!(image.system.runs, ["/usr/bin/mount /data"]);
    assert!(image.text("etc/fstab").contains("//acct.file.core.windows.net/s199\t/mnt/199\tcifs\t"));
}

#[test]
fn names_of_udev_lead_to_the_disk_and_stay_in_fstab() {
    let mut image = image(&[
        ("filesystems", "/dev/disk/azure/scsi1/lun0 none ext4 - n\n"),
        ("mounts", "/dev/disk/azure/scsi1/lun0 /data\n"),
    ]);
    image.host.put_symlink("dev/disk/azure/scsi1/lun0", "../../../sdc");
    image.converge("data_disks").unwrap();
    assert_eq!(image.system.runs[0], "/usr/sbin/mkfs.ext4 -q -E nodiscard -F /dev/sdc");
    assert!(image.text("etc/fstab").contains("/dev/disk/azure/scsi1/lun0\t/data\tauto"));
}

#[test]
fn a_swap_file_of_any_size_suits_memory() {
    // A GiB of memory, at most two MiB wanted.
    let mut image = image(&[("swap", "/var/swap/file auto 2M\n")]);
    image.converge("data_disks").unwrap();
    assert_eq!(image.system.runs[0], "/usr/bin/fallocate -l 2097152 /var/swap/file");
    let mut image = super::data_disks::image(&[("swap", "/var/swap/file much -\n")]);
    assert!(image.converge("data_disks").unwrap_err().is(Kind::Malformed));
}

#[test]
fn devices_of_mounts_are_cloud_init_s() {
    cases::run("mounts_sanitize_devname", |case| {
        if case.name == "meta_partition_p" {
            return Answer::Differs("the kernel gives no partition of sda such a name");
        }
        let mut host = FakeDir::default();
        for name in case.input["sys_block"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            host.put(&std::format!("sys/class/block/{name}/dev"), "8:0\n");
            if let Some((_, partition)) = name.split_once('/') {
                host.put(&std::format!("sys/class/block/{partition}/dev"), "8:1\n");
            }
        }
        // The cloud's names and aliases are resolved by who writes the entry.
        let spec = case.text("spec");
        let (name, number) = spec.split_once('.').map_or((spec, ""), |(name, number)| (name, number));
        let known = case.input["map"][name].as_str().or(case.input["aliases"][name].as_str()).unwrap_or(name);
        let name = if number.is_empty() { known.to_string() } else { std::format!("{known}.{number}") };
        let found = resolve(&mut host, name.as_bytes());
        let found = found.map(|it| String::from_utf8(it.to_vec()).unwrap());
        // What it does not know stays as it is.
        Answer::Is(json!(found.or_else(|| spec.contains(":/").then(|| spec.to_string()))))
    });
}

#[test]
fn a_power_cut_anywhere_converges() {
    let mut whole = image(ALL);
    whole.converge("data_disks").unwrap();
    let wanted = whole.text("etc/fstab");
    for (keep_names, entries) in [(false, ALL), (true, ALL), (false, OVERWRITE), (true, OVERWRITE)] {
        let mut cuts = 0;
        for n in 1.. {
            let mut image = image(entries);
            if entries == OVERWRITE {
                image.disks.disks.get_mut("sdc").unwrap().bytes[0] = 1;
                image.disks.disks.get_mut("sdc1").unwrap().bytes = ext4("theirs");
                image.disks.disks.get_mut("sdc2").unwrap().bytes = ext4("theirs");
            }
            image.root.cut_power_at(n);
            if image.converge("data_disks").is_ok() {
                break;
            }
            cuts = n;
            come_true(&mut image);
            image.root.power_on(keep_names);
            let _ = image.host.remove("proc/swaps");
            image.converge("data_disks").unwrap();
            assert_eq!(image.text("etc/fstab"), wanted, "cut {n}");
            let swap = image.root.stat("var/swap/file").unwrap();
            assert_eq!((swap.mode, swap.size), (0o600, 1 << 20), "cut {n}");
            come_true(&mut image);
            let bytes = |name: &str| &image.disks.disks[name].bytes;
            assert!(*bytes("sdc1") == ext4("my data"), "cut {n}");
            assert!(bytes("sdc2")[4086..].starts_with(b"SWAPSPACE2"), "cut {n}");
            // Even if it runs once more, what was written since stays.
            image.disks.disks.get_mut("sdc1").unwrap().bytes[100_000] = 1;
            image.converge("data_disks").unwrap();
            assert_eq!(come_true(&mut image), 0, "cut {n}");
        }
        assert!(cuts > 5, "{cuts}");
    }
}

#[test]
fn a_device_that_comes_late_is_waited_for_and_one_that_does_not_is_told() {
    let mut image = image(&[("filesystems", "sdd none ext4 - n\nsdd 1 ext4 - n\nsdc 1 ext4 - n\n")]);
    let error = image.converge("data_disks").unwrap_err();
    assert!(error.reason() == "no such device" && image.system.runs.is_empty(), "{error}");
    // All of them together.
    assert_eq!(image.clock.sleeps.iter().sum::<u64>(), crate::limits::TEMPORARY_DISK_MS);
    let mut image = super::data_disks::image(&[("filesystems", "sdc 1 ext4 - n\n")]);
    let error = image.converge("data_disks").unwrap_err();
    assert!(error.is(Kind::Unsupported) && error.reason() == "no such partition", "{error}");
    attach(&mut image.host, "sdc", 1);
    image.converge("data_disks").unwrap();
    assert_eq!(image.system.runs, ["/usr/sbin/mkfs.ext4 -q -E nodiscard /dev/sdc1"]);
}

#[test]
fn the_accounts_do_not_wait_for_ever() {
    let mut image = image(ALL);
    // Every look at the clock takes ten seconds: nine of them, and all that is left is refused.
    image.clock.tick_us = 10_000_000;
    let error = image.converge("data_disks").unwrap_err();
    assert!(error.is(Kind::Deadline), "{error}");
    assert!(image.clock.us < 2 * crate::limits::DATA_DISKS_MS * 1000 + 60_000_000, "{}", image.clock.us);
    assert!(image.system.runs.iter().all(|run| !run.contains("/mount ")), "{:?}", image.system.runs);
}

#[test]
fn a_swap_file_that_cannot_be_used_takes_no_room() {
    for tick_us in [0, 6_000_000] {
        let mut image = image(&[("swap", "/var/swap/file 1M -\n")]);
        image.root.put("usr/bin/chattr", "");
        image.clock.tick_us = tick_us;
        image.system.acts = Some(std::boxed::Box::new(|argv: &[&str]| {
            Ok(if argv[0] == "/usr/sbin/swapon" && argv[1] != "-a" { 255 } else { 0 })
        }));
        assert!(image.converge("data_disks").is_err());
        assert_eq!(image.system.runs[0], "/usr/bin/chattr +C /var/swap/file");
        assert!(image.root.stat("var/swap/file").is_err(), "{tick_us}");
        assert!(image.clock.us < 150_000_000, "{}", image.clock.us);
    }
}
