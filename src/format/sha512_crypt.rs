//! Which line in /etc/shadow stands for this password? sha512-crypt, `$6$`.
//!
//! Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512" (SHA-crypt.txt, 0.6); the step numbers are its own.
//! Every buffer that held something derived from the password is overwritten (`sha2` does so for its own).

use crate::error::Result;
use crate::facts::PasswordHash;
use crate::limits;
use sha2::{Digest, Sha512};
use zeroize::Zeroize;

/// Bytes of salt that count.
pub const SALT: usize = 16;
/// Random bytes of a salt made by [`salt`]: 96 bits.
pub const RANDOM: usize = 12;

const ROUNDS: u32 = 5000;
const DIGEST: usize = 64;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A salt of 16 characters that holds all of these random bytes.
#[must_use]
pub fn salt(random: [u8; RANDOM]) -> heapless::String<SALT> {
    let mut text = heapless::String::new();
    for chunk in random.chunks_exact(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or_default()));
        // 12 bytes are 16 characters: it fits.
        let _ = put_characters(&mut text, (a << 16) | (b << 8) | c, 4);
    }
    text
}

/// Hashes a password. `rounds` of `None` are 5000 and not written into the hash, as every login tool does it; others
/// are brought into 1000..=999,999,999. Of the salt the first 16 bytes count; it must be printable without `$`.
///
/// # Errors
/// `Malformed` for a salt that cannot stand in /etc/shadow.
#[inline(never)]
pub fn sha512_crypt(password: &[u8], salt: &str, rounds: Option<u32>) -> Result<PasswordHash> {
    let bad_salt = malformed!("password salt", "character not allowed in a salt", 0);
    if !salt.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$' && byte != b':') {
        return Err(bad_salt);
    }
    let salt = salt.get(..SALT).unwrap_or(salt);
    let rounds = rounds.map(|rounds| rounds.clamp(1000, 999_999_999));
    let mut digest = digest(password, salt.as_bytes(), rounds.unwrap_or(ROUNDS));
    let mut text = heapless::String::<{ limits::PASSWORD_HASH }>::new();
    let written = put_hash(&mut text, &digest, salt, rounds);
    digest.zeroize();
    // Not reached: prefix, rounds, salt and digest are at most 123 characters.
    written.map_err(|_| bad_salt)?;
    PasswordHash::parse(&text)
}

/// SHA-512 behind calls that are not inlined at each of their places: that would be 4 KB.
struct Hash(Sha512);

impl Hash {
    fn new() -> Self {
        Self(Sha512::new())
    }

    #[inline(never)]
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds `length` bytes of `digest`, `digest`, `digest` ...
    fn add_repeated(&mut self, digest: &[u8; DIGEST], length: usize) {
        let mut left = length;
        while left > 0 {
            let piece = digest.get(..left).unwrap_or(digest);
            self.add(piece);
            left = left.saturating_sub(piece.len());
        }
    }

    /// Adds the same bytes `times` times.
    fn add_times(&mut self, bytes: &[u8], times: usize) {
        for _ in 0..times {
            self.add(bytes);
        }
    }

    #[inline(never)]
    fn finish(self) -> [u8; DIGEST] {
        self.0.finalize().into()
    }
}

fn digest(password: &[u8], salt: &[u8], rounds: u32) -> [u8; DIGEST] {
    let mut b = second_digest(password, salt);
    let mut a = first_digest(password, salt, &b);
    let mut p = password_digest(password);
    let mut s = salt_digest(salt, a[0]);
    let salt = s.get(..salt.len()).unwrap_or_default(); // step 20
    for round in 0..rounds {
        a = one_round(round, &a, &p, password.len(), salt);
    }
    b.zeroize();
    p.zeroize();
    s.zeroize();
    a
}

/// Steps 4 to 8.
fn second_digest(password: &[u8], salt: &[u8]) -> [u8; DIGEST] {
    let mut hash = Hash::new();
    hash.add(password);
    hash.add(salt);
    hash.add(password);
    hash.finish()
}

/// Steps 1 to 3 and 9 to 12.
fn first_digest(password: &[u8], salt: &[u8], b: &[u8; DIGEST]) -> [u8; DIGEST] {
    let mut hash = Hash::new();
    hash.add(password);
    hash.add(salt);
    hash.add_repeated(b, password.len());
    let mut length = password.len();
    while length > 0 {
        hash.add(if length & 1 == 1 { b } else { password });
        length >>= 1;
    }
    hash.finish()
}

/// Steps 13 to 15.
fn password_digest(password: &[u8]) -> [u8; DIGEST] {
    let mut hash = Hash::new();
    hash.add_times(password, password.len());
    hash.finish()
}

/// Steps 17 to 19.
fn salt_digest(salt: &[u8], first: u8) -> [u8; DIGEST] {
    let mut hash = Hash::new();
    hash.add_times(salt, usize::from(first).saturating_add(16));
    hash.finish()
}

/// Step 21. The sequence P (step 16) is `p` repeated to the password's length.
fn one_round(round: u32, a: &[u8; DIGEST], p: &[u8; DIGEST], length: usize, salt: &[u8]) -> [u8; DIGEST] {
    let mut hash = Hash::new();
    let is_odd = round & 1 == 1;
    if is_odd {
        hash.add_repeated(p, length)
    } else {
        hash.add(a)
    }
    if !round.is_multiple_of(3) {
        hash.add(salt);
    }
    if !round.is_multiple_of(7) {
        hash.add_repeated(p, length);
    }
    if is_odd {
        hash.add(a)
    } else {
        hash.add_repeated(p, length)
    }
    hash.finish()
}

type Written = core::result::Result<(), heapless::CapacityError>;

fn put_hash<const N: usize>(
    text: &mut heapless::String<N>,
    digest: &[u8; DIGEST],
    salt: &str,
    rounds: Option<u32>,
) -> Written {
    text.push_str("$6$")?;
    if let Some(rounds) = rounds {
        text.push_str("rounds=")?;
        put_number(text, rounds)?;
        text.push('$')?;
    }
    text.push_str(salt)?;
    text.push('$')?;
    put_digest(text, digest)
}

fn put_number<const N: usize>(text: &mut heapless::String<N>, number: u32) -> Written {
    let mut power = 1_000_000_000;
    while power > 1 && number < power {
        power /= 10;
    }
    while power > 0 {
        let digit = number.checked_div(power).unwrap_or_default() % 10;
        text.push(char::from_digit(digit, 10).unwrap_or('0'))?;
        power /= 10;
    }
    Ok(())
}

/// Step 22: groups of three bytes, whose places are turned and moved on by one from group to group.
fn put_digest<const N: usize>(text: &mut heapless::String<N>, digest: &[u8; DIGEST]) -> Written {
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut places: [usize; 3] = [0, 21, 42];
    for _ in 0..21 {
        let [a, b, c] = places;
        put_characters(text, (byte(a) << 16) | (byte(b) << 8) | byte(c), 4)?;
        places = [b, c, a].map(|place| place.saturating_add(1));
    }
    put_characters(text, byte(63), 2)
}

/// Six bits a character, lowest first.
fn put_characters<const N: usize>(text: &mut heapless::String<N>, bits: u32, count: usize) -> Written {
    let mut bits = bits;
    for _ in 0..count {
        let at = usize::try_from(bits & 63).unwrap_or_default();
        text.push(ALPHABET.get(at).map_or('.', |byte| char::from(*byte)))?;
        bits >>= 6;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{salt, sha512_crypt};
    use std::process::Command;
    use std::string::{String, ToString};
    use std::{format, vec};

    fn hash(password: &str, salt: &str, rounds: Option<u32>) -> String {
        sha512_crypt(password.as_bytes(), salt, rounds)
            .unwrap_or_else(|_| panic!("{salt}"))
            .as_str()
            .to_string()
    }

    /// SHA-crypt.txt, "Test vectors".
    #[test]
    fn the_published_vectors_come_out() {
        let long = "a very much longer text to encrypt.  This one even stretches over morethan one line.";
        for (salt, rounds, password, expected) in [
            (
                "saltstring",
                None,
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "saltstringsaltstring",
                Some(10_000),
                "Hello world!",
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
            (
                "toolongsaltstring",
                Some(5000),
                "This is just a test",
                "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
            ),
            (
                "anotherlongsaltstring",
                Some(1400),
                long,
                "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
            ),
            (
                "short",
                Some(77_777),
                "we have a short salt string but not a short password",
                "$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
            ),
            (
                "asaltof16chars..",
                Some(123_456),
                "a short string",
                "$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1",
            ),
            (
                "roundstoolow",
                Some(10),
                "the minimum number is still observed",
                "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.",
            ),
        ] {
            assert_eq!(hash(password, salt, rounds), expected, "{salt}");
        }
    }

    /// `openssl passwd -6 -salt 0123456789abcdef`
    #[test]
    fn a_password_of_many_kinds_of_characters() {
        assert_eq!(
            hash("P@ss w0rd<&>\"é", "0123456789abcdef", None),
            "$6$0123456789abcdef$TF3DvcSRqy9dI5hVtG5ZuL9a2OLL8Q72w6NeVhieHh.vaeK5UJaVPPnvNyUG6UXb0Nh4Vl9X0fjSlksZiwFTi."
        );
    }

    #[test]
    fn openssl_agrees_at_every_edge_of_length() {
        for length in [1, 15, 16, 17, 63, 64, 65, 72, 127, 128, 129, 200, 255] {
            let password: String = (0..length).map(|n| char::from(b'!' + (n % 90) as u8)).collect();
            let command = vec!["passwd", "-6", "-salt", "./0AZaz", "-stdin"];
            let Ok(mut child) = Command::new("openssl")
                .args(command)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
            else {
                return;
            };
            let line = format!("{password}\n");
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let theirs = String::from_utf8(output.stdout).unwrap();
            assert_eq!(hash(&password, "./0AZaz", None), theirs.trim_end(), "{length}");
        }
    }

    #[test]
    fn a_salt_holds_every_bit() {
        assert_eq!(salt([0; 12]), "................");
        assert_eq!(salt([0xff; 12]), "zzzzzzzzzzzzzzzz");
        for bit in 0..96 {
            let mut random = [0; 12];
            random[bit / 8] |= 1 << (bit % 8);
            assert_eq!(salt(random).bytes().filter(|byte| *byte != b'.').count(), 1);
        }
    }

    #[test]
    fn a_salt_cannot_break_shadow() {
        for bad in ["a:b", "a$b", "a\nb", "a b", "ä"] {
            assert!(sha512_crypt(b"x", bad, None).is_err(), "{bad:?}");
        }
    }
}
