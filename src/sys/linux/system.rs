//! What does the kernel do for us beyond files, disks and links? Modules, names, randomness, mounts.

use super::netlink::LinkWatch;
use super::{mount, process};
use super::{open_path, refused};
use crate::error::{Errno, Result};
use crate::format::rtnetlink::LinkChange;
use crate::limits::MODULE_PARAMETERS;
use crate::sys::{Loaded, Messages, Mounted, System, Talk};
use core::ffi::CStr;
use rustix::fs::OFlags;
use rustix::io::Errno as Code;

/// `MODULE_INIT_COMPRESSED_FILE` (include/uapi/linux/module.h, 5.17).
const COMPRESSED_FILE: i32 = 4;

/// The running kernel.
#[derive(Default)]
pub struct LinuxSystem {
    /// What announces interfaces, once somebody follows them.
    watch: Option<LinkWatch>,
}

impl System for LinuxSystem {
    fn load_module(&mut self, path: &str, parameters: &str, compressed: bool) -> Result<Loaded> {
        let file = open_path(path, OFlags::RDONLY | OFlags::CLOEXEC)
            .map_err(|code| refused(os!("open module file"), code))?;
        let flags = if compressed { COMPRESSED_FILE } else { 0 };
        let mut text = [0; MODULE_PARAMETERS];
        let place = text.get_mut(..parameters.len()).filter(|place| place.len() < MODULE_PARAMETERS);
        let full = too_many!("module parameters", MODULE_PARAMETERS);
        place.ok_or(full)?.copy_from_slice(parameters.as_bytes());
        let words = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        match rustix::system::finit_module(&file, words, flags) {
            Ok(()) => Ok(Loaded::Now),
            Err(Code::EXIST) => Ok(Loaded::Before),
            Err(Code::NODEV) => Ok(Loaded::NoHardware),
            // 5.17 and later without MODULE_DECOMPRESS say EOPNOTSUPP, earlier kernels do not know the flag.
            Err(Code::OPNOTSUPP | Code::INVAL) if compressed => Err(unsupported!(
                "compressed module",
                "kernel without CONFIG_MODULE_DECOMPRESS or for another compression"
            )),
            Err(code) => Err(refused(os!("load module"), code)),
        }
    }

    fn kernel_release<'b>(&mut self, buf: &'b mut [u8]) -> &'b str {
        let names = rustix::system::uname();
        let release = names.release().to_bytes();
        let Some(place) = buf.get_mut(..release.len()) else { return "" };
        place.copy_from_slice(release);
        core::str::from_utf8(place).unwrap_or_default()
    }

    fn set_hostname(&mut self, name: &str) -> Result<()> {
        rustix::system::sethostname(name.as_bytes()).map_err(|code| refused(os!("set host name"), code))
    }

    fn random(&mut self, buf: &mut [u8]) -> Result<()> {
        let mut rest = buf;
        while !rest.is_empty() {
            match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::NONBLOCK) {
                Ok(filled) => rest = rest.get_mut(filled..).unwrap_or_default(),
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("random bytes"), code)),
            }
        }
        Ok(())
    }

    fn add_entropy(&mut self, bytes: &[u8]) -> Result<()> {
        let generator = open_path("/dev/urandom", OFlags::WRONLY | OFlags::CLOEXEC)
            .map_err(|code| refused(os!("open /dev/urandom"), code))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&generator, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("write /dev/urandom"), code)),
            }
        }
        Ok(())
    }

    fn with_kvp(&mut self, work: &mut dyn FnMut(&mut dyn Messages) -> Result<()>) -> Result<()> {
        work(&mut super::kvp::Device::open()?)
    }

    fn is_hyperv(&mut self) -> bool {
        hypervisor_name() == *b"Microsoft Hv"
    }

    fn remount(&mut self, path: &str, read_only: bool) -> Result<bool> {
        let state = rustix::fs::statvfs(path).map_err(|code| refused(os!("statfs"), code))?;
        let was_read_only = state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        if was_read_only != read_only {
            let flags = mount_flags(state.f_flag, read_only);
            rustix::mount::mount_remount(path, flags, c"").map_err(|code| refused(os!("remount"), code))?;
        }
        Ok(was_read_only)
    }

    fn mounted(&mut self, path: &str) -> Result<Mounted> {
        mount::mounted(path)
    }

    fn resize(&mut self, path: &str, mounted: &Mounted, bytes: u64) -> Result<()> {
        mount::resize(path, mounted, bytes)
    }

    fn pid(&mut self) -> u32 {
        rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
    }

    fn kill(&mut self, pid: u32) -> Result<()> {
        process::kill(pid)
    }

    fn follow_links(&mut self) -> Result<()> {
        if self.watch.is_none() {
            self.watch = Some(LinkWatch::open()?);
        }
        Ok(())
    }

    fn link_changes(&mut self, until_us: u64, each: &mut dyn FnMut(LinkChange)) -> Result<()> {
        match &self.watch {
            Some(watch) => watch.read(until_us, each),
            None => Err(os!("interfaces that nobody follows", Errno::INVAL)),
        }
    }

    fn run(&mut self, root: &str, argv: &[&str], timeout_ms: u64) -> Result<i32> {
        process::run(root, argv, process::NOWHERE, timeout_ms, None)
    }

    fn run_logged(
        &mut self,
        root: &str,
        argv: &[&str],
        log: &str,
        timeout_ms: u64,
        beat: &mut dyn FnMut(),
    ) -> Result<i32> {
        process::run(root, argv, log, timeout_ms, Some(beat))
    }

    fn run_talking(
        &mut self,
        root: &str,
        argv: &[&str],
        timeout_ms: u64,
        room: &mut [u8],
        talk: &mut dyn Talk,
    ) -> Result<i32> {
        super::talk::run(root, argv, timeout_ms, room, talk)
    }
}

/// Remount sets every per-mount flag anew, so the present ones are said again.
fn mount_flags(now: rustix::fs::StatVfsMountFlags, read_only: bool) -> rustix::mount::MountFlags {
    use rustix::fs::StatVfsMountFlags as Now;
    use rustix::mount::MountFlags as Flag;
    let pairs = [
        (Now::NOSUID, Flag::NOSUID),
        (Now::NODEV, Flag::NODEV),
        (Now::NOEXEC, Flag::NOEXEC),
        (Now::SYNCHRONOUS, Flag::SYNCHRONOUS),
        (Now::NOATIME, Flag::NOATIME),
        (Now::NODIRATIME, Flag::NODIRATIME),
        (Now::RELATIME, Flag::RELATIME),
    ];
    let kept = pairs.iter().filter(|(present, _)| now.contains(*present));
    let flags = kept.fold(Flag::empty(), |flags, (_, flag)| flags | *flag);
    if read_only { flags | Flag::RDONLY } else { flags }
}

/// CPUID leaf 0x40000000, if leaf 1 says that there is a hypervisor (bit 31 of ECX). Source: Hypervisor Top
/// Level Functional Specification 2.4.1.
fn hypervisor_name() -> [u8; 12] {
    use core::arch::x86_64::__cpuid;
    let mut name = [0; 12];
    if __cpuid(1).ecx & (1 << 31) != 0 {
        let leaf = __cpuid(0x4000_0000);
        for (place, word) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{LinuxSystem, mount_flags};
    use crate::sys::System;
    use rustix::fs::StatVfsMountFlags as Now;
    use rustix::mount::MountFlags as Flag;

    #[test]
    fn the_running_kernel_has_a_release() {
        let mut buf = [0; 65];
        let said = LinuxSystem::default().kernel_release(&mut buf);
        assert_eq!(said, std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
        assert_eq!(LinuxSystem::default().kernel_release(&mut [0; 1]), "");
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        LinuxSystem::default().random(&mut a).unwrap();
        LinuxSystem::default().random(&mut b).unwrap();
        assert_ne!(a, b);
    }

    #[test]
    fn the_generator_takes_bytes_from_anyone() {
        LinuxSystem::default().add_entropy(b"preroot test").unwrap();
    }

    #[test]
    fn a_remount_keeps_what_the_mount_had() {
        let kept = mount_flags(Now::RDONLY | Now::NOSUID | Now::RELATIME, false);
        assert_eq!(kept, Flag::NOSUID | Flag::RELATIME);
        assert_eq!(mount_flags(Now::NODEV, true), Flag::NODEV | Flag::RDONLY);
    }

    #[test]
    fn no_file_is_no_module() {
        assert!(LinuxSystem::default().load_module("/nonexistent.ko", "", false).unwrap_err().is_not_found());
    }
}
