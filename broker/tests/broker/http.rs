//! A small HTTP client for tests, and a check of answers against the description that the broker serves.

use crate::client::PATIENCE;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A key and its line in the configuration.
pub const KEY: &str = "a-key-of-256-random-bits-would-stand-here";

/// A configuration with an operations listener, which opens for [`KEY`] and, for reading, `KEY` with an `r` before it.
pub fn with_keys(text: &str) -> String {
    format!(
        "{text}\nhttp = '127.0.0.1:0'\n[[admin.keys]]\nname = 'ops'\nrole = 'admin'\nsha256 = '{}'\n\
         [[admin.keys]]\nname = 'eyes'\nsha256 = '{}'",
        sha256(KEY),
        sha256(&format!("r{KEY}"))
    )
}

pub fn sha256(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

/// Speaks to the operations listener with one key.
#[derive(Clone, Copy)]
pub struct Http {
    pub address: SocketAddr,
    pub key: &'static str,
}

impl Http {
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        let body = if head.contains("chunked") { unchunk(body) } else { body.to_owned() };
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() };
        Answer { status, head: head.to_owned(), body }
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// All items of all pages.
    pub fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{next}"));
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(after) = page["page"]["next"].as_str() else { return items };
            let sign = if path.contains('?') { '&' } else { '?' };
            next = format!("{sign}after={after}");
        }
    }

    /// Asks, and checks that the answer is what the description says.
    pub fn checked(
        &self,
        description: &Value,
        method: &str,
        template: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let answer = self.ask(method, path, body);
        let operation = &description["paths"][template][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {template} is not described");
        let status = answer.status.to_string();
        let described = operation["responses"].get(&status).unwrap_or(&operation["responses"]["default"]);
        match described["content"].as_object().and_then(|content| content.iter().next()) {
            Some((kind, content)) => {
                assert!(answer.head.contains(&format!("content-type: {kind}")), "{path}: {answer:?}");
                check(description, &content["schema"], &answer.body, path);
            }
            None => assert_eq!(answer.body, Value::Null, "{path}"),
        }
        answer
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// As much of JSON Schema as the description uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return check(document, document.pointer(&name[1..]).unwrap(), value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| match choice["type"].as_str() {
            Some("null") => value.is_null(),
            _ => !value.is_null(),
        };
        return check(document, choices.iter().find(fits).unwrap(), value, at);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_allowed = match &schema["type"] {
        Value::String(allowed) => allowed == kind,
        Value::Array(allowed) => allowed.iter().any(|allowed| allowed == kind),
        _ => false,
    };
    assert!(is_allowed, "{at} is {value}, not as in {schema}");
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, &format!("{at}[]"));
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
    }
    if schema["properties"].is_null() && schema["additionalProperties"].is_null() {
        return; // whatever it holds: the description leaves it to another document
    }
    for (name, field) in fields {
        let described = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
        assert!(described.is_object(), "{at}.{name} is not described");
        check(document, described, field, &format!("{at}.{name}"));
    }
}
