//! Writes the Kotlin, Swift and Python sources of the SDK, from the built library:
//!
//! `cargo run -p reveille-bindgen -- generate --config client-sdk/bindings/uniffi.toml --language kotlin --out-dir OUT LIBRARY`,
//! where LIBRARY is `target/debug/libreveille_client_ffi.so`.

fn main() {
    uniffi::uniffi_bindgen_main();
}
