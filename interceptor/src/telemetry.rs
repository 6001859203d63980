//! What the daemon says of itself: logs for operators, counters for Prometheus.
//!
//! Neither ever holds a secret, a statement's text or a value: those belong to audit and recording.

pub mod metrics;

pub use metrics::Metrics;

use tracing_subscriber::EnvFilter;

/// Sends logs to standard error: as JSON where it is not a terminal, `RUST_LOG` deciding how much.
pub fn init() {
    use std::io::IsTerminal as _;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call, as in tests, keeps the first subscriber.
    let set = if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.json().try_init()
    };
    drop(set);
}
