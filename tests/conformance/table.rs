//! The table of `docs/conformance.md`: every numbered statement of both standards with its tests, or why it has none.
//!
//! Statements are in `statements/`, a file for each chapter, with the columns identifier, whom it binds (server, client
//! or both), what it wants in our own words, and, only where nothing can be tested, why. Tests are found by their doc
//! lines:
//!
//! ```text
//! /// Covers: MQTT5-3.1.2-22, MQTT3-3.1.2-24
//! /// Also: MQTT 5.0 section 3.1.2.11.3, a receive maximum of 0
//! /// Trap: keep alive 0 refused
//! #[test]
//! fn ...
//! ```
//!
//! Run with `UPDATE_CONFORMANCE=1` to write the table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// How many statements the appendices B of the standards list.
const STANDARDS: [(&str, &str, usize); 2] = [("MQTT3", "MQTT 3.1.1", 141), ("MQTT5", "MQTT 5.0", 251)];

/// Chapters whose tests are still being written, one a line. The file is empty when the suite is whole.
fn being_written() -> Vec<String> {
    let list = fs::read_to_string(suite().join("statements/being-written.txt")).unwrap();
    list.lines().map(str::to_owned).collect()
}

/// `MQTT5-3.1.2-22`, in the order of the standard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    standard: String,
    section: [u16; 3],
    number: u16,
}

struct Statement {
    binds: String,
    text: String,
    reason: Option<String>,
}

/// A test and what its doc lines say.
#[derive(Default)]
struct Test {
    file: String,
    name: String,
    covers: Vec<Id>,
    also: Vec<String>,
    traps: Vec<String>,
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (standard, rest) = text.split_once('-')?;
        STANDARDS.iter().find(|(name, ..)| *name == standard)?;
        let (section, number) = rest.split_once('-')?;
        let parts: Vec<u16> = section.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let id = Self {
            standard: standard.to_owned(),
            section: parts.try_into().ok()?,
            number: number.parse().ok()?,
        };
        (id.text() == text).then_some(id) // one spelling only
    }

    fn text(&self) -> String {
        let [a, b, c] = self.section;
        format!("{}-{a}.{b}.{c}-{}", self.standard, self.number)
    }

    /// The file that it stands in: chapters 3 and 4 are as long as books, the others are one file each.
    fn chapter(&self) -> String {
        match self.section {
            [chapter @ (3 | 4), section, _] => format!("{chapter}.{section}"),
            [chapter, ..] => chapter.to_string(),
        }
    }
}

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn statements() -> BTreeMap<Id, Statement> {
    let mut statements = BTreeMap::new();
    for path in files(&suite().join("statements"), "tsv") {
        let chapter = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            let ([id, binds, text] | [id, binds, text, _]) = columns[..] else {
                panic!("{}: three or four columns, not {line:?}", path.display());
            };
            let id = Id::parse(id).unwrap_or_else(|| panic!("{}: no statement {id:?}", path.display()));
            assert_eq!(id.chapter(), chapter, "{} is in {}", id.text(), path.display());
            assert!(matches!(binds, "server" | "client" | "both"), "{line}");
            let reason = columns.get(3).map(|reason| (*reason).to_owned());
            let statement = Statement { binds: binds.to_owned(), text: text.to_owned(), reason };
            let known = statements.insert(id, statement);
            assert!(known.is_none(), "twice: {line}");
        }
    }
    statements
}

fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for path in files(&suite(), "rs") {
        let file = path.strip_prefix(suite()).unwrap().to_str().unwrap().to_owned();
        if file == "table.rs" || file.starts_with("harness") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        tests.extend(tests_in(&file, &source));
    }
    tests
}

fn tests_in(file: &str, source: &str) -> Vec<Test> {
    let (mut tests, mut test) = (Vec::new(), Test::default());
    for line in source.lines().map(str::trim) {
        if let Some(ids) = line.strip_prefix("/// Covers: ") {
            let parse = |id: &str| Id::parse(id).unwrap_or_else(|| panic!("{file}: no statement {id:?}"));
            test.covers.extend(ids.split(", ").map(parse));
        } else if let Some(rule) = line.strip_prefix("/// Also: ") {
            test.also.push(rule.to_owned());
        } else if let Some(trap) = line.strip_prefix("/// Trap: ") {
            test.traps.push(trap.to_owned());
        } else if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
            (test.file, test.name) = (file.to_owned(), name.0.to_owned());
            tests.push(std::mem::take(&mut test));
        }
    }
    tests.retain(|test| !(test.covers.is_empty() && test.also.is_empty() && test.traps.is_empty()));
    tests
}

fn render() -> String {
    let (statements, tests) = (statements(), tests());
    let mut table = HEAD.to_owned();
    for (standard, name, count) in STANDARDS {
        let of_it = || statements.iter().filter(|(id, _)| id.standard == standard);
        let covered = of_it().filter(|(id, _)| tests.iter().any(|test| test.covers.contains(id))).count();
        let reasons = of_it().filter(|(_, statement)| statement.reason.is_some()).count();
        let _ = write!(
            table,
            "\n## {name}\n\n{count} statements: {covered} with a test, {reasons} with the reason why none is possible.\n"
        );
        let mut chapter = String::new();
        for (id, statement) in of_it() {
            if id.chapter() != chapter {
                chapter = id.chapter();
                let _ = write!(
                    table,
                    "\n### Chapter {chapter}\n\n| statement | binds | what it wants | tested by |\n|---|---|---|---|\n"
                );
            }
            let by = tested_by(id, statement, &tests);
            let _ = writeln!(table, "| [{}] | {} | {} | {by} |", id.text(), statement.binds, statement.text);
        }
    }
    list(&mut table, "Rules without a number", &tests, |test| &test.also);
    list(&mut table, "Where other brokers went wrong", &tests, |test| &test.traps);
    table
}

const HEAD: &str = "# Conformance\n\n\
    Every numbered statement of the two standards with the tests of `tests/conformance` that fail when the broker breaks \
    it, or with the reason why no test can. A statement that binds the client is tested where a server can tell: what it \
    does when a client breaks it. Numbers are those of the standards' appendices B; the words are ours. The tests speak \
    MQTT 3.1, which has no numbered statements, wherever the rule is the same.\n\n\
    This file is generated: `UPDATE_CONFORMANCE=1 cargo test -p reveille-tests --test conformance table` writes it.\n";

fn tested_by(id: &Id, statement: &Statement, tests: &[Test]) -> String {
    let by: Vec<String> = tests.iter().filter(|test| test.covers.contains(id)).map(name).collect();
    match &statement.reason {
        Some(reason) => format!("not tested: {reason}"),
        None if by.is_empty() => "**nothing yet**".to_owned(),
        None => by.join(", "),
    }
}

fn name(test: &Test) -> String {
    let module = test.file.trim_end_matches(".rs").replace('/', "::");
    format!("`{module}::{}`", test.name)
}

fn list(table: &mut String, title: &str, tests: &[Test], of: impl Fn(&Test) -> &Vec<String>) {
    let _ = write!(table, "\n## {title}\n\n| what | tested by |\n|---|---|\n");
    for test in tests {
        for what in of(test) {
            let _ = writeln!(table, "| {what} | {} |", name(test));
        }
    }
}

#[test]
fn the_table_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let wanted = render();
    if env::var_os("UPDATE_CONFORMANCE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/conformance.md is out of date: run this with UPDATE_CONFORMANCE=1");
}

#[test]
fn every_statement_has_a_test_or_a_reason() {
    let (statements, tests, being_written) = (statements(), tests(), being_written());
    let mut wrong = Vec::new();
    for (id, statement) in &statements {
        let is_tested = tests.iter().any(|test| test.covers.contains(id));
        match (&statement.reason, is_tested) {
            (None, false) if being_written.contains(&id.chapter()) => {}
            (None, false) => wrong.push(format!("{} has neither test nor reason", id.text())),
            (Some(_), true) => wrong.push(format!("{} has a test, and a reason for none", id.text())),
            (Some(reason), false) if reason.trim().is_empty() => wrong.push(format!("{}: why?", id.text())),
            (Some(_), false) | (None, true) => {}
        }
    }
    for test in &tests {
        for id in test.covers.iter().filter(|id| !statements.contains_key(id)) {
            wrong.push(format!("{} covers {}, which does not exist", name(test), id.text()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_list_of_statements_is_whole() {
    let statements = statements();
    for (standard, name, wanted) in STANDARDS {
        let ids: Vec<&Id> = statements.keys().filter(|id| id.standard == standard).collect();
        assert_eq!(ids.len(), wanted, "{name}");
        // The numbers of a section have no gaps, with one exception: 5.0 has no 2.2.1-1.
        for pair in ids.windows(2) {
            let (before, id) = (pair[0], pair[1]);
            let is_next = before.section == id.section && id.number == before.number + 1;
            let is_first = before.section != id.section && id.number == 1;
            assert!(
                is_next || is_first || id.text() == "MQTT5-2.2.1-2",
                "{} after {}",
                id.text(),
                before.text()
            );
        }
    }
}

/// Chapters about what only 5.0 has.
const OF_5_0_ALONE: [&str; 6] =
    ["chapter_3_15", "chapter_4_9", "chapter_4_10", "chapter_4_11", "chapter_4_12", "chapter_4_13"];

/// MQTT 3.1 has no numbered statements, so nothing else would notice that a chapter forgot it.
#[test]
fn every_chapter_speaks_mqtt_3_1_too() {
    let mut chapters: BTreeMap<String, String> = BTreeMap::new();
    for path in files(&suite(), "rs") {
        let file = path.strip_prefix(suite()).unwrap().to_str().unwrap().to_owned();
        if let Some(chapter) = file.split(['/', '.']).next().filter(|name| name.starts_with("chapter_")) {
            chapters.entry(chapter.to_owned()).or_default().push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    // All versions, those before 5.0, or this one by its name.
    let speaks = |source: &str| {
        let is_named = source
            .match_indices("Version::V3_1")
            .any(|(at, name)| !source[at + name.len()..].starts_with("_1"));
        is_named
            || source.contains("(&VERSIONS)")
            || source.contains("in VERSIONS")
            || source.contains("(&OLD)")
    };
    let silent: Vec<&String> = chapters
        .iter()
        .filter(|(chapter, source)| !speaks(source) && !OF_5_0_ALONE.contains(&chapter.as_str()))
        .map(|(chapter, _)| chapter)
        .collect();
    assert!(silent.is_empty(), "3.1 has no test in {silent:?}");
    assert!(chapters.len() > 20, "the chapters were not found: {chapters:?}");
}
