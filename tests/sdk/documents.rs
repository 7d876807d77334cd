//! The samples in `docs/sdk` are code that works: compiled where there is a compiler, else compared by name.

use crate::bindings;
use std::path::{Path, PathBuf};
use std::process::Command;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/sdk").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of one language on a page.
pub fn samples(name: &str, language: &str) -> Vec<String> {
    let page = page(name);
    let blocks = page.split("```").skip(1).step_by(2);
    let samples: Vec<_> =
        blocks.filter_map(|block| block.strip_prefix(language)).map(str::to_owned).collect();
    assert!(!samples.is_empty(), "{name} has no sample in {language}");
    samples
}

#[test]
fn samples_in_typescript_compile() {
    let web = bindings::client_sdk().join("web");
    let directory = tempfile::tempdir_in(&web).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    for name in ["web.md", "mini-program.md"] {
        for (number, sample) in samples(name, "ts").into_iter().enumerate() {
            let path = directory.path().join(format!("{name}-{number}.ts"));
            std::fs::write(&path, sample).unwrap();
            files.push(path);
        }
    }
    let project = directory.path().join("tsconfig.json");
    // The package by its own name, as an app has it.
    let config = serde_json::json!({"extends": "../tsconfig.json", "compilerOptions": {"noEmit": true}, "files": files, "include": []});
    std::fs::write(&project, config.to_string()).unwrap();
    let output = Command::new("node")
        .arg(web.join("node_modules/typescript/bin/tsc"))
        .arg("-p")
        .arg(&project)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn samples_in_python_compile_and_name_what_there_is() {
    let sources = bindings::generate("python");
    let check = "import ast, sys, reveille\n\
        tree = ast.parse(sys.stdin.read())\n\
        for node in ast.walk(tree):\n\
        \x20   if isinstance(node, ast.ImportFrom) and node.module == 'reveille':\n\
        \x20       [getattr(reveille, name.name) for name in node.names]\n\
        \x20   if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):\n\
        \x20       owner = {'client': reveille.Client, 'message': reveille.Message}.get(node.value.id)\n\
        \x20       owner is None or getattr(owner, node.attr)\n";
    for sample in samples("python.md", "python") {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", sources.path()).args(["-c", check]);
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), sample.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// There is no Swift compiler here.
#[test]
fn samples_in_swift_name_what_there_is() {
    let sources = bindings::generate("swift");
    let source = std::fs::read_to_string(sources.path().join("Reveille.swift")).unwrap();
    let samples = samples("ios.md", "swift").concat();
    let mut checked = 0;
    for (at, _) in samples.match_indices("client.").chain(samples.match_indices("message.")) {
        let call = samples[at..].split_once('.').unwrap().1;
        let name: String = call.chars().take_while(|letter| letter.is_alphanumeric()).collect();
        assert!(source.contains(&format!("func {name}(")), "{name}");
        checked += 1;
    }
    assert!(checked > 5);
    for label in ["clientId", "host", "port", "tls", "inboxFile", "outboxFile", "vendor", "token", "platform"]
    {
        assert!(source.contains(&format!("{label}: ")), "{label}");
    }
}
