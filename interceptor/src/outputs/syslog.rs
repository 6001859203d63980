//! Syslog (RFC 5424) over TLS (RFC 5425): each message behind its length.
//!
//! The protocol has no acknowledgement: what is with the kernel counts as taken where the connection still
//! stands afterwards. Where that matters more, another output says what it took.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::http::{Secured, connect};
use super::{Line, ocsf};
use crate::config::Address;
use crate::tls::{Stream, Web};

/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Facility `log audit` (RFC 5424 §6.2.1).
const FACILITY: u8 = 13;

/// A receiver, and the connection to it.
pub(super) struct Syslog {
    address: Address,
    ca: Option<PathBuf>,
    stream: Option<Stream>,
    host: String,
}

impl Syslog {
    pub(super) fn new(address: &Address, ca: Option<PathBuf>) -> Self {
        Self {
            address: address.clone(),
            ca,
            stream: None,
            host: ocsf::host(),
        }
    }

    /// Sends a batch; where it cannot, the connection is made anew with the next.
    pub(super) async fn send(&mut self, lines: &[Line], made: &[String]) -> Result<(), String> {
        let mut bytes = Vec::new();
        for (line, made) in lines.iter().zip(made) {
            let message = message(line, made, &self.host);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(message.as_bytes());
        }
        let sent = timeout(PATIENCE, self.write(&bytes)).await;
        let sent = sent.unwrap_or_else(|_elapsed| {
            Err(format!(
                "it did not take a batch in {} s",
                PATIENCE.as_secs()
            ))
        });
        if sent.is_err() {
            self.stream = None;
        }
        sent
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                {
                    let named = Some(Web::unnamed as Secured);
                    connect(
                        &self.address.host,
                        self.address.port,
                        named,
                        self.ca.clone(),
                    )
                }
                .await?
            }
        };
        let failed = |error: std::io::Error| error.to_string();
        // A receiver says nothing: what can be read is that it went away.
        let mut said = [0];
        tokio::select! {
            biased;
            read = stream.read(&mut said) => match read {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(_) => return Err("it speaks, which a receiver of syslog does not".to_owned()),
                Err(error) => return Err(failed(error)),
            },
            () = std::future::ready(()) => {}
        }
        stream.write_all(bytes).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        self.stream = Some(stream);
        Ok(())
    }
}

/// One message.
fn message(line: &Line, made: &str, host: &str) -> String {
    let value: Value = serde_json::from_str(&line.text).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-");
    let severity = match ocsf::severity(&value) {
        1 => 6,
        2 => 5,
        3 => 4,
        4 => 3,
        _ => 2,
    };
    let priority = FACILITY.saturating_mul(8).saturating_add(severity);
    let (time, event, pid) = (field("time"), field("event"), std::process::id());
    // The text is UTF-8, which a byte order mark says (§6.4).
    format!(
        "<{priority}>1 {time} {host} interceptor {pid} {event} [meta sequenceId=\"{}\"] \u{feff}{made}",
        line.seq % 0x7fff_ffff
    )
}
