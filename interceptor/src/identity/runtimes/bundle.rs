//! Bundles: what a runtime is told of a container (OCI runtime specification, "Filesystem Bundle").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::read;
use crate::identity::Workload;

/// Where the token of a pod's service account is mounted.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// In which directory the kubelet makes it.
const PROJECTED: &str = "/volumes/kubernetes.io~projected/";

/// `config.json`, as far as it is of use here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    destination: String,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// What the token of a service account says of itself.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Debug, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Named,
    #[serde(default)]
    pod: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl Config {
    pub(super) fn of(bundle: &Path) -> Option<Self> {
        read(&bundle.join("config.json"))
    }

    pub(super) fn annotation(&self, name: &str) -> Option<String> {
        self.annotations.get(name).cloned()
    }

    /// The pod's service account: whose token the kubelet has put into the container, read-only. The token is
    /// not verified: it lies where only the kubelet writes.
    pub(super) fn service_account(&self, workload: &Workload) -> Option<String> {
        let mut mounts = self.mounts.iter();
        let mount = mounts.find(|mount| mount.destination == SERVICE_ACCOUNT)?;
        let is_projected = mount.source.to_str()?.contains(PROJECTED);
        if !is_projected || !mount.options.iter().any(|option| option == "ro") {
            return None;
        }
        let token = Zeroizing::new(super::text(&mount.source.join("token"))?);
        let payload = token.split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok();
        let payload = Zeroizing::new(payload?);
        let Claims { kubernetes: bound } = serde_json::from_slice(&payload).ok()?;
        let is_of_pod = bound.pod.is_none_or(|pod| Some(pod.name) == workload.pod);
        let is_its = Some(bound.namespace) == workload.namespace && is_of_pod;
        is_its.then_some(bound.serviceaccount.name)
    }
}
