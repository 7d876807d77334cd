//! The console as a browser asks for it: who comes in, what protects it, and that texts stay texts.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use crate::world::{Api, World};

/// A browser without scripts: it keeps cookies and fills forms.
pub struct Browser {
    api: Api,
    cookies: Vec<(String, String)>,
}

pub struct Page {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub html: String,
}

impl Page {
    fn location(&self) -> &str {
        self.headers.get("location").map_or("", |location| location.to_str().unwrap())
    }

    fn csrf(&self) -> String {
        let (_, rest) = self.html.split_once("name=\"csrf\" value=\"").expect("a form with a token");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    pub fn new(world: &World) -> Self {
        Self { api: world.api.clone(), cookies: Vec::new() }
    }

    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Page {
        let uri = format!("http://{}{path}", self.api.address);
        let mut request = http::Request::builder().method(method).uri(uri);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header("cookie", cookies.join("; "));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer =
            self.api.client.request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        for cookie in parts.headers.get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        let bytes: Bytes = body.collect().await.unwrap().to_bytes();
        Page {
            status: parts.status.as_u16(),
            headers: parts.headers,
            html: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.ask("POST", path, &[("content-type", "application/x-www-form-urlencoded")], &body).await
    }

    pub async fn login(&mut self, name: &str, secret: &str) -> Page {
        let token = self.get("/console/login").await.csrf();
        self.post("/console/login", &[("csrf", &token), ("name", name), ("secret", secret)]).await
    }

    /// The token of the session's forms.
    pub async fn token(&mut self) -> String {
        self.get("/console/apps/default").await.csrf()
    }
}

#[tokio::test]
async fn only_whoever_has_a_key_comes_in_and_goes_out_again() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    let turned_away = browser.get("/console/apps/default/messages").await;
    assert_eq!(
        (turned_away.status, turned_away.location()),
        (303, "/console/login?next=%2Fconsole%2Fapps%2Fdefault%2Fmessages")
    );
    assert_eq!(browser.login("", "0123456789abcdef.wrong").await.status, 401);
    let key = world.api.key.clone();
    let entered = browser.login("", &key).await;
    assert_eq!((entered.status, entered.location()), (303, "/console"));
    let cookies: Vec<_> = entered.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
    assert!(
        cookies.iter().any(|c| c.starts_with("reveille_session=") && c.contains("HttpOnly; SameSite=Strict")),
        "{cookies:?}"
    );
    let page = browser.get("/console/apps/default").await;
    assert_eq!(page.status, 200);
    assert!(page.html.contains("Overview") && !page.html.contains(&key), "{}", page.html);
    let stolen = browser.cookies.clone();
    let token = page.csrf();
    browser.post("/console/logout", &[("csrf", &token)]).await;
    browser.cookies = stolen;
    assert_eq!(
        browser.get("/console/apps/default").await.status,
        303,
        "the cookie of an ended session opens nothing"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_form_that_is_not_ours_changes_nothing() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    assert_eq!(
        browser.post("/console/login", &[("secret", &world.api.key)]).await.status,
        403,
        "a login without a token"
    );
    browser.login("", &world.api.key.clone()).await;
    let token = browser.token().await;
    for fields in
        [&[("id", "evil")][..], &[("id", "evil"), ("csrf", "guessed")], &[("id", "evil"), ("csrf", "")]]
    {
        assert_eq!(browser.post("/console/apps", fields).await.status, 403, "{fields:?}");
    }
    let body = format!("id=evil&csrf={token}");
    let cross = browser.ask("POST", "/console/apps", &[("sec-fetch-site", "cross-site")], &body).await;
    assert_eq!(cross.status, 403);
    let made = browser.post("/console/apps", &[("id", "good"), ("csrf", &token)]).await;
    assert_eq!((made.status, made.location()), (303, "/console/apps/good?done=done_app"));
    assert!(!browser.get("/console/apps").await.html.contains("evil"));
    world.stop().await;
}

#[tokio::test]
async fn every_page_forbids_scripts_of_others_and_is_kept_by_no_cache() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    for path in ["/console/login", "/console/nothing", "/console"] {
        let page = browser.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!page.html.contains("style=\"") && !page.html.contains("<script>"), "{path}");
    }
    let login = browser.get("/console/login").await;
    for name in
        ["href=\"/console/assets/console-", "src=\"/console/assets/console-", "href=\"/console/assets/icon-"]
    {
        let (_, rest) = login.html.split_once(name).unwrap();
        let stem = name.split_once('"').unwrap().1;
        let path = format!("{stem}{}", rest.split('"').next().unwrap());
        let asset = browser.get(&path).await;
        assert_eq!(
            (asset.status, asset.headers["cache-control"].to_str().unwrap()),
            (200, "public, max-age=31536000, immutable"),
            "{path}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn a_script_in_a_title_a_device_id_or_an_app_s_name_stays_text() {
    let world = World::start().await;
    let evil = "<script>alert(1)</script>";
    let device = format!("phone\"'{evil}");
    let mut browser = Browser::new(&world);
    browser.login("", &world.api.key.clone()).await;
    world.api.post("/v1/apps", json!({"id": "shop", "name": evil})).await.ok();
    let message = json!({"audience": {"devices": [device]}, "notification": {"title": evil, "body": evil},
        "data": {evil: evil}, "campaign": evil, "reference": evil});
    let id = world.api.post("/v1/apps/shop/messages", message).await.ok()["id"].as_str().unwrap().to_owned();
    let encoded = "phone%22%27%3Cscript%3Ealert%281%29%3C%2Fscript%3E";
    world
        .api
        .put(
            &format!("/v1/apps/shop/devices/{encoded}"),
            json!({"alias": evil, "tags": [evil], "platform": evil}),
        )
        .await
        .ok();
    let query = "%22%3E%3Cscript%3E";
    for path in [
        "".to_owned(),
        "/messages".to_owned(),
        format!("/messages?q={query}&state={query}"),
        format!("/messages/{id}"),
        format!("/messages/{id}/devices/{encoded}"),
        format!("/compose?clone={id}"),
        format!("/compose?device={query}"),
        "/devices".to_owned(),
        format!("/devices?q={query}"),
        format!("/devices/{encoded}"),
        format!("/devices/{encoded}?done={query}"),
        "/keys".to_owned(),
    ] {
        let page = browser.get(&format!("/console/apps/shop{path}")).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        assert!(
            !page.html.contains("<script>") && !page.html.contains("\"><script>"),
            "{path}: {}",
            page.html
        );
    }
    let trace = browser.get(&format!("/console/apps/shop/messages/{id}/devices/{encoded}")).await;
    assert!(trace.html.contains("&lt;script&gt;"), "{}", trace.html);
    world.stop().await;
}

#[tokio::test]
async fn a_key_may_in_the_console_what_it_may_in_the_api() {
    let world = World::start().await;
    world.api.post("/v1/apps", json!({"id": "shop"})).await.ok();
    let key = world.api.post("/v1/apps/shop/keys", json!({"scopes": ["read"]})).await.ok()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = Browser::new(&world);
    browser.login("", &key).await;
    assert_eq!(browser.get("/console").await.location(), "/console/apps/shop");
    let overview = browser.get("/console/apps/shop").await;
    assert_eq!(overview.status, 200);
    let token = overview.csrf();
    for path in [
        "/console/apps/shop/vendors",
        "/console/apps/shop/keys",
        "/console/apps/shop/dead-tokens",
        "/console/apps/shop/compose",
        "/console/apps/default",
        "/console/people",
        "/console/broker",
        "/console/broker/sessions",
        "/console/broker/retained",
        "/console/broker/topics",
    ] {
        assert_eq!(browser.get(path).await.status, 403, "{path}");
        assert!(!overview.html.contains(&format!("href=\"{path}\"")), "{path} is offered");
    }
    for (path, fields) in [
        ("/console/apps", &[("id", "mine")][..]),
        ("/console/apps/shop/keys", &[("scope", "admin")]),
        ("/console/apps/shop/devices", &[("id", "d")]),
        ("/console/apps/shop/compose", &[("kind", "all"), ("title", "x"), ("nonce", "n")]),
        ("/console/apps/shop/vendors/record", &[]),
        ("/console/people", &[("name", "eve"), ("password", "long enough for it"), ("scope", "admin")]),
    ] {
        let fields: Vec<_> = fields.iter().copied().chain([("csrf", token.as_str())]).collect();
        let refused = browser.post(path, &fields).await.status;
        assert!(refused == 403 || refused == 422, "{path}: {refused}");
    }
    assert_eq!(world.api.get("/v1/apps/shop/messages").await.ok()["items"], json!([]));
    assert_eq!(world.api.get("/v1/apps/shop/devices").await.ok()["items"], json!([]));
    assert_eq!(world.api.get("/v1/apps/shop/credentials").await.ok()["items"], json!([]));
    assert_eq!(browser.get("/console/apps").await.html.matches("/console/apps/mine").count(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_key_for_certain_tags_does_not_open_pages_that_show_everything() {
    let world = World::start().await;
    let key = json!({"scopes": ["read", "send"], "tags": ["vip"]});
    let made = world.api.post("/v1/apps/default/keys", key).await.ok();
    let mut browser = Browser::new(&world);
    let refused = browser.login("", made["key"].as_str().unwrap()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.html.contains("for certain tags only"), "{}", refused.html);
    assert_eq!(browser.get("/console/apps/default/devices").await.status, 303);
    world.stop().await;
}

#[tokio::test]
async fn a_revoked_key_is_out_at_once_in_api_and_console() {
    let world = World::start().await;
    let made = world.api.post("/v1/apps/default/keys", json!({"scopes": ["admin"]})).await.ok();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let (mut operator, mut admin) = (Browser::new(&world), Browser::new(&world));
    operator.login("", &world.api.key.clone()).await;
    admin.login("", key).await;
    assert_eq!(admin.get("/console/apps/default/keys").await.status, 200);
    let token = operator.token().await;
    operator.post("/console/apps/default/keys/remove", &[("csrf", &token), ("id", id)]).await;
    assert_eq!(admin.get("/console/apps/default/keys").await.status, 303);
    assert_eq!(Api::new(world.address(), key).get("/v1/apps/default/devices").await.errno(), 2002);
    let first = world.api.key.split('.').next().unwrap().to_owned();
    let last = operator.post("/console/people/remove", &[("csrf", &token), ("id", &first)]).await;
    assert_eq!(last.status, 409, "nobody could open everything any more");
    world.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_address_that_guesses() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    let mut statuses = Vec::new();
    for n in 0..21 {
        statuses.push(browser.login(&format!("name-{n}"), "guessed").await.status);
    }
    assert!(statuses[..20].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(statuses[20], 429);
    assert_eq!(
        browser.login("", &world.api.key.clone()).await.status,
        429,
        "also for the right key, until it has waited"
    );
    assert!(
        world.api.get("/v1/apps/default/devices").await.status == 200,
        "the API of others is not concerned"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_form_that_is_sent_twice_is_one_message_and_every_wrong_field_is_named() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    browser.login("", &world.api.key.clone()).await;
    let token = browser.token().await;
    let fields = [
        ("csrf", token.as_str()),
        ("kind", "devices"),
        ("devices", "d1"),
        ("title", "到了"),
        ("nonce", "once"),
        ("action", "send"),
    ];
    let (first, second) = (
        browser.post("/console/apps/default/compose", &fields).await,
        browser.post("/console/apps/default/compose", &fields).await,
    );
    assert_eq!(first.status, 303, "{}", first.html);
    assert_eq!(first.location(), second.location());
    assert_eq!(world.api.get("/v1/apps/default/messages").await.ok()["items"].as_array().unwrap().len(), 1);
    let empty = browser
        .post(
            "/console/apps/default/compose",
            &[("csrf", &token), ("kind", "devices"), ("data", "{"), ("action", "send")],
        )
        .await;
    assert_eq!(empty.status, 422);
    assert!(empty.html.contains("aria-invalid=\"true\""), "{}", empty.html);
    let nobody = browser
        .post(
            "/console/apps/default/compose",
            &[("csrf", &token), ("kind", "tags"), ("title", "kept"), ("action", "send")],
        )
        .await;
    assert!(
        nobody.status == 422 && nobody.html.contains("value=\"kept\""),
        "what was typed is lost: {}",
        nobody.html
    );
    world.stop().await;
}

#[tokio::test]
async fn a_language_is_the_browser_s_until_another_is_chosen() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    let page =
        browser.ask("GET", "/console/login", &[("accept-language", "zh-CN,zh;q=0.9,en;q=0.8")], "").await;
    assert!(page.html.contains("lang=\"zh-Hans\"") && page.html.contains("登录"), "{}", page.html);
    let page = browser.ask("GET", "/console/login?language=en", &[("accept-language", "zh-CN")], "").await;
    assert!(page.html.contains("lang=\"en\""));
    let page = browser.ask("GET", "/console/login", &[("accept-language", "zh-CN")], "").await;
    assert!(page.html.contains("lang=\"en\""), "the choice is kept");
    world.stop().await;
}

#[tokio::test]
async fn without_the_console_its_paths_do_not_exist() {
    let world = World::with(|config| config.console = false).await;
    assert_eq!(world.api.get("/console/login").await.errno(), 3007);
    world.stop().await;
}

#[tokio::test]
async fn templates_are_written_and_schedules_made_changed_and_removed_in_the_console() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    browser.login("", &world.api.key).await;
    let token = browser.token().await;
    let csrf = ("csrf", token.as_str());
    let app = "/console/apps/default";
    for (path, words) in [("/templates", "No templates yet"), ("/schedules", "No schedules yet")] {
        let page = browser.get(&format!("{app}{path}")).await;
        assert!(page.status == 200 && page.html.contains(words), "{path}");
    }
    let template = [
        csrf,
        ("name", "order"),
        ("title-0", "Order {{ order }}"),
        ("language-1", "pt"),
        ("title-1", "Pedido {{ order }}"),
        ("sample", "{\"order\": 7}"),
    ];
    let saved = browser.post(&format!("{app}/templates"), &template).await;
    assert_eq!(
        (saved.status, saved.location()),
        (303, "/console/apps/default/templates/order?done=done_saved")
    );
    let shown = browser.get(&format!("{app}/templates/order")).await;
    assert!(shown.html.contains("Pedido 7") && shown.html.contains("Order 7"), "both languages, filled");
    let wrong = [csrf, ("name", "order"), ("is_known", "true"), ("title-0", "{{ order")];
    let refused = browser.post(&format!("{app}/templates"), &wrong).await;
    assert!(refused.status == 422 && refused.html.contains("line 1: "), "{}", refused.status);
    assert!(browser.get(&format!("{app}/compose")).await.html.contains("<option value=\"order\""));

    let schedule = [
        csrf,
        ("nonce", "n1"),
        ("kind", "devices"),
        ("devices", "d1"),
        ("template", "order"),
        ("data", "{\"order\": 1}"),
        ("when", "again"),
        ("cron", "0 9 * * *"),
        ("clock", "zone"),
        ("timezone", "Europe/Berlin"),
        ("schedule_name", "<b>digest"),
        ("missed", "skip"),
        ("action", "send"),
    ];
    let made = browser.post(&format!("{app}/compose"), &schedule).await;
    assert_eq!(made.status, 303, "{}", made.html);
    let id = made.location().rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let page = browser.get(&format!("{app}/schedules/{id}")).await;
    assert!(page.html.contains("&lt;b&gt;digest") && page.html.contains("0 9 * * *"));
    assert!(browser.get(&format!("{app}/schedules")).await.html.contains("Europe/Berlin"));
    let form = browser.get(&format!("{app}/compose?schedule={id}")).await;
    for part in [
        format!("name=\"schedule\" value=\"{id}\""),
        "value=\"0 9 * * *\"".to_owned(),
        "Europe/Berlin".to_owned(),
    ] {
        assert!(form.html.contains(&part), "{part}");
    }
    let changed: Vec<_> = schedule.iter().copied().filter(|(name, _)| *name != "cron").collect();
    let changed = [changed.as_slice(), &[("cron", "30 8 * * *"), ("schedule", &id)]].concat();
    assert_eq!(browser.post(&format!("{app}/compose"), &changed).await.status, 303);
    let path = format!("/v1/apps/default/schedules/{id}");
    assert_eq!(world.api.get(&path).await.ok()["when"], json!({"cron": "30 8 * * *"}));
    for (act, state) in [("pause", "paused"), ("resume", "active"), ("run", "active")] {
        let done = browser.post(&format!("{app}/schedules/{id}/{act}"), &[csrf]).await;
        assert_eq!((done.status, &world.api.get(&path).await.ok()["state"]), (303, &json!(state)), "{act}");
    }
    assert_eq!(world.broker.sends(1).await[0].client_ids, ["d1"]);
    assert!(browser.get(&format!("{app}/schedules/{id}")).await.html.contains("By hand"));
    browser.post(&format!("{app}/schedules/{id}/remove"), &[csrf]).await;
    assert_eq!(world.api.get(&path).await.errno(), 3041);

    let later = [
        csrf,
        ("nonce", "n2"),
        ("kind", "all"),
        ("title", "x"),
        ("when", "later"),
        ("not_before", "2099-01-01T09:00"),
    ];
    let too_far = browser.post(&format!("{app}/compose"), &later).await;
    assert!(too_far.status == 422 && too_far.html.contains("366 days"), "{}", too_far.status);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_is_made_changed_and_removed_with_forms_alone() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    browser.login("", &world.api.key.clone()).await;
    let token = browser.token().await;
    let path = "/console/apps/default/policies";
    let empty = browser.get(path).await;
    assert!(
        empty.html.contains("No policies yet") && empty.html.contains("/policies/edit"),
        "{}",
        empty.html
    );
    let whole = [
        ("csrf", token.as_str()),
        ("name", "marketing"),
        ("categories", "MARKETING, NEWS"),
        ("cap_max_1", "3"),
        ("cap_count_1", "1"),
        ("cap_unit_1", "86400"),
        ("cap_then_1", "drop"),
        ("quiet_from", "22:00"),
        ("quiet_to", "08:00"),
        ("quiet_timezone", "Asia/Shanghai"),
        ("coalesce", "digest"),
        ("digest_after", "2"),
        ("save_quota", "true"),
    ];
    let wrong: Vec<(&str, &str)> =
        whole.iter().map(|(name, value)| (*name, if *name == "quiet_to" { "8" } else { *value })).collect();
    let refused = browser.post(path, &wrong).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.html.contains("f-quiet_to-wrong") && refused.html.contains("Asia/Shanghai"),
        "{}",
        refused.html
    );
    let saved = browser.post(path, &whole).await;
    assert_eq!((saved.status, saved.location()), (303, "/console/apps/default/policies?done=done_saved"));
    let kept = world.api.get("/v1/apps/default/policies/marketing").await.ok();
    assert_eq!(kept["caps"], json!([{"max": 3, "window_s": 86_400, "then": "drop"}]));
    assert_eq!(kept["coalesce"]["digest"]["after"], 2);
    let list = browser.get(path).await.html;
    assert!(
        list.contains("At most 3 in 24 h; beyond it: dropped") && list.contains("MARKETING, NEWS"),
        "{list}"
    );

    let compose = browser.get("/console/apps/default/compose").await.html;
    assert!(compose.contains("<option value=\"marketing\">marketing</option>"), "{compose}");

    // Whoever saw an older state is told so, and loses nothing of what was typed.
    let form = browser.get(&format!("{path}/edit?name=marketing")).await.html;
    let (_, etag) = form.split_once("name=\"etag\" value=\"&quot;").unwrap();
    let etag = format!("\"{}\"", etag.split("&quot;").next().unwrap());
    world.api.put("/v1/apps/default/policies/marketing", json!({"rate_per_s": 7})).await.ok();
    let late = [("csrf", token.as_str()), ("name", "marketing"), ("etag", &etag), ("rate_per_s", "9")];
    let late = browser.post(path, &late).await;
    assert!(late.status == 422 && late.html.contains("Somebody else changed it"), "{}", late.html);
    assert_eq!(world.api.get("/v1/apps/default/policies/marketing").await.ok()["rate_per_s"], 7);

    browser
        .post("/console/look", &[("csrf", &token), ("language", "zh"), ("light", "dark"), ("next", path)])
        .await;
    let chinese = browser.get(path).await.html;
    assert!(chinese.contains("发送策略") && chinese.contains("每秒 7 条"), "{chinese}");
    let removed = browser.post(&format!("{path}/remove"), &[("csrf", &token), ("name", "marketing")]).await;
    assert_eq!(removed.location(), "/console/apps/default/policies?done=done_removed");
    assert_eq!(world.api.get("/v1/apps/default/policies/marketing").await.status, 404);
    world.stop().await;
}
