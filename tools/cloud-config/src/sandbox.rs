//! What can this process still do? Read and write what is open, take memory up to a limit, end: nothing else, before the
//! first byte of user data is read.
//!
//! Each layer alone would do; all that the kernel offers are taken. Without seccomp nothing is read at all.

use crate::limits;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("no filter of system calls for this architecture: without one nothing is read");

/// Closes everything. What the kernel does not have is left out, but for the filter of system calls. What is open may
/// grow to `file_size` bytes: 0 for whoever has pipes; a person may have given a file.
///
/// # Errors
/// Where no filter can be installed.
pub fn enter(file_size: u64) -> io::Result<()> {
    // Another process of this user may neither look into this one nor change it.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    limit(Resource::As, limits::MEMORY);
    limit(Resource::Cpu, limits::CPU_S);
    limit(Resource::Core, 0);
    limit(Resource::Fsize, file_size);
    limit(Resource::Nproc, 0);
    rustix::thread::set_no_new_privs(true)
        .map_err(|code| io::Error::from_raw_os_error(code.raw_os_error()))?;
    leave();
    // Best effort: before 5.13 there is none, and later kernels know more of it.
    let _ = landlocked();
    limit(Resource::Nofile, 0);
    filtered().map_err(io::Error::other)
}

fn limit(resource: Resource, most: u64) {
    let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Empty namespaces: of users where anyone may make one, else as root can without.
#[expect(unsafe_code, reason = "unshare(2) in rustix is unsafe for CLONE_FILES, which is not asked for")]
fn leave() {
    let others = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    // SAFETY: without CLONE_FILES no descriptor changes its meaning; this process has one thread.
    let unshared = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    let _ = unshared(others | UnshareFlags::NEWUSER).or_else(|_| unshared(others));
}

/// No rule allows anything.
fn landlocked() -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()
        .map(drop)
}

/// System calls of a std program that has its files open; others kill it. Memory is never executable.
fn filtered() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let is_data = || SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(4), 0);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_getrandom,
        libc::SYS_futex,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        rules.insert(call, Vec::new());
    }
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![is_data()?])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![is_data()?])?]);
    // Itself: that is how a panic ends.
    let me = u64::from(std::process::id());
    let is_me = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, me)?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![is_me])?]);
    // std's debug assertions look whether what is closed was open.
    let asks = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::F_GETFD as u64)?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![asks])?]);
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}
