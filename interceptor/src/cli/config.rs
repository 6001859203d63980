//! `interceptor config schema`: what a configuration file, or a request for a grant, may say, for editors and for whoever checks
//! one before it is rolled out. Needs no daemon and no root; `doctor` checks a file with its host.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config;
use crate::control::api;

/// Know the format of the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Print the JSON Schema of the configuration file.
    Schema {
        /// That of a request for a grant instead, which is also the form in a refusal's hint.
        #[arg(long)]
        request: bool,
    },
}

impl Config {
    /// Carries the command out, on standard output.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Schema { request: true } => super::print(api::REQUEST_SCHEMA),
            Self::Schema { request: false } => super::print(&config::json_schema()?),
        }
        Ok(ExitCode::SUCCESS)
    }
}
