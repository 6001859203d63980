//! The engines, one per protocol, and the one `match` over them.

pub mod postgres;

use tokio::net::TcpStream;

use crate::config::Protocol;
use crate::session::opening::Opening;

/// Serves one admitted connection with the engine that its target names, to its close.
pub async fn serve(opening: Opening, client: TcpStream) {
    let protocol = opening.who().target.protocol.clone();
    match protocol {
        Protocol::Postgres(settings) => postgres::serve(opening, client, settings).await,
    }
}
