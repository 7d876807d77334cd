//! SIGKILL of the push server while tags are given and taken: after it, an audience is whoever was acknowledged to be in
//! it, and a message to it reaches them.

use rand::RngExt as _;
use reveille_tests::api::Api;
use reveille_tests::program::Reveille;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const KILLS: usize = 10;
const WORKERS: usize = 4;
const DEVICES_A_WORKER: usize = 8;
const APP: &str = "/v1/apps/default";

/// One worker's devices: who is in, as far as it was told.
#[derive(Default)]
struct Members {
    inside: BTreeSet<String>,
    /// Changed by a call that was not answered: either way is right.
    open: Option<String>,
}

impl Members {
    fn set(&mut self, device: String, is_in: bool) {
        match is_in {
            true => self.inside.insert(device),
            false => self.inside.remove(&device),
        };
    }
}

fn devices(worker: usize) -> impl Iterator<Item = String> + Clone {
    (0..DEVICES_A_WORKER).map(move |device| format!("设备-{worker}-{device}"))
}

/// Gives and takes the tag, one device after the other, until a call is not answered.
async fn change_until_killed(api: Api, worker: usize, mut members: Members) -> Members {
    for device in devices(worker).cycle() {
        let is_in = members.inside.contains(&device);
        let act = if is_in { "remove" } else { "add" };
        let path = format!("{APP}/tags/in:{act}");
        let answer = api.try_post(&path, "unused", &json!({"devices": [device]})).await;
        match answer {
            Some((200, _)) => members.set(device, !is_in),
            Some((status, answer)) if status < 500 => panic!("{status} {answer}"),
            Some(_) | None => {
                members.open = Some(device);
                return members;
            }
        }
    }
    members
}

async fn inside(api: &Api) -> BTreeSet<String> {
    let page = api.get(&format!("{APP}/devices?filter=tag:in&limit=1000")).await;
    let ids =
        page["items"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_whoever_was_acknowledged_to_be_in_it_when_the_push_server_is_killed() {
    let mut random = super::seeded("audience");
    let mut reveille = Reveille::start();
    let api = Api::new(reveille.http(), reveille.admin_key());
    for worker in 0..WORKERS {
        for device in devices(worker) {
            let path = device.replace("设备", "%E8%AE%BE%E5%A4%87");
            api.put(&format!("{APP}/devices/{path}"), json!({})).await;
        }
    }
    let mut all: Vec<Members> = (0..WORKERS).map(|_| Members::default()).collect();
    let mut left_open = 0;
    for round in 0..KILLS {
        let working: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(worker, members)| tokio::spawn(change_until_killed(api.clone(), worker, members)))
            .collect();
        let moment = Duration::from_millis(random.random_range(20..300));
        tokio::time::sleep(moment).await; // the moment is what is tested
        tokio::task::block_in_place(|| reveille.kill());
        all = Vec::new();
        for worker in working {
            all.push(worker.await.unwrap());
        }
        tokio::task::block_in_place(|| reveille.start_again());
        let found = inside(&api).await;
        for members in &mut all {
            if let Some(open) = members.open.take() {
                left_open += 1;
                let is_in = found.contains(&open);
                members.set(open, is_in);
            }
        }
        let wanted: BTreeSet<_> = all.iter().flat_map(|members| &members.inside).cloned().collect();
        assert_eq!(found, wanted, "round {round}");
    }
    let wanted: BTreeSet<_> = all.into_iter().flat_map(|members| members.inside).collect();
    let body = json!({"audience": {"expr": "tag:in"}, "notification": {"title": "t"}});
    let sent = api.post(&format!("{APP}/messages"), body).await;
    assert_eq!(sent["audience_estimate"], wanted.len());
    let path = format!("{APP}/messages/{}", sent["id"].as_str().unwrap());
    api.get_until(&path, |message| message["funnel"]["targeted"] == wanted.len()).await;
    println!("{KILLS} kills, {} devices in at the end, {left_open} calls without an answer", wanted.len());
}
