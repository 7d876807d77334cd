//! What each vendor checks of a request. Written from the vendors' pages, not from our sender.

use std::collections::{BTreeMap, HashSet};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use md5::{Digest, Md5};
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::{Value, json};

use super::web_push::check_vapid;
use super::{Asked, Pushed, Understood};

/// The status of the refusal, and the rule that was broken.
type Broken = (u16, String);

const RSA_PRIVATE: &str = include_str!("../../fixtures/service_account_private.pem");
const RSA_PUBLIC: &str = include_str!("../../fixtures/service_account_public.pem");
/// Vendors take a clock that is off by so much.
const SKEW_MS: u64 = 10 * 60 * 1000;

const SECRET: &str = "a-secret-of-the-fake";

/// A P-256 key for the tests of Web Push, made for this fake and used nowhere else.
fn vapid_key() -> String {
    use p256::pkcs8::{EncodePrivateKey, LineEnding};
    let key = p256::SecretKey::from_slice(&[0x51; 32]).ok();
    key.and_then(|key| key.to_pkcs8_pem(LineEnding::LF).ok()).map(|pem| pem.to_string()).unwrap_or_default()
}

/// A credential for the fake at this address.
pub(super) fn credential(vendor: &str, endpoint: &str) -> Value {
    let at = |path: &str| format!("{endpoint}{path}");
    let host = endpoint.trim_start_matches("http://");
    match vendor {
        "huawei" => json!({"vendor": vendor, "app_id": "101", "app_secret": SECRET, "category": "WORK",
            "endpoint": endpoint, "token_uri": at("/oauth2/v3/token")}),
        "harmony" => json!({"vendor": vendor, "project_id": "p1", "key_id": "k1", "sub_account": "s1",
            "private_key": RSA_PRIVATE, "client_id": "301", "category": "WORK", "endpoint": endpoint}),
        "honor" => json!({"vendor": vendor, "app_id": "201", "client_id": "c1", "client_secret": SECRET,
            "endpoint": endpoint, "token_uri": at("/auth/token")}),
        "xiaomi" => {
            json!({"vendor": vendor, "app_secret": SECRET, "package": "com.example.app", "channel_id": "131234",
            "endpoint": endpoint})
        }
        "oppo" => json!({"vendor": vendor, "app_key": "k1", "master_secret": SECRET, "channel_id": "alarm",
            "category": "ORDER", "endpoint": endpoint}),
        "vivo" => {
            json!({"vendor": vendor, "app_id": 10004, "app_key": "k1", "app_secret": SECRET, "category": "ORDER",
            "endpoint": endpoint})
        }
        "meizu" => json!({"vendor": vendor, "app_id": 10000, "app_secret": SECRET, "endpoint": endpoint}),
        "web_push" => {
            json!({"vendor": vendor, "private_key": vapid_key(), "subject": "mailto:push@shop.example",
            "hosts": [host]})
        }
        "wns" => {
            json!({"vendor": vendor, "client_id": "ms-app://s-1", "client_secret": SECRET, "endpoint": endpoint,
            "token_uri": at("/accesstoken.srf")})
        }
        "wechat" => json!({"vendor": vendor, "app_id": "wx1", "app_secret": SECRET, "template_id": "tpl",
            "title_field": "thing1", "body_field": "thing2", "endpoint": endpoint}),
        "webhook" => json!({"vendor": vendor, "url": at("/hook"), "secret": SECRET}),
        #[expect(clippy::panic, reason = "a test that names no vendor is wrong")]
        other => panic!("no fake for {other}"),
    }
}

/// Whose path this is.
pub(super) fn vendor_of(path: &str) -> Option<&'static str> {
    let table = [
        ("/oauth2/v3/token", "huawei"),
        ("/v1/101/messages:send", "huawei"),
        ("/v3/p1/messages:send", "harmony"),
        ("/v1/301/messages:revoke", "harmony"),
        ("/auth/token", "honor"),
        ("/api/v1/201/sendMessage", "honor"),
        ("/v3/message/regid", "xiaomi"),
        ("/server/v1/auth", "oppo"),
        ("/server/v1/feedback/fetch_invalid_regidList", "oppo"),
        ("/server/v1/message/notification/unicast", "oppo"),
        ("/server/v1/message/notification/unicast_batch", "oppo"),
        ("/message/auth", "vivo"),
        ("/message/send", "vivo"),
        ("/message/saveListPayload", "vivo"),
        ("/message/pushToList", "vivo"),
        ("/garcia/api/server/push/varnished/pushByPushId", "meizu"),
        ("/accesstoken.srf", "wns"),
        ("/w/", "wns"),
        ("/cgi-bin/token", "wechat"),
        ("/cgi-bin/message/subscribe/send", "wechat"),
        ("/hook", "webhook"),
    ];
    let found = table.into_iter().find(|(known, _)| *known == path).map(|(_, vendor)| vendor);
    found.or_else(|| (path.starts_with("/wp/") || path.starts_with("/m/")).then_some("web_push"))
}

/// Checks a request by the rules of its vendor.
pub(super) fn understand(vendor: &str, asked: &Asked<'_>) -> Result<Understood, Broken> {
    match (vendor, asked.parts.uri.path()) {
        ("huawei", "/oauth2/v3/token") => client_credentials(asked, "101"),
        ("honor", "/auth/token") => client_credentials(asked, "c1"),
        ("wns", "/accesstoken.srf") => client_credentials(asked, "ms-app://s-1"),
        ("oppo", "/server/v1/auth") => oppo_login(asked),
        ("oppo", "/server/v1/feedback/fetch_invalid_regidList") => oppo_feed(asked),
        ("vivo", "/message/auth") => vivo_login(asked),
        ("wechat", "/cgi-bin/token") => wechat_login(asked),
        ("huawei", _) => huawei(asked).map(Understood::Push),
        ("harmony", "/v1/301/messages:revoke") => harmony_recall(asked),
        ("harmony", _) => harmony(asked).map(Understood::Push),
        ("web_push", path) if path.starts_with("/m/") => web_push_recall(asked),
        ("honor", _) => honor(asked).map(Understood::Push),
        ("xiaomi", _) => xiaomi(asked).map(Understood::Push),
        ("oppo", _) => oppo(asked).map(Understood::Push),
        ("vivo", "/message/saveListPayload") => vivo(asked).map(Understood::Deposit),
        ("vivo", _) => vivo(asked).map(Understood::Push),
        ("meizu", _) => meizu(asked).map(Understood::Push),
        ("web_push", _) => web_push(asked).map(Understood::Push),
        ("wns", _) => wns(asked).map(Understood::Push),
        ("wechat", _) => wechat(asked).map(Understood::Push),
        _ => webhook(asked).map(Understood::Push),
    }
}

/// OPPO's feed is asked with GET and the login in the address.
fn oppo_feed(asked: &Asked<'_>) -> Result<Understood, Broken> {
    need(asked.parts.method == http::Method::GET, "12 method")?;
    let query = asked.parts.uri.query().unwrap_or_default();
    let mut fields = form_urlencoded::parse(query.as_bytes());
    let login = fields.find(|(name, _)| name == "auth_token").map(|(_, value)| value.into_owned());
    login.map(Understood::Feed).ok_or((400, "29 auth_token".to_owned()))
}

fn broken<T>(why: &str) -> Result<T, Broken> {
    Err((400, why.to_owned()))
}

fn need(is_kept: bool, why: &str) -> Result<(), Broken> {
    if is_kept { Ok(()) } else { broken(why) }
}

impl Asked<'_> {
    fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn form(&self) -> Result<BTreeMap<String, String>, Broken> {
        need(self.header("content-type").starts_with("application/x-www-form-urlencoded"), "not a form")?;
        need(self.parts.method == http::Method::POST, "not a POST")?;
        Ok(form_urlencoded::parse(self.body).into_owned().collect())
    }

    fn json(&self) -> Result<Value, Broken> {
        need(self.header("content-type").starts_with("application/json"), "not JSON")?;
        need(self.parts.method == http::Method::POST, "not a POST")?;
        serde_json::from_slice(self.body).map_err(|_| (400, "the body is not JSON".to_owned()))
    }

    fn bearer(&self) -> Result<String, Broken> {
        let login = self.header("authorization").strip_prefix("Bearer ");
        login.map(str::to_owned).ok_or((401, "no bearer".to_owned()))
    }

    fn is_timely(&self, timestamp: &str) -> bool {
        timestamp.parse::<u64>().is_ok_and(|at_ms| at_ms.abs_diff(self.now_ms) <= SKEW_MS)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// JSON inside of text, as several vendors carry the app's data.
fn inner(value: &Value, pointer: &str) -> Result<Value, Broken> {
    serde_json::from_str(text(value, pointer)).map_err(|_| (400, format!("{pointer} is not JSON text")))
}

fn chars(text: &str, range: std::ops::RangeInclusive<usize>, what: &str) -> Result<(), Broken> {
    need(!text.trim().is_empty() && range.contains(&text.chars().count()), what)
}

/// The device tokens of a request: 1 to `max`, none of them twice.
fn bounded(tokens: Vec<String>, max: usize) -> Result<Vec<String>, Broken> {
    need((1..=max).contains(&tokens.len()), "too many device tokens, or none")?;
    need(tokens.iter().all(|token| !token.is_empty()), "an empty device token")?;
    let different: HashSet<_> = tokens.iter().collect();
    need(different.len() == tokens.len(), "80300006 a device token twice")?;
    Ok(tokens)
}

fn token_list(value: Option<&Value>, max: usize) -> Result<Vec<String>, Broken> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let texts: Option<Vec<String>> = list.iter().map(|token| token.as_str().map(str::to_owned)).collect();
    bounded(texts.unwrap_or_default(), max)
}

fn token_text(text: &str, max: usize) -> Result<Vec<String>, Broken> {
    bounded(text.split(',').map(str::to_owned).collect(), max)
}

/// Of a vendor without batches.
fn never_partly(_: &[String], _: &HashSet<String>) -> Value {
    Value::Null
}

/// `80100000`, whose text is JSON.
fn huawei_partly(tokens: &[String], refused: &HashSet<String>) -> Value {
    if refused.is_empty() {
        return json!({"code": "80000000", "msg": "Success", "requestId": "r1"});
    }
    let listed =
        json!({"success": tokens.len() - refused.len(), "failure": refused.len(), "illegal_tokens": refused});
    json!({"code": "80100000", "msg": listed.to_string(), "requestId": "r1"})
}

fn harmony_partly(tokens: &[String], refused: &HashSet<String>) -> Value {
    if refused.is_empty() {
        return json!({"code": "80000000", "msg": "Success", "requestId": "r1"});
    }
    let listed = json!({"illegalTokens": {"tokenFormatError": refused}, "success": tokens.len() - refused.len(),
        "failure": refused.len()});
    json!({"code": "80100000", "msg": listed.to_string(), "requestId": "r1"})
}

fn honor_partly(_: &[String], refused: &HashSet<String>) -> Value {
    let is_whole = refused.is_empty();
    json!({"code": if is_whole { 200 } else { 80_100_000 }, "message": "ok",
        "data": {"sendResult": is_whole, "requestId": "r1", "failTokens": [], "expireTokens": refused}})
}

/// One bad registration id spoils the batch, and the answer does not name it.
fn xiaomi_partly(_: &[String], refused: &HashSet<String>) -> Value {
    match refused.is_empty() {
        true => json!({"result": "ok", "code": 0, "data": {"id": "alm1"}}),
        false => json!({"result": "error", "code": 66007, "reason": "illegal regid"}),
    }
}

fn oppo_partly(tokens: &[String], refused: &HashSet<String>) -> Value {
    let told = tokens.iter().map(|token| match refused.contains(token) {
        true => {
            json!({"registrationId": token, "errorCode": 10000, "errorMessage": "invalid registration_id"})
        }
        false => json!({"registrationId": token, "messageId": "1-1-1-1"}),
    });
    json!({"code": 0, "message": "", "data": told.collect::<Vec<_>>()})
}

fn vivo_partly(_: &[String], refused: &HashSet<String>) -> Value {
    let users: Vec<_> = refused.iter().map(|token| json!({"userid": token, "status": 2})).collect();
    json!({"result": 0, "desc": "ok", "requestId": "r1", "invalidUsers": users})
}

fn meizu_partly(_: &[String], refused: &HashSet<String>) -> Value {
    let value = if refused.is_empty() { json!({}) } else { json!({"110003": refused}) };
    json!({"code": "200", "message": "", "value": value, "msgId": "m1"})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn client_credentials(asked: &Asked<'_>, client_id: &str) -> Result<Understood, Broken> {
    let form = asked.form()?;
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    need(field("grant_type") == "client_credentials", "grant_type")?;
    if (field("client_id"), field("client_secret")) != (client_id, SECRET) {
        return Err((401, "invalid_client".to_owned()));
    }
    Ok(Understood::Login(|token| json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})))
}

fn oppo_login(asked: &Asked<'_>) -> Result<Understood, Broken> {
    let form = asked.form()?;
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    need(field("app_key") == "k1", "app_key")?;
    need(asked.is_timely(field("timestamp")), "timestamp")?;
    let wanted = hex(digest(&SHA256, format!("k1{}{SECRET}", field("timestamp")).as_bytes()).as_ref());
    need(field("sign") == wanted, "sign")?;
    Ok(Understood::Login(
        |token| json!({"code": 0, "message": "success", "data": {"auth_token": token, "create_time": 1}}),
    ))
}

fn vivo_login(asked: &Asked<'_>) -> Result<Understood, Broken> {
    let body = asked.json()?;
    let timestamp = number(&body, "/timestamp").unwrap_or_default().to_string();
    need(asked.is_timely(&timestamp), "timestamp")?;
    need(number(&body, "/appId") == Some(10004) && text(&body, "/appKey") == "k1", "appId and appKey")?;
    need(text(&body, "/sign") == hex(&Md5::digest(format!("10004k1{timestamp}{SECRET}"))), "sign")?;
    Ok(Understood::Login(|token| json!({"result": 0, "desc": "ok", "authToken": token})))
}

fn wechat_login(asked: &Asked<'_>) -> Result<Understood, Broken> {
    need(asked.parts.method == http::Method::GET, "not a GET")?;
    let query = asked.parts.uri.query().unwrap_or_default();
    let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let field = |name: &str| query.get(name).map_or("", String::as_str);
    need(field("grant_type") == "client_credential", "grant_type")?;
    need((field("appid"), field("secret")) == ("wx1", SECRET), "appid and secret")?;
    Ok(Understood::Login(|token| json!({"access_token": token, "expires_in": 7200})))
}

/// `"3600s"`, at most 15 days.
fn huawei_ttl(ttl: Option<&Value>) -> Result<(), Broken> {
    let Some(ttl) = ttl else { return Ok(()) };
    let seconds = ttl.as_str().and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
    need(seconds.is_some_and(|seconds| (1..=1_296_000).contains(&seconds)), "ttl")
}

fn huawei(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let login = asked.bearer()?;
    let body = asked.json()?;
    let mut message = body.get("message").cloned().unwrap_or_default();
    let tokens = token_list(message.get("token"), 1000)?;
    if let Value::Object(fields) = &mut message {
        fields.remove("token");
        need(
            !fields.contains_key("topic") && !fields.contains_key("condition"),
            "one of token, topic, condition",
        )?;
    }
    need(message.to_string().len() <= 4096, "80300008 too large")?;
    huawei_ttl(message.pointer("/android/ttl"))?;
    let data = inner(&message, "/data")?;
    if let Some(shown) = message.pointer("/android/notification") {
        need(!text(shown, "/title").is_empty() && !text(shown, "/body").is_empty(), "title and body")?;
        need(
            number(shown, "/click_action/type").is_some_and(|kind| (1..=3).contains(&kind)),
            "click_action",
        )?;
        need(["LOW", "NORMAL"].contains(&text(shown, "/importance")), "importance")?;
    }
    need(!text(&message, "/android/bi_tag").is_empty(), "bi_tag")?;
    Ok(Pushed {
        login: Some(login),
        tokens,
        deposit: None,
        partly: huawei_partly,
        mid: text(&data, "/mid").to_owned(),
        message,
        success: (200, json!({"code": "80000000", "msg": "Success", "requestId": "r1"})),
        login_expired: (200, json!({"code": "80200003", "msg": "OAuth token expired"})),
    })
}

/// Huawei's page on revoking messages: by the place of the alert, and the device tokens that have it.
fn harmony_recall(asked: &Asked<'_>) -> Result<Understood, Broken> {
    harmony_account(asked)?;
    need(asked.parts.method == "POST", "method")?;
    need(["0", "2"].contains(&asked.header("push-type")), "80100003 push-type")?;
    let body = asked.json()?;
    need(body.as_object().is_some_and(|fields| fields.len() == 2), "80100003 fields")?;
    let tokens = token_list(body.get("token"), 1000)?;
    let place = number(&body, "/notifyId").ok_or((400, "80100003 notifyId".to_owned()))?;
    Ok(Understood::Recall { names: tokens, place: Some(place), answer: harmony_recalled })
}

fn harmony_recalled(_: bool) -> (u16, Value) {
    (200, json!({"code": "80000000", "msg": "Success", "requestId": "r2"}))
}

/// RFC 8030: whoever knows the name of a message may remove it, as long as it waits.
fn web_push_recall(asked: &Asked<'_>) -> Result<Understood, Broken> {
    need(asked.parts.method == "DELETE", "method")?;
    need(asked.body.is_empty(), "a body")?;
    let name = asked.parts.uri.path().to_owned();
    Ok(Understood::Recall { names: vec![name], place: None, answer: web_push_recalled })
}

fn web_push_recalled(is_known: bool) -> (u16, Value) {
    if is_known { (204, Value::Null) } else { (404, json!({"code": 404, "errno": 103})) }
}

fn harmony_account(asked: &Asked<'_>) -> Result<(), Broken> {
    let mut validation = Validation::new(Algorithm::PS256);
    validation.set_audience(&["https://oauth-login.cloud.huawei.com/oauth2/v3/token"]);
    validation.set_issuer(&["s1"]);
    let key = DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).map_err(|error| (500, error.to_string()))?;
    let token = jsonwebtoken::decode::<Value>(asked.bearer()?, &key, &validation);
    let token = token.map_err(|error| (401, error.to_string()))?;
    need(token.header.kid.as_deref() == Some("k1"), "kid")?;
    let life = number(&token.claims, "/exp").zip(number(&token.claims, "/iat")).map(|(exp, iat)| exp - iat);
    need(life.is_some_and(|life| (1..=86_400).contains(&life)), "80300036 life of the token")
}

fn harmony(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    harmony_account(asked)?;
    let mut message = asked.json()?;
    let devices = token_list(message.pointer("/target/token"), 1000)?;
    if let Value::Object(fields) = &mut message {
        fields.remove("target");
    }
    need(message.to_string().len() <= 4096, "80300008 too large")?;
    let mid = match asked.header("push-type") {
        "0" => {
            let shown = message.pointer("/payload/notification").cloned().unwrap_or_default();
            need(!text(&shown, "/category").is_empty(), "category")?;
            need(!text(&shown, "/title").is_empty() && !text(&shown, "/body").is_empty(), "title and body")?;
            need((1..=64).contains(&text(&shown, "/appMessageId").len()), "appMessageId")?;
            text(&shown, "/clickAction/data/mid").to_owned()
        }
        "6" => text(&inner(&message, "/payload/extraData")?, "/mid").to_owned(),
        _ => return broken("push-type"),
    };
    need(text(&message, "/pushOptions/biTag").len() <= 64, "biTag")?;
    let success = (200, json!({"code": "80000000", "msg": "Success", "requestId": "r1"}));
    let login_expired = (200, json!({"code": "80200005"}));
    let (deposit, partly) = (None, harmony_partly as super::Partly);
    Ok(Pushed { login: None, tokens: devices, mid, message, deposit, success, partly, login_expired })
}

fn honor(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let login = asked.bearer()?;
    need(asked.is_timely(asked.header("timestamp")), "10207 timestamp")?;
    let mut message = asked.json()?;
    let tokens = token_list(message.get("token"), 1000)?;
    if let Value::Object(fields) = &mut message {
        fields.remove("token");
    }
    need(message.to_string().len() <= 4096, "80300008 too large")?;
    huawei_ttl(message.pointer("/android/ttl"))?;
    let data = inner(&message, "/data")?;
    if let Some(shown) = message.pointer("/android/notification") {
        need(!text(shown, "/title").is_empty() && !text(shown, "/body").is_empty(), "title and body")?;
        need(number(shown, "/clickAction/type").is_some(), "clickAction")?;
        need(["LOW", "NORMAL"].contains(&text(shown, "/importance")), "importance")?;
    }
    Ok(Pushed {
        login: Some(login),
        tokens,
        deposit: None,
        partly: honor_partly,
        mid: text(&data, "/mid").to_owned(),
        message,
        success: (
            200,
            json!({"code": 200, "message": "ok", "data": {"sendResult": true, "requestId": "r1"}}),
        ),
        login_expired: (401, json!({})),
    })
}

fn xiaomi(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    need(asked.header("authorization") == format!("key={SECRET}"), "21301 authorization")?;
    let form = asked.form()?;
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    need(field("restricted_package_name") == "com.example.app", "package")?;
    need(field("payload").len() < 4096, "payload")?;
    if field("pass_through") == "0" {
        chars(field("title"), 1..=49, "title")?;
        chars(field("description"), 1..=127, "description")?;
        need(field("notify_id").parse::<u32>().is_ok_and(|id| id <= 0x7fff_ffff), "notify_id")?;
        need(!field("extra.channel_id").is_empty(), "27001 channel_id")?;
    }
    let jobkey = field("extra.jobkey");
    let is_jobkey =
        jobkey.len() <= 20 && jobkey.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    need(is_jobkey && !jobkey.starts_with('_'), "jobkey")?;
    let tokens = token_text(field("registration_id"), 1000)?;
    let data: Value =
        serde_json::from_str(field("payload")).map_err(|_| (400, "payload is not JSON".to_owned()))?;
    Ok(Pushed {
        login: None,
        tokens,
        deposit: None,
        partly: xiaomi_partly,
        mid: text(&data, "/mid").to_owned(),
        message: json!(form),
        success: (200, json!({"result": "ok", "code": 0, "data": {"id": "alm1"}})),
        login_expired: (200, json!({"result": "error", "code": 21301})),
    })
}

fn oppo(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let form = asked.form()?;
    let login = form.get("auth_token").cloned().ok_or((400, "29 auth_token".to_owned()))?;
    let is_batch = asked.parts.uri.path().ends_with("unicast_batch");
    let message = form.get(if is_batch { "messages" } else { "message" }).map(String::as_str);
    let message: Value = serde_json::from_str(message.unwrap_or_default())
        .map_err(|_| (400, "message is not JSON".to_owned()))?;
    let all = if is_batch { message.as_array().cloned().unwrap_or_default() } else { vec![message] };
    need(all.iter().all(|one| number(one, "/target_type") == Some(2)), "target_type")?;
    let tokens = all.iter().map(|one| text(one, "/target_value").to_owned()).collect();
    let tokens = bounded(tokens, if is_batch { 1000 } else { 1 })?;
    let shown = all.first().and_then(|one| one.get("notification")).cloned().unwrap_or_default();
    need(all.iter().all(|one| one.get("notification") == Some(&shown)), "one message")?;
    let content_max = if number(&shown, "/style") == Some(2) { 128 } else { 50 };
    chars(text(&shown, "/title"), 1..=50, "title")?;
    chars(text(&shown, "/content"), 1..=content_max, "content")?;
    need(!text(&shown, "/channel_id").is_empty(), "channel_id")?;
    need(
        shown.get("notify_level").is_none() || shown.get("category").is_some(),
        "67 notify_level without category",
    )?;
    need(number(&shown, "/notify_level").is_none_or(|level| [1, 2, 16].contains(&level)), "67 notify_level")?;
    need(number(&shown, "/off_line_ttl").is_none_or(|ttl| (1..=864_000).contains(&ttl)), "off_line_ttl")?;
    need(text(&shown, "/action_parameters").len() <= 4000, "action_parameters")?;
    let data = inner(&shown, "/action_parameters")?;
    Ok(Pushed {
        login: Some(login),
        tokens,
        deposit: None,
        partly: oppo_partly,
        mid: text(&data, "/mid").to_owned(),
        message: shown,
        success: (200, json!({"code": 0, "message": "", "data": {"messageId": "1-1-1-1"}})),
        login_expired: (200, json!({"code": 11, "message": "invalid auth token"})),
    })
}

fn vivo(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let body = asked.json()?;
    need(number(&body, "/appId") == Some(10004), "appId")?;
    need((1..=64).contains(&text(&body, "/requestId").len()), "requestId")?;
    let login = Some(asked.header("authtoken").to_owned());
    let login_expired = (200, json!({"result": 10000, "desc": "authToken"}));
    let success = (200, json!({"result": 0, "desc": "ok", "taskId": "1"}));
    if asked.parts.uri.path() == "/message/pushToList" {
        let (mid, message) = (String::new(), Value::Null); // of the message that was handed in
        let tokens = token_list(body.get("regIds"), 1000)?;
        need(tokens.len() >= 2, "10153 at least two regIds")?;
        let (deposit, partly) = (Some(text(&body, "/taskId").to_owned()), vivo_partly as super::Partly);
        return Ok(Pushed { login, tokens, mid, message, deposit, success, partly, login_expired });
    }
    let is_deposit = asked.parts.uri.path() == "/message/saveListPayload";
    need(is_deposit == body.get("regId").is_none(), "regId")?;
    chars(text(&body, "/title"), 1..=40, "title")?;
    chars(text(&body, "/content"), 1..=100, "content")?;
    need(number(&body, "/notifyType").is_some_and(|kind| (1..=4).contains(&kind)), "10054 notifyType")?;
    need(number(&body, "/timeToLive").is_none_or(|ttl| (60..=86_400).contains(&ttl)), "timeToLive")?;
    need(number(&body, "/notifyId").is_some_and(|id| (1..=0x7fff_ffff).contains(&id)), "notifyId")?;
    let is_system = ["IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"]
        .contains(&text(&body, "/category"));
    need(
        number(&body, "/classification") == Some(i64::from(is_system)),
        "10096 classification and category",
    )?;
    let map = body.get("clientCustomMap").cloned().unwrap_or_default();
    need(
        map.to_string().len() <= 1100
            && map.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        "map",
    )?;
    let (mid, tokens) = (text(&map, "/mid").to_owned(), vec![text(&body, "/regId").to_owned()]);
    let (deposit, partly) = (None, vivo_partly as super::Partly);
    Ok(Pushed { login, tokens, mid, message: body, deposit, success, partly, login_expired })
}

fn meizu(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let form = asked.form()?;
    let base: String = form
        .iter()
        .filter(|(name, _)| *name != "sign")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    need(form.get("sign") == Some(&hex(&Md5::digest(format!("{base}{SECRET}")))), "1006 sign")?;
    need(form.get("appId").is_some_and(|id| id == "10000"), "appId")?;
    let message = form.get("messageJson").map(String::as_str).unwrap_or_default();
    let message: Value = serde_json::from_str(message).map_err(|_| (400, "messageJson".to_owned()))?;
    chars(text(&message, "/noticeBarInfo/title"), 1..=32, "title")?;
    chars(text(&message, "/noticeBarInfo/content"), 1..=100, "content")?;
    need(
        number(&message, "/pushTimeInfo/validTime").is_some_and(|hours| (1..=72).contains(&hours)),
        "validTime",
    )?;
    let key = text(&message, "/advanceInfo/notifyKey");
    need(
        key.len() <= 8 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
        "notifyKey",
    )?;
    Ok(Pushed {
        login: None,
        tokens: token_text(form.get("pushIds").map(String::as_str).unwrap_or_default(), 100)?,
        deposit: None,
        partly: meizu_partly,
        mid: text(&message, "/clickTypeInfo/parameters/mid").to_owned(),
        message,
        success: (200, json!({"code": "200", "message": "", "value": {}, "msgId": "m1"})),
        login_expired: (200, json!({"code": "1006"})),
    })
}

fn web_push(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let endpoint = format!("http://{}", asked.header("host"));
    let why = |why: &'static str| (401, why.to_owned());
    check_vapid(asked.header("authorization"), &endpoint, asked.now_ms / 1000).map_err(why)?;
    need(asked.header("content-encoding") == "aes128gcm", "content-encoding")?;
    need(asked.header("content-type") == "application/octet-stream", "content-type")?;
    need(asked.header("ttl").parse::<u64>().is_ok_and(|ttl| ttl <= 2_592_000), "TTL")?;
    need(["very-low", "low", "normal", "high", ""].contains(&asked.header("urgency")), "Urgency")?;
    let topic = asked.header("topic");
    need(
        topic.len() <= 32 && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
        "Topic",
    )?;
    let message = asked.browser.decrypt(asked.body).ok_or((400, "cannot be decrypted".to_owned()))?;
    let token = asked.browser.subscription(&format!("{endpoint}{}", asked.parts.uri.path()));
    let mid = text(&message, "/data/mid").to_owned();
    Ok(Pushed {
        login: None,
        tokens: vec![token],
        deposit: None,
        partly: never_partly,
        mid,
        message,
        success: (201, Value::Null),
        login_expired: (401, Value::Null),
    })
}

fn wns(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let login = asked.bearer()?;
    need(asked.body.len() <= 5000, "too large")?;
    let body = std::str::from_utf8(asked.body).map_err(|_| (400, "not UTF-8".to_owned()))?;
    let message = match (asked.header("x-wns-type"), asked.header("content-type")) {
        ("wns/toast", "text/xml") => {
            need(body.starts_with("<toast ") && body.ends_with("</toast>"), "not a toast")?;
            need(body.matches("<text>").count() == 2, "two texts")?;
            let launch =
                body.split("launch=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            launch.replace("&quot;", "\"").replace("&amp;", "&")
        }
        ("wns/raw", "application/octet-stream") => body.to_owned(),
        _ => return broken("X-WNS-Type and Content-Type"),
    };
    need(asked.header("x-wns-tag").len() <= 16, "X-WNS-Tag")?;
    let message: Value = serde_json::from_str(&message).map_err(|_| (400, "no data".to_owned()))?;
    let path = asked.parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    Ok(Pushed {
        login: Some(login),
        tokens: vec![format!("https://fake.notify.windows.com{path}")],
        deposit: None,
        partly: never_partly,
        mid: text(&message, "/mid").to_owned(),
        message,
        success: (200, Value::Null),
        login_expired: (401, Value::Null),
    })
}

fn wechat(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let query = asked.parts.uri.query().unwrap_or_default();
    let login = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "access_token");
    let login = login.map(|(_, value)| value.into_owned()).ok_or((400, "41001 access_token".to_owned()))?;
    let body = asked.json()?;
    need(text(&body, "/template_id") == "tpl", "40037 template_id")?;
    for field in ["/data/thing1/value", "/data/thing2/value"] {
        chars(text(&body, field), 1..=20, "47003 thing")?;
    }
    Ok(Pushed {
        login: Some(login),
        tokens: vec![text(&body, "/touser").to_owned()],
        deposit: None,
        partly: never_partly,
        mid: String::new(), // a template carries no id of ours
        message: body,
        success: (200, json!({"errcode": 0, "errmsg": "ok", "msgid": 1})),
        login_expired: (200, json!({"errcode": 40001, "errmsg": "invalid credential"})),
    })
}

fn webhook(asked: &Asked<'_>) -> Result<Pushed, Broken> {
    let (timestamp, nonce) = (asked.header("x-push-timestamp"), asked.header("x-push-nonce"));
    need(
        timestamp.parse::<u64>().is_ok_and(|at_ms| at_ms.abs_diff(asked.now_ms) <= 5 * 60 * 1000),
        "timestamp",
    )?;
    let signed = [timestamp.as_bytes(), b".", nonce.as_bytes(), b".", asked.body].concat();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed);
    need(asked.header("x-push-signature") == format!("v1={}", hex(signature.as_ref())), "signature")?;
    let body = asked.json()?;
    need(asked.header("idempotency-key") == text(&body, "/id"), "Idempotency-Key")?;
    Ok(Pushed {
        login: None,
        tokens: vec![text(&body, "/to").to_owned()],
        deposit: None,
        partly: never_partly,
        mid: text(&body, "/data/mid").to_owned(),
        message: body,
        success: (202, json!({"id": "w1"})),
        login_expired: (401, Value::Null),
    })
}
