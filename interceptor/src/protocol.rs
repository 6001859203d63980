//! The engines, one per protocol, and the one `match` over them.

pub mod postgres;

use tokio::net::TcpStream;

use crate::config::Protocol;
use crate::session::opening::Opening;

/// Every engine, with what its connections share.
#[derive(Debug)]
pub struct Engines {
    postgres: postgres::Engine,
}

impl Engines {
    /// Builds each once.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, postgres::inject::Error> {
        Ok(Self {
            postgres: postgres::Engine::new()?,
        })
    }

    /// Serves one admitted connection with the engine that its target names, to its close.
    pub async fn serve(&self, opening: Opening, client: TcpStream) {
        let target = std::sync::Arc::clone(&opening.who().target);
        match &target.protocol {
            Protocol::Postgres(settings) => self.postgres.serve(opening, client, settings).await,
        }
    }
}
