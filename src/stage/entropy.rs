//! Is there randomness for a salt, this early in a boot?

use crate::error::{Errno, Result};
use crate::format::sha512_crypt::RANDOM;
use crate::limits;
use crate::sys::Kernel;

/// Randomness from Azure's host: an ACPI table with a header of 36 bytes.
const TABLE: &str = "sys/firmware/acpi/tables/OEM0";
/// More of the table than this is not read; it has some hundred bytes.
const TABLE_BYTES: usize = 1024;

/// Fills `buf` from the kernel's generator, which first gets the host's randomness, as cloud-init's
/// seed_random does: mixed in, without credit, so that a table that is not random harms nothing.
///
/// # Errors
/// `Deadline` after [`limits::SALT_MS`] in which the generator was not seeded; `Os`.
pub fn fill(kernel: &mut Kernel<'_>, buf: &mut [u8]) -> Result<()> {
    feed(kernel);
    let until_us = kernel.clock.now_us().saturating_add(limits::SALT_MS * 1000);
    loop {
        match kernel.system.random(buf) {
            Err(error) if error.errno() == Some(Errno::AGAIN) => {}
            outcome => return outcome,
        }
        if kernel.clock.now_us() >= until_us || kernel.clock.is_cancelled() {
            return Err(deadline!("random bytes for a salt", limits::SALT_MS));
        }
        kernel.clock.sleep_ms(limits::POLL_MS);
    }
}

/// Random bytes for a salt; `None` when there are none in time: then no hash is made, the password stays locked, and
/// that is said.
pub fn salt(kernel: &mut Kernel<'_>) -> Option<[u8; RANDOM]> {
    let mut random = [0; RANDOM];
    fill(kernel, &mut random).is_ok().then_some(random)
}

/// Other machines have no such table.
fn feed(kernel: &mut Kernel<'_>) {
    let mut table = [0; TABLE_BYTES];
    let length = kernel.host.read_at(TABLE, 0, &mut table).unwrap_or_default();
    let bytes = table.get(..length).unwrap_or_default();
    if !bytes.is_empty() {
        // Without it the generator has what the kernel gathered.
        let _ = kernel.system.add_entropy(bytes);
    }
    zeroize::Zeroize::zeroize(&mut table);
}

#[cfg(test)]
mod tests {
    use super::fill;
    use crate::error::Kind;
    use crate::sys::fake::World;

    #[test]
    fn a_seeded_generator_answers_at_once() {
        let mut world = World::new();
        world.host.put("sys/firmware/acpi/tables/OEM0", [1; 300]);
        let mut buf = [0; 12];
        fill(&mut world.kernel(), &mut buf).unwrap();
        assert_eq!((buf, world.clock.sleeps.len()), ([7; 12], 0));
    }

    #[test]
    fn an_unseeded_one_is_waited_for_with_a_deadline() {
        let mut world = World::new();
        world.system.random = None;
        let outcome = fill(&mut world.kernel(), &mut [0; 12]);
        assert!(matches!(outcome, Err(error) if error.is(Kind::Deadline)));
        assert_eq!(world.clock.sleeps.iter().sum::<u64>(), crate::limits::SALT_MS);
    }
}
