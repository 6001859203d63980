//! `interceptor console`: a link to the web page, for root.

use std::process::ExitCode;

use clap::Args;

use super::Daemon;
use super::client;
use super::operate::show;
use crate::control::api::Link;

/// `interceptor console`.
#[derive(Debug, Args)]
pub struct Console {
    #[command(flatten)]
    daemon: Daemon,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Console {
    /// # Errors
    /// Where the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let link: Link = client::post(&self.daemon.control()?, "/v1/console", &()).await?;
        let text = format!(
            "{}\nopens the console as root, once, within {} s\n",
            link.url, link.seconds
        );
        Ok(show(self.json, &link, &text))
    }
}
