//! The operator's day in the console, walked in a real Chromium: `day.cjs` is the walk, this is the world around it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

use reveille_fakes::{FakeFcm, FcmAnswer};
use reveille_tests::program::{self, Reveille};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Node with the packages that `test.sh` installs for foreign clients, about to walk the day.
fn walk(reveille: &Reveille, fcm: &FakeFcm, profile: &Path) -> Command {
    let target = program::binary().parent().and_then(Path::parent).unwrap().join("interop");
    let modules = target.join("node/node_modules");
    assert!(modules.exists(), "{} is missing: run `./test.sh clients` once", modules.display());
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/day.cjs")).env("NODE_PATH", modules);
    command.env("DAY_URL", format!("http://{}", reveille.http()));
    command.env("DAY_KEY", reveille.admin_key());
    command.env("DAY_CREDENTIAL", fcm.credential().to_string());
    command.env("DAY_PROFILE", profile);
    command
}

async fn day(pictures: Option<PathBuf>) {
    let fcm = FakeFcm::start().await.unwrap();
    fcm.answer("dead-2", FcmAnswer::unregistered());
    let reveille = Reveille::start();
    let profile = tempfile::tempdir().unwrap();
    let mut command = walk(&reveille, &fcm, profile.path());
    command.stdin(Stdio::null());
    if let Some(pictures) = pictures {
        command.env("DAY_PICTURES", pictures);
    }
    let walked = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(walked.status.success(), "{}", String::from_utf8_lossy(&walked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_s_day_in_the_console() {
    day(None).await;
}

/// `REVEILLE_PICTURES=DIR cargo test -p reveille-tests --test browser -- --ignored`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes pictures of every page for people to look at"]
async fn every_page_is_photographed() {
    let directory = std::env::var_os("REVEILLE_PICTURES").expect("REVEILLE_PICTURES names a directory");
    day(Some(directory.into())).await;
}
