//! Questions to vendors that are no pushes: signed in like pushes, answered to whoever asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::{Lost, Reach, Sender, config_error, https, unsendable};
use crate::vendor::{Answer, CannotSend, Credential, Login, Verdict, reason};

impl Sender {
    /// Asks a vendor. Repeated once with a new login when the first one is refused.
    ///
    /// # Errors
    /// The verdict when there is no login or no answer.
    pub(crate) async fn ask(
        &self,
        credential: &Arc<Credential>,
        make: impl Fn(Option<&str>, u64) -> Result<Request<Bytes>, CannotSend>,
    ) -> Result<Answer, Verdict> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Verdict::Retry { after: None, reason: "the sender was closed".to_owned() });
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
    ) -> Result<Answer, Verdict> {
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
        answer.map_err(|(Lost::NotSent(why) | Lost::Unknown(why))| Verdict::Retry {
            after: None,
            reason: reason(&why),
        })
    }
}
