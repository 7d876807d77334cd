//! How the real program treats memory that it does not need any more.

use reveille_tests::program::binary;
use std::process::Command;

/// The allocator is configured when it is built, from a file of Cargo's that a build elsewhere may not see.
#[test]
fn memory_that_nobody_uses_goes_back_to_the_system_while_the_broker_is_idle() {
    let told = Command::new(binary())
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stderr);
    for wanted in ["opt.background_thread: true", "opt.dirty_decay_ms: 1000 "] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}
