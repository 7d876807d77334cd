//! Questions to vendors that are no pushes: signed in like pushes, answered to whoever asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::{Lost, Reach, Sender, config_error, https, unsendable};
use crate::vendor::{Answer, CannotSend, Credential, Login, Verdict, reason};

/// Why a vendor's answer to a question is missing.
#[derive(Debug)]
pub(crate) struct NotAnswered {
    /// In the words of an answer.
    pub verdict: Verdict,
    /// Whether the vendor may have done what it was asked for.
    pub is_perhaps_done: bool,
}

impl From<Verdict> for NotAnswered {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, is_perhaps_done: false }
    }
}

impl From<Lost> for NotAnswered {
    fn from(lost: Lost) -> Self {
        let (is_perhaps_done, why) = match lost {
            Lost::NotSent(why) => (false, why),
            Lost::Unknown(why) => (true, why),
        };
        Self { verdict: Verdict::Retry { after: None, reason: reason(&why) }, is_perhaps_done }
    }
}

impl Sender {
    /// Asks a vendor. Repeated once with a new login when the first one is refused.
    ///
    /// # Errors
    /// [`NotAnswered`] when there is no login or no answer.
    pub(crate) async fn ask(
        &self,
        credential: &Arc<Credential>,
        make: impl Fn(Option<&str>, u64) -> Result<Request<Bytes>, CannotSend>,
    ) -> Result<Answer, NotAnswered> {
        if self.is_closed.load(Ordering::SeqCst) {
            let closed = Verdict::Retry { after: None, reason: "the sender was closed".to_owned() };
            return Err(closed.into());
        }
        let now_ms = (self.options.clock)();
        let sign_in = || self.ask_login(credential);
        let login = self.logins.current(credential, &self.tasks, now_ms, sign_in).await?;
        let answer = self.ask_once(credential, &make, login.as_ref()).await?;
        let is_refused = credential.vendor().verdict(&answer, now_ms) == Verdict::LoginExpired;
        let Some(refused) = login.filter(|_| is_refused) else { return Ok(answer) };
        match self.logins.after_refusal(credential, &refused, &self.tasks, now_ms, sign_in).await? {
            Some(login) => self.ask_once(credential, &make, Some(&login)).await,
            None => Ok(answer),
        }
    }

    async fn ask_once(
        &self,
        credential: &Credential,
        make: &impl Fn(Option<&str>, u64) -> Result<Request<Bytes>, CannotSend>,
        login: Option<&Login>,
    ) -> Result<Answer, NotAnswered> {
        let token = login.map(|login| login.token.reveal());
        let request = make(token, (self.options.clock)()).map_err(|error| unsendable(&error))?;
        let deadline = Instant::now() + self.options.answer_deadline;
        let answer = match credential {
            Credential::Apns(apns) => {
                let uri = request.uri();
                let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
                let base = format!("https://{authority}");
                let pool = self.apns.pool(apns, &base, &self.options).map_err(config_error)?;
                pool.exchange(&self.tasks, request, deadline).await.map(|exchanged| exchanged.answer)
            }
            other => {
                let client = self.https.client(other.vendor().ca_pem(), Reach::Anywhere);
                https::exchange(&client.map_err(config_error)?, request, deadline).await
            }
        };
        Ok(answer?)
    }
}
