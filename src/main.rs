//! The freestanding program: arguments in, exit code out. Everything else is the library.
#![no_std]
#![no_main]

#[path = "sys/start.rs"]
mod start;

use preroot::{cli, stage};
use start::Argument;

/// Called once by `_start`.
fn run(arguments: &[Argument]) -> u8 {
    if let Some(words) = cli::behind_growpart(&mut arguments.iter().take(2).map(Argument::text)) {
        return stage::growpart::run(&mut arguments.iter().skip(words).map(Argument::text));
    }
    let mut words = arguments.iter().skip(1).map(Argument::text);
    match cli::parse(&mut words) {
        Ok(command) => stage::run(&command),
        Err(usage) => stage::usage(usage),
    }
}

#[panic_handler]
#[expect(
    unused_attributes,
    reason = "it is heeded: inlined, nobody reads the message, and 6 KB of formatting go"
)]
#[inline(always)]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    preroot::sys::linux::panicked(info)
}
