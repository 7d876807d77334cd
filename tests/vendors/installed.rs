//! Where `test.sh` puts the foreign clients, and how one is run: a line of JSON in, a line of JSON out. Nothing is skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap(); // in target/debug/deps
    test.ancestors().nth(3).unwrap().join("interop/vendors")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vendors/clients").join(name)
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `./test.sh clients` once", path.display());
    path
}

/// Python with the packages of `requirements.txt`, about to run a program of `clients/`.
pub fn python(name: &str) -> Command {
    let mut command = Command::new(there(target().join("venv/bin/python")));
    command.arg(script(name));
    command
}

/// Where the packages of `package.json` are.
pub fn modules() -> PathBuf {
    there(target().join("node/node_modules"))
}

/// Node with these packages, about to run a program of `clients/`.
pub fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name)).env("NODE_PATH", modules());
    command
}

/// The path of a program of `clients/`, for whoever preloads it.
pub fn path_of(name: &str) -> PathBuf {
    script(name)
}

/// Gives a client its order and waits for its answer.
pub async fn run(mut command: Command, order: Value) -> Value {
    let running = tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        writeln!(child.stdin.take().unwrap(), "{order}").unwrap();
        child.wait_with_output().unwrap()
    });
    let output = running.await.unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    let last = told.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("no answer: {told}\n{errors}"))
}
