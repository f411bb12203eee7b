//! What was `growpart` asked? The command line of cloud-guest-utils 0.33, word for word. Pure.

/// Less than this is not worth a change: growpart's FUDGE.
const FUDGE_BYTES: u64 = 1024 * 1024;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Growpart {
    /// A disk or an image.
    pub disk: &'static str,
    /// The partition's number.
    pub number: u32,
    /// Only say it.
    pub dry_run: bool,
    /// `--fudge`: bytes that are not worth a change.
    pub fudge_bytes: u64,
    /// `--free-percent`; 0 for none.
    pub free_percent: u64,
    /// The kernel is told: all but `--update off`.
    pub update: bool,
    /// `-v`.
    pub is_verbose: bool,
}

/// Why it does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// `--help`.
    Help,
    /// The usage, and this.
    Usage(&'static str),
    /// `FAILED:`, this, and the word it is about.
    Failed(&'static str, &'static str),
}

/// Reads the words behind the program's name.
///
/// # Errors
/// [`Refused`].
pub fn parse(words: &mut dyn Iterator<Item = Option<&'static str>>) -> Result<Growpart, Refused> {
    let (mut disk, mut number) = ("", "");
    let mut asked = Growpart {
        disk: "",
        number: 0,
        dry_run: false,
        fudge_bytes: FUDGE_BYTES,
        free_percent: 0,
        update: true,
        is_verbose: false,
    };
    while let Some(word) = words.next() {
        let word = word.unwrap_or("?");
        let (name, mut inline) = match word.split_once('=') {
            Some((name @ ("--free-percent" | "--update"), value)) => (name, Some(value)),
            _ => (word, None),
        };
        let mut value = || inline.take().or_else(|| words.next().flatten()).unwrap_or_default();
        match name {
            "-h" | "--help" => return Err(Refused::Help),
            "--free-percent" => {
                let text = value();
                let percent = text.parse().ok().filter(|percent| (1..100).contains(percent));
                let bad = Refused::Failed("unknown/invalid --free-percent option: ", text);
                asked.free_percent = percent.ok_or(bad)?;
            }
            "--fudge" => {
                let text = value();
                asked.fudge_bytes =
                    text.parse().map_err(|_| Refused::Failed("--fudge wants bytes: ", text))?;
            }
            "-N" | "--dry-run" => asked.dry_run = true,
            "-u" | "--update" => match value() {
                "off" => asked.update = false,
                "auto" | "force" | "on" => asked.update = true,
                other => return Err(Refused::Failed("unknown --update option: ", other)),
            },
            "-v" | "--verbose" => asked.is_verbose = true,
            // What follows is not read, as growpart has it.
            "--" => break,
            option if option.starts_with('-') => return Err(Refused::Failed("unknown option ", option)),
            operand if disk.is_empty() => disk = operand,
            operand if number.is_empty() => number = operand,
            operand => return Err(Refused::Failed("confused by arg ", operand)),
        }
    }
    if disk.is_empty() {
        return Err(Refused::Usage("must supply disk and partition-number\n"));
    }
    if number.is_empty() {
        return Err(Refused::Usage("must supply partition-number\n"));
    }
    let not_a_number = Refused::Failed("partition-number must be a number", "");
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number);
    }
    Ok(Growpart { disk, number: number.parse().map_err(|_| not_a_number)?, ..asked })
}

#[cfg(test)]
mod tests {
    use super::{Growpart, Refused, parse};

    fn of(words: &[&'static str]) -> Result<Growpart, Refused> {
        parse(&mut words.iter().map(|word| Some(*word)))
    }

    #[test]
    fn every_option_is_read() {
        let plain = of(&["/dev/sda", "1"]).unwrap();
        assert_eq!((plain.disk, plain.number, plain.dry_run, plain.update), ("/dev/sda", 1, false, true));
        assert_eq!((plain.fudge_bytes, plain.free_percent, plain.is_verbose), (1 << 20, 0, false));
        let all =
            of(&["-N", "--free-percent=10", "-u", "off", "/dev/sda", "--fudge", "0", "15", "-v"]).unwrap();
        let expected = Growpart {
            disk: "/dev/sda",
            number: 15,
            dry_run: true,
            fudge_bytes: 0,
            free_percent: 10,
            update: false,
            is_verbose: true,
        };
        assert_eq!(all, expected);
        assert_eq!(of(&["--free-percent", "5", "--update=auto", "a", "1"]).unwrap().free_percent, 5);
    }

    #[test]
    fn what_it_does_not_know_fails() {
        assert_eq!(of(&["-h"]), Err(Refused::Help));
        assert_eq!(of(&[]), Err(Refused::Usage("must supply disk and partition-number\n")));
        assert_eq!(of(&["a"]), Err(Refused::Usage("must supply partition-number\n")));
        for bad in [
            &["a", "1", "2"][..],
            &["a", "x"],
            &["a", "99999999999"],
            &["-x"],
            &["--free-percent", "100", "a", "1"],
            &["--update", "maybe", "a", "1"],
            &["--fudge", "x", "a", "1"],
        ] {
            assert!(matches!(of(bad), Err(Refused::Failed(..))), "{bad:?}");
        }
    }
}
