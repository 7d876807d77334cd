//! The committed code of `proto/bridge.proto` is what the description says, although no build needs a compiler for it.
#![allow(clippy::unwrap_used, reason = "a test ends where its assumption breaks")]

use std::path::Path;

/// Set to anything, the test writes the file instead of comparing it.
const REFRESH: &str = "REVEILLE_REFRESH_GENERATED";

#[test]
fn the_committed_code_is_what_the_description_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/bridge/generated.rs");
    let wanted = generate(root);
    if std::env::var_os(REFRESH).is_some() {
        std::fs::write(&committed, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        found == wanted,
        "src/bridge/generated.rs differs from proto/bridge.proto; refresh it with\n\
         {REFRESH}=1 cargo test -p reveille-proto --test bridge_generated"
    );
}

fn generate(root: &Path) -> String {
    let folder = root.join("proto");
    let descriptors = protox::compile([folder.join("bridge.proto")], [&folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(descriptors).unwrap();
    std::fs::read_to_string(out.path().join("reveille.push.v1.rs")).unwrap()
}
