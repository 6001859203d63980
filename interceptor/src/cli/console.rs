//! `interceptor console`: a link to the web page, for root; and codes for the first keys of others.

use std::process::ExitCode;

use clap::Args;

use super::client;
use super::operate::show;
use super::{Daemon, terminal};
use crate::control::api::{Code, Enrol, Link};

/// `interceptor console`.
#[derive(Debug, Args)]
pub struct Console {
    /// Print no link, but a code by which somebody who logs in by the issuer registers a first key.
    #[arg(long, value_name = "staff:SUBJECT")]
    enrol: Option<String>,
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
        if let Some(person) = self.enrol {
            return enrol(&self.daemon, person, self.json).await;
        }
        let link: Link = client::post(&self.daemon.control()?, "/v1/console", &()).await?;
        let text = format!(
            "{}\nopens the console as root, once, within {} s\n",
            link.url, link.seconds
        );
        Ok(show(self.json, &link, &text))
    }
}

async fn enrol(daemon: &Daemon, person: String, json: bool) -> anyhow::Result<ExitCode> {
    let asked = Enrol { person };
    let code: Code = client::post(&daemon.control()?, "/v1/console/enrol", &asked).await?;
    let text = format!(
        "{}\nvouches for the first key of {}, once, within {} h\n",
        code.code,
        terminal::line(&asked.person),
        code.seconds / 3_600
    );
    Ok(show(json, &code, &text))
}
