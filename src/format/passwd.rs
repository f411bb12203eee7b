//! passwd, shadow, group, gshadow, subuid and subgid: who is in them, which id is free, and the file with one line changed.
//!
//! All are lines of fields between `:`, the first being the name (passwd(5), shadow(5), group(5),
//! gshadow(5), subuid(5)). An edit copies every other line byte for byte: comments, blank lines, NIS lines (`+`, `-`)
//! and lines that break the rules. New lines go before the first NIS `+` line, so that a local account wins.

use super::text::{Out, bare, lines, number};
use crate::error::Result;

/// Ids that may be given to people, both ends included (login.defs UID_MIN, UID_MAX, GID_MIN, GID_MAX).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// First.
    pub min: u32,
    /// Last.
    pub max: u32,
}

/// Ids that users may map into their containers' user namespaces (login.defs SUB_UID_MIN, SUB_UID_MAX,
/// SUB_UID_COUNT and the same for groups).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubIds {
    /// First that may be given away.
    pub min: u32,
    /// Last.
    pub max: u32,
    /// How many each new user gets; 0 for none.
    pub count: u32,
}

/// One line, split when asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View<'t>(&'t [u8]);

/// Position of the password in passwd, shadow, group and gshadow.
pub const PASSWORD: usize = 1;
/// Position of the day of the last change in shadow; 0 asks for a new password.
pub const CHANGED: usize = 2;
/// Position of the administrators in gshadow; in group the gid is there, which is no name.
const ADMINISTRATORS: usize = 2;
/// Position of the members in group and gshadow.
pub const MEMBERS: usize = 3;

impl<'t> View<'t> {
    /// Of a line, with its newline or without.
    #[must_use]
    pub fn of(line: &'t [u8]) -> Self {
        Self(bare(line))
    }

    /// The line without its newline.
    #[must_use]
    pub const fn as_bytes(&self) -> &'t [u8] {
        self.0
    }

    /// The n-th field; empty when the line is shorter.
    #[must_use]
    pub fn field(&self, n: usize) -> &'t [u8] {
        self.0.split(|b| *b == b':').nth(n).unwrap_or_default()
    }

    /// uid of a passwd line, gid of a group line.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        number(self.field(2))
    }

    /// True when a group or gshadow line names this member.
    #[must_use]
    pub fn has_member(&self, user: &str) -> bool {
        self.field(MEMBERS).split(|b| *b == b',').any(|member| member == user.as_bytes())
    }
}

/// A user as passwd has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserRepr<'t> {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory, absolute, no `..`, no control character.
    pub home: &'t str,
}

impl<'t> UserRepr<'t> {
    /// Reads a passwd line.
    ///
    /// # Errors
    /// `Malformed`, naming the field.
    pub fn parse(line: View<'t>) -> Result<Self> {
        let home =
            core::str::from_utf8(line.field(5)).map_err(|_| malformed!("etc/passwd", "home directory", 0))?;
        let is_plain = home.starts_with('/') && !home.chars().any(char::is_control);
        if !is_plain || home.split('/').any(|name| name == "..") {
            return Err(malformed!("etc/passwd", "home directory", 0));
        }
        let uid = line.id().ok_or(malformed!("etc/passwd", "user id", 0))?;
        Ok(Self { uid, gid: number(line.field(3)).ok_or(malformed!("etc/passwd", "group id", 0))?, home })
    }
}

/// The first line of this name; comments and NIS lines have none.
#[must_use]
pub fn find<'t>(text: &'t [u8], name: &str) -> Option<View<'t>> {
    lines(text).map(|line| View(bare(line))).find(|line| is_named(line, name))
}

fn is_named(line: &View<'_>, name: &str) -> bool {
    line.0.contains(&b':') && line.field(0) == name.as_bytes()
}

/// The id useradd would take: `wanted` if it is free and in range, else the highest used in the range plus
/// one, else the lowest free. `None` when all are taken. Source: shadow 4.13 `libmisc/find_new_uid.c`.
#[must_use]
pub fn free_id(text: &[u8], range: IdRange, wanted: Option<u32>) -> Option<u32> {
    let used = || lines(text).filter_map(|line| View(bare(line)).id());
    let is_free = |id: &u32| used().all(|taken| taken != *id);
    if let Some(wanted) = wanted.filter(|id| (range.min..=range.max).contains(id)).filter(is_free) {
        return Some(wanted);
    }
    let highest = used().filter(|id| (range.min..=range.max).contains(id)).max();
    match highest {
        None => (range.min <= range.max).then_some(range.min),
        Some(highest) if highest < range.max => highest.checked_add(1),
        Some(_) => (range.min..=range.max).find(is_free),
    }
}

/// The id useradd gives a system account: `wanted` if it is free and in range, else the lowest used in the range less
/// one, else the highest free. Source: shadow 4.13 `libmisc/find_new_uid.c`.
#[must_use]
pub fn free_system_id(text: &[u8], range: IdRange, wanted: Option<u32>) -> Option<u32> {
    let is_free = |id: &u32| lines(text).all(|line| View(bare(line)).id() != Some(*id));
    let wanted = wanted.filter(|id| (range.min..=range.max).contains(id)).filter(is_free);
    let used = lines(text).filter_map(|line| View(bare(line)).id());
    let lowest = used.filter(|id| (range.min..=range.max).contains(id)).min();
    let below = lowest.and_then(|id| id.checked_sub(1)).filter(|id| *id >= range.min);
    wanted.or(below).or_else(|| (range.min..=range.max).rev().find(is_free))
}

/// First of the lowest `ids.count` ids in a row that no line of subuid or subgid has; `None` when there are not
/// so many. Source: shadow 4.13 `lib/subordinateio.c`, find_free_range.
#[must_use]
pub fn free_range(text: &[u8], ids: SubIds) -> Option<u32> {
    let mut first = ids.min;
    loop {
        let end = first.checked_add(ids.count).filter(|end| end.saturating_sub(1) <= ids.max)?;
        let overlap = lines(text).filter_map(|line| {
            let line = View(bare(line));
            let taken = number(line.field(1))?;
            let taken_end = taken.saturating_add(number(line.field(2))?);
            (taken < end && first < taken_end).then_some(taken_end)
        });
        match overlap.max() {
            None => return Some(first),
            Some(taken_end) => first = taken_end,
        }
    }
}

/// `old` with one line more, made of fields.
///
/// # Errors
/// `TooMany`.
pub fn add(old: &[u8], fields: &[&[u8]], out: &mut Out<'_>) -> Result<()> {
    let mut is_added = false;
    for line in lines(old) {
        if !is_added && line.starts_with(b"+") {
            put_line(fields, out)?;
            is_added = true;
        }
        out.put(line)?;
    }
    if is_added {
        return Ok(());
    }
    out.end_line()?;
    put_line(fields, out)
}

fn put_line(fields: &[&[u8]], out: &mut Out<'_>) -> Result<()> {
    for (n, field) in fields.iter().enumerate() {
        if n > 0 {
            out.put(b":")?;
        }
        out.put(field)?;
    }
    out.put(b"\n")
}

/// `old` with fields of the first line of this name replaced; missing fields before them become empty.
///
/// # Errors
/// `TooMany`.
pub fn set_fields(old: &[u8], name: &str, changes: &[(usize, &[u8])], out: &mut Out<'_>) -> Result<()> {
    change(old, name, out, |line, out| {
        let last = changes.iter().map(|(n, _)| *n).max().unwrap_or_default();
        let count = line.0.split(|b| *b == b':').count().max(last.saturating_add(1));
        for n in 0..count {
            if n > 0 {
                out.put(b":")?;
            }
            let new = changes.iter().find(|(at, _)| *at == n).map(|(_, text)| *text);
            out.put(new.unwrap_or(line.field(n)))?;
        }
        Ok(())
    })
}

/// `old` with one more member in the group or gshadow line of this name.
///
/// # Errors
/// `TooMany`.
pub fn add_member(old: &[u8], group: &str, user: &str, out: &mut Out<'_>) -> Result<()> {
    change(old, group, out, |line, out| {
        // A line cut short after the id still gets its members into the fourth field.
        let fields = line.0.split(|b| *b == b':').count();
        out.put(line.0)?;
        (fields..=MEMBERS).try_for_each(|_| out.put(b":"))?;
        if !line.field(MEMBERS).is_empty() {
            out.put(b",")?;
        }
        out.put(user.as_bytes())
    })
}

/// `old` without the lines of this name, in any of the files whose lines begin with one.
///
/// # Errors
/// `TooMany`.
pub fn remove(old: &[u8], name: &str, out: &mut Out<'_>) -> Result<()> {
    lines(old).filter(|line| !is_named(&View(bare(line)), name)).try_for_each(|line| out.put(line))
}

/// True when a user's own group goes with the user: the primary group, of the user's name, with nobody else in it.
/// Source: shadow 4.13 `src/userdel.c`, `remove_usergroup`.
#[must_use]
pub fn is_private_group(group: &[u8], user: &str, gid: u32) -> bool {
    let is_other = |name: &[u8]| !name.is_empty() && name != user.as_bytes();
    find(group, user).is_some_and(|line| {
        line.id() == Some(gid) && !line.field(MEMBERS).split(|b| *b == b',').any(is_other)
    })
}

/// A group or gshadow file without this user as member or administrator, as `update_groups` of the same file does,
/// and without the group of its name if `drops_own`.
///
/// # Errors
/// `TooMany`.
pub fn leave(old: &[u8], user: &str, drops_own: bool, out: &mut Out<'_>) -> Result<()> {
    for line in lines(old) {
        let view = View(bare(line));
        if drops_own && is_named(&view, user) {
            continue;
        }
        for (n, field) in view.0.split(|b| *b == b':').enumerate() {
            if n > 0 {
                out.put(b":")?;
            }
            if n == ADMINISTRATORS || n == MEMBERS { put_others(field, user, out)? } else { out.put(field)? }
        }
        out.put(line.get(view.0.len()..).unwrap_or_default())?;
    }
    Ok(())
}

fn put_others(list: &[u8], user: &str, out: &mut Out<'_>) -> Result<()> {
    let others = list.split(|b| *b == b',').filter(|name| *name != user.as_bytes());
    for (n, name) in others.enumerate() {
        if n > 0 {
            out.put(b",")?;
        }
        out.put(name)?;
    }
    Ok(())
}

fn change(
    old: &[u8],
    name: &str,
    out: &mut Out<'_>,
    mut write: impl FnMut(View<'_>, &mut Out<'_>) -> Result<()>,
) -> Result<()> {
    let mut is_done = false;
    for line in lines(old) {
        let view = View(bare(line));
        if is_done || !is_named(&view, name) {
            out.put(line)?;
            continue;
        }
        is_done = true;
        write(view, out)?;
        if line.ends_with(b"\n") {
            out.put(b"\n")?;
        }
    }
    Ok(())
}

/// True when another account's home is this one, or lies below it. `home` is without the leading `/`.
#[must_use]
pub fn lives_in(passwd: &[u8], home: &str, user: &str) -> bool {
    lines(passwd).map(bare).any(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_other = fields.next().is_some_and(|name| name != user.as_bytes());
        let theirs = fields.nth(4).and_then(|theirs| theirs.strip_prefix(b"/")).unwrap_or_default();
        let rest = theirs.strip_prefix(home.as_bytes());
        is_other && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        IdRange, PASSWORD, SubIds, UserRepr, View, add, add_member, find, free_id, free_range,
        is_private_group, leave, remove, set_fields,
    };
    use crate::format::text::{Out, bare, lines};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::string::String;
    use std::vec::Vec;

    const RANGE: IdRange = IdRange { min: 1000, max: 60_000 };
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# comment\n\nnobody:x:65534:65534::/:/bin/false\n\
                          ops:x:1003:1003::/home/ops:/bin/sh\nbroken\n+@netgroup\n+::::::\n";

    fn edited(edit: impl FnOnce(&mut Out<'_>) -> crate::error::Result<()>) -> String {
        let mut buf = std::vec![0; 4096];
        let mut out = Out::new(too_many!("test"), &mut buf);
        edit(&mut out).unwrap();
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn foreign_lines_are_kept_and_nis_stays_last() {
        let fields: [&[u8]; 7] = [b"new", b"x", b"1004", b"1004", b"", b"/home/new", b"/bin/bash"];
        let text = edited(|out| add(PASSWD.as_bytes(), &fields, out));
        let line = "new:x:1004:1004::/home/new:/bin/bash\n";
        assert_eq!(text, PASSWD.replace("+@net", &std::format!("{line}+@net")));
        let text = edited(|out| add(b"root:x:0:0", &fields, out));
        assert_eq!(text, std::format!("root:x:0:0\n{line}"));
        assert_eq!(edited(|out| add(b"", &fields, out)), line);
    }

    #[test]
    fn ids_are_taken_as_useradd_takes_them() {
        let passwd = PASSWD.as_bytes();
        assert_eq!(free_id(passwd, RANGE, None), Some(1004));
        assert_eq!(free_id(passwd, RANGE, Some(1000)), Some(1000));
        assert_eq!(free_id(passwd, RANGE, Some(1003)), Some(1004));
        assert_eq!(free_id(passwd, RANGE, Some(0)), Some(1004));
        assert_eq!(free_id(b"", RANGE, None), Some(1000));
        let full = IdRange { min: 1003, max: 1003 };
        assert_eq!(free_id(passwd, full, None), None);
        let wraps = IdRange { min: 1001, max: 1003 };
        assert_eq!(free_id(passwd, wraps, None), Some(1001));
        assert_eq!(free_id(passwd, IdRange { min: 2, max: 1 }, None), None);
    }

    #[test]
    fn names_of_nis_and_comments_are_nobody() {
        for name in ["", "broken", "# comment", "rooty"] {
            assert!(find(PASSWD.as_bytes(), name).is_none(), "{name:?}");
        }
        let user = UserRepr::parse(find(PASSWD.as_bytes(), "ops").unwrap()).unwrap();
        assert_eq!((user.uid, user.gid, user.home), (1003, 1003, "/home/ops"));
    }

    #[test]
    fn a_home_that_leaves_the_root_is_refused() {
        for home in ["", "home/a", "/home/../etc", "/home/a\u{1}b"] {
            let line = std::format!("a:x:1:1::{home}:/bin/sh\n");
            assert!(UserRepr::parse(find(line.as_bytes(), "a").unwrap()).is_err(), "{home:?}");
        }
    }

    #[test]
    fn a_password_is_replaced_and_the_rest_kept() {
        let shadow = "root:*:19000:0:99999:7:::\nops:!:19000:0:99999:7:::\n";
        let text =
            edited(|out| set_fields(shadow.as_bytes(), "ops", &[(PASSWORD, b"$6$x"), (2, b"20000")], out));
        assert_eq!(text, "root:*:19000:0:99999:7:::\nops:$6$x:20000:0:99999:7:::\n");
        assert_eq!(edited(|out| set_fields(b"ops:", "ops", &[(2, b"1")], out)), "ops::1");
    }

    #[test]
    fn members_are_added_at_the_end() {
        for (line, expected) in [
            ("sudo:x:27:\n", "sudo:x:27:ops\n"),
            ("sudo:x:27:a,b", "sudo:x:27:a,b,ops"),
            ("sudo:x:27", "sudo:x:27:ops"),
            ("sudo:*::a\n", "sudo:*::a,ops\n"),
        ] {
            assert_eq!(edited(|out| add_member(line.as_bytes(), "sudo", "ops", out)), expected);
            assert!(find(expected.as_bytes(), "sudo").unwrap().has_member("ops"));
        }
    }

    #[test]
    fn a_user_leaves_every_group_and_takes_its_own_along() {
        let group = "sudo:x:27:a,ops,b\nops:x:1000:\nopsy:x:1001:ops\n# ops\nadm:x:4:opsy\nx";
        let expected = "sudo:x:27:a,b\nopsy:x:1001:\n# ops\nadm:x:4:opsy\nx";
        assert!(is_private_group(group.as_bytes(), "ops", 1000));
        assert_eq!(edited(|out| leave(group.as_bytes(), "ops", true, out)), expected);
        assert_eq!(edited(|out| leave(b"ops:!::\nsudo:*:ops,a:ops", "ops", true, out)), "sudo:*:a:");
        for kept in ["ops:x:1000:guest\n", "ops:x:50:\n", "opsy:x:1000:\n"] {
            assert!(!is_private_group(kept.as_bytes(), "ops", 1000), "{kept}");
            assert_eq!(edited(|out| leave(kept.as_bytes(), "ops", false, out)), kept);
        }
        assert!(is_private_group(b"ops:x:1000:ops\n", "ops", 1000));
    }

    #[test]
    fn only_the_lines_of_that_name_go() {
        let text = edited(|out| remove(PASSWD.as_bytes(), "ops", out));
        assert_eq!(text, PASSWD.replace("ops:x:1003:1003::/home/ops:/bin/sh\n", ""));
        assert_eq!(edited(|out| remove(b"ops:100000:65536\nopsy:1:1", "ops", out)), "opsy:1:1");
    }

    proptest! {
        #[test]
        fn nobody_is_left_who_left(text in any::<Vec<u8>>(), name in "[a-z]{1,3}") {
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            leave(&text, &name, true, &mut out).unwrap();
            prop_assert!(lines(out.as_bytes()).all(|line| !View(bare(line)).has_member(&name)));
            let foreign = |line: &&[u8]| !line.windows(name.len()).any(|part| part == name.as_bytes());
            prop_assert!(lines(&text).filter(foreign).eq(lines(out.as_bytes()).filter(foreign)));
        }

        #[test]
        fn arbitrary_files_keep_their_lines(text in any::<Vec<u8>>(), name in "[a-z]{1,3}") {
            let _ = free_id(&text, RANGE, Some(1000));
            let mut buf = [0; 1024];
            let mut out = Out::new(too_many!("test"), &mut buf);
            add(&text, &[name.as_bytes(), b"x"], &mut out).unwrap();
            prop_assert!(find(out.as_bytes(), &name).is_some());
            let ours = std::format!("{name}:x");
            let foreign = |text: &[u8]| -> Vec<Vec<u8>> {
                lines(text).map(|l| bare(l).to_vec()).filter(|l| l != ours.as_bytes()).collect()
            };
            prop_assert_eq!(foreign(out.as_bytes()), foreign(&text));
        }

        #[test]
        fn an_edit_touches_one_line_only(
            before in "([a-z+#]{0,4}:[a-z:]{0,9}\n){0,4}", after in "([a-z+#]{0,4}:[a-z:]{0,9}\n){0,4}",
        ) {
            let file = std::format!("{before}me:!:1:0:::\n{after}");
            if find(before.as_bytes(), "me").is_none() {
                let text = edited(|out| set_fields(file.as_bytes(), "me", &[(1, b"$6$")], out));
                prop_assert_eq!(text, std::format!("{before}me:$6$:1:0:::\n{after}"));
            }
        }

        #[test]
        fn a_free_range_overlaps_no_line(
            taken in proptest::collection::vec((0_u32..100, 1_u32..30), 0..8), count in 0_u32..40,
        ) {
            let text: String = taken.iter().map(|(at, n)| std::format!("u:{at}:{n}\n")).collect();
            let fits = |first: u32| {
                first + count <= 80 && taken.iter().all(|(at, n)| first + count <= *at || at + n <= first)
            };
            let found = free_range(text.as_bytes(), SubIds { min: 10, max: 79, count });
            if count > 0 {
                prop_assert_eq!(found, (10..80).find(|first| fits(*first)));
            }
        }

        #[test]
        fn a_free_id_is_in_range_and_free(ids in proptest::collection::vec(995_u32..1012, 0..20)) {
            let text: String = ids.iter().map(|id| std::format!("u{id}:x:{id}:1::/:\n")).collect();
            let range = IdRange { min: 1000, max: 1009 };
            match free_id(text.as_bytes(), range, None) {
                Some(id) => prop_assert!((1000..=1009).contains(&id) && !ids.contains(&id)),
                None => prop_assert!((1000..=1009).all(|id| ids.contains(&id))),
            }
        }
    }
}
