//! How does a boot loader's file say that the kernel speaks on the serial console? Edits the arguments, keeps the rest.

use super::text::{Out, bare, lines};
use crate::error::Result;

/// What the platform's serial console shows a person: the kernel from its first line, then the login. The last
/// `console=` is /dev/console.
const CONSOLES: [&[u8]; 3] = [b"console=tty1", b"console=ttyS0,115200n8", b"earlyprintk=ttyS0,115200"];
/// Seconds, as the platform asks for where the initrd takes it as a limit.
const DELAY: &[u8] = b"rootdelay=300";
const WHAT: &str = "kernel command line";

/// Where the arguments stand in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grammar {
    /// `GRUB_CMDLINE_LINUX=` and `GRUB_CMDLINE_LINUX_DEFAULT=` of a shell file (GRUB's default/grub).
    Grub,
    /// As `Grub`, in a file that is read after it: what is missing there is not added.
    GrubLater,
    /// Lines `options ARGUMENTS` (Boot Loader Specification, type 1).
    Options,
    /// Lines `append ARGUMENTS` (extlinux).
    Append,
    /// The whole file (kernel-install's cmdline).
    Whole,
}

/// Copies the file with its arguments changed: `quiet` and `rhgb` go, the consoles come last; `rootdelay=` too when
/// `waits`: this initrd takes it as a limit. Doing it again changes nothing.
///
/// # Errors
/// `Unsupported` for a value that goes over several lines or a quote that is never closed;
/// `TooMany` when `out` is full.
pub fn edit(text: &[u8], grammar: Grammar, waits: bool, out: &mut Out<'_>) -> Result<()> {
    let mut is_said = false;
    for line in lines(text) {
        let Some(found) = find(bare(line), grammar) else {
            out.put(line)?;
            continue;
        };
        let Found { at, length, says_consoles, is_bare } = found?;
        let (before, rest) = line.split_at_checked(at).unwrap_or((line, b""));
        let (arguments, behind) = rest.split_at_checked(length).unwrap_or((rest, b""));
        if !arguments.iter().filter(|byte| **byte == b'"').count().is_multiple_of(2) {
            return Err(unsupported!(WHAT, "a quote that is never closed"));
        }
        // Several lines add up in these formats: the consoles once, in the first.
        let adds = says_consoles && !(is_said && matches!(grammar, Grammar::Whole | Grammar::Options));
        let quote: &[u8] = if is_bare { b"\"" } else { b"" };
        out.put_all(&[before, quote])?;
        put_arguments(arguments, adds.then_some(waits), out)?;
        out.put_all(&[quote, behind])?;
        is_said |= adds;
    }
    if grammar == Grammar::Grub && !is_said {
        out.end_line()?;
        out.put(b"GRUB_CMDLINE_LINUX=\"")?;
        put_arguments(b"", Some(waits), out)?;
        out.put(b"\"\n")?;
    }
    Ok(())
}

/// True when an argument of this name and value stands somewhere in the file.
#[must_use]
pub fn mentions(text: &[u8], name: &[u8]) -> bool {
    text.windows(name.len()).any(|window| window == name)
}

/// The arguments of a line.
struct Found {
    at: usize,
    length: usize,
    says_consoles: bool,
    /// A value of the shell without quotes, which several arguments need.
    is_bare: bool,
}

type Place = Result<Found>;

fn find(line: &[u8], grammar: Grammar) -> Option<Place> {
    let start = line.len().saturating_sub(line.trim_ascii_start().len());
    let rest = line.get(start..)?;
    let whole = |at: usize| {
        let length = line.get(at..).unwrap_or_default().trim_ascii_end().len();
        Some(Ok(Found { at, length, says_consoles: true, is_bare: false }))
    };
    match grammar {
        Grammar::Grub | Grammar::GrubLater => assigned(rest)
            .map(|found| found.map(|found| Found { at: found.at.saturating_add(start), ..found })),
        Grammar::Whole if rest.is_empty() || rest.starts_with(b"#") => None,
        Grammar::Whole => whole(start),
        Grammar::Options => whole(start.saturating_add(behind_keyword(rest, b"options")?)),
        Grammar::Append => whole(start.saturating_add(behind_keyword(rest, b"append")?)),
    }
}

/// How far behind the keyword (any case, as extlinux has it) the arguments start.
fn behind_keyword(line: &[u8], keyword: &[u8]) -> Option<usize> {
    let (word, rest) = line.split_at_checked(keyword.len())?;
    let blanks = rest.len().checked_sub(rest.trim_ascii_start().len())?;
    (word.eq_ignore_ascii_case(keyword) && blanks > 0).then(|| keyword.len().saturating_add(blanks))
}

/// `GRUB_CMDLINE_LINUX="..."`: where the text between the quotes is. What builds on an earlier value gets nothing new.
fn assigned(line: &[u8]) -> Option<Place> {
    let rest = line.strip_prefix(b"GRUB_CMDLINE_LINUX")?;
    let (is_default, rest) = match rest.strip_prefix(b"_DEFAULT") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let value = rest.strip_prefix(b"=")?;
    let quote = value.first().filter(|byte| matches!(byte, b'"' | b'\''));
    let at = line.len().checked_sub(value.len())?.saturating_add(usize::from(quote.is_some()));
    let inside = line.get(at..)?;
    let several = unsupported!(WHAT, "a value over several lines, or of several pieces");
    let Some(length) = quoted_length(inside, quote) else { return Some(Err(several)) };
    let behind = inside.get(length..)?.trim_ascii_start();
    let behind = behind.get(usize::from(quote.is_some())..).unwrap_or_default().trim_ascii_start();
    let value = inside.get(..length)?;
    let is_bare = quote.is_none();
    let is_pieced = is_bare
        && value.iter().any(|byte| matches!(byte, b'"' | b'\'' | b'\\' | b'#' | b'`' | b';' | b'&' | b'|'));
    if is_pieced || !behind.is_empty() && !behind.starts_with(b"#") {
        return Some(Err(several));
    }
    let is_built_on = mentions(value, b"$GRUB_CMDLINE_LINUX") || mentions(value, b"${GRUB_CMDLINE_LINUX");
    Some(Ok(Found { at, length, says_consoles: !is_default && !is_built_on, is_bare }))
}

/// Up to the closing quote, or up to the first blank where there is none. `None`: never closed.
fn quoted_length(inside: &[u8], quote: Option<&u8>) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in inside.iter().enumerate() {
        match quote {
            None if byte.is_ascii_whitespace() => return Some(at),
            Some(quote) if byte == quote && !is_escaped => return Some(at),
            _ => is_escaped = *byte == b'\\' && !is_escaped && quote != Some(&b'\''),
        }
    }
    quote.is_none().then_some(inside.len())
}

/// `consoles` is `None` where only what hides the kernel's messages goes, else whether `rootdelay=` is wanted.
fn put_arguments(old: &[u8], consoles: Option<bool>, out: &mut Out<'_>) -> Result<()> {
    let mut is_first = true;
    let mut put = |argument: &[u8]| {
        let gap: &[u8] = if is_first { b"" } else { b" " };
        is_first = false;
        out.put_all(&[gap, argument])
    };
    let mut rest = old.trim_ascii_start();
    while !rest.is_empty() {
        let (argument, behind) = rest.split_at_checked(argument_length(rest)).unwrap_or((rest, b""));
        if !is_dropped(argument, consoles) {
            put(argument)?;
        }
        rest = behind.trim_ascii_start();
    }
    let Some(waits) = consoles else { return Ok(()) };
    CONSOLES.iter().copied().chain(waits.then_some(DELAY)).try_for_each(put)
}

/// Up to the next blank outside double quotes, which the kernel takes as part of an argument.
fn argument_length(text: &[u8]) -> usize {
    let mut is_quoted = false;
    let end = text.iter().position(|byte| {
        is_quoted ^= *byte == b'"';
        byte.is_ascii_whitespace() && !is_quoted
    });
    end.unwrap_or(text.len())
}

fn is_dropped(argument: &[u8], consoles: Option<bool>) -> bool {
    let is = |name: &[u8]| {
        argument.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(b","))
    };
    let is_hiding = argument == b"quiet" || argument == b"rhgb";
    is_hiding
        || consoles.is_some_and(|waits| {
            is(b"console=tty1")
                || is(b"console=ttyS0")
                || argument.starts_with(b"earlyprintk=")
                || (waits && argument.starts_with(b"rootdelay="))
        })
}

#[cfg(test)]
mod tests {
    use super::{Grammar, edit};
    use crate::format::text::Out;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    const ALL: &str = "console=tty1 console=ttyS0,115200n8 earlyprintk=ttyS0,115200";

    fn edited_bytes(text: &[u8], grammar: Grammar, waits: bool) -> crate::error::Result<Vec<u8>> {
        let mut room = std::vec![0; text.len() + 4096];
        let mut out = Out::new(too_many!("test"), &mut room);
        edit(text, grammar, waits, &mut out)?;
        Ok(out.as_bytes().to_vec())
    }

    fn edited(text: &str, grammar: Grammar) -> String {
        String::from_utf8(edited_bytes(text.as_bytes(), grammar, false).unwrap()).unwrap()
    }

    #[test]
    fn debians_default_grub() {
        let text = "# If you change this file, run 'update-grub'\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n";
        let wanted = std::format!(
            "# If you change this file, run 'update-grub'\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"{ALL}\"\n"
        );
        assert_eq!(edited(text, Grammar::Grub), wanted);
    }

    #[test]
    fn fedoras_keeps_what_it_does_not_know_and_its_comment() {
        let text = "GRUB_CMDLINE_LINUX='rd.lvm.lv=fedora/root rhgb quiet dyndbg=\"file x.c +p\" console=ttyS0,9600'  # mine\n";
        assert_eq!(
            edited(text, Grammar::Grub),
            std::format!("GRUB_CMDLINE_LINUX='rd.lvm.lv=fedora/root dyndbg=\"file x.c +p\" {ALL}'  # mine\n")
        );
    }

    #[test]
    fn what_builds_on_an_earlier_value_only_loses() {
        let text = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX quiet net.ifnames=0\"\n";
        assert_eq!(
            edited(text, Grammar::GrubLater),
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX net.ifnames=0\"\n"
        );
        assert_eq!(edited("GRUB_TIMEOUT=1\n", Grammar::GrubLater), "GRUB_TIMEOUT=1\n");
    }

    #[test]
    fn a_missing_assignment_is_added() {
        assert_eq!(edited("A=1", Grammar::Grub), std::format!("A=1\nGRUB_CMDLINE_LINUX=\"{ALL}\"\n"));
    }

    #[test]
    fn a_value_without_quotes_gets_some() {
        let text = "GRUB_CMDLINE_LINUX=debug # mine\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\n";
        let wanted =
            std::format!("GRUB_CMDLINE_LINUX=\"debug {ALL}\" # mine\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n");
        assert_eq!(edited(text, Grammar::Grub), wanted);
    }

    #[test]
    fn entries_of_a_boot_loader() {
        let text = "title Debian\noptions root=UUID=1 ro quiet\noptions rhgb debug\n";
        let wanted = std::format!("title Debian\noptions root=UUID=1 ro {ALL}\noptions debug\n");
        assert_eq!(edited(text, Grammar::Options), wanted);
        let text = "LABEL linux\n  APPEND root=/dev/sda1 quiet\n  appendix quiet\n";
        let wanted = std::format!("LABEL linux\n  APPEND root=/dev/sda1 {ALL}\n  appendix quiet\n");
        assert_eq!(edited(text, Grammar::Append), wanted);
        assert_eq!(edited("# c\nroot=UUID=1 quiet", Grammar::Whole), std::format!("# c\nroot=UUID=1 {ALL}"));
    }

    #[test]
    fn rootdelay_only_where_it_is_a_limit() {
        let text = b"root=LABEL=x rootdelay=5\n";
        let with = edited_bytes(text, Grammar::Whole, true).unwrap();
        assert_eq!(with, std::format!("root=LABEL=x {ALL} rootdelay=300\n").as_bytes());
        let without = edited_bytes(text, Grammar::Whole, false).unwrap();
        assert_eq!(without, std::format!("root=LABEL=x rootdelay=5 {ALL}\n").as_bytes());
    }

    #[test]
    fn what_is_no_single_string_is_left_to_a_person() {
        for text in
            ["GRUB_CMDLINE_LINUX=\"a \\\nb\"\n", "GRUB_CMDLINE_LINUX='a'\"b\"\n", "GRUB_CMDLINE_LINUX=a b\n"]
        {
            let error = edited_bytes(text.as_bytes(), Grammar::Grub, false).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Unsupported, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_second_run_changes_nothing(text in "(GRUB_CMDLINE_LINUX(_DEFAULT)?=\"?|options |append | )?[a-z0-9=,\\.\"' ]{0,40}(quiet| rhgb)?\"?\n?", waits in any::<bool>()) {
            for grammar in [Grammar::Grub, Grammar::GrubLater, Grammar::Options, Grammar::Append, Grammar::Whole] {
                let Ok(once) = edited_bytes(text.as_bytes(), grammar, waits) else { continue };
                prop_assert_eq!(&edited_bytes(&once, grammar, waits).unwrap(), &once);
            }
        }

        #[test]
        fn arbitrary_bytes_are_read(text in any::<Vec<u8>>()) {
            for grammar in [Grammar::Grub, Grammar::Options, Grammar::Append, Grammar::Whole] {
                if let Ok(new) = edited_bytes(&text, grammar, true) {
                    prop_assert!(new.len() <= text.len() * 2 + 4096);
                }
            }
        }
    }
}
