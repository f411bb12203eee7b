//! How are lines read from files that no buffer holds?

use crate::error::Result;
use crate::sys::Dir;

/// Calls `each` with the offset and text of every line of a file, through `window`; lines end with `end`
/// (newline; NUL in modules.builtin.modinfo), which is not passed on. Lines that are not UTF-8 are skipped.
///
/// # Errors
/// `Os`; `TooMany` for a line longer than `window`; whatever `each` returns.
pub(super) fn each_line(
    dir: &mut dyn Dir,
    path: &str,
    window: &mut [u8],
    end: u8,
    each: &mut dyn FnMut(u64, &str) -> Result<()>,
) -> Result<()> {
    let (mut base, mut held) = (0u64, 0usize);
    loop {
        let room = window.get_mut(held..).unwrap_or_default();
        let asked = room.len();
        let got = dir.read_at(path, base + held as u64, room)?;
        let filled = window.get(..held + got).unwrap_or_default();
        let taken = whole_lines(filled, base, end, got < asked, each)?;
        if got < asked {
            return Ok(());
        }
        if taken == 0 {
            return Err(too_many!("line of a text file", window.len()));
        }
        window.copy_within(taken.., 0);
        base += taken as u64;
        held = window.len() - taken;
    }
}

/// Passes on the lines in `text`, the unfinished last one only at the end of the file; returns their bytes.
fn whole_lines(
    text: &[u8],
    base: u64,
    end: u8,
    is_last: bool,
    each: &mut dyn FnMut(u64, &str) -> Result<()>,
) -> Result<usize> {
    let mut taken = 0;
    for line in text.split_inclusive(|byte| *byte == end) {
        let line_bytes = line.strip_suffix(&[end]);
        let Some(bytes) = line_bytes.or(is_last.then_some(line)) else { break };
        if let Ok(line_text) = core::str::from_utf8(bytes) {
            each(base + taken as u64, line_text)?;
        }
        taken += line.len();
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::each_line;
    use crate::error::{Error, Kind};
    use crate::sys::fake::World;
    use proptest::prelude::{prop_assert_eq, proptest};
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn lines_of(content: &str, window: usize) -> Result<Vec<(u64, String)>, Error> {
        let mut world = World::new();
        world.host.put("table", content);
        let mut found = Vec::new();
        each_line(&mut world.host, "table", &mut std::vec![0; window], b'\n', &mut |at, line| {
            found.push((at, line.to_string()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_line_longer_than_the_window_is_an_error() {
        assert!(
            matches!(lines_of("0123456789\n", 8), Err(error) if error.is(Kind::TooMany) && error.number() == 8)
        );
        assert_eq!(lines_of("", 8).unwrap(), []);
    }

    proptest! {
        #[test]
        fn every_line_is_seen_once_where_it_is(lines in proptest::collection::vec("[a-z]{0,9}", 0..30), window in 10usize..40) {
            let content = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
            let found = lines_of(&content, window).unwrap();
            prop_assert_eq!(found.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), lines);
            for (at, text) in found {
                let at = usize::try_from(at).unwrap();
                prop_assert_eq!(&content[at..at + text.len()], text.as_str());
            }
        }
    }
}
