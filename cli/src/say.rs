//! What the program tells people: facts to standard output, complaints to standard error.

use std::io::Write as _;

/// One line to standard output. A reader that went away is no reason to stop serving devices.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// One line to standard error, whatever the text has inside.
pub fn complain(text: &str) {
    let line = text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr().lock(), "reveille: {line}");
}
