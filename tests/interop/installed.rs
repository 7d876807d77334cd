//! Where `test.sh` puts foreign clients, and what to do when they are not there. Nothing is skipped.

use reveille_tests::program;
use std::path::{Path, PathBuf};
use std::process::Command;

fn target() -> PathBuf {
    program::binary().parent().and_then(Path::parent).unwrap().join("interop")
}

/// A program of `clients/`.
pub fn script(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/clients").join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// The Python that has the packages of `requirements.txt`.
pub fn python() -> PathBuf {
    there(target().join("venv/bin/python"))
}

/// Node with the packages of `package.json`, about to run a program of `clients/`.
pub fn node(name: &str) -> Command {
    let modules = there(target().join("node/node_modules"));
    let mut command = Command::new("node");
    command.arg(script(name)).env("NODE_PATH", modules);
    command
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `./test.sh clients` once", path.display());
    path
}
