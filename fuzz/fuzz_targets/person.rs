//! users/N of the seed: what is read cannot break a line of passwd, shadow or group.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::facts::UserName;
use preroot::format::person::{Person, is_doas_rule};

fuzz_target!(|text: &str| {
    let Ok(person) = UserName::parse("ubuntu").and_then(|default| Person::parse(text, &default)) else {
        return;
    };
    let fields =
        [person.gecos, person.home, person.shell, person.first_hash, person.hash, person.primary_group];
    for field in fields.into_iter().chain(person.groups()) {
        assert!(!field.contains(':') && !field.chars().any(|c| c.is_ascii_control()));
    }
    for rule in person.doas().chain(person.sudo()).chain(person.keys()) {
        assert!(!rule.contains('\n'));
        let _ = is_doas_rule(rule, person.name.as_str());
    }
});
