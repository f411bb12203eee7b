//! What cloud-init's growpart and resizefs decide, beside us.

use super::machine::{Format, Layout, Machine, scratch};
use super::tests::{AZURE, enlarged};
use super::{Outcome, after_mount, file_system};
use crate::format::cases::{Answer, Case, run};
use crate::format::root_arg::{RootArg, parse};
use crate::format::superblock::FileSystem;
use serde_json::{Value, json};

/// In the words of cc_growpart.
fn status(outcome: crate::error::Result<Outcome>) -> &'static str {
    match outcome {
        Ok(Outcome::Grown) => "CHANGED",
        Ok(Outcome::Nothing) => "NOCHANGE",
        Ok(Outcome::LeftAlone | Outcome::NotFound) => "SKIPPED",
        _ => "FAILED",
    }
}

fn said(outcome: crate::error::Result<Outcome>) -> Answer {
    Answer::Is(json!({ "status": status(outcome) }))
}

/// Where `device` is what is mounted.
fn mounted_on(device: &str, uuid: &str) -> crate::error::Result<Outcome> {
    let mut machine = Machine::boot(enlarged(), "/dev/mapper/x");
    let base = std::format!("sys/devices/x/{device}");
    machine
        .world
        .host
        .put(&std::format!("{base}/dm/uuid"), uuid)
        .put_symlink(&std::format!("sys/class/block/{device}"), &std::format!("../../devices/x/{device}"))
        .put_symlink("sys/dev/block/0:0", &std::format!("../../devices/x/{device}"));
    after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false)
}

fn growpart(case: &Case) -> Answer {
    const EARLY: &str = "the root grows before any cloud-config is read; rd.preroot.grow=0 is the switch";
    const TOOL: &str = "no tool is needed";
    let grow = |disk| Machine::boot(disk, "/dev/sda1").before_mount(false);
    match case.name.as_str() {
        "mode_off" => {
            let mut machine = Machine::boot(enlarged(), "/dev/sda1 rd.preroot.grow=0");
            assert_eq!(status(machine.before_mount(false)), "SKIPPED");
            assert!(machine.drive.disk.journal.is_empty());
            Answer::Is(json!({"action": "none"}))
        }
        "mode_false_deprecated" | "growroot_disabled_marker" | "empty_devices" => Answer::Differs(EARLY),
        "auto_without_tool_is_silent" | "growpart_without_tool_raises" => Answer::Differs(TOOL),
        "absent_defaults" => Answer::Differs("there is no such configuration: the root grows, nothing else"),
        "growroot_disabled_ignored" => {
            assert_eq!(status(grow(enlarged())), "CHANGED");
            Answer::Is(json!({"action": "resize"}))
        }
        "device_changed" => said(grow(enlarged())),
        "device_not_changed" | "dry_run_exit_1_means_no_change" => said(grow(AZURE.image())),
        "device_missing" => said(Machine::boot(enlarged(), "/dev/sdz3").before_mount(false)),
        "dry_run_other_exit_fails" => {
            let mut machine = Machine::boot(enlarged(), "/dev/sda1");
            machine.drive.disk.put(512 + 60, &[1]);
            machine.drive.disk.put((2 << 30) - 512 + 60, &[1]);
            said(machine.before_mount(false))
        }
        "whole_disk_not_partition" => said(mounted_on("vda", "")),
        "dm_not_encrypted" => said(mounted_on("dm-0", "LVM-abc")),
        "luks_no_keydata" => Answer::Differs(
            "the partition grows all the same: the next opening has all of it, without any key",
        ),
        "luks_with_keydata" => Answer::Differs(
            "no key lies on a disk: the mapping is resized with the kernel's copy, and only on request",
        ),
        other => panic!("{other}: a new case"),
    }
}

#[test]
fn cases_of_growpart() {
    run("growpart_decisions", growpart);
}

/// What each does in words of the other: which file system is told, at which path.
fn resizefs(case: &Case) -> Answer {
    let file_system = match case.text("fstype") {
        "ext2" | "ext3" | "ext4" => FileSystem::Ext4,
        "xfs" => FileSystem::Xfs,
        "btrfs" => FileSystem::Btrfs,
        _ => return Answer::Differs("not a file system of Linux, or not supported: said and left alone"),
    };
    let mut world = match file_system {
        FileSystem::Ext4 => crate::disk::filesystem::tests::mounted(25600, 200, 1),
        other => crate::disk::filesystem::tests::other(other, 300, 900),
    };
    if case.input["root_read_only"] == json!(true) {
        world.system.read_only.insert("/".into());
    }
    file_system_grows(&mut world);
    let path = world.system.resized.last().unwrap().0.clone();
    let device = case.text("device");
    let words: std::vec::Vec<&str> = match file_system {
        FileSystem::Ext4 => std::vec!["resize2fs", device],
        FileSystem::Xfs => std::vec!["xfs_growfs", &path],
        // Since 5.10 the program waits for its turn; the ioctl of any kernel says that it is not.
        FileSystem::Btrfs if case.text("progs") == "5.9" => {
            std::vec!["btrfs", "filesystem", "resize", "max", &path]
        }
        FileSystem::Btrfs => std::vec!["btrfs", "filesystem", "resize", "--enqueue", "max", &path],
    };
    Answer::Is(words.into_iter().map(Value::from).collect())
}

fn file_system_grows(world: &mut crate::sys::fake::World) {
    let _ = file_system(&mut world.kernel(), "/");
}

#[test]
fn cases_of_resizefs() {
    run("resizefs_commands", resizefs);
}

#[test]
fn cases_of_root_on_the_command_line() {
    run("rootdev_from_cmdline", |case| {
        let line = case.input["args"][0].as_str().unwrap();
        let path = match parse(line) {
            Ok(None) => return Answer::Is(Value::Null),
            Ok(Some(RootArg::Device(name))) => std::format!("/dev/{name}"),
            Ok(Some(RootArg::Label(label))) => std::format!("/dev/disk/by-label/{label}"),
            Ok(Some(RootArg::Uuid(uuid))) => std::format!("/dev/disk/by-uuid/{uuid}"),
            Ok(Some(other)) => panic!("{other:?}"),
            Err(_) if line.contains("sda1") => {
                return Answer::Differs(
                    "neither kernel, dracut nor initramfs-tools knows a name without /dev/",
                );
            }
            Err(_) => return Answer::Differs("a UUID of FAT: no root that grows has one"),
        };
        Answer::Is(path.into())
    });
}

/// growpart's own tables are MBRs as often: the same answers.
#[test]
fn an_mbr_gives_the_same_answers() {
    let mbr = Layout { kind: Format::Mbr(0), parts: &[(1, 1, 2047)], ..AZURE };
    let grow = |disk| Machine::boot(disk, "/dev/sda1").before_mount(false);
    assert_eq!(status(grow(mbr.image())), "NOCHANGE");
    assert_eq!(status(grow(mbr.image().enlarged(8 << 30))), "CHANGED");
}
