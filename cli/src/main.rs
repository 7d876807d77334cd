//! The program `reveille`.
fn main() {}
