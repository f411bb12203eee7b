//! depmod's tables: any line is read or skipped, and matching any pattern ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::format::modules::{
    Dependencies, SoftDependencies, SoftTime, is_match, name_of, parse_alias, parse_builtin_alias,
};

fuzz_target!(|data: (&str, &str)| {
    let (line, modalias) = data;
    let _ = is_match(line, modalias);
    if let Some((pattern, module)) = parse_alias(line) {
        assert!(!module.is_empty());
        let _ = is_match(pattern, modalias);
    }
    let _ = parse_builtin_alias(line);
    if let Some(found) = Dependencies::parse(line) {
        assert!(name_of(found.path).is_some());
        found.in_load_order().for_each(|path| drop(name_of(path)));
    }
    if let Some(soft) = SoftDependencies::parse(line) {
        assert!(soft.wanted(SoftTime::Pre).chain(soft.wanted(SoftTime::Post)).all(|name| !name.is_empty()));
    }
});
