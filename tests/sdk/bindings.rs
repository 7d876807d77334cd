//! The generated sources of each language, and that they are what the library offers.

use crate::documents::samples;
use reveille_tests::program;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const LIBRARY: &str = "libreveille_client_ffi.so";

/// The project's directory `client-sdk`.
pub fn client_sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("client-sdk")
}

/// A program of `client-sdk/bindings/examples`.
pub fn example(name: &str) -> PathBuf {
    client_sdk().join("bindings/examples").join(name)
}

/// Writes the sources of a language into a directory that ends with the test, beside the library that they load.
pub fn generate(language: &str) -> TempDir {
    let (library, tool) = (built(LIBRARY), built("reveille-bindgen"));
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(tool)
        .args(["generate", "--no-format", "--language", language, "--config"])
        .arg(client_sdk().join("bindings/uniffi.toml"))
        .arg("--out-dir")
        .arg(directory.path())
        .arg(&library)
        .output()
        .unwrap();
    assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    std::os::unix::fs::symlink(&library, directory.path().join(LIBRARY)).unwrap();
    directory
}

/// Compiles the Kotlin sources below a directory and the phone, warnings counting as errors; the class path to run it.
pub fn compile_kotlin(sources: &Path, classes: &Path) -> String {
    let home = interop("kotlin/node_modules/kotlin-compiler");
    let library = |name: &str| home.join("lib").join(name).display().to_string();
    let (jna, coroutines) =
        ("/usr/share/java/jna.jar".to_owned(), library("kotlinx-coroutines-core-jvm.jar"));
    let output = Command::new("java")
        .args([
            "-Xmx1g",
            "-cp",
            &library("kotlin-preloader.jar"),
            "org.jetbrains.kotlin.preloading.Preloader",
        ])
        .args(["-cp", &library("kotlin-compiler.jar"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"])
        .arg("-kotlin-home")
        .arg(&home)
        .args(["-Werror", "-cp", &[&*jna, &*coroutines].join(":"), "-d"])
        .arg(classes)
        .arg(sources.join("reveille/reveille.kt"))
        .arg(example("Phone.kt"))
        .arg(android_samples(sources))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/clients/android"))
        .output()
        .unwrap();
    assert!(output.status.success(), "kotlinc: {}", String::from_utf8_lossy(&output.stderr));
    [classes.display().to_string(), jna, coroutines, library("kotlin-stdlib.jar")].join(":")
}

/// The samples of the page for Android in one file, compiled with stand-ins for Android's classes.
fn android_samples(directory: &Path) -> PathBuf {
    let imports = "import android.content.Context\nimport android.net.ConnectivityManager\nimport android.net.Network\nimport android.net.NetworkCapabilities\n\
        import java.time.Duration\nimport kotlinx.coroutines.CoroutineScope\nimport kotlinx.coroutines.launch\nimport reveille.*\n";
    let path = directory.join("AndroidSamples.kt");
    std::fs::write(&path, imports.to_owned() + &samples("android.md", "kotlin").concat()).unwrap();
    path
}

/// Where `test.sh` puts what comes from npm and PyPI.
pub fn interop(path: &str) -> PathBuf {
    let target = program::binary().parent().and_then(Path::parent).unwrap().to_owned();
    let path = target.join("interop").join(path);
    assert!(path.exists(), "{} is missing: run `./test.sh clients` once", path.display());
    path
}

fn built(name: &str) -> PathBuf {
    let path = program::binary().with_file_name(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    path
}

/// What every language must offer, by its own spelling.
fn offered(source: &str, words: &[&str]) {
    for word in words {
        assert!(source.contains(word), "{word} is missing");
    }
}

#[test]
fn swift_sources_have_the_whole_api_and_close_what_they_open() {
    let sources = generate("swift");
    let text = |name: &str| std::fs::read_to_string(sources.path().join(name)).unwrap();
    let source = text("Reveille.swift");
    offered(
        &source,
        &[
            "static func connect(options: Options)throws  -> Client",
            "func nextMessage()async  -> Message?",
            "func handled()async throws",
            "func networkChanged()async",
            "func vendorPushReceived(id: String)async throws  -> VendorPush",
            "func post(topic: String, payload: Data, hints: PushHints)async throws  -> String",
            "case refused(",
        ],
    );
    for (open, close) in [('{', '}'), ('(', ')'), ('[', ']')] {
        let count = |bracket| source.matches(bracket).count();
        assert_eq!(count(open), count(close), "{open} {close}");
    }
    assert!(text("ReveilleFFI.modulemap").contains("ReveilleFFI.h"));
    // The header is C, and there is a compiler for it; two words of Clang's are not known to every one.
    let header = sources.path().join("ReveilleFFI.h");
    let strict =
        ["-fsyntax-only", "-Wall", "-Werror", "-D_Nonnull=", "-D_Nullable=", "-xc", "/dev/null", "-include"];
    let status = Command::new("cc").args(strict).arg(header).status();
    assert!(status.unwrap().success());
}
