//! A judge by itself: what reading a statement costs, the first time and again, for whoever measures it.

use std::sync::Arc;

use super::{Judge, Scope, facts};
use crate::protocol::postgres::facts::Names;
use crate::protocol::postgres::wire::backend::Status;
use crate::session::Reading;

/// Reads as a session does that has one search path and no transaction open.
#[derive(Debug)]
pub struct Alone {
    judge: Judge,
    scope: Scope,
}

impl Alone {
    /// Begins with nothing remembered.
    #[must_use]
    pub fn new(names: Names) -> Self {
        let path = names.search_path.clone().map(Arc::new);
        Self {
            judge: Judge::new(facts::read, names, None),
            scope: Scope::new(path, Status::Idle, true),
        }
    }

    /// Reads a text for the first time, and remembers it.
    pub async fn first(&mut self, text: &Arc<str>) -> Arc<Reading> {
        let statement = self.judge.read(text, &self.scope, None).await;
        Arc::clone(&statement.reading)
    }

    /// What is remembered of a text, as it goes upstream: put together anew where it differs from the one before
    /// in literals.
    pub fn again(&mut self, text: &Arc<str>) -> Option<Arc<Reading>> {
        let statement = self.judge.recall(text, &self.scope)?;
        Some(Arc::clone(&statement.reading))
    }
}
