//! `reveille app create NAME`: makes an app and its first key through the HTTP API.

use crate::failure::Failure;
use crate::http::Api;
use crate::say::say;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What can be done with apps.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an app and print its key, once
    Create(Create),
}

/// What `app create` is told.
#[derive(clap::Args)]
pub struct Create {
    /// The app's id: 1 to 64 characters out of a-z, 0-9, - and _
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the HTTP API is
    #[arg(long, value_name = "URL", env = "REVEILLE_URL", default_value = "http://127.0.0.1:8080")]
    http: String,
    /// The admin key that the first start printed
    #[arg(long, value_name = "KEY", env = "REVEILLE_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,
    /// A PEM file with authorities that the server's certificate leads to, instead of the public ones
    #[arg(long, value_name = "FILE", env = "REVEILLE_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// Without the key.
impl std::fmt::Debug for Create {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Create").field("name", &self.name).field("http", &self.http).finish_non_exhaustive()
    }
}

/// Does it.
///
/// # Errors
/// [`Failure::Api`] with the server's words.
pub fn run(command: Command) -> Result<(), Failure> {
    let Command::Create(create) = command;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(create_app(&create))
}

async fn create_app(create: &Create) -> Result<(), Failure> {
    let api = Api::trusting(&create.http, &create.admin_key, create.ca_file.as_deref())?;
    let app = &create.name;
    api.post("/v1/apps", &json!({ "id": app })).await?;
    let key = api
        .post(&format!("/v1/apps/{app}/keys"), &json!({ "name": "first key", "scopes": ["admin"] }))
        .await?;
    say(&format!("app {app}"));
    say(&format!("key {}", key.get("key").and_then(Value::as_str).unwrap_or_default()));
    Ok(())
}
