//! Answers to the upstream's requests for a credential: one method, to its end, never a weaker one.

use std::sync::Arc;

use postgres_protocol::authentication::md5_hash;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::keys::{Cache, Id};
use super::scram::{self, Exchange, Expected, Keys};
use super::{Error, Login};
use crate::protocol::postgres::wire::Tag;
use crate::protocol::postgres::wire::startup::{
    AUTHENTICATION, Authentication, password, sasl_initial, sasl_response,
};
use crate::secrets::Secret;
use crate::socket::Place;
use crate::tls::{Stream, server_end_point};

pub(super) struct Authenticator<'a> {
    cache: &'a Cache,
    login: &'a Login<'a>,
    /// Where it leads, for what is known of the server there.
    place: String,
    tls: bool,
    end_point: Option<Vec<u8>>,
    state: State,
}

enum State {
    /// Nothing was asked for yet.
    Fresh,
    /// A password was sent; only acceptance can follow.
    Sent,
    /// SCRAM, our nonce sent.
    Nonce(Exchange),
    /// SCRAM, our proof sent.
    Proof(Expected, Id, Arc<Keys>),
    /// SCRAM, the server's proof found right; only acceptance can follow.
    Proved,
    Done,
}

impl<'a> Authenticator<'a> {
    pub(super) fn new(
        cache: &'a Cache,
        login: &'a Login<'a>,
        address: Place,
        stream: &Stream,
    ) -> Self {
        Self {
            cache,
            login,
            place: login.server(address),
            tls: stream.is_tls(),
            end_point: stream.peer_certificate().and_then(server_end_point),
            state: State::Fresh,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether a password was sent, in clear or hashed, and nothing has come of it yet.
    pub(super) fn has_sent(&self) -> bool {
        matches!(self.state, State::Sent)
    }

    /// What is sent in answer; `None` where nothing is due.
    pub(super) async fn answer(
        &mut self,
        request: Authentication,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let state = std::mem::replace(&mut self.state, State::Done);
        match (state, request) {
            (State::Sent | State::Proved, Authentication::Ok) => Ok(None),
            (State::Fresh, Authentication::Ok) => self.weaker("nothing").map(|()| None),
            (State::Nonce(_) | State::Proof(..), Authentication::Ok) => Err(Error::Unproved),
            (State::Fresh, Authentication::Cleartext) => self.cleartext().map(Some),
            (State::Fresh, Authentication::Md5(salt)) => self.md5(salt).map(Some),
            (State::Fresh, Authentication::Sasl(offered)) => self.begin(&offered).map(Some),
            (State::Fresh, Authentication::Other(method)) => Err(Error::Method {
                method: name(method),
            }),
            (State::Nonce(exchange), Authentication::SaslContinue(data)) => {
                self.prove(exchange, &data).await.map(Some)
            }
            (State::Proof(expected, id, keys), Authentication::SaslFinal(data)) => {
                expected.verify(&data)?;
                self.cache.keep(id, keys);
                self.cache.proved(&self.place(), self.secret()?);
                self.state = State::Proved;
                Ok(None)
            }
            _ => Err(Error::Order {
                message: Tag(AUTHENTICATION),
            }),
        }
    }

    fn secret(&self) -> Result<&'a Secret, Error> {
        self.login.password.ok_or(Error::NoSecret)
    }

    fn place(&self) -> [&[u8]; 3] {
        let user = self.login.postgres.user.as_bytes();
        [self.login.target.as_bytes(), self.place.as_bytes(), user]
    }

    /// What is not SCRAM is not answered where SCRAM is required, or was used before.
    fn weaker(&self, method: &'static str) -> Result<(), Error> {
        if self.login.postgres.require_scram {
            return Err(Error::NotScram { method });
        }
        match self.login.password {
            Some(password) if self.cache.has_proved(&self.place(), password) => {
                Err(Error::Downgrade { method })
            }
            _ => Ok(()),
        }
    }

    fn cleartext(&mut self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.weaker("the password in clear")?;
        // `proves_server` speaks of a finished handshake; without TLS there was none.
        if !self.tls || !self.login.tls.proves_server() {
            return Err(Error::Cleartext);
        }
        let secret = self.secret()?;
        self.state = State::Sent;
        Ok(password(secret.expose_secret().as_bytes()))
    }

    fn md5(&mut self, salt: [u8; 4]) -> Result<Zeroizing<Vec<u8>>, Error> {
        if !self.login.postgres.allow_md5 {
            return Err(Error::Md5);
        }
        self.weaker("MD5")?;
        let secret = self.secret()?.expose_secret().as_bytes();
        let user = self.login.postgres.user.as_bytes();
        let hash = Zeroizing::new(md5_hash(user, secret, salt));
        self.state = State::Sent;
        Ok(password(hash.as_bytes()))
    }

    fn begin(&mut self, offered: &[String]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.secret()?;
        let (mechanism, binding) = scram::choose(offered, self.tls, self.end_point.take())?;
        let exchange = Exchange::new(binding).ok_or(Error::Random)?;
        let first = exchange.first();
        self.state = State::Nonce(exchange);
        Ok(sasl_initial(mechanism, first.as_bytes()))
    }

    async fn prove(
        &mut self,
        exchange: Exchange,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let challenge = exchange.challenge(data)?;
        let user = &self.login.postgres.user;
        let (id, keys) = self
            .cache
            .keys(user, self.secret()?, &challenge.salt, challenge.iterations)
            .await?;
        let (proof, expected) = exchange.prove(&challenge, &keys);
        self.state = State::Proof(expected, id, keys);
        Ok(sasl_response(proof.as_bytes()))
    }
}

// PostgreSQL documentation, "Message Formats"; `AUTH_REQ_*` in `libpq/protocol.h`.
fn name(method: i32) -> String {
    match method {
        2 => "Kerberos V5".to_owned(),
        6 => "an SCM credential".to_owned(),
        7 | 8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        other => format!("authentication request {other}"),
    }
}
