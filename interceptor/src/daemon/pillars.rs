//! The tasks that a daemon stands on: none of them ends before it is told to stop.

use std::future::Future;

use tokio::task::JoinSet;

/// The tasks, each by what it is for.
#[derive(Debug, Default)]
pub(super) struct Pillars(JoinSet<&'static str>);

impl Pillars {
    /// Begins one.
    pub(super) fn stand(
        &mut self,
        what: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.spawn(async move {
            // A panic is an end too, and was said where it happened.
            let ended = tokio::spawn(task).await;
            ended.map_or(what, |()| what)
        });
    }

    /// Waits for one that ends all the same; gives what it was for.
    pub(super) async fn fallen(&mut self) -> &'static str {
        match self.0.join_next().await {
            Some(Ok(what)) => what,
            _ => "a task",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn one_that_ends_or_panics_is_named() {
        let mut pillars = Pillars::default();
        pillars.stand("what stands", pending());
        pillars.stand("what ends", async {});
        assert_eq!(pillars.fallen().await, "what ends");
        pillars.stand("what panics", async { panic!("as it is meant to") });
        assert_eq!(pillars.fallen().await, "what panics");
    }
}
