//! The tables of the documentation: every test that they name is there, and every letter has one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The source of a test file, or of all files of a test directory.
fn source(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let entries = fs::read_dir(path).expect("a directory");
    entries.map(|entry| source(&entry.expect("an entry").path())).collect()
}

#[test]
fn every_test_that_the_trust_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = source(&root.join("src/trust.md"));
    let (tables, tests) = text.split_once("# The tests of these tables").expect("a list of tests");
    let mut letters = BTreeSet::new();
    let mut named = 0;
    for line in tests.lines().filter_map(|line| line.strip_prefix("* ")) {
        let (letter, rest) = line.split_once(": ").expect("a letter");
        letters.insert(letter.to_owned());
        for part in rest.split("; ") {
            let mut names = part.split('`').skip(1).step_by(2);
            let file = names.next().expect("a file");
            let found = source(&root.join(file));
            for name in names {
                // As it is written, or made by a macro from a list.
                let there = found.contains(&format!("fn {name}()")) || found.contains(&format!("    {name}: \""));
                assert!(there, "{file} has no test {name}");
                named += 1;
            }
        }
    }
    let used: BTreeSet<String> = tables
        .split('(')
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .flat_map(|(inside, _)| inside.split(", "))
        .filter(|letter| letter.len() == 1)
        .map(str::to_owned)
        .collect();
    assert_eq!(used, letters);
    assert!(named >= 24 && letters.len() >= 20, "{named} tests of {} letters", letters.len());
}
