use super::*;
use http_body_util::BodyExt as _;

fn news(app: &str, name: &str) -> News {
    News::new(&AppId::parse(app).unwrap(), name, "d1", 5, json!({"text": "a\nb"}))
}

fn all() -> Wish {
    Wish::new(None, "").unwrap()
}

/// The next frame that is no greeting.
async fn next(frames: &mut reader::Frames) -> Option<String> {
    loop {
        let frame = frames.frame().await?.unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        if !text.starts_with("retry:") {
            return Some(text);
        }
    }
}

fn id_of(frame: &str) -> String {
    frame.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned()
}

#[tokio::test]
async fn a_reader_gets_what_it_wants_and_goes_on_where_it_was() {
    let events = Arc::new(Events::default());
    let shop = Wish::new(Some(AppId::parse("shop").unwrap()), "message.*, token.invalid").unwrap();
    let mut frames = reader::read(&events, shop.clone(), None).unwrap();
    for (app, name) in [
        ("shop", "message.done"),
        ("other", "message.done"),
        ("shop", "vendor.failing"),
        ("shop", "device.online"),
        ("shop", "token.invalid"),
        ("shop", "message.sending"),
    ] {
        events.publish(news(app, name));
    }
    let first = next(&mut frames).await.unwrap();
    assert!(first.contains("event: message.done\ndata: {") && first.contains("a\\nb"), "{first}");
    assert!(next(&mut frames).await.unwrap().contains("event: token.invalid\n"));
    drop(frames);
    let mut again = reader::read(&events, shop.clone(), Some(&id_of(&first))).unwrap();
    for name in ["token.invalid", "message.sending"] {
        assert!(next(&mut again).await.unwrap().contains(&format!("event: {name}\n")));
    }
    events.publish(news("shop", "message.done"));
    assert!(next(&mut again).await.unwrap().contains("message.done"));
    assert_eq!(events.newest(&shop, 2).len(), 2);
    assert_eq!(events.newest(&shop, 1)[0].news.name, "message.done");
    assert_eq!(events.newest(&all(), 100).len(), 6, "devices that come and go are not kept");
}

#[tokio::test]
async fn devices_are_told_to_whoever_names_them_and_only_while_somebody_does() {
    let events = Arc::new(Events::default());
    assert!(!events.wants_devices());
    let mut everything = reader::read(&events, all(), None).unwrap();
    assert!(!events.wants_devices());
    let mut devices = reader::read(&events, Wish::new(None, "device.*").unwrap(), None).unwrap();
    assert!(events.wants_devices());
    events.publish(news("shop", "device.online"));
    events.publish(news("shop", "message.done"));
    let seen = next(&mut devices).await.unwrap();
    assert!(seen.starts_with("event: device.online\n"), "without an id: {seen}");
    assert!(next(&mut everything).await.unwrap().contains("message.done"));
    drop(devices);
    while events.wants_devices() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_a_gap_that_is_told() {
    let events = Arc::new(Events::default());
    for _ in 0..KEPT_MAX + 10 {
        events.publish(news("shop", "message.done"));
    }
    let newest = events.newest(&all(), usize::MAX);
    assert_eq!(newest.len(), KEPT_MAX);
    let start = &events.start;
    for (id, has_gap) in [
        (format!("{start}-5"), true),
        (format!("{start}-9"), true),
        (format!("{start}-99999999"), true),
        ("00000000-7".to_owned(), true),
        ("nonsense".to_owned(), true),
        (format!("{start}-{}", KEPT_MAX + 10), false),
    ] {
        let mut frames = reader::read(&events, all(), Some(&id)).unwrap();
        events.publish(news("shop", "message.sending"));
        let first = next(&mut frames).await.unwrap();
        assert_eq!(first.contains("events.gap"), has_gap, "{id}: {first}");
        let rest = if has_gap { next(&mut frames).await.unwrap() } else { first };
        assert!(rest.contains("message.sending"), "{id}: {rest}");
    }
}

#[test]
fn the_ring_is_bounded_in_bytes_too() {
    let events = Events::default();
    for _ in 0..200 {
        events.publish(News { data: json!("x".repeat(100_000)), ..news("shop", "message.done") });
    }
    let ring = lock(&events.ring);
    assert!(ring.bytes <= KEPT_BYTES_MAX && ring.kept.len() < 100, "{}", ring.bytes);
    assert_eq!(ring.bytes, ring.kept.iter().map(|event| event.frame.len()).sum::<usize>());
}

#[tokio::test]
async fn a_slow_reader_is_cut_and_told_so_and_readers_are_bounded() {
    let events = Arc::new(Events::default());
    let mut slow = reader::read(&events, all(), None).unwrap();
    tokio::task::yield_now().await; // it waits for the first event
    for _ in 0..2 * BEHIND_MAX {
        events.publish(news("shop", "message.done"));
    }
    let mut last = String::new();
    while let Some(frame) = next(&mut slow).await {
        last = frame;
    }
    assert!(last.contains("event: events.cut\n") && last.contains("too slow"), "{last}");
    while events.readers.available_permits() < READERS_MAX {
        tokio::task::yield_now().await;
    }
    let readers: Vec<_> = (0..READERS_MAX).map(|_| reader::read(&events, all(), None).unwrap()).collect();
    assert!(reader::read(&events, all(), None).is_none());
    events.close();
    for mut reader in readers {
        assert!(next(&mut reader).await.unwrap().contains("the server stops"));
        assert_eq!(next(&mut reader).await, None);
    }
    assert!(reader::read(&events, all(), None).is_none());
}

#[test]
fn only_events_that_are_told_live_can_be_asked_for() {
    for good in [
        "",
        "*",
        "message.*",
        "message.done,token.invalid",
        " vendor.* ,device.online",
        "credential.expiring",
    ] {
        assert!(Wish::new(None, good).is_ok(), "{good}");
    }
    for bad in ["delivery.*", "delivery.shown", "message", "mess*", "no.such", "message.done;token.invalid"] {
        assert!(Wish::new(None, bad).is_err(), "{bad}");
    }
}
