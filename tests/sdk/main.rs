//! The SDK in every language, as real clients of the real program: one list of checks, one program for each binding.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod bindings;
mod checks;
mod documents;
mod phone;
mod tls;

use crate::checks::check;
use crate::phone::Platform;

#[test]
fn rust_does_what_every_binding_does() {
    check(&Platform::rust());
}

#[test]
fn typescript_in_node_does_what_every_binding_does() {
    check(&Platform::node("dist/examples/node.js"));
}

#[test]
fn typescript_on_the_sockets_of_a_mini_program_does_what_every_binding_does() {
    check(&Platform::node("dist/test/mini_program_phone.js"));
}

#[test]
fn typescript_in_a_page_in_chromium_does_what_every_binding_does() {
    check(&Platform::chromium());
}

#[test]
fn kotlin_does_what_every_binding_does() {
    check(&Platform::kotlin());
}

#[test]
fn python_does_what_every_binding_does() {
    check(&Platform::python());
}

#[test]
fn the_web_package_keeps_its_own_rules() {
    let web = bindings::client_sdk().join("web");
    let output =
        std::process::Command::new("npm").args(["test", "--silent"]).current_dir(web).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("# fail 0"), "{told}");
}
