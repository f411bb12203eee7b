//! Bytes that are wiped when dropped and cannot be printed, compared or copied by accident.

use crate::error::{Result, Rule};
use zeroize::Zeroize;

/// A secret of at most `N` bytes. It has no `Debug`, `Display`, `Clone` or `PartialEq`.
pub struct Secret<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Secret<N> {
    /// An empty secret.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends a chunk; `full` is broken when there is no room.
    ///
    /// # Errors
    /// `TooMany` when it does not fit; nothing is appended then.
    pub fn push(&mut self, full: &'static Rule, chunk: &[u8]) -> Result<()> {
        let full = full.above(N);
        let end = self.len.checked_add(chunk.len()).ok_or(full)?;
        self.bytes.get_mut(self.len..end).ok_or(full)?.copy_from_slice(chunk);
        self.len = end;
        Ok(())
    }

    /// The bytes, for the one function that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Length in bytes (safe to print).
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when nothing was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Overwrites the bytes now.
    pub fn wipe(&mut self) {
        self.bytes.zeroize();
        self.len = 0;
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn one_byte_too_many_is_refused_whole() {
        let mut secret = Secret::<4>::new();
        secret.push(too_many!("test"), b"abc").unwrap();
        assert!(secret.push(too_many!("test"), b"de").is_err());
        assert_eq!(secret.expose(), b"abc");
    }

    #[test]
    fn wipe_clears_the_bytes() {
        let mut secret = Secret::<4>::new();
        secret.push(too_many!("test"), b"abcd").unwrap();
        secret.wipe();
        assert_eq!(secret.bytes, [0; 4]);
        assert!(secret.is_empty());
    }
}
