//! `reveille ctl audit verify`: whether the log of who changed what is still what it was.

use crate::failure::Failure;
use crate::http::Api;
use crate::say::say;
use reveille_bridge::{Whole, verify_export};
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Walk its chain of hashes, and fail with the first record that is not what it was
    Verify {
        /// A file from `/v1/audit/export`, looked at here; without it the server looks at its own log
        #[arg(long)]
        file: Option<PathBuf>,
        /// The hash of a newest record that was noted earlier, which the file must still go through
        #[arg(long, requires = "file")]
        head: Option<String>,
    },
}

/// Lets the server look at its own log.
///
/// # Errors
/// [`Failure::Audit`] with the first record that is not what it was, [`Failure::Api`] when nobody says.
pub async fn verify(api: &Api, is_json: bool) -> Result<(), Failure> {
    let verdict = api.get("/v1/audit/verify").await?;
    if verdict.get("is_whole") != Some(&Value::Bool(true)) {
        let words = format!("record {}: {}", text(&verdict, "/broken/seq"), text(&verdict, "/broken/why"));
        return Err(Failure::Audit(words));
    }
    tell(&verdict, is_json);
    Ok(())
}

/// Looks at a file; needs no server.
///
/// # Errors
/// [`Failure::Audit`] with the first place that is not what it was.
pub fn verify_file(path: &Path, head: Option<&str>, is_json: bool) -> Result<(), Failure> {
    let not_whole = |error: String| Failure::Audit(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| not_whole(error.to_string()))?;
    let Whole { records, first_seq, head_seq, head_hash } =
        verify_export(BufReader::new(file), head).map_err(|error| not_whole(error.to_string()))?;
    let verdict = json!({"is_whole": true, "records": records, "first_seq": first_seq,
        "head_seq": head_seq, "head_hash": head_hash});
    tell(&verdict, is_json);
    Ok(())
}

fn tell(verdict: &Value, is_json: bool) {
    if is_json {
        return say(&verdict.to_string());
    }
    let text = |pointer| text(verdict, pointer);
    say(&format!("whole: {} records, {} to {}", text("/records"), text("/first_seq"), text("/head_seq")));
    say(&format!("newest hash: {}", text("/head_hash")));
}

fn text(verdict: &Value, pointer: &str) -> String {
    verdict.pointer(pointer).unwrap_or(&Value::Null).to_string().trim_matches('"').to_owned()
}
