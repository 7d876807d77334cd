use super::*;
use bytes::Bytes;
use jsonwebtoken::{EncodingKey, Header};
use reveille_proto::mqtt::Version;
use reveille_proto::topic::TopicName;
use serde_json::{Value, json};
use std::path::Path;

const NOW: Time = Time(1_700_000_000_000);
const BAD: Result<(&str, &str, Option<&str>), ReasonCode> = Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
const DENIED: Result<(&str, &str, Option<&str>), ReasonCode> = Err(ReasonCode::NOT_AUTHORIZED);

fn connect(credentials: Option<(&str, &[u8])>) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id: "c".into(),
        will: None,
        username: credentials.map(|(name, _)| name.into()),
        password: credentials.map(|(_, password)| Bytes::copy_from_slice(password)),
        properties: Default::default(),
    }
}

fn try_auth(text: &str) -> Result<Auth, String> {
    let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())?;
    let keeper = Arc::new(Keeper::start(2, None).unwrap());
    Auth::load(&config, AppId::parse(BRIDGE_APP).unwrap(), &keeper).map_err(|error| error.to_string())
}

fn auth(text: &str) -> Auth {
    try_auth(text).unwrap()
}

async fn identify(auth: &Auth, peer: &Peer, connect: &Connect) -> Result<Identity, ReasonCode> {
    let client_id = ClientId::parse("c").unwrap();
    auth.identify(&Attempt::new(peer, connect, &client_id, NOW)).await
}

fn short(result: &Result<Identity, ReasonCode>) -> Result<(&str, &str, Option<&str>), ReasonCode> {
    result.as_ref().map(|who| (who.source, who.app.as_str(), who.user.as_deref())).map_err(|reason| *reason)
}

#[tokio::test]
async fn a_client_belongs_to_the_app_of_its_credential() {
    const USERS: &str = "internal_password = 'sesame'\n\
                         [[users]]\nname = 'shop'\npassword = 'tulip'\napp = 'shop'\n\
                         [[users]]\nname = 'bridge'\npassword = 'rose'";
    const OPEN: &str = "listen = '0.0.0.0:1883'\nallow_anonymous = true";
    let anyone = Ok(("anonymous", "default", None));
    type Row = (
        &'static str,
        Door,
        Option<(&'static str, &'static [u8])>,
        Result<(&'static str, &'static str, Option<&'static str>), ReasonCode>,
    );
    let rows: [Row; 14] = [
        ("", Door::Public, None, anyone),
        ("", Door::Public, Some(("anyone", b"x")), anyone),
        ("", Door::Internal, None, DENIED),
        ("", Door::Internal, Some(("bridge", b"")), DENIED),
        (OPEN, Door::Public, None, anyone),
        (USERS, Door::Public, None, DENIED),
        (USERS, Door::Public, Some(("shop", b"tulip")), Ok(("users", "shop", Some("shop")))),
        (USERS, Door::Public, Some(("shop", b"tulips")), BAD),
        (USERS, Door::Public, Some(("shop", b"")), BAD),
        (USERS, Door::Public, Some(("nobody", b"tulip")), BAD),
        (USERS, Door::Public, Some(("bridge", b"sesame")), BAD),
        (USERS, Door::Public, Some(("bridge", b"rose")), Ok(("users", "default", Some("bridge")))),
        (USERS, Door::Internal, Some(("bridge", b"sesame")), Ok(("", "_reveille", None))),
        (USERS, Door::Internal, Some(("bridge", b"rose")), BAD),
    ];
    for (config, door, credentials, wanted) in rows {
        let got = identify(&auth(config), &Peer::at(door), &connect(credentials)).await;
        assert_eq!(short(&got), wanted, "{config:?} {door:?} {credentials:?}");
        let is_bridge = got.is_ok_and(|who| who.is_bridge);
        assert_eq!(is_bridge, wanted.is_ok_and(|(_, app, _)| app == BRIDGE_APP));
    }
}

#[tokio::test]
async fn sources_are_asked_in_their_order_until_one_knows_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passwords");
    let hash = |password: &str| Credential::argon2(password.as_bytes()).unwrap();
    password_file::set_user(&path, "both", &hash("file"), Some(&AppId::parse("filed").unwrap())).unwrap();
    password_file::set_user(&path, "filed", &hash("file"), None).unwrap();
    let config = |order: &str| {
        format!(
            "[[users]]\nname = 'both'\npassword = 'inline'\n[[users]]\nname = 'inlined'\npassword = '{}'\n\
             [auth]\nsources = [{order}]\npassword_file = {path:?}\n[auth.certificate]\napp = 'certified'",
            hash("inline").to_text().unwrap(),
        )
    };
    let users_first = auth(&config("'users', 'password_file'"));
    let file_first = auth(&config("'password_file', 'users', 'certificate'"));
    let file_only = auth(&config("'password_file'"));
    let (users, file) = ("users", "password_file");
    let rows = [
        (&users_first, "both", "inline", Ok((users, "default", Some("both")))),
        (&users_first, "both", "file", BAD),
        (&users_first, "filed", "file", Ok((file, "default", Some("filed")))),
        (&users_first, "inlined", "inline", Ok((users, "default", Some("inlined")))),
        (&users_first, "inlined", "wrong", BAD),
        (&users_first, "nobody", "file", BAD),
        (&file_first, "both", "file", Ok((file, "filed", Some("both")))),
        (&file_first, "both", "inline", BAD),
        (&file_first, "inlined", "inline", Ok((users, "default", Some("inlined")))),
        (&file_only, "inlined", "inline", BAD),
        (&file_only, "filed", "file", Ok((file, "default", Some("filed")))),
    ];
    for (no, (auth, name, password, wanted)) in rows.into_iter().enumerate() {
        for round in 0..2 {
            let got =
                identify(auth, &Peer::at(Door::Public), &connect(Some((name, password.as_bytes())))).await;
            assert_eq!(short(&got), wanted, "row {no}, round {round}"); // the second one may be remembered
        }
    }
    let certified = Peer { certificate_identity: Some("sensor".into()), ..Peer::at(Door::Public) };
    let got = identify(&file_first, &certified, &connect(None)).await;
    assert_eq!(short(&got), Ok(("certificate", "certified", Some("sensor"))));
    assert_eq!(short(&identify(&users_first, &certified, &connect(None)).await), DENIED, "not asked there");
    let mut listener = Listener::default();
    listener.allow_anonymous = Some(true);
    let open = Peer { listener: Arc::new(listener), ..certified };
    let got = identify(&users_first, &open, &connect(None)).await;
    assert_eq!(short(&got), Ok(("anonymous", "default", None)), "showing more is not worth less");
}

#[tokio::test]
async fn a_listener_asks_its_own_sources() {
    let text = "[[users]]\nname = 'ann'\npassword = 'tulip'\n[auth.certificate]";
    let auth = auth(text);
    let at = |sources: Option<&[SourceName]>, allow_anonymous| {
        let mut listener = Listener::default();
        listener.sources = sources.map(<[_]>::to_vec);
        listener.allow_anonymous = allow_anonymous;
        Peer { listener: Arc::new(listener), ..Peer::at(Door::Public) }
    };
    let ann = connect(Some(("ann", b"tulip")));
    assert!(identify(&auth, &at(None, None), &ann).await.is_ok());
    assert!(identify(&auth, &at(Some(&[SourceName::Users]), None), &ann).await.is_ok());
    assert_eq!(short(&identify(&auth, &at(Some(&[SourceName::Certificate]), None), &ann).await), BAD);
    let stranger = identify(&auth, &at(Some(&[SourceName::Users]), Some(true)), &connect(None)).await;
    assert_eq!(short(&stranger), Ok(("anonymous", "default", None)));
    assert_eq!(short(&identify(&auth, &at(None, None), &connect(None)).await), DENIED);
}

#[tokio::test]
async fn whoever_fails_too_often_is_not_looked_at_any_more() {
    let text = "[[users]]\nname = 'ann'\npassword = 'tulip'\n[[users]]\nname = 'bob'\npassword = 'rose'\n\
                [auth]\nuser_failures_max = 3\nfailure_recovery_s = 3600";
    let auth = auth(text);
    let peer = Peer::at(Door::Public);
    for _ in 0..3 {
        assert!(
            identify(&auth, &peer, &connect(Some(("bob", b"rose")))).await.is_ok(),
            "right ones cost nothing"
        );
        assert_eq!(short(&identify(&auth, &peer, &connect(Some(("ann", b"guess")))).await), BAD);
    }
    let limited = Err(ReasonCode::CONNECTION_RATE_EXCEEDED);
    assert_eq!(short(&identify(&auth, &peer, &connect(Some(("ann", b"tulip")))).await), limited);
    assert!(identify(&auth, &peer, &connect(Some(("bob", b"rose")))).await.is_ok());
}

fn token(header: &Header, claims: &Value, key: &EncodingKey) -> Vec<u8> {
    jsonwebtoken::encode(header, claims, key).unwrap().into_bytes()
}

fn in_an_hour() -> u64 {
    jsonwebtoken::get_current_timestamp() + 3600
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn with_token(auth: &Auth, token: &[u8]) -> Result<Identity, ReasonCode> {
    identify(auth, &Peer::at(Door::Public), &connect(Some(("whatever", token)))).await
}

#[tokio::test]
async fn a_token_lets_in_whom_it_names_for_as_long_as_it_says() {
    let auth = auth(&format!(
        "[auth.jwt]\nalgorithm = 'HS256'\nsecret = '{SECRET}'\nissuer = 'us'\naudience = 'mqtt'\nleeway_s = 5"
    ));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let (now, end) = (jsonwebtoken::get_current_timestamp(), in_an_hour());
    let good = json!({"iss": "us", "aud": ["mqtt", "other"], "exp": end, "sub": "ann", "app": "shop", "client_id": "c",
        "acl": {"publish": ["up/%c"], "subscribe": ["down/#"]}});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let identity = with_token(&auth, &token(&Header::default(), &good, &key)).await.unwrap();
    assert_eq!(short(&Ok(identity.clone())), Ok(("jwt", "shop", Some("ann"))));
    assert_eq!(identity.expires_at, Some(Time((end + 5) * 1000)));
    let acl = identity.acl.unwrap();
    let who = Who { user: Some("ann"), client_id: "c", app: "shop" };
    assert!(acl.is_of_credential());
    assert!(acl.may_publish(who, &TopicName::parse("up/c").unwrap(), true));
    assert!(!acl.may_publish(who, &TopicName::parse("up/d").unwrap(), false));
    let denied = [
        ("another issuer", with("iss", json!("them"))),
        ("no issuer", with("iss", Value::Null)),
        ("another audience", with("aud", json!("http"))),
        ("over", with("exp", json!(now - 10))),
        ("without an end", with("exp", Value::Null)),
        ("not yet", with("nbf", json!(now + 60))),
        ("another client", with("client_id", json!("d"))),
        ("an app that is none", with("app", json!("No App"))),
        ("the bridge's app", with("app", json!(BRIDGE_APP))),
        ("an app that is no text", with("app", json!(7))),
        ("rules that are none", with("acl", json!("everything"))),
        ("rules that nobody knows", with("acl", json!({"publsih": []}))),
        ("a rule that is no filter", with("acl", json!({"publish": ["a/#/b"]}))),
        ("too many rules", with("acl", json!({"publish": vec!["a"; jwt::PATTERNS_MAX + 1]}))),
    ];
    for (name, claims) in denied {
        let auth = &auth;
        let got = with_token(auth, &token(&Header::default(), &claims, &key)).await;
        assert_eq!(short(&got), DENIED, "{name}");
    }
    assert!(
        with_token(&auth, &token(&Header::default(), &with("exp", json!(now - 1)), &key)).await.is_ok(),
        "leeway"
    );
    assert_eq!(short(&with_token(&auth, b"not a token").await), BAD);
}

#[tokio::test]
async fn the_key_decides_about_the_algorithm_whatever_a_token_says() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let auth = auth(&format!("[auth.jwt]\nalgorithm = 'HS256'\nsecret = '{SECRET}'"));
    let claims = json!({"exp": in_an_hour()});
    let body = encode(&claims.to_string());
    let none = format!("{}.{body}.", encode(r#"{"alg":"none"}"#));
    let other = token(
        &Header::new(jsonwebtoken::Algorithm::HS512),
        &claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    let forged = token(&Header::default(), &claims, &EncodingKey::from_secret(b"guess"));
    for token in [none.as_bytes(), &other, &forged] {
        assert_eq!(short(&with_token(&auth, token).await), DENIED);
    }
}

/// A key pair made now: what signs, what checks as PEM and as a key of a set.
fn ed25519(directory: &Path, id: &str) -> (EncodingKey, std::path::PathBuf, Value) {
    use base64::Engine as _;
    use ring::signature::KeyPair;
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = ring::signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let public = pair.public_key().as_ref();
    let mut spki = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    spki.extend_from_slice(public);
    let body = base64::engine::general_purpose::STANDARD.encode(spki);
    let path = directory.join(format!("{id}.pem"));
    std::fs::write(&path, format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")).unwrap();
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(public);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": id, "x": x});
    (EncodingKey::from_ed_der(pkcs8.as_ref()), path, jwk)
}

/// The same for ES256.
fn es256(directory: &Path, id: &str) -> (EncodingKey, std::path::PathBuf, Value) {
    use base64::Engine as _;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let mut spki = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00".to_vec();
    spki.extend_from_slice(point);
    let body = base64::engine::general_purpose::STANDARD.encode(spki);
    let path = directory.join(format!("{id}.pem"));
    std::fs::write(&path, format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")).unwrap();
    let part = |range: std::ops::Range<usize>| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&point[range])
    };
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": id, "x": part(1..33), "y": part(33..65)});
    (EncodingKey::from_ec_der(pkcs8.as_ref()), path, jwk)
}

/// The same for RS256. 1,024 bits, because making a key without optimisation takes long.
fn rs256(directory: &Path, id: &str) -> (EncodingKey, std::path::PathBuf, Value) {
    use base64::Engine as _;
    use rsa::pkcs1::EncodeRsaPrivateKey;
    use rsa::pkcs8::EncodePublicKey;
    use rsa::traits::PublicKeyParts;
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let public = private.to_public_key();
    let path = directory.join(format!("{id}.pem"));
    std::fs::write(&path, public.to_public_key_pem(Default::default()).unwrap()).unwrap();
    let part =
        |number: &rsa::BigUint| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    let jwk = json!({"kty": "RSA", "alg": "RS256", "kid": id, "n": part(public.n()), "e": part(public.e())});
    (EncodingKey::from_rsa_der(private.to_pkcs1_der().unwrap().as_bytes()), path, jwk)
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_checked_with_a_key_or_a_set_of_keys() {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, HS256, RS256};
    let directory = tempfile::tempdir().unwrap();
    let (ed, ed_path, ed_jwk) = ed25519(directory.path(), "ed");
    let (ec, ec_path, ec_jwk) = es256(directory.path(), "ec");
    let (rs, rs_path, rs_jwk) = rs256(directory.path(), "rs");
    let claims = json!({"exp": in_an_hour(), "sub": "ann"});
    let ann = Ok(("jwt", "default", Some("ann")));
    for (name, algorithm, path, key) in
        [("EdDSA", EdDSA, &ed_path, &ed), ("ES256", ES256, &ec_path, &ec), ("RS256", RS256, &rs_path, &rs)]
    {
        let auth = auth(&format!("[auth.jwt]\nalgorithm = '{name}'\nkey_file = {path:?}"));
        let got = with_token(&auth, &token(&Header::new(algorithm), &claims, key)).await;
        assert_eq!(short(&got), ann, "{name}");
        // The public key as the secret of an HMAC: the oldest trick against tokens.
        let public = std::fs::read(path).unwrap();
        let forged = token(&Header::new(HS256), &claims, &EncodingKey::from_secret(&public));
        assert_eq!(short(&with_token(&auth, &forged).await), DENIED, "{name}");
    }
    let (other_ed, _, other_jwk) = ed25519(directory.path(), "other");
    let encrypting = json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "kid": "enc", "x": ed_jwk["x"]});
    let set = directory.path().join("jwks.json");
    std::fs::write(&set, json!({"keys": [ed_jwk, other_jwk, ec_jwk, rs_jwk, encrypting]}).to_string())
        .unwrap();
    let auth = auth(&format!("[auth.jwt]\njwks_file = {set:?}"));
    let named = |algorithm, kid: Option<&str>| {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        header
    };
    let rows = [
        ("named", named(EdDSA, Some("ed")), &ed, ann),
        ("the other", named(EdDSA, Some("other")), &other_ed, ann),
        ("under a wrong name", named(EdDSA, Some("other")), &ed, DENIED),
        ("under no name, of two", named(EdDSA, None), &ed, DENIED),
        ("under no name, the only one", named(ES256, None), &ec, ann),
        ("of RSA", named(RS256, Some("rs")), &rs, ann),
        ("under an unknown name", named(ES256, Some("new")), &ec, DENIED),
        ("for something else", named(EdDSA, Some("enc")), &ed, DENIED),
    ];
    for (name, header, key, wanted) in rows {
        assert_eq!(short(&with_token(&auth, &token(&header, &claims, key)).await), wanted, "{name}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "short").unwrap();
    for (text, wanted) in [
        (format!("[auth.jwt]\nalgorithm = 'HS256'\nkey_file = {path:?}"), "32 bytes"),
        (format!("[auth.jwt]\nalgorithm = 'RS256'\nkey_file = {path:?}"), "no public key"),
        (format!("[auth.jwt]\njwks_file = {path:?}"), "no JSON Web Key Set"),
        ("[auth.jwt]\nalgorithm = 'HS256'\nkey_file = '/no/such'".to_owned(), "/no/such"),
        ("[auth.jwt]\nalgorithm = 'HS256'\nsecret = 'short'".to_owned(), "32 bytes"),
        ("[auth.jwt]\nalgorithm = 'none'\nsecret = 'x'".to_owned(), "none"),
        ("[auth]\nsources = ['http']".to_owned(), "http"),
        ("[auth]\npassword_file = '/no/such'".to_owned(), "/no/such"),
        ("[[users]]\nname = 'a'\npassword = '$argon2id$x'".to_owned(), "hash"),
        (
            "[[acl.rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['a/%x']".to_owned(),
            "placeholders",
        ),
    ] {
        let error = try_auth(&text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}
