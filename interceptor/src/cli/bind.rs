//! `interceptor bind`, `unbind` and `login`: whom a scope stands for, by a token or by a login.
//!
//! A token is read where it lies and given to the daemon; a login's token never comes here.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::operate::{WhichArgs, show};
use super::{Daemon, client, complain, terminal};
use crate::control::api::{self, Begin, Begun, Proof, Scope, Token, Waited, Which};

/// Bytes of a token that are read; the daemon takes fewer.
const MAX_TOKEN: u64 = 256 << 10;

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIn {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

impl FromStr for TokenIn {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("ENV:") {
            Some(name) => Self::Variable(name.to_owned()),
            None => Self::File(PathBuf::from(text)),
        })
    }
}

impl TokenIn {
    /// The variable, where it is in one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Variable(name) => Some(name),
        }
    }

    /// Reads the token.
    ///
    /// # Errors
    /// Where there is none.
    pub fn read(&self) -> anyhow::Result<Token> {
        match self {
            Self::File(path) => {
                let file = File::open(path)
                    .with_context(|| format!("cannot open the token {}", path.display()))?;
                token(file, path)
            }
            Self::Variable(name) => {
                let text = std::env::var(name)
                    .with_context(|| format!("there is no token in the variable {name}"))?;
                Ok(trimmed(&Zeroizing::new(text)))
            }
        }
    }

    /// Reads the token and removes it: afterwards nobody else finds it. A variable is left out of the
    /// environment of the command by whoever starts it.
    ///
    /// # Errors
    /// Where there is none, or it would stay.
    pub fn take(&self) -> anyhow::Result<Token> {
        let Self::File(path) = self else {
            return self.read();
        };
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .with_context(|| format!("cannot open the token {}", path.display()))?;
        let about = file.metadata().context("cannot look at the token")?;
        ensure!(
            about.is_file() && about.nlink() == 1,
            "{} is no file with one name: removing it would leave the token elsewhere",
            path.display()
        );
        let token = token(file, path)?;
        fs::remove_file(path)
            .with_context(|| format!("cannot remove the token {}", path.display()))?;
        Ok(token)
    }
}

fn token(file: File, path: &Path) -> anyhow::Result<Token> {
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_TOKEN)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the token {}", path.display()))?;
    Ok(trimmed(&text))
}

fn trimmed(text: &str) -> Token {
    Token(Zeroizing::new(text.trim().to_owned()))
}

/// What shows to whom a scope is bound.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct With {
    /// The token: a file, or ENV:NAME for a variable. It is left where it is.
    #[arg(long, value_name = "FILE|ENV:NAME")]
    token: Option<TokenIn>,
    /// The assertion of a SAML identity provider, or the response that has it, as XML or in base64: a file,
    /// or ENV:NAME for a variable. It is left where it is, and good for once.
    #[arg(long, value_name = "FILE|ENV:NAME")]
    as_saml: Option<TokenIn>,
}

impl With {
    fn proof(&self) -> anyhow::Result<Proof> {
        match (&self.token, &self.as_saml) {
            (Some(token), _) => Ok(Proof::Token(token.read()?)),
            (None, Some(assertion)) => Ok(Proof::Saml(assertion.read()?)),
            (None, None) => bail!("name a token or an assertion"),
        }
    }
}

/// `interceptor bind`.
#[derive(Debug, Args)]
pub struct Bind {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    with: With,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Bind {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked = api::Bind {
            which: self.which.into(),
            proof: self.with.proof()?,
        };
        let control = self.daemon.control()?;
        let scope: Scope = client::post(&control, "/v1/scopes/bind", &asked).await?;
        Ok(show(self.json, &scope, &line(&scope)))
    }
}

/// `interceptor unbind`.
#[derive(Debug, Args)]
pub struct Unbind {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Unbind {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked: Which = self.which.into();
        let control = self.daemon.control()?;
        let scope: Scope = client::post(&control, "/v1/scopes/unbind", &asked).await?;
        let text = format!("no longer: {}", line(&scope));
        Ok(show(self.json, &scope, &text))
    }
}

/// `interceptor exchange`.
#[derive(Debug, Args)]
pub struct Exchange {
    /// The token: a file, or ENV:NAME for a variable. It is left where it is.
    #[arg(long, value_name = "FILE|ENV:NAME")]
    token: TokenIn,
    /// Whom the new token is for; without it, the daemon itself.
    #[arg(long)]
    audience: Option<String>,
    /// For how long: 10m, which is also the default, and at most 1h.
    #[arg(long = "for")]
    time: Option<String>,
    /// From outside: the cgroup of the scope that it is for; without it, the own one.
    #[arg(long, value_name = "CGROUP")]
    scope: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Exchange {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let token = self.token.read()?;
        let jwt = "urn:ietf:params:oauth:token-type:jwt";
        let kind = "urn:ietf:params:oauth:grant-type:token-exchange";
        let mut fields = vec![
            ("grant_type", kind),
            ("subject_token_type", jwt),
            ("subject_token", token.0.as_str()),
        ];
        fields.extend(self.audience.as_deref().map(|text| ("audience", text)));
        fields.extend(self.time.as_deref().map(|text| ("lifetime", text)));
        fields.extend(self.scope.as_deref().map(|text| ("cgroup", text)));
        let socket = match self.scope {
            Some(_) => self.daemon.control()?,
            None => {
                fields.push(("passing", "true"));
                self.daemon.agent()?
            }
        };
        let given: api::Exchanged = client::post_form(&socket, "/v1/token", &fields).await?;
        Ok(show(
            self.json,
            &given,
            &format!("{}\n", given.access_token),
        ))
    }
}

/// `interceptor login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The issuer, by its name in the daemon's configuration.
    #[arg(long)]
    issuer: String,
    /// The scope, by its path below the cgroup v2 mount; without it, the one that this runs in.
    cgroup: Option<String>,
    /// A process: the scope that it is in.
    #[arg(long, conflicts_with = "cgroup")]
    pid: Option<u32>,
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Login {
    /// Binds the scope that is named; without one, the scope that this runs in.
    ///
    /// # Errors
    /// Where the daemon cannot be reached, or the login comes to nothing.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let which = Which {
            cgroup: self.cgroup,
            pid: self.pid,
            ..Which::default()
        };
        let scope: Scope = match which != Which::default() {
            true => {
                let control = self.daemon.control()?;
                let begin = Begin {
                    issuer: self.issuer,
                    agent: None,
                    which: Some(which.clone()),
                };
                let login = log_in(&control, &begin).await?;
                let asked = api::Bind {
                    which,
                    proof: Proof::Login(login),
                };
                client::post(&control, "/v1/scopes/bind", &asked).await?
            }
            false => {
                let agent = self.daemon.agent()?;
                let begin = Begin {
                    issuer: self.issuer,
                    agent: None,
                    which: None,
                };
                let login = log_in(&agent, &begin).await?;
                client::post(&agent, "/v1/bind", &api::Login { login }).await?
            }
        };
        Ok(show(self.json, &scope, &line(&scope)))
    }
}

/// Tells a person what to do, and waits until they have done it.
///
/// # Errors
/// Where the daemon or the issuer does not take part, or time is over.
pub(super) async fn log_in(socket: &Path, begin: &Begin) -> anyhow::Result<Uuid> {
    let begun: Begun = client::post(socket, "/v1/login", begin).await?;
    let address = begun.complete.as_ref().unwrap_or(&begun.address);
    complain(&format!(
        "to log in, open {} and confirm the code {}; there are {} s for it\n",
        terminal::line(address),
        terminal::line(&begun.code),
        begun.seconds
    ));
    let login = begun.login;
    loop {
        let waited: anyhow::Result<Waited> =
            client::post(socket, "/v1/login/wait", &api::Login { login }).await;
        match waited {
            Ok(Waited { done: true }) => return Ok(login),
            Ok(Waited { done: false }) => {}
            Err(error) => bail!("nobody has logged in: {error}"),
        }
    }
}

/// A scope and whom it is bound to, for people.
fn line(scope: &Scope) -> String {
    let whom = match &scope.identity {
        None => "nobody".to_owned(),
        Some(identity) => {
            let name = identity.user.as_ref().unwrap_or(&identity.subject);
            format!(
                "{} of {} until {}",
                terminal::line(name),
                terminal::line(&identity.issuer),
                identity.expires
            )
        }
    };
    let cgroup = terminal::line(&scope.cgroup);
    format!("{cgroup} is {}, bound to {whom}\n", scope.agent)
}

#[cfg(test)]
mod tests;
