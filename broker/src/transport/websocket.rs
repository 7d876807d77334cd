//! The WebSocket layer, the server's side of RFC 6455: the upgrade, then frames.
//!
//! MQTT is a stream in there: packets may span frames and share them `[MQTT5-6.0.0-2]`, so a payload passes through as it
//! comes and no frame is ever gathered. A connection keeps some hundred bytes.

mod frames;
mod upgrade;

use bytes::{BufMut, BytesMut};
use frames::{Close, Frames, Opcode, write_header};
use std::sync::Arc;
pub(crate) use upgrade::Rules;
use upgrade::{Upgrade, answer, refusal};

/// The request of an upgrade. Browsers send cookies with it; more than this is none of them.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// One WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
    state: State,
    /// What the peer must be told: the upgrade's answer, pongs, the goodbye. Taken after each call.
    answer: BytesMut,
    /// The newest ping that was not answered yet. Older ones need no answer. `[RFC 6455 5.5.3]`
    ping: Option<BytesMut>,
    is_granted: bool,
    has_said_goodbye: bool,
}

/// ```text
/// Upgrading --whole request--> Open --close, or a breach--> Ended
/// ```
#[derive(Debug)]
enum State {
    Upgrading { request: BytesMut, rules: Arc<Rules> },
    Open(Frames),
    Ended,
}

impl WebSocket {
    /// Before the request.
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        let state = State::Upgrading { request: BytesMut::new(), rules };
        Self { state, answer: BytesMut::new(), ping: None, is_granted: false, has_said_goodbye: false }
    }

    /// Takes bytes of the peer; those of MQTT go to `into`.
    pub(crate) fn decode(&mut self, bytes: &[u8], into: &mut BytesMut) {
        match &mut self.state {
            State::Upgrading { request, rules } => {
                request.extend_from_slice(bytes);
                match Upgrade::parse(request, rules) {
                    Ok(None) if request.len() < REQUEST_BYTES_MAX => {}
                    Ok(None) => self.refuse(upgrade::Refused::TooLong),
                    Err(refused) => self.refuse(refused),
                    Ok(Some(upgrade)) => {
                        self.is_granted = true;
                        let rest = request.split_off(upgrade.length);
                        self.answer.put_slice(answer(&upgrade.key).as_bytes());
                        self.state = State::Open(Frames::new(rules.message_bytes_max));
                        self.decode(&rest, into);
                    }
                }
            }
            State::Open(frames) => match frames.decode(bytes, into) {
                Ok(ping) => self.ping = ping.or(self.ping.take()),
                Err(close) => self.close(close),
            },
            State::Ended => {}
        }
    }

    fn refuse(&mut self, refused: upgrade::Refused) {
        self.answer.put_slice(refusal(refused).as_bytes());
        self.has_said_goodbye = true;
        self.state = State::Ended;
    }

    fn close(&mut self, why: Close) {
        self.say_goodbye(why);
        self.state = State::Ended;
    }

    fn say_goodbye(&mut self, why: Close) {
        if self.has_said_goodbye || matches!(self.state, State::Upgrading { .. }) {
            return;
        }
        let code = why.code().to_be_bytes();
        write_header(Opcode::Close, code.len(), &mut self.answer);
        self.answer.put_slice(&code);
        self.has_said_goodbye = true;
    }

    /// We end the connection.
    pub(crate) fn finish(&mut self) {
        self.say_goodbye(Close::Done);
    }

    /// What the peer must be told; `has_room`: as long as nothing waits before it, so that a peer that pings and does not
    /// read costs one pong at most.
    pub(crate) fn take_answer(&mut self, has_room: bool) -> BytesMut {
        if has_room
            && !self.has_said_goodbye
            && let Some(ping) = self.ping.take()
        {
            write_header(Opcode::Pong, ping.len(), &mut self.answer);
            self.answer.put_slice(&ping);
        }
        std::mem::take(&mut self.answer)
    }

    /// What stands before so many bytes of MQTT. `None`: the peer takes no more.
    pub(crate) fn header(&self, length: usize) -> Option<BytesMut> {
        let is_open = matches!(self.state, State::Open(_)) && !self.has_said_goodbye;
        is_open.then(|| {
            let mut header = BytesMut::with_capacity(frames::HEADER_BYTES_MAX + length);
            write_header(Opcode::Binary, length, &mut header); // [MQTT5-6.0.0-1]
            header
        })
    }

    /// Whether the upgrade was granted. Stays so when the WebSocket ends.
    pub(crate) fn is_open(&self) -> bool {
        self.is_granted
    }

    /// Whether nothing of the peer is taken any more.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}
