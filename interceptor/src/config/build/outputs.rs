//! Where the lines of the audit go besides: each output by its name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{From, flag, map, text, texts};
use crate::config::document::Node;
use crate::config::mistake::Report;
use crate::config::{Address, Config, Host, SecretSource, Url, scalar};

/// An output of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which events, by name or how that begins (`request`); all where there are none.
    pub events: Vec<String>,
    /// In which form. Default `Json`.
    pub format: OutputFormat,
    /// Where to.
    pub to: OutputTo,
}

/// In which form lines go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// As they stand in the log.
    Json,
    /// As events of OCSF.
    Ocsf,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTo {
    /// The daemon's standard output.
    Stdout,
    /// A file, which is appended to.
    File(PathBuf),
    /// A receiver of syslog over TLS.
    Syslog {
        /// Where it is.
        address: Address,
        /// Trusted roots, PEM; the host's own where it is absent.
        ca: Option<PathBuf>,
    },
    /// A collector of OpenTelemetry.
    Otlp {
        /// Where it is.
        web: OutputWeb,
        /// What it is shown (`Authorization: Bearer`).
        token: Option<SecretSource>,
    },
    /// A receiver that checks signatures.
    Webhook {
        /// Where it is.
        web: OutputWeb,
        /// What it shares with the daemon.
        secret: SecretSource,
    },
}

impl OutputTo {
    /// Where the daemon dials for it, if anywhere.
    #[must_use]
    pub const fn at(&self) -> Option<(&Host, u16)> {
        match self {
            Self::Stdout | Self::File(_) => None,
            Self::Syslog { address, .. } => Some((&address.host, address.port)),
            Self::Otlp { web, .. } | Self::Webhook { web, .. } => Some(web.url.at()),
        }
    }
}

/// A receiver of the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputWeb {
    /// Its address.
    pub url: Url,
    /// Trusted roots, PEM; the host's own where it is absent.
    pub ca: Option<PathBuf>,
    /// Whether it may be spoken to without TLS, on a loopback address.
    pub allow_http: bool,
}

impl From<'_> {
    /// The outputs below `audit`.
    pub(in crate::config) fn outputs(&self, node: Option<&Node>) -> BTreeMap<String, Output> {
        let entries = node.map(|node| map(node, "outputs")).unwrap_or_default();
        let outputs = entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), self.output(&entry.node)?)));
        outputs.collect()
    }

    fn output(&self, node: &Node) -> Option<Output> {
        let format = match text(Some(node), "format").as_deref() {
            Some("ocsf") => OutputFormat::Ocsf,
            _ => OutputFormat::Json,
        };
        let to = node.under("to")?;
        let (key, under) = to
            .entries()
            .first()
            .map(|entry| (entry.key.as_str(), &entry.node))?;
        Some(Output {
            events: texts(node, "events"),
            format,
            to: match key {
                "stdout" => OutputTo::Stdout,
                "file" => OutputTo::File(self.path(Some(to), "file")?),
                "syslog" => OutputTo::Syslog {
                    address: scalar::address(&text(Some(under), "address")?).ok()?,
                    ca: self.path(Some(under), "ca"),
                },
                "otlp" => OutputTo::Otlp {
                    web: self.web(under)?,
                    token: under.under("token").and_then(|node| self.secret(node)),
                },
                "webhook" => OutputTo::Webhook {
                    web: self.web(under)?,
                    secret: self.secret(under.under("secret")?)?,
                },
                _ => return None,
            },
        })
    }

    fn web(&self, node: &Node) -> Option<OutputWeb> {
        Some(OutputWeb {
            url: Url::read(&text(Some(node), "url")?).ok()?,
            ca: self.path(Some(node), "ca"),
            allow_http: flag(node, "allow_http", false),
        })
    }
}

/// What is wrong between the keys of outputs.
pub(in crate::config) fn cross(root: &Node, config: &Config, report: &mut Report) {
    let audit = root.under("audit");
    for entry in audit.map(|node| map(node, "outputs")).unwrap_or_default() {
        let output = config.audit.outputs.get(&entry.key);
        let Some(OutputTo::Otlp { web, .. } | OutputTo::Webhook { web, .. }) =
            output.map(|output| &output.to)
        else {
            continue;
        };
        if let Err(expected) = web.url.may_be_spoken_to(web.allow_http) {
            let key = format!("audit.outputs.{}.to", entry.key);
            report.add(entry.node.place, &key, expected);
        }
    }
}
