//! Which container and role instance does the wireserver take this VM for?
//!
//! `GET /machine/?comp=goalstate`, by path from the root and without regard to namespaces, as cloud-init
//! `sources/helpers/azure.py` reads it. Only what a health report needs is kept.

use super::xml::{self, Name, Sink, Tokenizer};
use crate::error::{Result, Rule};

const WHAT: &str = "goal state";
const XML_RULES: &[&Rule] = xml::rules_of!(WHAT, "");
const INCARNATION: usize = 20;
const CONTAINER_ID: usize = 64;
const INSTANCE_ID: usize = 256;

/// A goal state, as far as a health report needs it: the texts are not empty and printable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoalState {
    /// Counts the goal states of this container.
    pub incarnation: u64,
    /// `/GoalState/Container/ContainerId`.
    pub container_id: heapless::String<CONTAINER_ID>,
    /// `/GoalState/Container/RoleInstanceList/RoleInstance/InstanceId` of the first role instance.
    pub instance_id: heapless::String<INSTANCE_ID>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Incarnation,
    ContainerId,
    InstanceId,
}

const PATHS: [(Field, &[&[u8]]); 3] = [
    (Field::Incarnation, &[b"GoalState", b"Incarnation"]),
    (Field::ContainerId, &[b"GoalState", b"Container", b"ContainerId"]),
    (Field::InstanceId, &[b"GoalState", b"Container", b"RoleInstanceList", b"RoleInstance", b"InstanceId"]),
];

/// Reads one goal state, in pieces of any size.
pub struct Reader {
    tokenizer: Tokenizer,
    values: Values,
}

struct Values {
    depth: usize,
    /// For each path, how many of its elements are open, counted from the root without a gap.
    matched: [usize; PATHS.len()],
    incarnation: Text<INCARNATION>,
    container_id: Text<CONTAINER_ID>,
    instance_id: Text<INSTANCE_ID>,
}

/// The text of an element. Closed: it was read, a second one is not wanted.
struct Text<const N: usize> {
    bytes: heapless::Vec<u8, N>,
    is_closed: bool,
}

impl<const N: usize> Text<N> {
    const fn new() -> Self {
        Self { bytes: heapless::Vec::new(), is_closed: false }
    }

    /// White space in front is dropped at once, so that indentation does not fill the buffer.
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let chunk = if self.bytes.is_empty() { chunk.trim_ascii_start() } else { chunk };
        if self.is_closed {
            return Ok(());
        }
        self.bytes.extend_from_slice(chunk).map_err(|_| too_many!("goal state id", N))
    }

    fn get(&self, missing: &'static Rule) -> Result<&str> {
        let bad = missing.at(0);
        let text = core::str::from_utf8(self.bytes.trim_ascii()).map_err(|_| bad)?;
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if is_plain { Ok(text) } else { Err(bad) }
    }

    fn owned(&self, missing: &'static Rule) -> Result<heapless::String<N>> {
        heapless::String::try_from(self.get(missing)?).map_err(|_| too_many!(WHAT, N))
    }
}

impl Values {
    /// The field whose element is the innermost one.
    fn current(&self) -> Option<Field> {
        PATHS
            .iter()
            .zip(self.matched)
            .find(|((_, path), matched)| path.len() == *matched && self.depth == *matched)
            .map(|((field, _), _)| *field)
    }
}

impl Sink for Values {
    fn open(&mut self, name: Name<'_>) -> Result<()> {
        for ((_, path), matched) in PATHS.iter().zip(&mut self.matched) {
            if *matched == self.depth && path.get(self.depth) == Some(&name.local) {
                *matched = matched.saturating_add(1);
            }
        }
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    fn text(&mut self, chunk: &[u8]) -> Result<()> {
        match self.current() {
            Some(Field::Incarnation) => self.incarnation.push(chunk),
            Some(Field::ContainerId) => self.container_id.push(chunk),
            Some(Field::InstanceId) => self.instance_id.push(chunk),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.current() {
            Some(Field::Incarnation) => self.incarnation.is_closed = true,
            Some(Field::ContainerId) => self.container_id.is_closed = true,
            Some(Field::InstanceId) => self.instance_id.is_closed = true,
            None => {}
        }
        self.depth = self.depth.saturating_sub(1);
        for matched in &mut self.matched {
            *matched = (*matched).min(self.depth);
        }
        Ok(())
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        let values = Values {
            depth: 0,
            matched: [0; PATHS.len()],
            incarnation: Text::new(),
            container_id: Text::new(),
            instance_id: Text::new(),
        };
        Self { tokenizer: Tokenizer::new(&[]), values }
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// `Malformed`, `TooMany`; the reader is void then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.tokenizer.push(bytes, &mut self.values).map_err(|error| error.told_by(XML_RULES))
    }

    /// The body ends.
    ///
    /// # Errors
    /// `Malformed` when it is not whole or one of the three values is missing.
    pub fn finish(&mut self) -> Result<GoalState> {
        self.tokenizer.finish().map_err(|error| error.told_by(XML_RULES))?;
        let values = &self.values;
        let incarnation = values.incarnation.get(malformed!(WHAT, "goal state without Incarnation"))?;
        Ok(GoalState {
            incarnation: incarnation.parse().map_err(|_| malformed!(WHAT, "Incarnation is no number", 0))?,
            container_id: values.container_id.owned(malformed!(WHAT, "goal state without ContainerId"))?,
            instance_id: values.instance_id.owned(malformed!(WHAT, "goal state without InstanceId"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{GoalState, Reader};
    use crate::error::Result;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, proptest};
    use std::vec::Vec;
    use std::{format, vec};

    fn read(pieces: &[&[u8]]) -> Result<GoalState> {
        let mut reader = Reader::new();
        pieces.iter().try_for_each(|piece| reader.push(piece))?;
        reader.finish()
    }

    fn expected() -> GoalState {
        GoalState {
            incarnation: 1,
            container_id: "5b2f9a3e-0000-4000-8000-9c1d2e3f4a5b".try_into().unwrap(),
            instance_id: "11112222-3333-4444-5555-666677778888._edge-vm-01".try_into().unwrap(),
        }
    }

    const PLAIN: &[u8] = include_bytes!("../../tests/fixtures/azure-goalstate/plain.xml");

    #[test]
    fn byte_order_mark_line_ends_and_references_do_not_matter() {
        for document in [
            PLAIN,
            include_bytes!("../../tests/fixtures/azure-goalstate/bom-crlf.xml"),
            include_bytes!("../../tests/fixtures/azure-goalstate/entities.xml"),
        ] {
            assert_eq!(read(&[document]), Ok(expected()));
        }
    }

    #[test]
    fn each_of_the_three_values_must_be_there() {
        for (document, rule) in [
            (&include_bytes!("../../tests/fixtures/azure-goalstate/no-container-id.xml")[..], "ContainerId"),
            (include_bytes!("../../tests/fixtures/azure-goalstate/no-instance-id.xml"), "InstanceId"),
            (include_bytes!("../../tests/fixtures/azure-goalstate/no-incarnation.xml"), "Incarnation"),
        ] {
            assert!(read(&[document]).unwrap_err().reason().ends_with(rule));
        }
    }

    #[test]
    fn values_count_only_at_their_place() {
        let document = |inner: &str| format!("<GoalState>{inner}</GoalState>");
        let role = "<RoleInstanceList><RoleInstance><InstanceId> i </InstanceId></RoleInstance>\
                    <RoleInstance><InstanceId>second</InstanceId></RoleInstance></RoleInstanceList>";
        let good = document(&format!(
            "<X><Incarnation>9</Incarnation></X><Incarnation>\r\n 2 <!-- c --></Incarnation>\
             <Container><X><ContainerId>x</ContainerId></X><ContainerId><![CDATA[c]]></ContainerId>{role}</Container>"
        ));
        let goal = read(&[good.as_bytes()]).unwrap();
        assert_eq!((goal.incarnation, &goal.container_id[..], &goal.instance_id[..]), (2, "c", "i"));
        for bad in [
            document(""),
            document("<Incarnation>2</Incarnation><Container><ContainerId> </ContainerId></Container>"),
            good.replace("GoalState", "Other"),
            good.replace(" 2 ", "two"),
            good.replace(" i ", "i\u{7f}"),
            good.replace(" i ", &"i".repeat(257)),
        ] {
            assert!(read(&[bad.as_bytes()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_cut_anywhere_is_refused() {
        let whole = PLAIN.trim_ascii_end();
        for end in 0..whole.len() {
            assert!(read(&[&whole[..end]]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(0..PLAIN.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = vec![];
            let mut start = 0;
            for cut in cuts.into_iter().chain([PLAIN.len()]) {
                pieces.push(&PLAIN[start..cut]);
                start = cut;
            }
            prop_assert_eq!(read(&pieces), Ok(expected()));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0..PLAIN.len()) {
            let _ = read(&[&bytes]);
            let mut bent: Vec<u8> = PLAIN.to_vec();
            bent.splice(at..at, bytes);
            let _ = read(&[&bent]);
        }
    }
}
