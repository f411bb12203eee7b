//! `_start` and the memory functions the compiler may call. Part of the binary only (tests have a C runtime).
//!
//! `x86_64-unknown-linux-gnu`'s `compiler_builtins` comes without `memcpy` and its kin because libc is expected
//! to bring them. They are assembly so that the optimiser cannot turn a body back into a call to itself.
#![expect(unsafe_code, reason = "program entry: the kernel hands over a raw stack")]

use core::arch::{global_asm, naked_asm};

/// First instruction of the process. The kernel enters with the stack pointer at argc (x86-64 psABI 3.4.1).
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16", // the ABI wants rsp % 16 == 8 after the call
        "call {start}",
        "ud2",
        start = sym start,
    )
}

unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `stack` is the kernel's initial stack: argc, argv[argc], NULL, envp, NULL, auxv, all static for the process.
    let arguments = unsafe {
        let count = *stack;
        let argv = stack.add(1).cast::<*const core::ffi::c_char>();
        // rustix reads AT_SYSINFO_EHDR and AT_PAGESZ from the vector behind envp.
        rustix::param::init(argv.add(count).add(1).cast::<*mut u8>().cast_mut());
        core::slice::from_raw_parts(argv.cast::<Argument>(), count)
    };
    let code = crate::run(arguments);
    preroot::sys::linux::exit(code)
}

/// One entry of argv.
#[repr(transparent)]
pub(crate) struct Argument(*const core::ffi::c_char);

impl Argument {
    /// Its text; `None` when it is not UTF-8.
    pub(crate) fn text(&self) -> Option<&'static str> {
        // SAFETY: the kernel ends each argument with NUL and keeps it for the life of the process.
        unsafe { core::ffi::CStr::from_ptr(self.0) }.to_str().ok()
    }
}

global_asm!(
    ".macro FN name",
    ".section .text.\\name,\"ax\",@progbits",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    ".endm",
    "FN memcpy",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "FN memmove",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f", // destination inside the source: copy backwards
    "rep movsb",
    "ret",
    "2: lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "FN memset",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "FN memcmp",
    ".globl bcmp",
    ".type bcmp,@function",
    "bcmp:", // two labels, one body: they must stay in one section
    "xor eax, eax",
    "xor ecx, ecx",
    "2: cmp rcx, rdx",
    "je 3f",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r8d, byte ptr [rsi + rcx]",
    "inc rcx",
    "sub eax, r8d",
    "je 2b",
    "3: ret",
    "FN strlen",
    "xor eax, eax",
    "2: cmp byte ptr [rdi + rax], 0",
    "je 3f",
    "inc rax",
    "jmp 2b",
    "3: ret",
    ".purgem FN",
);

// The prebuilt `core` was compiled for unwinding; without LTO its landing pads still name these two.
// panic=abort never reaches them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    preroot::sys::linux::exit(102)
}
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    preroot::sys::linux::exit(102)
}
