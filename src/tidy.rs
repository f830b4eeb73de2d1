//! The rules of the house, as tests: who may import whom, how large things may be, which words we
//! do not use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room, what it may name, and nothing else.
const ROOMS: &[(&str, &[&str])] = &[
    ("decision", &[]),
    ("judge", &["decision"]),
    ("http", &[]),
    ("telemetry", &[]),
    ("sources", &["decision", "http"]),
    ("routers", &["decision"]),
    ("github", &["decision", "http"]),
    ("api", &["decision", "sources", "routers"]),
    ("trial", &["api", "decision", "judge", "sources"]),
    ("audit", &["decision"]),
    ("serve", &["api", "decision", "audit"]),
    (
        "controller",
        &[
            "api", "audit", "decision", "github", "http", "judge", "routers", "serve", "sources", "trial",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "audit",
            "controller",
            "decision",
            "github",
            "http",
            "judge",
            "routers",
            "serve",
            "sources",
            "telemetry",
            "trial",
        ],
    ),
    ("tidy", &[]),
    ("readme", &["api", "cli"]),
];

/// Rooms that only compute: no clock, no input or output, no randomness, no log.
const PURE: &[&str] = &["decision", "judge", "trial"];
const IMPURE: &[&str] = &[
    "SystemTime",
    "Instant::now",
    "std::fs",
    "std::net",
    "std::env",
    "tokio::",
    "tracing::",
    "rand::",
    "println!",
    "eprintln!",
    "HashMap",
];

/// Words with two meanings in the field; ours are in the README's glossary.
const WORDS: &[&str] = &["provider", "threshold", "phase", "primary"];

/// Files that say nothing about what is in them.
const NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "types", "misc"];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 100;

struct Source {
    path: PathBuf,
    room: String,
    /// Without the tests at its end.
    code: String,
}

/// What is shipped.
fn sources() -> Vec<Source> {
    let mut found = all();
    let tests = test_files(&found);
    found.retain(|source| !tests.contains(&source.path));
    assert!(found.len() > 20, "the walk found the sources");
    found
}

/// Files with nothing but tests.
fn tests() -> Vec<Source> {
    let all = all();
    let tests = test_files(&all);
    let found: Vec<_> = all.into_iter().filter(|source| tests.contains(&source.path)).collect();
    assert!(found.len() > 20, "the walk found the tests");
    found
}

fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in files(&root) {
        let room = path
            .strip_prefix(&root)
            .expect("below src")
            .components()
            .next()
            .expect("a name");
        let room = room.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let code = text
            .split("\n#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .to_owned();
        found.push(Source { path, room, code });
    }
    found
}

/// Files that a room declares for tests only: they have a budget of their own, and no directions.
fn test_files(all: &[Source]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for source in all {
        let folder = source.path.parent().expect("a folder");
        for (at, _) in source.code.match_indices("#[cfg(test)]\nmod ") {
            let name: String = source.code[at + 17..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push(folder.join(format!("{name}.rs")));
        }
    }
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn none(what: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{what}:\n{}", offences.join("\n"));
}

#[test]
fn a_room_imports_only_what_its_row_allows() {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut offences = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.room != "lib" && source.room != "main")
    {
        let Some(allowed) = rooms.get(source.room.as_str()) else {
            offences.push(format!("{}: the room has no row in ROOMS", source.path.display()));
            continue;
        };
        for (number, line) in source
            .code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for (at, _) in line.match_indices("crate::") {
                let named: String = line[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if named != source.room && !allowed.contains(&named.as_str()) {
                    offences.push(format!(
                        "{}:{}: {} may not name {named:?}",
                        source.path.display(),
                        number + 1,
                        source.room
                    ));
                }
            }
            if line.contains("super::super") {
                offences.push(format!(
                    "{}:{}: super::super hides the room",
                    source.path.display(),
                    number + 1
                ));
            }
        }
    }
    none("imports against the direction", &offences);
}

#[test]
fn pure_rooms_only_compute() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room.as_str())) {
        for (number, line) in source
            .code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                offences.push(format!("{}:{}: {word}", source.path.display(), number + 1));
            }
        }
    }
    none("more than computing in a pure room", &offences);
}

/// What is wrong with a file as a whole: its name, its length.
fn file_offences(source: &Source) -> Vec<String> {
    let mut offences = Vec::new();
    let name = source.path.file_stem().expect("a name").to_string_lossy().into_owned();
    if NAMES.contains(&name.as_str()) {
        offences.push(format!("{}: a name that says nothing", source.path.display()));
    }
    let lines = source.code.lines().count();
    if lines > FILE_LINES {
        offences.push(format!(
            "{}: {lines} lines, at most {FILE_LINES}",
            source.path.display()
        ));
    }
    offences
}

#[test]
fn files_and_functions_stay_small_and_say_what_they_are() {
    let mut offences = Vec::new();
    for source in sources() {
        offences.extend(file_offences(&source));
        let mut begun: Option<(usize, &str)> = None;
        for (number, line) in source.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line
                .trim_start()
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub(crate) ");
            let head = head
                .trim_start_matches("pub ")
                .trim_start_matches("const ")
                .trim_start_matches("async ");
            if head.starts_with("fn ") && begun.is_none() {
                begun = Some((number, &line[..indent]));
            }
            if let Some((from, indent)) = begun
                && line
                    .strip_prefix(indent)
                    .is_some_and(|rest| rest == "}" || rest.starts_with("fn ") && rest.ends_with('}'))
            {
                if number - from > FUNCTION_LINES {
                    offences.push(format!(
                        "{}:{}: {} lines, at most {FUNCTION_LINES}",
                        source.path.display(),
                        from + 1,
                        number - from
                    ));
                }
                begun = None;
            }
        }
    }
    none("too large or badly named", &offences);
}

/// A test may be a long table, but a file of tests is read as a whole too.
#[test]
fn files_of_tests_stay_small_and_say_what_they_are() {
    let mut offences = Vec::new();
    for source in tests() {
        offences.extend(file_offences(&source));
    }
    none("too large or badly named", &offences);
}

#[test]
fn rooms_are_at_most_one_folder_deep() {
    let deep: Vec<String> = sources()
        .iter()
        .filter(|source| {
            let below = source
                .path
                .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
            below.is_ok_and(|path| path.components().count() > 2)
        })
        .map(|source| source.path.display().to_string())
        .collect();
    none("folders below a room", &deep);
}

#[test]
fn our_words_have_one_meaning() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.room != "tidy") {
        for (number, line) in source.code.lines().enumerate() {
            let line = line.to_lowercase();
            // names of libraries and other people's interfaces keep their own words
            let ours = line
                .replace("crypto_provider", "")
                .replace("default_provider", "")
                .replace("cryptoprovider", "");
            for word in WORDS
                .iter()
                .filter(|word| ours.split(|c: char| !c.is_alphanumeric()).any(|found| found == **word))
            {
                offences.push(format!("{}:{}: {word}", source.path.display(), number + 1));
            }
        }
    }
    none("words we do not use", &offences);
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[ig", "nore"].concat(),
        ["unimpl", "emented!"].concat(),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut offences = Vec::new();
    for path in [files(&root.join("src")), files(&root.join("e2e"))].concat() {
        let text = fs::read_to_string(&path).expect("readable");
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                offences.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    none("left for later", &offences);
}
