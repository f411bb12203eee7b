//! LANG, if the seed asks for one: /etc/default/locale where the image is Debian's kind, else /etc/locale.conf. A locale
//! that the image has not generated stays ungenerated: `C.UTF-8` always works.

use super::replace::{self, Target};
use super::{Object, Root, State, exists, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::text::{Out, lines};
use crate::seed;

fn wanted<'b>(root: &mut Root<'_>, buf: &'b mut [u8; 128]) -> Result<Option<&'b str>> {
    let text = core::str::from_utf8(root.seed_file(seed::LOCALE, buf)?).unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    if text.bytes().all(is_plain) {
        return Ok(Some(text));
    }
    Err(malformed!("locale", "no name of a locale", 0))
}

fn file(root: &mut Root<'_>) -> Result<&'static Object> {
    let is_debians = exists(root.dir, "etc/default/locale")? || exists(root.dir, "etc/debian_version")?;
    Ok(if is_debians { object!("etc/default/locale") } else { object!("etc/locale.conf") })
}

fn is_lang(line: &[u8]) -> bool {
    line.starts_with(b"LANG=")
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    let mut buf = [0; 128];
    let Some(locale) = wanted(root, &mut buf)? else { return Ok(State::Satisfied) };
    let file = file(root)?;
    let text = read(root.dir, file.name, file, root.buffers.old)?;
    let mut all =
        lines(text).filter(|line| is_lang(line)).map(|line| line.get(5..).unwrap_or_default().trim_ascii());
    let is_set = all.next() == Some(locale.as_bytes()) && all.next().is_none();
    Ok(if is_set { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    let mut buf = [0; 128];
    let Some(locale) = wanted(root, &mut buf)? else { return Ok(()) };
    let file = file(root)?;
    let edit = &mut |old: &[u8], out: &mut Out<'_>| {
        lines(old).filter(|line| !is_lang(line)).try_for_each(|line| out.put(line))?;
        out.end_line()?;
        out.put_all(&[b"LANG=", locale.as_bytes(), b"\n"])
    };
    replace::edit(root.dir, Target::root(file.name, file, 0o644), &mut root.buffers, edit).map(|_| ())
}
