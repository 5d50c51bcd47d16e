//! The bugs that `planted/run` plants have their place in the source, and the tests that they must make fail are there. (That those fail is
//! what the script finds out.)

use std::fs;
use std::path::{Path, PathBuf};

/// A patch: the tests that it makes fail, and its hunks.
struct Planted {
    fails: Vec<(String, String)>,
    hunks: Vec<Hunk>,
}

struct Hunk {
    file: PathBuf,
    /// Its first line, which says how many lines there are.
    head: String,
    old: String,
    new: String,
}

fn parse(patch: &str) -> Planted {
    let mut planted = Planted { fails: Vec::new(), hunks: Vec::new() };
    let mut file = PathBuf::new();
    for line in patch.lines() {
        if let Some(test) = line.strip_prefix("fails: ") {
            let (file, test) = test.split_once(' ').expect("a file and a test");
            planted.fails.push((file.to_owned(), test.to_owned()));
        } else if let Some(name) = line.strip_prefix("+++ b/") {
            file = Path::new("..").join(name);
        } else if line.starts_with("@@ ") {
            let (file, head) = (file.clone(), line.to_owned());
            planted.hunks.push(Hunk { file, head, old: String::new(), new: String::new() });
        } else if let Some(Hunk { old, new, .. }) = planted.hunks.last_mut().filter(|_| !line.starts_with("--- ")) {
            let (mark, text) = line.split_at_checked(1).unwrap_or((" ", ""));
            let add = |to: &mut String| to.extend([text, "\n"]);
            match mark {
                " " => {
                    add(old);
                    add(new);
                }
                "-" => add(old),
                "+" => add(new),
                _ => {}
            }
        }
    }
    planted
}

#[test]
fn every_planted_bug_has_its_place_and_its_tests() {
    let mut count = 0;
    for entry in fs::read_dir("planted").expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let Planted { fails, hunks } = parse(&fs::read_to_string(&path).expect("a patch"));
        assert!(!fails.is_empty() && !hunks.is_empty(), "{}", path.display());
        for (file, test) in fails {
            let source = fs::read_to_string(format!("tests/{file}.rs")).expect("a test file");
            assert!(source.contains(&format!("fn {test}()")), "{}: no test {test} in {file}", path.display());
        }
        for Hunk { file, head, old, new } in hunks {
            let lines = format!(",{} +", old.lines().count());
            let new_lines = format!(",{} @@", new.lines().count());
            assert!(head.contains(&lines) && head.contains(&new_lines), "{}: {head}", path.display());
            let source = fs::read_to_string(&file).expect("a source file");
            assert_eq!(
                source.matches(&old).count(),
                1,
                "{}: the place is gone: in {}\n{old}",
                path.display(),
                file.display()
            );
            assert_ne!(old, new, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 12, "{count} planted bugs");
}
