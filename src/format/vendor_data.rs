//! What is vendor_data.json: texts for the user-data pipeline, or a mapping that says it all itself?
//!
//! Its shapes are those of cloud-init's `convert_vendordata` (sources/__init__.py): a string, a list, an object with a
//! string or a list under `cloud-init`. Two more are understood: an object under `cloud-init`, and an object that has a
//! key of cloud-config itself. Which one it is shows only at the end of the document (the key `cloud-init` may be the
//! last), so it is read twice: [`Classifier`] first, then [`Router`].

use super::json::{Event, Sink, Tokenizer};
use crate::error::Result;

/// Keys of cloud-config that make an object one. Source: what Tencent Cloud documents of its own, and the modules that
/// images there run.
const KNOWN: &[&str] = &[
    "bootcmd",
    "chpasswd",
    "fqdn",
    "hostname",
    "manage_etc_hosts",
    "manage_resolv_conf",
    "nameservers",
    "ntp",
    "ntp_servers",
    "password",
    "resolv_conf",
    "runcmd",
    "ssh_authorized_keys",
    "ssh_pwauth",
    "timezone",
    "users",
    "write_files",
];
const CLOUD_INIT: &[u8] = b"cloud-init";
/// Longest key looked for.
const KEY: usize = 24;

/// What the document is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shape {
    /// It says nothing: null, an empty object, one with keys of the cloud's own.
    #[default]
    Nothing,
    /// A string, or a list of them.
    Texts,
    /// The same under the key `cloud-init`.
    TextsOfKey,
    /// An object that is a cloud-config itself.
    Mapping,
    /// The same under the key `cloud-init`.
    MappingOfKey,
}

/// Where we are in a document of which only the first two levels matter.
#[derive(Default)]
struct Place {
    depth: u32,
    /// The document is an object.
    is_object: bool,
    key: heapless::Vec<u8, KEY>,
    is_long: bool,
}

impl Place {
    /// A value at the top, or directly below the top of an object, begins with this event.
    fn is_value(event: &Event<'_>) -> bool {
        !matches!(
            event,
            Event::KeyPart(_)
                | Event::Key
                | Event::StringPart(_)
                | Event::NumberPart(_)
                | Event::ObjectEnd
                | Event::ArrayEnd
        )
    }

    fn key_part(&mut self, part: &[u8]) {
        self.is_long |= self.depth == 1 && self.key.extend_from_slice(part).is_err();
    }

    fn is_key(&self, name: &[u8]) -> bool {
        !self.is_long && self.is_object && self.depth == 1 && self.key == name
    }

    fn leave(&mut self, event: &Event<'_>) {
        match event {
            Event::ObjectStart | Event::ArrayStart => {
                self.is_object |= self.depth == 0 && matches!(event, Event::ObjectStart);
                self.depth = self.depth.saturating_add(1);
            }
            Event::ObjectEnd | Event::ArrayEnd => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.depth == 1 && Self::is_value(event) || matches!(event, Event::ObjectEnd | Event::ArrayEnd) {
            self.key.clear();
            self.is_long = false;
        }
    }
}

/// The first reading.
#[derive(Default)]
pub struct Classifier {
    tokenizer: Tokenizer,
    sense: Sense,
}

#[derive(Default)]
struct Sense {
    place: Place,
    whole: Shape,
    of_key: Shape,
    is_known: bool,
}

impl Classifier {
    /// Reads the next bytes.
    ///
    /// # Errors
    /// What is not JSON.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.tokenizer.push(bytes, &mut self.sense)
    }

    /// The document ends.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Shape> {
        self.tokenizer.finish(&mut self.sense)?;
        let sense = &self.sense;
        Ok(match (sense.whole, sense.of_key) {
            (Shape::Texts, _) => Shape::Texts,
            (_, Shape::Nothing) if sense.is_known => Shape::Mapping,
            (_, of_key) => of_key,
        })
    }
}

impl Sink for Sense {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        if let Event::KeyPart(part) = event {
            self.place.key_part(part);
            return Ok(());
        }
        let is_text = matches!(event, Event::String | Event::ArrayStart);
        if self.place.depth == 0 && is_text {
            self.whole = Shape::Texts;
        } else if self.place.depth == 1 && self.place.is_object && Place::is_value(&event) {
            if self.place.is_key(CLOUD_INIT) {
                self.of_key = match event {
                    _ if is_text => Shape::TextsOfKey,
                    Event::ObjectStart => Shape::MappingOfKey,
                    _ => Shape::Nothing,
                };
            } else {
                self.is_known |= KNOWN.iter().any(|name| self.place.is_key(name.as_bytes()));
            }
        }
        if !matches!(event, Event::Key) {
            self.place.leave(&event);
        }
        Ok(())
    }
}

/// Where the second reading goes.
pub trait Parts {
    /// The next bytes of the n-th text, from 0; the first may be none.
    ///
    /// # Errors
    /// The receiver's.
    fn text(&mut self, number: usize, bytes: &[u8]) -> Result<()>;
    /// The next event of the mapping, from its `ObjectStart` to its `ObjectEnd`.
    ///
    /// # Errors
    /// The receiver's.
    fn mapping(&mut self, event: Event<'_>) -> Result<()>;
}

/// The second reading.
pub struct Router {
    tokenizer: Tokenizer,
    route: Route,
}

struct Route {
    shape: Shape,
    place: Place,
    /// Depth of the containers of what is wanted; 0: we are not in it.
    inner: u32,
    /// Objects that are open in a list of texts: nothing in them is one.
    objects: u32,
    number: usize,
    is_begun: bool,
}

impl Router {
    /// Of a document of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let route =
            Route { shape, place: Place::default(), inner: 0, objects: 0, number: 0, is_begun: false };
        Self { tokenizer: Tokenizer::new(), route }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// What is not JSON; the receiver's.
    pub fn push(&mut self, bytes: &[u8], parts: &mut dyn Parts) -> Result<()> {
        self.tokenizer.push(bytes, &mut Routed { route: &mut self.route, parts })
    }

    /// The document ends; returns how many texts there were.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, parts: &mut dyn Parts) -> Result<usize> {
        self.tokenizer.finish(&mut Routed { route: &mut self.route, parts })?;
        Ok(self.route.number)
    }
}

struct Routed<'r> {
    route: &'r mut Route,
    parts: &'r mut dyn Parts,
}

impl Sink for Routed<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<()> {
        let route = &mut *self.route;
        if route.inner == 0 && route.is_wanted(&event) {
            // A string comes in pieces before its event.
            route.take(event, self.parts)?;
        } else if route.inner > 0 {
            route.take(event, self.parts)?;
        }
        match event {
            Event::KeyPart(part) => route.place.key_part(part),
            Event::Key => {}
            _ => route.place.leave(&event),
        }
        Ok(())
    }
}

impl Route {
    /// What is wanted begins, or is a string of which this is a piece.
    fn is_wanted(&self, event: &Event<'_>) -> bool {
        let is_text = matches!(event, Event::StringPart(_) | Event::String | Event::ArrayStart);
        match self.shape {
            Shape::Nothing => false,
            Shape::Texts => self.place.depth == 0 && is_text,
            Shape::TextsOfKey => self.place.is_key(CLOUD_INIT) && is_text,
            Shape::Mapping => self.place.depth == 0 && matches!(event, Event::ObjectStart),
            Shape::MappingOfKey => self.place.is_key(CLOUD_INIT) && matches!(event, Event::ObjectStart),
        }
    }

    fn take(&mut self, event: Event<'_>, parts: &mut dyn Parts) -> Result<()> {
        let is_mapping = matches!(self.shape, Shape::Mapping | Shape::MappingOfKey);
        match event {
            Event::ObjectStart | Event::ArrayStart => {
                self.inner = self.inner.saturating_add(1);
                self.objects = self.objects.saturating_add(u32::from(matches!(event, Event::ObjectStart)));
            }
            Event::ObjectEnd | Event::ArrayEnd => {
                self.inner = self.inner.saturating_sub(1);
                self.objects = self.objects.saturating_sub(u32::from(matches!(event, Event::ObjectEnd)));
            }
            _ => {}
        }
        match event {
            _ if is_mapping => parts.mapping(event),
            Event::StringPart(bytes) if self.objects == 0 => {
                self.is_begun = true;
                parts.text(self.number, bytes)
            }
            Event::String if self.objects == 0 => {
                if !core::mem::take(&mut self.is_begun) {
                    parts.text(self.number, b"")?;
                }
                self.number = self.number.saturating_add(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Classifier, Parts, Router, Shape};
    use crate::error::Result;
    use crate::format::cases::{Answer, Case, run};
    use crate::format::json::Event;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde_json::{Value, json};
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[derive(Default, PartialEq, Debug)]
    struct Got {
        texts: Vec<Vec<u8>>,
        /// The mapping's events, written as JSON again, roughly.
        mapping: String,
    }

    impl Parts for Got {
        fn text(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
            self.texts.resize(self.texts.len().max(number + 1), Vec::new());
            self.texts[number].extend(bytes);
            Ok(())
        }
        fn mapping(&mut self, event: Event<'_>) -> Result<()> {
            match event {
                Event::KeyPart(b) | Event::StringPart(b) | Event::NumberPart(b) => {
                    self.mapping.push_str(&String::from_utf8_lossy(b));
                }
                Event::ObjectStart => self.mapping.push('{'),
                Event::ObjectEnd => self.mapping.push('}'),
                Event::ArrayStart => self.mapping.push('['),
                Event::ArrayEnd => self.mapping.push(']'),
                Event::Key => self.mapping.push(':'),
                _ => self.mapping.push(','),
            }
            Ok(())
        }
    }

    fn read(document: &[u8], step: usize) -> Result<(Shape, Got)> {
        let mut classifier = Classifier::default();
        document.chunks(step).try_for_each(|chunk| classifier.push(chunk))?;
        let shape = classifier.finish()?;
        let (mut router, mut got) = (Router::new(shape), Got::default());
        document.chunks(step).try_for_each(|chunk| router.push(chunk, &mut got))?;
        let texts = router.finish(&mut got)?;
        assert_eq!(texts, got.texts.len());
        Ok((shape, got))
    }

    #[test]
    fn every_shape_is_told_and_taken_however_it_is_cut() {
        for (document, shape, texts, mapping) in [
            ("null", Shape::Nothing, &[][..], ""),
            ("{}", Shape::Nothing, &[], ""),
            ("{\"static\":{\"hostname\":1}}", Shape::Nothing, &[], ""),
            ("\"#!/bin/sh\\n\"", Shape::Texts, &["#!/bin/sh\n"], ""),
            ("\"\"", Shape::Texts, &[""], ""),
            ("[\"a\",[\"b\"],{\"hostname\":\"x\"},\"\",3]", Shape::Texts, &["a", "b", ""], ""),
            (
                "{\"x\":{\"cloud-init\":\"no\"},\"cloud-init\":\"a\",\"y\":\"z\"}",
                Shape::TextsOfKey,
                &["a"],
                "",
            ),
            ("{\"cloud-init\":[\"a\",\"b\"]}", Shape::TextsOfKey, &["a", "b"], ""),
            ("{\"hostname\":\"a\",\"cloud-init\":\"b\"}", Shape::TextsOfKey, &["b"], ""),
            ("{\"hostname\":\"a\",\"cloud-init\":null}", Shape::Mapping, &[], "{hostname:a,cloud-init:,}"),
            ("{\"x\":1,\"hostname\":\"a\"}", Shape::Mapping, &[], "{x:1,hostname:a,}"),
            (
                "{\"q\":[{}],\"cloud-init\":{\"ntp\":{\"servers\":[\"s\"]}},\"hostname\":\"no\"}",
                Shape::MappingOfKey,
                &[],
                "{ntp:{servers:[s,]}}",
            ),
        ] {
            for step in [1, 3, 1000] {
                let (got_shape, got) = read(document.as_bytes(), step).unwrap();
                let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
                assert_eq!((got_shape, got), (shape, Got { texts, mapping: mapping.into() }), "{document}");
            }
        }
    }

    /// As cloud-init has it: what goes into the pipeline, or why nothing does.
    fn recorded(case: &Case, input: &Value) -> Answer {
        let (shape, got) = read(input.to_string().as_bytes(), 7).unwrap();
        let texts: Vec<_> = got.texts.iter().map(|text| String::from_utf8_lossy(text).to_string()).collect();
        let is_list = input.is_array() || input["cloud-init"].is_array();
        match shape {
            Shape::Nothing => Answer::Is(Value::Null),
            Shape::Texts | Shape::TextsOfKey if !is_list => Answer::Is(json!(texts[0])),
            Shape::Texts | Shape::TextsOfKey => {
                let list = if input.is_array() { input } else { &input["cloud-init"] };
                match list.as_array().unwrap().iter().all(Value::is_string) {
                    true => Answer::Is(json!(texts)),
                    false => {
                        Answer::Differs("texts of a list only: lists in it are joined, objects left out")
                    }
                }
            }
            Shape::MappingOfKey if case.expected.is_null() => {
                Answer::Differs("a mapping under cloud-init is a cloud-config, not an error")
            }
            Shape::Mapping if case.expected.is_null() => {
                Answer::Differs("an object with keys of cloud-config is one, as Tencent Cloud describes it")
            }
            _ => Answer::Is(json!(got.mapping)),
        }
    }

    #[test]
    fn recorded_conversions() {
        run("convert_vendordata", |case| match case.input["kwargs"]["recurse"] {
            // cloud-init's own second step, on what is under its key.
            Value::Bool(false) if case.input["args"][0].is_object() => {
                Answer::Differs("a mapping under cloud-init is a cloud-config, not an error")
            }
            _ => recorded(case, &case.input["args"][0]),
        });
    }

    #[test]
    fn recorded_shapes() {
        run("vendor_data_shapes", |case| recorded(case, &case.input));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_they_are_cut(bytes in any::<Vec<u8>>(), step in 1_usize..9) {
            prop_assert_eq!(read(&bytes, step).is_ok(), read(&bytes, 10_000).is_ok());
        }

        #[test]
        fn documents_are_routed_the_same_however_they_are_cut(
            text in "(\\{\"(cloud-init|hostname|x)\":)?[{}\\[\\]\",:a-c0-2 \\\\]{0,40}\\}?", step in 1_usize..9,
        ) {
            prop_assert_eq!(read(text.as_bytes(), step).ok(), read(text.as_bytes(), 10_000).ok());
        }
    }
}
