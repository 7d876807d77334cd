//! `reveille ctl new-key`: a key that nobody can guess, shown once, and what the configuration keeps of it.

use crate::failure::Failure;
use crate::say::say;
use reveille_broker::{AdminRole, admin_key_hash};

/// Prints it.
///
/// # Errors
/// [`Failure::Role`] when there is no such role.
pub fn make(name: &str, role: &str) -> Result<(), Failure> {
    let role = match role {
        "read" => AdminRole::Read,
        "admin" => AdminRole::Admin,
        other => return Err(Failure::Role { role: other.to_owned() }),
    };
    let key = format!("rvb_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    say(&format!("key {key}"));
    say("The key is shown this once. The configuration keeps its hash:");
    say("");
    say("[[broker.admin.keys]]");
    say(&format!("name = {name:?}"));
    say(&format!("role = {:?}", if role == AdminRole::Admin { "admin" } else { "read" }));
    say(&format!("sha256 = \"{}\"", admin_key_hash(&key)));
    Ok(())
}
