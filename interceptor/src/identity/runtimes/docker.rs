//! Docker: `containers/ID/config.v2.json`, and images' configurations in `image/DRIVER/imagedb`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{Kept, directories, read};
use crate::identity::Workload;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    name: String,
    /// The id of its image.
    image: String,
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// An image's configuration (OCI image specification).
#[derive(Debug, Deserialize)]
pub(super) struct Image {
    #[serde(default)]
    config: Option<ImageConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Image {
    /// The names of its labels.
    pub(super) fn labels(self) -> BTreeSet<String> {
        let labels = self.config.and_then(|config| config.labels);
        labels.unwrap_or_default().into_keys().collect()
    }
}

pub(super) fn find(place: &Path, id: &str) -> Option<Kept> {
    let file = place.join("containers").join(id).join("config.v2.json");
    let container: Container = read(&file)?;
    let of_image = labels_of_image(place, &container.image);
    let labels = container.config.labels.unwrap_or_default();
    // By what an image says of itself it is in no pod.
    let said = |name: &str| {
        let is_of_image = of_image.as_ref().is_none_or(|own| own.contains(name));
        (!is_of_image).then(|| labels.get(name).cloned()).flatten()
    };
    let name = container.name.trim_start_matches('/').to_owned();
    let workload = Workload {
        runtime: "docker".to_owned(),
        name: said("io.kubernetes.container.name").or(Some(name)),
        image: Some(container.config.image),
        image_id: Some(container.image),
        pod: said("io.kubernetes.pod.name"),
        namespace: said("io.kubernetes.pod.namespace"),
        ..Workload::default()
    };
    Some(Kept {
        workload,
        labels,
        of_image,
    })
}

fn labels_of_image(place: &Path, id: &str) -> Option<BTreeSet<String>> {
    let digest = id.strip_prefix("sha256:")?;
    let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut drivers = is_digest.then(|| directories(&place.join("image")))?;
    let image = drivers
        .find_map(|(_, driver)| read::<Image>(&driver.join("imagedb/content/sha256").join(digest)));
    image.map(Image::labels)
}

pub(super) fn names(place: &Path) -> Vec<(String, String)> {
    let all = directories(&place.join("containers")).filter_map(|(id, path)| {
        let container: Container = read(&path.join("config.v2.json"))?;
        let name = container.name.trim_start_matches('/').to_owned();
        Some((id, name))
    });
    all.collect()
}
