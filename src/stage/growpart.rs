//! `growpart DISK N`: the program of cloud-guest-utils for tools and images that call it, same command line, same lines,
//! same exit codes (0 changed, 1 nothing to change, 2 failed); our own ordered writes.
//!
//! Its ends are growpart's, up to the last block, not aligned: what asks for `growpart` compares with what it would do.

use super::grow::check_room;
use super::grow::show::{self, Shown, Target};
use crate::cli::growpart::{Growpart, Refused, parse};
use crate::disk::grow::{Growth, Rules, plan};
use crate::disk::table::{Source, Space, Table};
use crate::disk::{commit, sysfs};
use crate::error::Result;
use crate::format::gpt::BlockSize;
use crate::sys::Kernel;
use crate::sys::linux::{self, Linux};
use core::fmt::Write;

const USAGE: &str = "\
growpart disk partition
   rewrite partition table so that partition takes up all the space it can
   options:
    -h | --help            print Usage and exit
         --free-percent F  resize so that F percent of the disk stay unused
         --fudge F         do not resize for less than F bytes (default: 1048576)
    -N | --dry-run         only report what would be done
    -v | --verbose         show the table before and after
    -u | --update  R       'off': do not tell the kernel

   Example:
    - growpart /dev/sda 1
      Resize partition 1 on /dev/sda
";
const NOTHING: u8 = 1;
const FAILED: u8 = 2;
/// Blocks that growpart leaves at the end of every disk: room for the backup of a GPT.
const END_BLOCKS: u64 = 33;
/// First sector beyond an MBR.
const MBR_SECTORS: u64 = 1 << 32;

/// Runs it; returns the exit code.
#[inline(never)]
#[must_use]
pub fn run(words: &mut dyn Iterator<Item = Option<&'static str>>) -> u8 {
    let out = &mut linux::Stdout;
    match parse(words) {
        Ok(asked) => act(&asked, out).unwrap_or_else(|error| {
            let _ = writeln!(out, "FAILED: {}: {error}", asked.disk);
            FAILED
        }),
        Err(Refused::Help) => {
            linux::print(USAGE);
            0
        }
        Err(Refused::Usage(why)) => {
            let _ = write!(linux::Stderr, "{USAGE}{why}");
            FAILED
        }
        Err(Refused::Failed(why, word)) => {
            let _ = writeln!(out, "FAILED: {why}{word}");
            FAILED
        }
    }
}

fn act(asked: &Growpart, out: &mut dyn Write) -> Result<u8> {
    let Some(scratch) = linux::take_scratch() else { return Ok(FAILED) };
    let mut linux = Linux::open("/", "/", true)?;
    let kernel = &mut linux.kernel();
    let target = match Target::of(kernel, asked.disk) {
        Err(error) if error.is_not_found() => {
            let _ = writeln!(out, "FAILED: {}: does not exist", asked.disk);
            return Ok(FAILED);
        }
        other => other?,
    };
    let mut space = Space::new(&mut scratch.bytes)?;
    grow(kernel, asked, &target, &mut space, out)
}

fn grow(
    kernel: &mut Kernel<'_>,
    asked: &Growpart,
    target: &Target,
    space: &mut Space<'_>,
    out: &mut dyn Write,
) -> Result<u8> {
    let name = &*target.name;
    let block = if target.is_device { sysfs::block_size(kernel.host, name)? } else { BlockSize::new(512)? };
    let table = show::read(kernel.disks, name, block, space)?;
    let free_blocks = free_blocks(asked, &table);
    let rules = Rules { alignment: 0, least_bytes: asked.fudge_bytes, free_blocks, end_blocks: END_BLOCKS };
    let growth = plan(&table, space.array, asked.number, None, rules)?;
    if !growth.needs_table() {
        mend(kernel, asked, name, &table, &growth, space)?;
        say_nothing(asked, &growth, free_blocks, out);
        return Ok(NOTHING);
    }
    if asked.is_verbose || asked.dry_run {
        let shown = Shown { name: asked.disk, table: &table, growth: Some(&growth) };
        show::print(kernel.disks, name, &shown, space, &mut linux::Stderr)?;
    }
    if asked.dry_run {
        say_change("CHANGE", &growth, out);
        return Ok(0);
    }
    if target.is_device && !growth.is_token {
        check_room(kernel, name, &growth)?;
    }
    kernel.disks.open_write(name, &mut |disk| commit::write(disk, &table, &growth, space))?;
    let is_told = target.is_device && asked.update && !growth.is_token;
    if is_told && sysfs::partition(kernel.host, name, asked.number)?.is_some() {
        kernel.disks.resize_partition(name, growth.kernel_partition())?;
    }
    say_change("CHANGED", &growth, out);
    Ok(0)
}

/// A copy of the table that was torn is written from the other, also where nothing grows: whoever calls this means the
/// disk to have a table that the kernel reads. growpart leaves it to the next program that writes.
fn mend(
    kernel: &mut Kernel<'_>,
    asked: &Growpart,
    name: &str,
    table: &Table,
    growth: &Growth,
    space: &mut Space<'_>,
) -> Result<()> {
    let copy = match table.source {
        Source::Backup => "primary",
        Source::Primary if growth.repairs_backup => "backup",
        Source::Primary => return Ok(()),
    };
    let what = if asked.dry_run { "is damaged" } else { "was damaged and is written anew" };
    let _ = writeln!(linux::Stderr, "growpart: {}: the {copy} partition table {what}", asked.disk);
    if asked.dry_run {
        return Ok(());
    }
    let copies = Growth { mbr_blocks: None, ..*growth };
    kernel.disks.open_write(name, &mut |disk| commit::write(disk, table, &copies, space))
}

/// `--free-percent`, in growpart's integers. What an MBR cannot reach is free anyway.
fn free_blocks(asked: &Growpart, table: &Table) -> u64 {
    let free = (table.disk.blocks / 100).saturating_mul(asked.free_percent);
    if table.is_mbr { free.saturating_sub(table.disk.blocks.saturating_sub(MBR_SECTORS)) } else { free }
}

fn say_nothing(asked: &Growpart, growth: &Growth, free_blocks: u64, out: &mut dyn Write) {
    let number = asked.number;
    let _ = if asked.free_percent > 0 && growth.limit < growth.old_last_lba {
        let percent = asked.free_percent;
        writeln!(
            out,
            "NOCHANGE: partition {number} could not be grown while leaving {percent}% ({free_blocks} sectors) free on device"
        )
    } else if growth.limit == growth.old_last_lba {
        let size = growth.old_last_lba.saturating_sub(growth.first_lba).saturating_add(1);
        writeln!(out, "NOCHANGE: partition {number} is size {size}. it cannot be grown")
    } else {
        let by = growth.limit.cast_signed().saturating_sub(growth.old_last_lba.cast_signed());
        let fudge = asked.fudge_bytes / growth.disk.block.bytes();
        writeln!(out, "NOCHANGE: partition {number} could only be grown by {by} [fudge={fudge}]")
    };
}

fn say_change(word: &str, growth: &Growth, out: &mut dyn Write) {
    let Growth { number, first_lba, old_last_lba: old, new_last_lba: new, .. } = *growth;
    let size = |last: u64| last.saturating_sub(first_lba).saturating_add(1);
    let _ = writeln!(
        out,
        "{word}: partition={number} start={first_lba} old: size={} end={old} new: size={} end={new}",
        size(old),
        size(new)
    );
}
