//! Is each row of the table of advisories (`docs/testing.md`) still held by the test that it names, and is none of the crates
//! linked that have hurt others?

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn text(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All that tests are written in.
fn sources(directory: &str, into: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory}: {error}")).flatten()
    {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", "fixtures"].contains(&name) {
            sources(path.to_str().unwrap_or_default(), into);
        } else if name.ends_with(".rs") || name.ends_with(".sh") || name.ends_with(".py") || name == "init" {
            into.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[test]
fn each_advisory_names_tests_that_are_there() {
    let docs = text("docs/testing.md");
    let (_, table) = docs.split_once("## What hurt others").unwrap_or_else(|| panic!("no table"));
    let mut code = String::new();
    for directory in ["src", "tests", "tools/cloud-config/src", "fuzz/fuzz_targets"] {
        sources(&format!("{ROOT}/{directory}"), &mut code);
    }
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let names: Vec<&str> =
            row.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || row.contains("| not ours: "), "{row}");
        for name in names {
            let is_there = code.contains(&format!("fn {name}("))
                || code.contains(&format!("\n{name}() {{"))
                || std::path::Path::new(&format!("{ROOT}/{name}")).exists();
            assert!(is_there, "{name} of {row}");
        }
        rows += 1;
    }
    assert!(rows >= 30, "{rows} rows");
}

/// RUSTSEC-2020-0145 (heapless), RUSTSEC-2021-0119 (nix), RUSTSEC-2025-0040 and 2023-0059 (users), RUSTSEC-2026-0194 and 0195
/// (quick-xml), what big HTTP stacks brought along (hyper, tokio, regex), and smoltcp#489, #1029, #1079.
#[test]
fn no_crate_with_a_known_hole_is_linked() {
    let lock = text("Cargo.lock");
    let versions = |name: &str| -> Vec<Vec<u32>> {
        let head = format!("name = \"{name}\"\nversion = \"");
        let after = lock.split(head.as_str()).skip(1);
        after
            .map(|rest| rest.split('"').next().unwrap_or_default().split('.').flat_map(str::parse).collect())
            .collect()
    };
    for name in ["nix", "users", "uzers", "quick-xml", "hyper", "tokio", "reqwest", "openssl", "dhcproto"] {
        assert!(versions(name).is_empty(), "{name}");
    }
    for (name, least) in [("heapless", [0, 6, 1]), ("smoltcp", [0, 13, 1])] {
        let found = versions(name);
        assert!(
            !found.is_empty() && found.iter().all(|version| version[..] >= least[..]),
            "{name} {found:?}"
        );
    }
}
