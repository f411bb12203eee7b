//! Cases recorded from reference implementations, `tests/fixtures/cases/*.json`.

use serde_json::Value;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

/// One recorded case.
pub(crate) struct Case {
    /// Its name in the reference's own tests.
    pub(crate) name: String,
    /// What the reference was given.
    pub(crate) input: Value,
    /// What it made of that; `Null` where it refused.
    pub(crate) expected: Value,
}

/// What we make of a case.
pub(crate) enum Answer {
    /// The same, to be compared with what is expected.
    Is(Value),
    /// Another on purpose, or nothing, for this reason.
    Differs(&'static str),
}

impl Case {
    /// A text of the input, `""` where there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.input[key].as_str().unwrap_or_default()
    }

    /// Lines of the input, each with its end.
    pub(crate) fn lines(&self, key: &str) -> String {
        let lines = self.input[key].as_array().unwrap();
        lines.iter().map(|line| std::format!("{}\n", line.as_str().unwrap())).collect()
    }
}

/// Puts every case of a file to `answer`, prints how many are equal and why the others are not, and fails for
/// those that are neither equal nor different on purpose.
pub(crate) fn run(file: &str, answer: impl Fn(&Case) -> Answer) {
    let path = std::format!("{}/tests/fixtures/cases/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut equal, mut reasons, mut wrong) = (0, BTreeMap::<&str, u32>::new(), Vec::new());
    for case in document["cases"].as_array().unwrap() {
        let case = Case {
            name: case["name"].as_str().unwrap().into(),
            input: case["input"].clone(),
            expected: case["expected"].clone(),
        };
        match answer(&case) {
            Answer::Differs(reason) => *reasons.entry(reason).or_default() += 1,
            Answer::Is(value) if value == case.expected => equal += 1,
            Answer::Is(value) => {
                wrong.push(std::format!("{}\n  ours     {value}\n  expected {}", case.name, case.expected));
            }
        }
    }
    let differ: u32 = reasons.values().sum();
    std::println!(
        "cases {file}: {equal} equal, {differ} different on purpose {reasons:?}, {} wrong",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal > 0, "no case of {file} is equal");
}
