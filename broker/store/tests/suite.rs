//! Both stores pass the same suite.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation of a test is a panic"
)]

use reveille_broker_store::suite::{Subject, run};
use reveille_broker_store::{Embedded, Memory, Options};
use tempfile::TempDir;

struct OnDisk(TempDir);

impl Subject for OnDisk {
    type Store = Embedded;

    fn open(&mut self) -> Embedded {
        Embedded::open(self.0.path(), Options::default()).unwrap()
    }

    fn reopen(&mut self, closed: Embedded) -> Embedded {
        drop(closed);
        self.open()
    }
}

struct InMemory;

impl Subject for InMemory {
    type Store = Memory;

    fn open(&mut self) -> Memory {
        Memory::new()
    }

    fn reopen(&mut self, closed: Memory) -> Memory {
        closed.crash()
    }
}

#[test]
fn the_embedded_store_passes_the_suite() {
    run(|| OnDisk(tempfile::tempdir().unwrap()));
}

#[test]
fn the_memory_store_passes_the_suite() {
    run(|| InMemory);
}
