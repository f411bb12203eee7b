//! Where do names go whose number only the machine knows? Lines of text in a lent buffer, no line twice.

use crate::error::Result;

/// A list of short texts.
pub(super) struct List<'s> {
    bytes: &'s mut [u8],
    used: usize,
}

impl<'s> List<'s> {
    /// Empty.
    pub(super) const fn new(bytes: &'s mut [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    /// Adds a text unless it is there.
    ///
    /// # Errors
    /// `TooMany`.
    pub(super) fn push_once(&mut self, text: &str) -> Result<()> {
        if self.iter().any(|known| known == text) {
            return Ok(());
        }
        let full = too_many!("bytes of device names", self.bytes.len());
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(full)?.copy_from_slice(text.as_bytes());
        *self.bytes.get_mut(end).ok_or(full)? = b'\n';
        self.used = end + 1;
        Ok(())
    }

    /// All, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.since(0)
    }

    /// Those that came after [`Self::mark`] was `mark`.
    pub(super) fn since(&self, mark: usize) -> impl Iterator<Item = &str> {
        let text = self.bytes.get(mark..self.used).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default().lines()
    }

    /// How far it goes now.
    pub(super) const fn mark(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::List;
    use std::vec::Vec;

    #[test]
    fn a_text_is_kept_once() {
        let mut bytes = [0; 8];
        let mut list = List::new(&mut bytes);
        for text in ["ab", "c", "ab"] {
            list.push_once(text).unwrap();
        }
        let mark = list.mark();
        assert!(list.push_once("toolong").is_err());
        list.push_once("d").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["ab", "c", "d"]);
        assert_eq!(list.since(mark).collect::<Vec<_>>(), ["d"]);
    }
}
