//! `interceptor kubeconfig`: how clients reach a cluster through the daemon, without any credential in it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;

use crate::config::{self, Address, Host};
use crate::protocol::kubernetes::inject::NOBODY;
use crate::tls::CERTIFICATE;

/// Print a kubeconfig without credentials for a cluster.
#[derive(Clone, Debug, Args)]
pub struct Kubeconfig {
    /// The target that is the cluster.
    cluster: String,
    /// The namespace that clients use where they name none.
    #[arg(long)]
    namespace: Option<String>,
    /// The configuration file.
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
}

impl Kubeconfig {
    /// Prints it.
    ///
    /// # Errors
    /// Where there is no such cluster, or the daemon has no authority yet.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let config =
            config::load(&self.config).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        let known = config.targets.get(&self.cluster);
        let Some(target) = known.filter(|target| target.kubernetes().is_some()) else {
            bail!(
                "no target {:?} that is a cluster (`kubernetes`)",
                self.cluster
            );
        };
        let Some(address) = target.addresses.first() else {
            bail!("target {:?} has no address of its own", self.cluster);
        };
        let authority = config.paths.state.join(CERTIFICATE);
        super::print(&self.text(address, &authority)?);
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, address: &Address, authority: &Path) -> anyhow::Result<String> {
        let authority = std::fs::read(authority).with_context(|| {
            let shown = authority.display();
            format!("read {shown}: where it is missing, start the daemon once")
        })?;
        let host = match &address.host {
            Host::Name(name) => name.clone(),
            Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            Host::Ip(ip) => ip.to_string(),
        };
        let mut context = json!({ "cluster": self.cluster, "user": "interceptor" });
        if let (Some(namespace), Some(fields)) = (&self.namespace, context.as_object_mut()) {
            fields.insert("namespace".to_owned(), json!(namespace));
        }
        // JSON is YAML.
        let whole = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": self.cluster,
                "cluster": {
                    "server": format!("https://{host}:{}", address.port),
                    "certificate-authority-data": STANDARD.encode(authority),
                },
            }],
            "contexts": [{ "name": self.cluster, "context": context }],
            "current-context": self.cluster,
            "users": [{ "name": "interceptor", "user": { "token": NOBODY } }],
        });
        Ok(serde_json::to_string_pretty(&whole)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn it_names_the_cluster_and_holds_no_credential() {
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("ca.pem");
        std::fs::write(&authority, "PEM").unwrap();
        let asked = Kubeconfig {
            cluster: "prod".to_owned(),
            namespace: Some("shop".to_owned()),
            config: PathBuf::new(),
        };
        let rows = [
            (
                Host::Name("api.internal".to_owned()),
                "https://api.internal:6443",
            ),
            (Host::Ip("::1".parse().unwrap()), "https://[::1]:6443"),
        ];
        for (host, server) in rows {
            let text = asked
                .text(&Address { host, port: 6443 }, &authority)
                .unwrap();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["clusters"][0]["cluster"]["server"], server);
            assert_eq!(
                read["clusters"][0]["cluster"]["certificate-authority-data"],
                "UEVN"
            );
            assert_eq!(read["contexts"][0]["context"]["namespace"], "shop");
            assert_eq!(
                read["users"][0]["user"],
                json!({ "token": "no-credential" })
            );
        }
        let missing = directory.path().join("none");
        let address = Address {
            host: Host::Name("a".to_owned()),
            port: 1,
        };
        assert!(asked.text(&address, &missing).is_err());
    }
}
