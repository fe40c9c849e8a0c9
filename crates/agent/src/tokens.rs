//! Service-account tokens of pods' volumes: asked of the leader over the session, kept in memory only, and renewed when
//! four fifths of their life are over.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use stoa_units::Time;
use stoa_volume::TokenKey;
use stoa_wire::{PodRef, Up};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the session.
const REQUESTS_MAX: usize = 256;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A token and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) fetched: Time,
    pub(crate) expires: Time,
}

impl Token {
    /// When it should be replaced.
    pub(crate) fn renew_at(&self) -> Time {
        self.fetched.plus(self.expires.since(self.fetched).mul_f64(0.8))
    }
}

type Answer = Result<(String, Time), String>;

#[derive(Default)]
struct State {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    held: HashMap<(String, TokenKey), Token>,
}

/// See the module.
pub(crate) struct Tokens {
    state: Mutex<State>,
    requests: mpsc::Sender<Up>,
}

impl Tokens {
    /// Tokens, and the requests that the session has to send.
    pub(crate) fn new() -> (Tokens, mpsc::Receiver<Up>) {
        let (requests, rx) = mpsc::channel(REQUESTS_MAX);
        (Tokens { state: Mutex::default(), requests }, rx)
    }

    /// A token that is good for a while: the one held, or a fresh one.
    pub(crate) async fn get(
        &self,
        pod: &PodRef,
        account: &str,
        key: &TokenKey,
        now: Time,
    ) -> Result<Token, String> {
        let held_key = (pod.uid.clone(), key.clone());
        let held = self.state.lock().held.get(&held_key).cloned();
        if let Some(held) = held.as_ref().filter(|t| now < t.renew_at()) {
            return Ok(held.clone());
        }
        match self.fetch(pod, account, key).await {
            Ok((text, expires)) => {
                let token = Token { text, fetched: now, expires };
                self.state.lock().held.insert(held_key, token.clone());
                Ok(token)
            }
            // Without a leader an older token is still the best there is.
            Err(_) if held.as_ref().is_some_and(|t| now < t.expires) => held.ok_or_else(String::new),
            Err(e) => Err(e),
        }
    }

    async fn fetch(&self, pod: &PodRef, account: &str, key: &TokenKey) -> Answer {
        let (tx, rx) = oneshot::channel();
        let request = {
            let mut state = self.state.lock();
            state.next += 1;
            let request = state.next;
            state.waiting.insert(request, tx);
            request
        };
        let up = Up::Token {
            request,
            pod: pod.clone(),
            service_account: account.to_owned(),
            audiences: if key.audience.is_empty() { Vec::new() } else { vec![key.audience.clone()] },
            expiration_seconds: key.expiration_seconds,
        };
        let answer = async {
            self.requests.send(up).await.map_err(|_| "the agent is stopping".to_owned())?;
            rx.await.unwrap_or_else(|_| Err("the session broke".to_owned()))
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
        self.state.lock().waiting.remove(&request);
        answer.unwrap_or_else(|_| Err("timed out waiting for a token".to_owned()))
    }

    /// The leader answered.
    pub(crate) fn answer(&self, request: u64, answer: Answer) {
        let waiting = self.state.lock().waiting.remove(&request);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// The session broke: nothing that was asked will be answered.
    pub(crate) fn fail_all(&self) {
        self.state.lock().waiting.clear();
    }

    /// Forgets a pod's tokens.
    pub(crate) fn forget(&self, uid: &str) {
        self.state.lock().held.retain(|(u, _), _| u != uid);
    }
}
