//! One table of documents, and: no cut changes anything.

use super::{DTD, Name, Namespace, Sink, Tokenizer};
use crate::error::{Kind, Result};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

const KNOWN: &[&str] = &["urn:a", "urn:b"];

/// Writes `<a|name>text</>`, where `a` is the namespace's last letter, `-` for none and `?` for an unknown one.
#[derive(Default)]
struct Recorder(Vec<u8>);

impl Sink for Recorder {
    fn open(&mut self, name: Name<'_>) -> Result<()> {
        let space = match name.namespace {
            Namespace::Known(uri) => uri.chars().last().unwrap(),
            Namespace::None => '-',
            Namespace::Other => '?',
        };
        self.0.extend(format!("<{space}|").bytes().chain(name.local.iter().copied()).chain([b'>']));
        Ok(())
    }
    fn text(&mut self, chunk: &[u8]) -> Result<()> {
        assert!(!chunk.is_empty());
        self.0.extend(chunk);
        Ok(())
    }
    fn close(&mut self) -> Result<()> {
        self.0.extend(b"</>");
        Ok(())
    }
}

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<()>) {
    let (mut tokenizer, mut recorder) = (Tokenizer::new(KNOWN), Recorder::default());
    for chunk in chunks {
        if let Err(error) = tokenizer.push(chunk, &mut recorder) {
            return (recorder.0, Err(error));
        }
    }
    (recorder.0, tokenizer.finish())
}

fn whole(document: &[u8]) -> (Vec<u8>, Result<()>) {
    read([document].into_iter())
}

fn said(document: &str) -> String {
    let (events, result) = whole(document.as_bytes());
    assert_eq!(result, Ok(()), "{document}");
    String::from_utf8(events).unwrap()
}

fn rule(document: &[u8]) -> &'static str {
    whole(document).1.expect_err(&String::from_utf8_lossy(document)).reason()
}

#[test]
fn namespaces_are_resolved_whatever_the_prefix() {
    for document in ["<x xmlns='urn:a'><y/></x>", "<p:x xmlns:p='urn:a'><p:y/></p:x>"] {
        assert_eq!(said(document), "<a|x><a|y></></>", "{document}");
    }
    assert_eq!(said("<p:x xmlns:p='urn:b'><p:y xmlns:p='urn:a'/><p:z/></p:x>"), "<b|x><a|y></><b|z></></>");
    assert_eq!(said("<x xmlns='urn:a'><y xmlns=''><z/></y><z/></x>"), "<a|x><-|y><-|z></></><a|z></></>");
    assert_eq!(said("<x xmlns='urn:c'/>"), "<?|x></>");
    assert_eq!(said("<x xmlns='ur&#110;:a'/>"), "<a|x></>");
    assert_eq!(said("<x p:q='1' xmlns:p='urn:a' xml:lang='en'/>"), "<-|x></>");
    assert_eq!(said(&format!("<x xmlns='urn:a{}'/>", "a".repeat(200))), "<?|x></>");
}

#[test]
fn text_is_decoded() {
    for (inner, text) in [
        ("P@ss w0rd&lt;&amp;&gt;\"é", "P@ss w0rd<&>\"é"),
        ("&#65;&#x42;&apos;&quot;&#13;", "AB'\"\r"),
        ("<![CDATA[<a>&amp;]] ]]]>", "<a>&amp;]] ]"),
        ("a<!-- - <b> -->b<?x ? y?>c", "abc"),
        ("1\r\n2\r3\n\r\n<![CDATA[\r\n\r]]>", "1\n2\n3\n\n\n\n"),
        ("]]&#x1F600;", "]]😀"),
    ] {
        assert_eq!(said(&format!("<x>{inner}</x>")), format!("<-|x>{text}</>"), "{inner}");
    }
}

#[test]
fn what_surrounds_the_root_is_skipped() {
    let document =
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<!-- c --><x\n a = '>' b=\"'/\" /> <?y?>\n";
    assert_eq!(said(document), "<-|x></>");
}

#[test]
fn what_is_not_well_formed_is_refused_by_its_rule() {
    for (document, why) in [
        ("", "document ends early"),
        ("  ", "document ends early"),
        ("<x>", "document ends early"),
        ("<x></x", "document ends early"),
        ("<x/><!-- ", "document ends early"),
        ("hello", "text outside the root element"),
        ("<x/>hello", "text outside the root element"),
        ("&lt;<x/>", "text outside the root element"),
        (" \u{feff}<x/>", "text outside the root element"),
        ("<x/><y/>", "second root element"),
        ("</x>", "malformed markup"),
        ("<x><y></x></y>", "end tag of another element"),
        ("<x xmlns:p='urn:a' xmlns:q='urn:a'><p:y></q:y></x>", "end tag of another element"),
        ("<x></x y>", "malformed end tag"),
        ("<x a='1' a='2'/>", "duplicate attribute"),
        ("<x xmlns='urn:a' xmlns='urn:a'/>", "duplicate attribute"),
        ("<x a='1'b='2'/>", "malformed start tag"),
        ("<x a/>", "malformed attribute"),
        ("<x a=1/>", "malformed attribute"),
        ("<x a b='1'/>", "malformed attribute"),
        ("<x a='<'/>", "< in an attribute"),
        ("<x / >", "malformed start tag"),
        ("<1/>", "malformed markup"),
        ("< x/>", "malformed markup"),
        ("<p:x/>", "undeclared prefix"),
        ("<x p:a='1'/>", "undeclared prefix"),
        ("<x><p:y xmlns:p='urn:a'/><p:y/></x>", "undeclared prefix"),
        ("<x xmlns:p=''/>", "empty namespace"),
        ("<x a:b:c='1'/>", "malformed name"),
        ("<x>&nbsp;</x>", "unknown entity"),
        ("<x>&#0;</x>", "unknown entity"),
        ("<x>&</x>", "document ends early"),
        ("<x>& and more text</x>", "unknown entity"),
        ("<x>\u{1}</x>", "control character"),
        ("<x a='\u{0}'/>", "control character"),
        ("<![CDATA[a]]><x/>", "malformed markup"),
        ("<x><![cdata[a]]></x>", "malformed markup"),
        ("<x><!-- a -- b --></x>", "two hyphens in a comment"),
        ("<!DOCTYPE x><x/>", DTD),
        ("<!DOCTYPE x [<!ENTITY y \"&y;&y;\">]><x>&y;</x>", DTD),
    ] {
        assert_eq!(rule(document.as_bytes()), why, "{document}");
    }
    for bytes in [&b"<x>\xff</x>"[..], b"<x a='\xc3'/>", b"\xef\xbb<x/>", b"<x>\xed\xa0\x80</x>"] {
        assert_eq!(rule(bytes), "not UTF-8", "{bytes:?}");
    }
    assert_eq!(rule(&[0xff, 0xfe, b'<', 0]), "not UTF-8", "UTF-16");
    assert_eq!(rule(b"<\0x\0"), "control character", "UTF-16 without a byte order mark");
}

#[test]
fn an_error_says_where() {
    assert_eq!(whole(b"<x>\n <y></z>").1, Err(malformed!("XML", "end tag of another element", 11)));
    assert_eq!(whole(b"<x>").1, Err(malformed!("XML", "document ends early", 3)));
}

#[test]
fn no_document_takes_more_than_its_share() {
    let deep = |levels: usize| format!("{}{}", "<x>".repeat(levels), "</x>".repeat(levels));
    assert!(whole(deep(32).as_bytes()).1.is_ok());
    let long = "n".repeat(129);
    let attributes = (0..200).map(|n| format!(" a{n}='1'")).collect::<String>();
    let prefixes = (0..40).map(|n| format!(" xmlns:a{n}='1'")).collect::<String>();
    let names = (0..20).map(|_| format!("<{}>", "n".repeat(100))).collect::<String>();
    for (document, what) in [
        (deep(33), "XML nesting"),
        (format!("<{long}/>"), "XML name"),
        (format!("<x></{long}>"), "XML name"),
        (names, "XML names of open elements"),
        (format!("<x{attributes}/>"), "XML attribute names of one element"),
        (format!("<x{prefixes}/>"), "XML namespace declarations"),
        (format!("<x xmlns:{}='1'/>", "p".repeat(33)), "XML namespace prefix"),
    ] {
        let error = whole(document.as_bytes()).1.unwrap_err();
        assert!(error.is(Kind::TooMany));
        assert_eq!(error.reason(), what);
    }
    assert!(whole(format!("<x a='{}'/>", "v".repeat(100_000)).as_bytes()).1.is_ok(), "values are not kept");
}

/// RUSTSEC-2026-0194, RUSTSEC-2026-0195 (quick-xml): time that grows with the square of the attributes, memory with the
/// namespaces. Here one element has few of them, and a document as many as it likes, each at the same price.
#[test]
fn eighty_thousand_attributes_or_namespaces_end_at_once() {
    let attributes = (0..80_000).map(|n| format!(" a{n}='1'")).collect::<String>();
    let namespaces = (0..80_000).map(|n| format!(" xmlns:n{n}='urn:{n}'")).collect::<String>();
    for document in [format!("<x{attributes}/>"), format!("<x{namespaces}/>")] {
        let (mut tokenizer, mut recorder, mut taken) = (Tokenizer::new(KNOWN), Recorder::default(), 0);
        let refused = document.as_bytes().chunks(512).any(|piece| {
            taken += piece.len();
            tokenizer.push(piece, &mut recorder).is_err()
        });
        assert!(refused && taken <= 4096, "{taken}");
    }
    let elements = (0..80_000).map(|n| format!("<n:y xmlns:n='urn:{n}' a{n}='1'/>")).collect::<String>();
    let begin = std::time::Instant::now();
    assert_eq!(whole(format!("<x>{elements}</x>").as_bytes()).1, Ok(()));
    let each = begin.elapsed() / 80_000;
    assert!(each < std::time::Duration::from_micros(100), "{each:?}");
}

/// Documents that look like XML, most of them broken somewhere.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "<x>",
        "</x>",
        "<x xmlns='urn:a'>",
        "<p:y xmlns:p=\"urn:b\">",
        "</p:y>",
        "<p:y/>",
        "<z a='1' b=\"&lt;\"/>",
        "text",
        "é😀",
        "&amp;",
        "&#x1F600;",
        "&bad;",
        "<![CDATA[",
        "]]>",
        "]",
        "<!--",
        "-->",
        "-",
        "<?pi",
        "?>",
        "\r",
        "\n",
        "\r\n",
        "\u{feff}",
        "<!DOCTYPE",
        "<",
        ">",
        "'",
        "/",
        " ",
        "\u{1}",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ];
    let wrapped = |inner: Vec<Vec<u8>>| [b"<x>".to_vec(), inner.concat(), b"</x>".to_vec()].concat();
    prop_oneof![
        prop::collection::vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(piece, 0..12).prop_map(wrapped),
        Just(b"<x xmlns='urn:a'>a&lt;\r\n<![CDATA[b]]c]]><p:y xmlns:p='urn:b'/></x>".to_vec()),
    ]
}

proptest! {
    #[test]
    fn no_cut_changes_the_outcome(document in document(), cuts in prop::collection::vec(1_usize..9, 1..40)) {
        let mut sizes = cuts.iter().cycle();
        let mut rest = &document[..];
        let mut chunks = vec![];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        prop_assert_eq!(read(chunks.into_iter()), whole(&document));
        prop_assert_eq!(read(document.chunks(1)), whole(&document));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let _ = whole(&bytes);
    }

    #[test]
    fn escaped_text_comes_back(text in "[^\\x00-\\x08\\x0b-\\x1f\\ufffe\\uffff]*") {
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
        let (events, result) = whole(format!("<x>{escaped}</x>").as_bytes());
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(String::from_utf8(events).unwrap(), format!("<-|x>{text}</>"));
    }
}
