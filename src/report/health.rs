//! What does a health report say, in the two forms the wireserver takes?
//!
//! Source: facts of azure-init `libazureinit/src/health.rs` (JSON), WALinuxAgent `protocol/wire.py` and
//! MicrosoftDocs `linux/no-agent.md` (XML), cloud-init `sources/azure/errors.py` (the description's grammar).

use super::AGENT;
use crate::error::Result;
use crate::facts::InstanceId;
use crate::format::goalstate::GoalState;
use crate::limits;
use core::fmt::{self, Write};

/// Where the platform sends people who read a failure.
const DOCUMENTATION: &str = "https://aka.ms/linuxprovisioningerror";
/// What a reason that was cut ends with.
const CUT: &str = "...";

/// One `key=value|...` line of at most [`limits::DESCRIPTION`] bytes.
pub type Description = heapless::String<{ limits::DESCRIPTION }>;

/// Why provisioning failed, in text that is safe in every channel: printable ASCII without `|`, one line,
/// at most [`limits::REASON`] bytes, never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason(heapless::String<{ limits::REASON }>);

impl Reason {
    /// Makes any text safe: what cannot be printed becomes `?`, white space one blank, `|` (which ends a
    /// field) `/`; what is too long is cut and says so.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut safe = heapless::String::new();
        for c in text.trim_ascii().chars() {
            let c = match c {
                '|' => '/',
                ' '..='~' => c,
                '\t' | '\n' | '\r' => ' ',
                _ => '?',
            };
            if c == ' ' && safe.ends_with(' ') {
                continue;
            }
            if safe.push(c).is_err() {
                safe.truncate(limits::REASON - CUT.len());
                let _ = safe.push_str(CUT);
                break;
            }
        }
        if safe.is_empty() {
            let _ = safe.push_str("no reason given");
        }
        Self(safe)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The state of this VM, for the wireserver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health<'a> {
    /// Provisioned.
    Ready,
    /// Not yet, and not given up: whoever waits for this VM may go on.
    Provisioning(&'a str),
    /// Given up; the platform shows this text to the person who made the VM.
    Failed(&'a str),
}

/// The description of a failure: `result=error|reason=...|agent=...|vm_id=...|documentation_url=...`.
#[must_use]
pub fn describe(reason: &Reason, vm_id: Option<&InstanceId>) -> Description {
    let mut text = Description::new();
    // A reason is at most half of a description and an id 64 bytes: it always fits (tested).
    let _ = write!(text, "result=error|reason={}|agent={AGENT}", reason.as_str());
    if let Some(vm_id) = vm_id {
        let _ = write!(text, "|vm_id={}", vm_id.as_str());
    }
    let _ = write!(text, "|documentation_url={DOCUMENTATION}");
    text
}

/// What is said of a VM that is still worked on; the words are azure-init's.
#[must_use]
pub fn still_at_work(vm_id: &InstanceId) -> Description {
    let mut text = Description::new();
    let _ = write!(text, "Provisioning is still in progress for vm_id={}", vm_id.as_str());
    text
}

impl Health<'_> {
    /// SubStatus and description of a VM that is not ready.
    const fn not_ready(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Ready => None,
            Self::Provisioning(text) => Some(("Provisioning", text)),
            Self::Failed(text) => Some(("ProvisioningFailed", text)),
        }
    }

    /// The body of `POST /provisioning/health`.
    ///
    /// # Errors
    /// `TooMany` when `out` is too small.
    pub fn emit_json(&self, out: &mut [u8]) -> Result<usize> {
        emit(out, |out| match self.not_ready() {
            None => out.write_str(r#"{"state":"Ready"}"#),
            Some((status, text)) => write!(
                out,
                r#"{{"state":"NotReady","details":{{"subStatus":"{status}","description":"{}"}}}}"#,
                Json(text)
            ),
        })
    }

    /// The body of `POST /machine?comp=health`, for the role instance that `goal` names.
    ///
    /// # Errors
    /// `TooMany` when `out` is too small.
    pub fn emit_xml(&self, goal: &GoalState, out: &mut [u8]) -> Result<usize> {
        emit(out, |out| {
            write!(
                out,
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
                 <Health xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\
                 <GoalStateIncarnation>{}</GoalStateIncarnation><Container><ContainerId>{}</ContainerId>\
                 <RoleInstanceList><Role><InstanceId>{}</InstanceId><Health>",
                goal.incarnation,
                Xml(&goal.container_id),
                Xml(&goal.instance_id)
            )?;
            match self.not_ready() {
                None => out.write_str("<State>Ready</State>")?,
                Some((status, text)) => write!(
                    out,
                    "<State>NotReady</State><Details><SubStatus>{status}</SubStatus>\
                     <Description>{}</Description></Details>",
                    Xml(text)
                )?,
            }
            out.write_str("</Health></Role></RoleInstanceList></Container></Health>")
        })
    }
}

/// Text inside a JSON string (RFC 8259 section 7).
struct Json<'a>(&'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Text inside an XML element (XML 1.0 section 2.4).
struct Xml<'a>(&'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Where a body is put together.
struct Out<'b> {
    buf: &'b mut [u8],
    at: usize,
}

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.at.checked_add(text.len()).ok_or(fmt::Error)?;
        self.buf.get_mut(self.at..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.at = end;
        Ok(())
    }
}

fn emit(buf: &mut [u8], write: impl FnOnce(&mut Out<'_>) -> fmt::Result) -> Result<usize> {
    let full = too_many!("health report", buf.len());
    let mut out = Out { buf, at: 0 };
    write(&mut out).map_err(|_| full)?;
    Ok(out.at)
}

#[cfg(test)]
mod tests {
    use super::{Health, Reason, describe, still_at_work};
    use crate::facts::InstanceId;
    use crate::format::goalstate::GoalState;
    use crate::format::xml::{Name, Sink, Tokenizer};
    use crate::limits;
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use std::format;
    use std::string::String;

    fn goal(instance: &str) -> GoalState {
        GoalState {
            incarnation: 7,
            container_id: "5b2f9a3e".try_into().unwrap(),
            instance_id: instance.try_into().unwrap(),
        }
    }

    fn xml(health: Health<'_>, goal: &GoalState) -> String {
        let mut body = [0; limits::HEALTH_BODY];
        let length = health.emit_xml(goal, &mut body).unwrap();
        String::from_utf8(body[..length].to_vec()).unwrap()
    }

    fn json(health: Health<'_>) -> String {
        let mut body = [0; limits::HEALTH_BODY];
        let length = health.emit_json(&mut body).unwrap();
        String::from_utf8(body[..length].to_vec()).unwrap()
    }

    /// Joins the texts of all elements called `wanted`.
    struct Find<'a> {
        wanted: &'a [u8],
        is_open: bool,
        text: std::vec::Vec<u8>,
    }

    impl Sink for Find<'_> {
        fn open(&mut self, name: Name<'_>) -> crate::error::Result<()> {
            self.is_open = name.local == self.wanted;
            Ok(())
        }
        fn text(&mut self, chunk: &[u8]) -> crate::error::Result<()> {
            if self.is_open {
                self.text.extend_from_slice(chunk);
            }
            Ok(())
        }
        fn close(&mut self) -> crate::error::Result<()> {
            self.is_open = false;
            Ok(())
        }
    }

    fn element(document: &str, wanted: &str) -> String {
        let mut find = Find { wanted: wanted.as_bytes(), is_open: false, text: std::vec::Vec::new() };
        let mut tokenizer = Tokenizer::new(&[]);
        tokenizer.push(document.as_bytes(), &mut find).unwrap();
        tokenizer.finish().unwrap();
        String::from_utf8(find.text).unwrap()
    }

    #[test]
    fn ready_is_what_the_platform_knows() {
        assert_eq!(json(Health::Ready), r#"{"state":"Ready"}"#);
        let xml = xml(Health::Ready, &goal("11112222._edge"));
        assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"utf-8\"?><Health xmlns:xsi="));
        assert!(xml.ends_with(
            "<GoalStateIncarnation>7</GoalStateIncarnation><Container><ContainerId>5b2f9a3e</ContainerId>\
             <RoleInstanceList><Role><InstanceId>11112222._edge</InstanceId><Health><State>Ready</State></Health>\
             </Role></RoleInstanceList></Container></Health>"
        ));
    }

    #[test]
    fn a_vm_that_is_still_worked_on_is_not_given_up() {
        let id = InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap();
        let text = still_at_work(&id);
        let health = Health::Provisioning(&text);
        assert_eq!(
            json(health),
            "{\"state\":\"NotReady\",\"details\":{\"subStatus\":\"Provisioning\",\"description\":\
             \"Provisioning is still in progress for vm_id=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\"}}"
        );
        let xml = xml(health, &goal("1"));
        assert_eq!(
            (element(&xml, "State"), element(&xml, "SubStatus")),
            ("NotReady".into(), "Provisioning".into())
        );
        assert_eq!(element(&xml, "Description"), text.as_str());
    }

    #[test]
    fn a_failure_says_who_why_and_where_to_read() {
        let id = InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap();
        let text = describe(&Reason::of("error parsing ovf-env.xml"), Some(&id));
        assert_eq!(
            text.as_str(),
            format!(
                "result=error|reason=error parsing ovf-env.xml|agent={}\
                 |vm_id=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf\
                 |documentation_url=https://aka.ms/linuxprovisioningerror",
                crate::report::AGENT
            )
        );
        assert_eq!(
            json(Health::Failed("a\"b\\")),
            r#"{"state":"NotReady","details":{"subStatus":"ProvisioningFailed","description":"a\"b\\"}}"#
        );
    }

    #[test]
    fn a_reason_is_safe_in_every_channel() {
        for (given, safe) in [
            ("  unit failed\n\t twice ", "unit failed twice"),
            ("a|result=success", "a/result=success"),
            ("\x1b[2Jü\0", "?[2J??"),
            ("", "no reason given"),
        ] {
            assert_eq!(Reason::of(given).as_str(), safe);
        }
        let long = Reason::of(&"x".repeat(10_000));
        assert_eq!(long.as_str().len(), limits::REASON);
        assert!(long.as_str().ends_with("x..."));
    }

    #[test]
    fn a_buffer_too_small_is_an_error_not_a_cut() {
        assert!(Health::Ready.emit_json(&mut [0; 4]).is_err());
        assert!(Health::Ready.emit_xml(&goal("x"), &mut [0; 64]).is_err());
    }

    #[test]
    fn the_largest_report_fits_its_buffer() {
        let goal = GoalState {
            incarnation: u64::MAX,
            container_id: heapless::String::try_from("&".repeat(64).as_str()).unwrap(),
            instance_id: heapless::String::try_from("&".repeat(256).as_str()).unwrap(),
        };
        xml(Health::Failed(&"&".repeat(limits::DESCRIPTION)), &goal);
        json(Health::Failed(&"\"".repeat(limits::DESCRIPTION)));
    }

    proptest! {
        #[test]
        fn a_description_is_whole_within_the_limit(reason in "\\PC{0,600}", id in "[a-z0-9._-]{64}") {
            let id = InstanceId::parse(&id.replacen('.', "x", 1)).ok();
            let text = describe(&Reason::of(&reason), id.as_ref());
            prop_assert!(text.len() <= limits::DESCRIPTION && text.ends_with("linuxprovisioningerror"));
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(text.split('|').count(), 4 + usize::from(id.is_some()));
        }

        #[test]
        fn xml_escapes_round_trip(text in "[ -~]{1,300}", instance in "[!-~]{1,256}") {
            let document = xml(Health::Failed(&text), &goal(&instance));
            prop_assert_eq!(element(&document, "Description"), text);
            prop_assert_eq!(element(&document, "InstanceId"), instance);
        }

        /// A JSON string without escapes in it is the text between the quotes.
        #[test]
        fn json_strings_end_where_they_should(text in "\\PC{0,100}[\\x00-\\x1f]{0,4}\\PC{0,50}") {
            let document = json(Health::Failed(&text));
            let inner = document.split_once("\"description\":\"").unwrap().1.strip_suffix("\"}}").unwrap();
            let plain = inner.replace("\\\\", "").replace("\\\"", "");
            prop_assert!(!plain.contains('"') && plain.bytes().all(|b| b >= b' '));
        }
    }
}
