//! Credentials: listed without secrets, tried, removed, and encrypted on disk.

use std::path::Path;

use reveille_fakes::FakeVendors;
use serde_json::json;

use crate::world::World;

const SECRET: &str = "a-secret-that-no-disk-shows";

#[tokio::test]
async fn a_credential_is_tried_listed_without_its_secret_and_removed() {
    let (world, fake) = (World::start().await, FakeVendors::start().await.unwrap());
    let path = "/v1/apps/default/credentials/webhook";
    let mut credential = fake.credential("webhook");
    credential.as_object_mut().unwrap().remove("vendor");
    world.api.put(path, credential.clone()).await.ok();
    let listed = world.api.get("/v1/apps/default/credentials").await.ok();
    let vendors: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|item| item["vendor"].clone()).collect();
    assert_eq!(vendors, [json!("record"), json!("webhook")]);
    assert!(!listed.to_string().contains(credential["secret"].as_str().unwrap()));

    let token = fake.token("webhook", 1);
    let tried = world.api.post(&format!("{path}:test"), json!({"token": token})).await.ok();
    assert_eq!((&tried["verdict"], &tried["answered"]), (&json!("accepted"), &json!(true)));
    fake.answer(&token, 410, json!({"reason": "no such number"}));
    let tried = world.api.post(&format!("{path}:test"), json!({"token": token})).await.ok();
    assert_eq!((&tried["verdict"], &tried["reason"]), (&json!("token_dead"), &json!("410 no such number")));
    assert_eq!(world.api.post(&format!("{path}:try"), json!({"token": token})).await.errno(), 3008);
    assert_eq!(world.api.post(&format!("{path}:test"), json!({"to": token})).await.errno(), 1002);

    assert_eq!(world.api.delete(path).await.status, 204);
    assert_eq!(world.api.delete(path).await.errno(), 3005);
    assert_eq!(world.api.post(&format!("{path}:test"), json!({"token": token})).await.errno(), 3005);
    world.stop().await;
}

/// Whether any file below a directory holds these bytes.
fn is_on_disk(directory: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_on_disk(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|found| found.windows(bytes.len()).any(|window| window == bytes))
    })
}

#[tokio::test]
async fn secrets_are_encrypted_on_disk_and_another_key_does_not_open_them() {
    let mut world = World::start().await;
    let credential = json!({"url": "https://sms.example/", "secret": SECRET});
    world.api.put("/v1/apps/default/credentials/webhook", credential).await.ok();
    world.api.put("/v1/apps/default/devices/visible-id", json!({})).await.ok();
    world.kill().await;
    assert!(is_on_disk(world.data_dir(), b"visible-id"), "this test would see what is in the clear");
    assert!(!is_on_disk(world.data_dir(), SECRET.as_bytes()));

    world.restart().await;
    let shown = world.api.get("/v1/apps/default/credentials/webhook").await.ok();
    assert_eq!(shown["summary"], "webhook, https://sms.example/");
    world.kill().await;
    let key_file = world.data_dir().join("bridge.key");
    let key = std::fs::read(&key_file).unwrap();
    std::fs::remove_file(&key_file).unwrap();
    let started = reveille_bridge::start(world.config.clone(), world.data_dir(), None).await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains("another key") && error.contains("bridge.key"), "{error}");
    std::fs::write(&key_file, key).unwrap();
    world.restart().await;
    world.stop().await;
}
