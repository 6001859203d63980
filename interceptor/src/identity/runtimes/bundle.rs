//! Bundles: what a runtime is told of a container (OCI runtime specification, "Filesystem Bundle").

use std::collections::{BTreeMap, BTreeSet};
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
    #[serde(default)]
    process: Process,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    no_new_privileges: bool,
    #[serde(default)]
    capabilities: Option<Capabilities>,
}

/// Each set by the names of what is in it.
#[derive(Debug, Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    bounding: Vec<String>,
    #[serde(default)]
    effective: Vec<String>,
    #[serde(default)]
    permitted: Vec<String>,
    #[serde(default)]
    inheritable: Vec<String>,
    #[serde(default)]
    ambient: Vec<String>,
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

    /// The capabilities that its processes may hold, without `CAP_`: what they have not, they get from a file only
    /// without `no_new_privs`.
    pub(super) fn capabilities(&self) -> BTreeSet<String> {
        let Process {
            no_new_privileges,
            capabilities,
        } = &self.process;
        let Some(Capabilities {
            bounding,
            effective,
            permitted,
            inheritable,
            ambient,
        }) = capabilities
        else {
            return BTreeSet::new();
        };
        let bounding = bounding.iter().filter(|_| !no_new_privileges);
        let held = [effective, permitted, inheritable, ambient];
        let held = held.into_iter().flatten().chain(bounding);
        let plain = held.map(|name| name.to_ascii_uppercase());
        plain
            .map(|name| name.trim_start_matches("CAP_").to_owned())
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_may_hold_what_they_have_and_what_files_give_them() {
        let may = |process: &str| {
            let config: Config =
                serde_json::from_str(&format!(r#"{{"process":{process}}}"#)).unwrap();
            let held: Vec<_> = config.capabilities().into_iter().collect();
            held.join(" ")
        };
        let sets = r#""bounding":["CAP_NET_ADMIN","CAP_CHOWN"],"permitted":["CAP_CHOWN"]"#;
        let bound = format!(r#"{{"noNewPrivileges":true,"capabilities":{{{sets}}}}}"#);
        assert_eq!(
            may(&format!(r#"{{"capabilities":{{{sets}}}}}"#)),
            "CHOWN NET_ADMIN"
        );
        assert_eq!(may(&bound), "CHOWN");
        for none in ["{}", r#"{"capabilities":{}}"#, r#"{"capabilities":null}"#] {
            assert_eq!(may(none), "", "{none}");
        }
        let ambient = r#"{"noNewPrivileges":true,"capabilities":{"ambient":["CAP_NET_RAW"]}}"#;
        assert_eq!(may(ambient), "NET_RAW");
    }
}
