//! The HTTP request that asks for a WebSocket, and its answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Headers of one request that are looked at.
const HEADERS_MAX: usize = 64;

/// What the server proves with that it understood. `[RFC 6455 1.3]`
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a listener asks of its WebSockets.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Origins that may connect, in lower case; none: all.
    pub(crate) origins: Vec<String>,
    /// Bytes of one message.
    pub(crate) message_bytes_max: u64,
}

/// A request that asks rightly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// `Sec-WebSocket-Key`.
    pub(super) key: String,
    /// Bytes of the request.
    pub(super) length: usize,
}

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no HTTP, or lacks what an upgrade has.
    NoUpgrade,
    /// It asks for an older protocol.
    Version,
    /// It does not offer `mqtt`. `[MQTT5-6.0.0-3]`
    NoMqtt,
    /// Its origin may not.
    Origin,
    /// It has no end.
    TooLong,
}

impl Upgrade {
    /// The request, once it is whole.
    ///
    /// # Errors
    /// [`Refused`] says why it is none that we serve.
    pub(super) fn parse(bytes: &[u8], rules: &Rules) -> Result<Option<Self>, Refused> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Refused::NoUpgrade),
        };
        let is_get = request.method == Some("GET") && request.version == Some(1);
        let headers = Headers(request.headers);
        let asks = headers.lists("upgrade", "websocket") && headers.lists("connection", "upgrade");
        if !is_get || !asks || headers.single("host").is_none() {
            return Err(Refused::NoUpgrade);
        }
        if headers.single("sec-websocket-version") != Some("13") {
            return Err(Refused::Version);
        }
        let key = headers.single("sec-websocket-key").ok_or(Refused::NoUpgrade)?;
        if BASE64.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
            return Err(Refused::NoUpgrade);
        }
        if !headers.lists("sec-websocket-protocol", "mqtt") {
            return Err(Refused::NoMqtt);
        }
        let origin = headers.single("origin").map(str::to_ascii_lowercase);
        if !rules.origins.is_empty() && !origin.is_some_and(|origin| rules.origins.contains(&origin)) {
            return Err(Refused::Origin);
        }
        Ok(Some(Self { key: key.to_owned(), length }))
    }
}

struct Headers<'a, 'b>(&'a [httparse::Header<'b>]);

impl<'b> Headers<'_, 'b> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| str::from_utf8(header.value).ok())
    }

    /// A header that stands there exactly once.
    fn single(&self, name: &str) -> Option<&'b str> {
        let mut all = self.all(name);
        let first = all.next()?;
        all.next().is_none().then(|| first.trim())
    }

    /// Whether a word is in a list of words.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|other| other.trim().eq_ignore_ascii_case(word))
    }
}

/// Yes. `[MQTT5-6.0.0-4]`
pub(super) fn answer(key: &str) -> String {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        BASE64.encode(proof)
    )
}

/// No, and why.
pub(super) fn refusal(why: Refused) -> String {
    let (status, more, text) = match why {
        Refused::NoUpgrade => ("400 Bad Request", "", "this is for MQTT over WebSocket"),
        Refused::Version => {
            ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n", "only WebSocket version 13 is served")
        }
        Refused::NoMqtt => ("400 Bad Request", "", "the sub-protocol mqtt must be offered"),
        Refused::Origin => ("403 Forbidden", "", "this origin may not connect"),
        Refused::TooLong => ("431 Request Header Fields Too Large", "", "the request is too long"),
    };
    format!(
        "HTTP/1.1 {status}\r\n{more}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example.org\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: https://App.example.org\r\nSec-WebSocket-Protocol: other, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn parse(request: &str, origins: &[&str]) -> Result<Option<Upgrade>, Refused> {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Upgrade::parse(request.as_bytes(), &Rules { origins, message_bytes_max: 0 })
    }

    #[test]
    fn an_upgrade_is_answered_as_the_standard_shows() {
        let upgrade = parse(&format!("{REQUEST}more"), &[]).unwrap().unwrap();
        assert_eq!(upgrade.length, REQUEST.len());
        assert!(answer(&upgrade.key).contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        for end in 0..REQUEST.len() {
            assert_eq!(parse(&REQUEST[..end], &[]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_is_no_upgrade_to_mqtt_is_refused() {
        let rows = [
            ("GET", "POST", Refused::NoUpgrade),
            ("HTTP/1.1", "HTTP/1.0", Refused::NoUpgrade),
            ("Host: broker.example.org\r\n", "", Refused::NoUpgrade),
            ("Upgrade: WebSocket", "Upgrade: h2c", Refused::NoUpgrade),
            ("keep-alive, Upgrade", "keep-alive", Refused::NoUpgrade),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", Refused::NoUpgrade),
            ("dGhlIHNhbXBsZSBub25jZQ==", "?", Refused::NoUpgrade),
            ("Version: 13", "Version: 8", Refused::Version),
            ("Sec-WebSocket-Version: 13\r\n", "", Refused::Version),
            ("other, mqtt", "other, mqttv3.1", Refused::NoMqtt),
            ("Sec-WebSocket-Protocol: other, mqtt\r\n", "", Refused::NoMqtt),
            ("GET /mqtt", "\u{1}\u{2}", Refused::NoUpgrade),
        ];
        for (from, to, wanted) in rows {
            assert!(REQUEST.contains(from), "{from}");
            assert_eq!(parse(&REQUEST.replace(from, to), &[]), Err(wanted), "{from:?} {to:?}");
        }
    }

    #[test]
    fn only_origins_that_are_named_may_connect_once_some_are() {
        assert!(parse(REQUEST, &["https://app.example.org"]).is_ok());
        assert_eq!(parse(REQUEST, &["https://other.example.org"]), Err(Refused::Origin));
        let without = REQUEST.replace("Origin: https://App.example.org\r\n", "");
        assert_eq!(parse(&without, &["https://app.example.org"]), Err(Refused::Origin));
        assert!(parse(&without, &[]).is_ok());
    }
}
