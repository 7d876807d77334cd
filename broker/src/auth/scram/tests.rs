use super::*;

/// The client's side, for tests here and elsewhere.
pub(crate) fn proof(
    password: &[u8],
    client_first_bare: &str,
    server_first: &str,
    header: &str,
) -> (String, String) {
    let mut parts = server_first.split(',');
    let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
    let salt = BASE64.decode(parts.next().unwrap().strip_prefix("s=").unwrap()).unwrap();
    let iterations = parts.next().unwrap().strip_prefix("i=").unwrap().parse().unwrap();
    let without_proof = format!("c={},r={nonce}", BASE64.encode(header));
    let signed = format!("{client_first_bare},{server_first},{without_proof}");
    let mut salted: Key = [0; KEY_BYTES];
    let rounds = NonZeroU32::new(iterations).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let signature = sign(&hash(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
    let server = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
    (format!("{without_proof},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(server)))
}

/// RFC 7677, section 3.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn keys() -> ScramKeys {
    ScramKeys::derive(b"pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
}

fn exchange() -> Exchange {
    Exchange::start(ClientFirst::parse(CLIENT_FIRST.as_bytes()).unwrap(), keys(), SERVER_NONCE)
}

#[test]
fn the_exchange_of_rfc_7677_is_spoken_word_for_word() {
    let exchange = exchange();
    assert_eq!(exchange.server_first(), SERVER_FIRST);
    assert_eq!(exchange.finish(CLIENT_FINAL.as_bytes()), Ok(SERVER_FINAL.to_owned()));
    let (client_final, server_final) = proof(b"pencil", "n=user,r=rOprNGfwEbeRWgbNEkqO", SERVER_FIRST, "n,,");
    assert_eq!((client_final.as_str(), server_final.as_str()), (CLIENT_FINAL, SERVER_FINAL));
}

#[test]
fn a_final_message_that_differs_anywhere_is_refused() {
    let wrong_proof = CLIENT_FINAL.replace("p=dHz", "p=dHy");
    let other_nonce = CLIENT_FINAL.replace("hNlF$k0", "hNlF$k1");
    let shorter_nonce = CLIENT_FINAL.replace("$k0", "");
    let other_binding = CLIENT_FINAL.replace("biws", "eSws");
    let extended = CLIENT_FINAL.replace(",p=", ",x=1,p=");
    let rows = [
        (wrong_proof.as_str(), ScramError::WrongProof),
        (other_nonce.as_str(), ScramError::OtherExchange),
        (shorter_nonce.as_str(), ScramError::OtherExchange),
        (other_binding.as_str(), ScramError::OtherExchange),
        (extended.as_str(), ScramError::WrongProof),
        ("", ScramError::Malformed),
        ("c=biws", ScramError::Malformed),
        ("c=biws,r=x", ScramError::Malformed),
        ("c=biws,r=x,p=AAAA", ScramError::Malformed),
        ("c=!,r=x,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", ScramError::Malformed),
    ];
    for (message, wanted) in rows {
        assert_eq!(exchange().finish(message.as_bytes()), Err(wanted), "{message}");
    }
}

#[test]
fn a_first_message_says_who_and_nothing_that_is_not_offered() {
    let rows = [
        ("n,,n=user,r=abc", Ok("user")),
        ("y,,n=user,r=abc", Ok("user")),
        ("n,a=user,n=user,r=abc", Ok("user")),
        ("n,,n=a=2Cb=3Dc,r=abc", Ok("a,b=c")),
        ("n,,n=设备,r=abc,x=ext", Ok("设备")),
        ("n,a=other,n=user,r=abc", Err(ScramError::OtherIdentity)),
        ("p=tls-unique,,n=user,r=abc", Err(ScramError::NotOffered)),
        ("n,,m=ext,n=user,r=abc", Err(ScramError::NotOffered)),
        ("n,,n=,r=abc", Err(ScramError::Malformed)),
        ("n,,n=user,r=", Err(ScramError::Malformed)),
        ("n,,n=user", Err(ScramError::Malformed)),
        ("n,,n=us=er,r=abc", Err(ScramError::Malformed)),
        ("n,,r=abc,n=user", Err(ScramError::Malformed)),
        ("n,n=user,r=abc", Err(ScramError::Malformed)),
        ("x,,n=user,r=abc", Err(ScramError::Malformed)),
        ("n,,n=user,r=a\u{7}c", Err(ScramError::Malformed)),
        ("", Err(ScramError::Malformed)),
    ];
    for (message, wanted) in rows {
        let got = ClientFirst::parse(message.as_bytes());
        assert_eq!(
            got.as_ref().map(|first| first.user.as_str()).map_err(|error| *error),
            wanted,
            "{message}"
        );
    }
    assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=abc"), Err(ScramError::Malformed));
}

#[test]
fn somebody_unknown_looks_like_somebody_known_and_never_gets_in() {
    let secret = [7; 32];
    let (one, again) = (ScramKeys::pretended(&secret, "ann"), ScramKeys::pretended(&secret, "ann"));
    let other = ScramKeys::pretended(&secret, "bob");
    let real = ScramKeys::derive(b"x", &[1; 16], ITERATIONS);
    assert_eq!(one.salt, again.salt, "asking twice shows nothing");
    assert_ne!(one.salt, other.salt);
    assert_ne!(one.salt, ScramKeys::pretended(&[8; 32], "ann").salt);
    assert_eq!((one.salt.len(), one.iterations), (real.salt.len(), real.iterations));
    let first = ClientFirst::parse(b"n,,n=ann,r=abc").unwrap();
    let exchange = Exchange::start(first, one, "xyz");
    let (client_final, _) = proof(b"anything", "n=ann,r=abc", exchange.server_first(), "n,,");
    assert_eq!(exchange.finish(client_final.as_bytes()), Err(ScramError::WrongProof));
}

#[test]
fn keys_are_read_as_they_were_written() {
    let text = keys().to_text();
    let again = ScramKeys::parse(&text).unwrap();
    assert!(again.is_same(&keys()));
    assert_eq!(again.to_text(), text);
    for bad in
        [text.replace("i=4096", "i=4095"), text.replace("i=4096", "i=x"), format!("{text}$"), String::new()]
    {
        assert!(ScramKeys::parse(&bad).is_none(), "{bad}");
    }
    assert_eq!(format!("{:?}", keys()), "***");
}
