//! containerd: a bundle for each container, by namespace (`io.containerd.runtime.v2.task/NAMESPACE/ID`). What
//! Kubernetes says of it is in the bundle's annotations (`io.kubernetes.cri.…`).

use std::collections::BTreeSet;
use std::path::Path;

use super::bundle::Config;
use super::{Kept, directories};
use crate::identity::Workload;

/// What the directory is called.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// The namespace of Kubernetes' containers: elsewhere annotations are what a user says.
const KUBERNETES: &str = "k8s.io";
/// The namespace of Docker's, which Docker itself tells more of.
const DOCKER: &str = "moby";

pub(super) fn place_of(bundle: &Path) -> Option<(&Path, &str)> {
    let place = bundle.parent()?.parent()?;
    is_place(place).then_some((place, bundle.file_name()?.to_str()?))
}

/// Whether Docker keeps what there is to know of it.
pub(super) fn is_dockers(bundle: &Path) -> bool {
    let namespace = bundle.parent().and_then(Path::file_name);
    place_of(bundle).is_some() && namespace.is_some_and(|name| name == DOCKER)
}

fn is_place(place: &Path) -> bool {
    place.file_name().is_some_and(|name| name == TASKS)
}

pub(super) fn find(place: &Path, id: &str) -> Option<Kept> {
    if !is_place(place) {
        return None;
    }
    let namespaces = directories(place).filter(|(name, _)| name != DOCKER);
    let mut found = namespaces.filter_map(|(namespace, path)| {
        let config = Config::of(&path.join(id))?;
        Some(kept(&namespace, id, config))
    });
    found.next()
}

fn kept(namespace: &str, id: &str, config: Config) -> Kept {
    let mut workload = Workload {
        runtime: "containerd".to_owned(),
        name: config
            .annotation("nerdctl/name")
            .or_else(|| Some(id.to_owned())),
        ..Workload::default()
    };
    if namespace == KUBERNETES {
        let said = |name: &str| config.annotation(&format!("io.kubernetes.cri.{name}"));
        workload.name = said("container-name");
        workload.image = said("image-name");
        workload.digest = workload.image.as_deref().and_then(digest);
        workload.pod = said("sandbox-name");
        workload.namespace = said("sandbox-namespace");
        workload.service_account = config.service_account(&workload);
    }
    Kept {
        workload,
        labels: config.annotations,
        // It takes nothing over from images.
        of_image: Some(BTreeSet::new()),
    }
}

/// The digest, where an image is named by it.
fn digest(image: &str) -> Option<String> {
    let (_, digest) = image.split_once('@')?;
    Some(digest.to_owned())
}

pub(super) fn names(place: &Path) -> Vec<(String, String)> {
    if !is_place(place) {
        return Vec::new();
    }
    let namespaces = directories(place).filter(|(name, _)| name != DOCKER);
    let all = namespaces.flat_map(|(namespace, path)| {
        directories(&path).filter_map(move |(id, bundle)| {
            let name = kept(&namespace, &id, Config::of(&bundle)?).workload.name?;
            Some((id, name))
        })
    });
    all.collect()
}
