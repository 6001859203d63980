//! Tokens of our own for targets: client credentials (RFC 6749 section 4.4) and refresh tokens (section 6), asked of an
//! authorization server that the configuration names. One is kept until it is about to end, in memory alone, and asked for once however many wait.

mod refresh;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::refresh::{Begun, Refreshes};
use super::{Asks, encoded};
use crate::clock::{self, BootTime};
use crate::config::{Client, Grant};
use crate::secrets::{Secret, Secrets};
use crate::state;

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
#[derive(Debug)]
pub struct Clients {
    known: std::sync::Mutex<Vec<(Client, Arc<Slot>)>>,
    refreshes: Arc<Refreshes>,
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

/// What else it may answer: a refresh token in the place of the one that it was brought.
#[derive(Deserialize)]
struct Rotated {
    refresh_token: Option<String>,
}

/// Why it answers nothing (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Failed {
    error: String,
}

/// Words of `error` that are told; what else it says may hold what it was told.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

impl Clients {
    /// Opens or makes the file of the refresh tokens that servers gave. Blocks on the disk.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(file: &Path) -> Result<Self, state::Error> {
        Ok(Self {
            known: std::sync::Mutex::default(),
            refreshes: Arc::new(Refreshes::open(file)?),
        })
    }

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
        let token = self.ask(secrets, client).await;
        let told = token.clone().map(|live| live.token);
        *asked = Some(Asked {
            at: clock::boot(),
            token,
        });
        told
    }

    async fn ask(&self, secrets: &Secrets, client: &Client) -> Result<Live, String> {
        let fetch = async |source| {
            secrets
                .fetch(source)
                .await
                .map_err(|error| error.to_string())
        };
        let secret = fetch(&client.secret).await?;
        let own = match &client.grant {
            Grant::ClientCredentials => {
                let grant = [("grant_type", "client_credentials")];
                let body = post(client, Some(&secret), &grant).await?;
                return read(&body).ok_or_else(|| no_token(client));
            }
            Grant::RefreshToken { client: None } => None,
            Grant::RefreshToken {
                client: Some(source),
            } => Some(fetch(source).await?),
        };
        let (client, refreshes) = (client.clone(), Arc::clone(&self.refreshes));
        // Whoever asked may go away; what the server gives meanwhile must not be lost.
        let refreshed = tokio::spawn(async move {
            let begun = Begun::with(&client, &secret);
            refresh(&client, own.as_ref(), (&refreshes, &begun), secret).await
        });
        refreshed.await.map_err(|error| error.to_string())?
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

/// Asks with the newest refresh token, and keeps the next before the token that comes with it is used.
async fn refresh(
    client: &Client,
    own: Option<&Secret>,
    (refreshes, begun): (&Refreshes, &Begun),
    first: Secret,
) -> Result<Live, String> {
    let mut newest = refreshes.newest(begun, first).await?;
    let token = newest.clone().unwrap_or_default();
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose_secret()),
    ];
    let body = post(client, own, &fields).await?;
    let next = serde_json::from_slice::<Rotated>(&body).ok();
    let next = next
        .and_then(|rotated| rotated.refresh_token)
        .map(Secret::from);
    let is_new = |next: &Secret| {
        !next.expose_secret().is_empty() && next.expose_secret() != token.expose_secret()
    };
    if let Some(next) = next.filter(is_new) {
        refreshes.keep(begun, &mut newest, next).await;
    }
    read(&body).ok_or_else(|| no_token(client))
}

fn no_token(client: &Client) -> String {
    format!("{} answers no bearer token", client.url.text)
}

/// Asks for a token; the answer that has one.
async fn post(
    client: &Client,
    own: Option<&Secret>,
    grant: &[(&str, &str)],
) -> Result<Bytes, String> {
    let mut fields = grant.to_vec();
    let optional = [("scope", &client.scope), ("audience", &client.audience)];
    fields.extend(
        optional
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?))),
    );
    let secret = own.map(|secret| secret.expose_secret());
    // Section 2.3.1: both are written as a form writes them before they are put together.
    let who = secret.filter(|_| !client.in_body).map(|secret| {
        let pair = Zeroizing::new(format!("{}:{}", encoded(&client.id), encoded(secret)));
        Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
    });
    if who.is_none() {
        fields.push(("client_id", &client.id));
        fields.extend(secret.map(|secret| ("client_secret", secret)));
    }
    let asks = Asks::of(client.ca.clone(), client.allow_http);
    let who = who.as_ref().map(|who| who.as_str());
    let answer = asks.post_as(&client.url, who, &fields).await?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let failed = serde_json::from_slice::<Failed>(&answer.body).ok();
    let failed = failed.filter(|failed| ERRORS.contains(&failed.error.as_str()));
    let why = failed.map_or(String::new(), |failed| format!(": {}", failed.error));
    Err(format!(
        "{} answers {}{why}",
        client.url.text, answer.status
    ))
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
