//! What the broker keeps on disk: one narrow trait, an embedded engine and a memory engine for tests.
