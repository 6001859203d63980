//! Tokens of our own for targets: client credentials (RFC 6749 section 4.4), asked of an authorization server that the
//! configuration names. One is kept until it is about to end, in memory alone, and asked for once however many wait.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Asks, encoded};
use crate::clock::{self, BootTime};
use crate::config::Client;
use crate::secrets::{Secret, Secrets};

/// How long a token is used whose end nobody says.
const UNSAID: Duration = Duration::from_mins(5);
/// How long before its end it is not used any more, where it lasts long enough.
const MARGIN: Duration = Duration::from_secs(30);
/// For how long a token that is refused at once is not asked for anew, and a failure not tried again.
const PAUSE: Duration = Duration::from_secs(3);
/// Longest life that is believed.
const LONGEST: Duration = Duration::from_hours(24);
/// Clients that are remembered: more than a configuration has.
const MOST: usize = 1_024;

/// The tokens of all clients. One for the daemon.
#[derive(Debug, Default)]
pub struct Clients {
    known: std::sync::Mutex<Vec<(Client, Arc<Slot>)>>,
}

/// What is known of one client: whoever asks for its token holds it.
type Slot = tokio::sync::Mutex<Option<Asked>>;

#[derive(Debug)]
struct Asked {
    at: BootTime,
    token: Result<Live, String>,
}

#[derive(Clone, Debug)]
struct Live {
    token: Secret,
    lasts: Duration,
}

/// What an authorization server answers (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Answered {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Clients {
    /// A token that is good now as far as anybody knows; `refused` is one that the target has just refused.
    ///
    /// # Errors
    /// Why there is none, for the operator; without any secret.
    pub async fn token(
        &self,
        secrets: &Secrets,
        client: &Client,
        refused: Option<&Secret>,
    ) -> Result<Secret, String> {
        let slot = self.slot(client);
        let mut asked = slot.lock().await;
        if let Some(asked) = asked.as_ref() {
            let age = clock::boot().since(asked.at);
            match &asked.token {
                Err(why) if age < PAUSE => return Err(why.clone()),
                Ok(live) if live.is_good(age, refused) => return Ok(live.token.clone()),
                Ok(_) | Err(_) => {}
            }
        }
        let token = ask(secrets, client).await;
        let told = token.clone().map(|live| live.token);
        *asked = Some(Asked {
            at: clock::boot(),
            token,
        });
        told
    }

    fn slot(&self, client: &Client) -> Arc<Slot> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = known.iter().find(|(one, _)| one == client) {
            return Arc::clone(slot);
        }
        if known.len() >= MOST {
            known.remove(0);
        }
        let slot = Arc::new(Slot::default());
        known.push((client.clone(), Arc::clone(&slot)));
        slot
    }
}

impl Live {
    /// Whether it is used still. One that was refused is, too, where it is new: the server says no to us.
    fn is_good(&self, age: Duration, refused: Option<&Secret>) -> bool {
        let is_refused =
            refused.is_some_and(|one| one.expose_secret() == self.token.expose_secret());
        age < self.lasts && (!is_refused || age < PAUSE)
    }
}

async fn ask(secrets: &Secrets, client: &Client) -> Result<Live, String> {
    let secret = secrets.fetch(&client.secret).await;
    let secret = secret.map_err(|error| error.to_string())?;
    let mut fields = vec![("grant_type", "client_credentials")];
    let optional = [("scope", &client.scope), ("audience", &client.audience)];
    fields.extend(
        optional
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?))),
    );
    // Section 2.3.1: both are written as a form writes them before they are put together.
    let pair = Zeroizing::new(format!(
        "{}:{}",
        encoded(&client.id),
        encoded(secret.expose_secret())
    ));
    let who = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    if client.in_body {
        fields.push(("client_id", &client.id));
        fields.push(("client_secret", secret.expose_secret()));
    }
    let asks = Asks::of(client.ca.clone(), client.allow_http);
    let who = (!client.in_body).then_some(who.as_str());
    let answer = asks.post_as(&client.url, who, &fields).await?;
    if answer.status != 200 {
        // What it says besides may hold what it was told.
        return Err(format!("{} answers {}", client.url.text, answer.status));
    }
    read(&answer.body).ok_or_else(|| format!("{} answers no bearer token", client.url.text))
}

/// What an answer says; `None` where it is no token that can be used.
fn read(body: &[u8]) -> Option<Live> {
    let answered: Answered = serde_json::from_slice(body).ok()?;
    let token = Secret::from(answered.access_token);
    let said = token.expose_secret();
    let is_token = said.bytes().all(|byte| byte.is_ascii_graphic()) && !said.is_empty();
    (is_token && answered.token_type.eq_ignore_ascii_case("bearer")).then_some(())?;
    let lasts = answered.expires_in.map_or(UNSAID, Duration::from_secs);
    let lasts = lasts.min(LONGEST);
    Some(Live {
        lasts: lasts.saturating_sub(MARGIN.min(lasts / 5)),
        token,
    })
}

#[cfg(test)]
mod tests;
