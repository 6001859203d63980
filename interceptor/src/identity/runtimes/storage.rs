//! The storage that Podman and CRI-O share (containers/storage): `DRIVER-containers/containers.json` and
//! `DRIVER-images/images.json`, and a bundle for each container below the former.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::bundle::Config;
use super::docker::Image;
use super::{Kept, directories, read};
use crate::identity::Workload;

/// What directories of containers are called, behind the driver's name.
const CONTAINERS: &str = "-containers";

/// A container in `containers.json`.
#[derive(Debug, Deserialize)]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    metadata: String,
}

/// What Podman and CRI-O write into `metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    #[serde(default)]
    image_name: Option<String>,
    /// CRI-O's alone.
    #[serde(default)]
    pod_id: Option<String>,
    #[serde(default)]
    pod_name: Option<String>,
    /// The container's own name in its pod.
    #[serde(default)]
    metadata_name: Option<String>,
}

/// An image in `images.json`.
#[derive(Debug, Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    digest: Option<String>,
}

/// An image's manifest (OCI image specification).
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

pub(super) fn place_of(bundle: &Path) -> Option<(&Path, &str)> {
    let own = bundle.parent()?;
    let containers = own.parent()?;
    let is_storage = containers.file_name()?.to_str()?.ends_with(CONTAINERS);
    let is_bundle = bundle.file_name()? == "userdata";
    (is_storage && is_bundle).then_some((containers.parent()?, own.file_name()?.to_str()?))
}

/// The directories of containers, one for each driver that is or was in use.
fn all(place: &Path) -> impl Iterator<Item = (PathBuf, Vec<Container>)> {
    let drivers = directories(place).filter(|(name, _)| name.ends_with(CONTAINERS));
    drivers.filter_map(|(_, path)| {
        let all = read(&path.join("containers.json"))?;
        Some((path, all))
    })
}

pub(super) fn find(place: &Path, id: &str) -> Option<Kept> {
    let mut found = all(place).filter_map(|(path, containers)| {
        let found = containers
            .into_iter()
            .find(|container| container.id == id)?;
        Some((path, found))
    });
    let (path, container) = found.next()?;
    let metadata = serde_json::from_str(&container.metadata).unwrap_or_default();
    let config = Config::of(&path.join(id).join("userdata")).unwrap_or_default();
    let mut workload = workload(&container, metadata, &config);
    let images = path.to_str()?.strip_suffix(CONTAINERS)?;
    let images = PathBuf::from(format!("{images}-images"));
    let stored: Option<Vec<Stored>> = read(&images.join("images.json"));
    let mut stored = stored.into_iter().flatten();
    let own = stored.find(|image| image.id == container.image);
    workload.digest = own.and_then(|image| image.digest);
    Some(Kept {
        workload,
        labels: config.annotations,
        of_image: of_image(&images, &container.image),
    })
}

fn workload(container: &Container, metadata: Metadata, config: &Config) -> Workload {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut workload = Workload {
        runtime: "podman".to_owned(),
        name: container.names.first().cloned(),
        image: metadata.image_name,
        image_id: some(&container.image),
        ..Workload::default()
    };
    if metadata.pod_id.is_some() {
        let said = |name: &str| config.annotation(&format!("io.kubernetes.{name}"));
        "cri-o".clone_into(&mut workload.runtime);
        workload.name = metadata.metadata_name.or_else(|| said("container.name"));
        workload.pod = said("pod.name").or(metadata.pod_name);
        workload.namespace = said("pod.namespace");
        workload.service_account = config.service_account(&workload);
    }
    workload
}

/// The names of an image's labels and of its manifest's annotations; Podman makes the latter the container's.
fn of_image(images: &Path, id: &str) -> Option<BTreeSet<String>> {
    if id.is_empty() {
        // A root file system that is no image's.
        return Some(BTreeSet::new());
    }
    let is_id = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let own = is_id.then(|| images.join(id))?;
    let manifest: Manifest = read(&own.join("manifest"))?;
    // Keys that would make odd names of files are written so.
    let config = format!("={}", STANDARD.encode(format!("sha256:{id}")));
    let config: Image = read(&own.join(config))?;
    let annotations = manifest.annotations.unwrap_or_default().into_keys();
    Some(annotations.chain(config.labels()).collect())
}

pub(super) fn names(place: &Path) -> Vec<(String, String)> {
    let containers = all(place).flat_map(|(_, containers)| containers);
    let named = containers.flat_map(|Container { id, names, .. }| {
        names.into_iter().map(move |name| (id.clone(), name))
    });
    named.collect()
}
