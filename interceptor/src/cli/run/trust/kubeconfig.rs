//! kubeconfig files: a cluster that names who signs for its server is told of the daemon's authority besides.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// A bundle in the file itself, and the name of one.
const DATA: &str = "certificate-authority-data";
const FILE: &str = "certificate-authority";

/// The file with the authority's certificate (PEM) in each cluster's bundle, as JSON, which all read who read YAML; none
/// where there is nothing to be told. `read` opens the bundles that it names.
pub(super) fn with(
    content: &[u8],
    certificate: &str,
    read: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, &'static str> {
    const BROKEN: &str = "it is no kubeconfig that is read here";
    let text = std::str::from_utf8(content).map_err(|_bytes| BROKEN)?;
    let mut config: Value = serde_saphyr::from_str(text).map_err(|_no_yaml| BROKEN)?;
    let clusters = config.get_mut("clusters").and_then(Value::as_array_mut);
    let mut is_changed = false;
    for cluster in clusters.into_iter().flatten() {
        let Some(cluster) = cluster.get_mut("cluster").and_then(Value::as_object_mut) else {
            continue;
        };
        let own = match (cluster.get(DATA), cluster.get(FILE)) {
            (Some(Value::String(data)), _) => BASE64_STANDARD.decode(data.trim()).ok(),
            (_, Some(Value::String(path))) => read(path),
            // It goes by the host's store.
            _ => continue,
        };
        let mut bundle = own.ok_or("a cluster's bundle of certificates cannot be read")?;
        // What a path leads to is shown only where it is a bundle.
        match super::with(&bundle, certificate)? {
            Some(made) => bundle = made,
            None => continue,
        }
        cluster.remove(FILE);
        cluster.insert(DATA.to_owned(), json!(BASE64_STANDARD.encode(bundle)));
        is_changed = true;
    }
    let made = is_changed.then(|| serde_json::to_vec_pretty(&config));
    made.transpose().map_err(|_impossible| BROKEN)
}
