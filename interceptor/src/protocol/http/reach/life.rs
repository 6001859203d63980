//! How long a connection to an upstream lives: as long as somebody sends on it, or reads what it has answered.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Response;
use hyper::header::{PROXY_AUTHENTICATE, WWW_AUTHENTICATE};

use super::{Budget, Tasks};
use crate::clock::{self, BootTime};

/// Schemes by which a server knows a connection, not a request, as somebody's. No client begins one unasked: what it
/// presents does not go on.
const OF_CONNECTIONS: [&str; 2] = ["negotiate", "ntlm"];

/// What runs for one connection; all of it ends with it.
#[derive(Debug)]
pub(super) struct Life {
    tasks: Tasks,
    /// When it was dialled.
    pub(super) made: BootTime,
    is_used: AtomicBool,
    is_bound: AtomicBool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            tasks: Tasks::default(),
            made: clock::boot(),
            is_used: AtomicBool::default(),
            is_bound: AtomicBool::default(),
        }
    }
}

impl Life {
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.run(task);
    }

    /// What its own tasks run by.
    pub(super) fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// A request goes out.
    pub(super) fn uses(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Whether one has gone out before.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Sees whether the server asks for somebody whom it then takes the connection for.
    pub(super) fn looks<B>(&self, answer: &Response<B>) {
        let headers = answer.headers();
        let by_server = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut asked = by_server.chain(headers.get_all(PROXY_AUTHENTICATE));
        let is_bound = asked.any(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            OF_CONNECTIONS.iter().any(|scheme| value.contains(scheme))
        });
        if is_bound {
            self.is_bound.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the server may take it for somebody's.
    pub(super) fn is_bound(&self) -> bool {
        self.is_bound.load(Ordering::Relaxed)
    }

    /// Ends it, whoever still has a part of it.
    pub(super) fn end(&self) {
        self.tasks.stop();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// A part in a connection: while its answer is read it does not end, and its server may go on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    budget: Budget,
    _life: Option<Arc<Life>>,
}

impl Lease {
    pub(super) fn of(budget: Budget, life: Arc<Life>) -> Self {
        Self {
            budget,
            _life: Some(life),
        }
    }

    /// A head or a piece of a body has come.
    pub(crate) fn renew(&self) {
        self.budget.renew();
    }

    /// The connection has become something else.
    pub(crate) fn lift(&self) {
        self.budget.lift();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_somebodys_is_known_by_what_its_server_asks_for() {
        let bound = |name: &str, value: &str| {
            let answer = Response::builder().header(name, value).body(()).unwrap();
            let life = Life::default();
            life.looks(&answer);
            life.is_bound()
        };
        assert!(bound("www-authenticate", "Basic realm=\"x\", NTLM"));
        assert!(bound("WWW-Authenticate", "negotiate YII="));
        assert!(bound("proxy-authenticate", "Negotiate"));
        assert!(!bound("www-authenticate", "Bearer realm=\"x\""));
        assert!(!bound("x-authenticate", "NTLM"));
    }
}
