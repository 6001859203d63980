//! A proxy of the network's: what a client asks it for is judged, and what goes on behind it is served as though the client
//! had dialled that itself. Its own first words are read, and nothing behind them.

pub mod facts;
mod head;
mod inject;
mod refuse;
mod terminate;
pub mod wire;

use tokio::net::TcpStream;
use tokio::time::timeout;

use self::facts::{Asked, Form};
use self::inject::Way;
use self::terminate::Wrong;
use crate::config::Proxy;
use crate::policy::Refusal;
use crate::session::opening::Opening;

/// What a client's connection has become.
pub(super) struct Inside {
    /// To the target that it asked for.
    pub(super) opening: Opening,
    pub(super) client: TcpStream,
    /// The head of its first request, where the proxy was to make that itself.
    pub(super) first: Option<Vec<u8>>,
}

/// Hears what a client asks for: the connection that it is to become, where it may.
pub(super) async fn serve(
    mut opening: Opening,
    mut client: TcpStream,
    settings: &Proxy,
) -> Option<Inside> {
    let patience = opening.who().target.timeouts.startup;
    let asked = match timeout(patience, terminate::ask(&mut client)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(Wrong::Io(error))) => {
            opening.gave_up(&error.to_string());
            return None;
        }
        Ok(Err(Wrong::Said(told, why))) => {
            drop(timeout(patience, refuse::tell(client, told)).await);
            opening.gave_up(why);
            return None;
        }
        Err(_elapsed) => {
            opening.gave_up("the client did not ask the proxy for anything in time");
            return None;
        }
    };
    let form = asked.form;
    opening.asks_for(&asked.host, asked.port);
    match enter(opening, &asked, settings).await {
        Ok(opening) => {
            let opened = timeout(patience, terminate::open(&mut client, form)).await;
            let first = (form == Form::Whole).then_some(asked.first);
            matches!(opened, Ok(Ok(()))).then_some(Inside {
                opening,
                client,
                first,
            })
        }
        Err(refusal) => {
            let told = refuse::told(form, &refusal);
            drop(timeout(patience, refuse::tell(client, &told)).await);
            None
        }
    }
}

/// The connection to what is asked for; a refusal is in the audit when this returns it.
async fn enter(opening: Opening, asked: &Asked, settings: &Proxy) -> Result<Opening, Refusal> {
    let login = match prepare(&opening, asked, settings).await {
        Ok(login) => login,
        Err(refusal) => {
            opening.refuse(&refusal, None);
            return Err(refusal);
        }
    };
    let way = Box::new(Way::new(asked.form, login));
    let inside = opening
        .inside((asked.host.clone(), asked.port), way)
        .await?;
    if asked.form == Form::Whole && inside.who().target.http().is_none() {
        let hint = "ask the proxy for a connection, by CONNECT or by SOCKS 5";
        let refusal = Refusal::not_offered("this target is none of HTTP", hint);
        inside.refuse(&refusal, None);
        return Err(refusal);
    }
    Ok(inside)
}

/// What the daemon itself logs in with at the proxy.
async fn prepare(
    opening: &Opening,
    asked: &Asked,
    settings: &Proxy,
) -> Result<Option<inject::Login>, Refusal> {
    if let Some((user, credential)) = &asked.presented {
        opening.presented(user, credential)?;
    }
    // Says whether it may be dialled for this client at all: no secret is fetched for one that it may not.
    opening.ahead()?;
    Ok(match &settings.login {
        Some((user, source)) => Some((user.clone(), opening.secret(source).await?)),
        None => None,
    })
}

/// Tells a client that is not admitted to the proxy itself. The caller bounds time.
pub(super) async fn tell(mut client: TcpStream, refusal: &Refusal) {
    if let Ok(asked) = terminate::ask(&mut client).await {
        let told = refuse::told(asked.form, refusal);
        drop(refuse::tell(client, &told).await);
    }
}
