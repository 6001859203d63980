//! What is read of runtimes' files, and what is not believed. The files are as the runtimes write them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn id() -> String {
    "c0".repeat(32)
}

fn write(root: &TempDir, file: &str, value: &Value) {
    let path = root.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// A storage with one container of an image that says something of itself.
fn storage(metadata: &Value, config: &Value) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let container = json!([{
        "id": id(), "names": ["web", "other"], "image": "ab", "metadata": metadata.to_string(),
    }]);
    write(&root, "vfs-containers/containers.json", &container);
    let file = format!("vfs-containers/{}/userdata/config.json", id());
    write(&root, &file, config);
    let images = json!([{ "id": "ab", "digest": "sha256:d1", "names": ["localhost/web:1"] }]);
    write(&root, "vfs-images/images.json", &images);
    let manifest = json!({ "schemaVersion": 2, "annotations": { "of.manifest": "x" } });
    write(&root, "vfs-images/ab/manifest", &manifest);
    let file = format!("vfs-images/ab/={}", STANDARD.encode("sha256:ab"));
    let image = json!({ "config": { "Labels": { "of.config": "y" } } });
    write(&root, &file, &image);
    root
}

/// A token as the kubelet has it, in a directory of its own; who reads it does not verify it.
fn token(root: &TempDir, namespace: &str) -> PathBuf {
    let place = root
        .path()
        .join("pods/u/volumes/kubernetes.io~projected/token-x");
    fs::create_dir_all(place.join("..new")).unwrap();
    let claims = json!({ "kubernetes.io": {
        "namespace": namespace, "pod": { "name": "web-0", "uid": "u" }, "serviceaccount": { "name": "sa" },
    } });
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    fs::write(place.join("..new/token"), format!("e30.{payload}.c2ln")).unwrap();
    std::os::unix::fs::symlink("..new/token", place.join("token")).unwrap();
    place
}

fn mount(source: &Path, option: &str) -> Value {
    json!([{
        "destination": "/var/run/secrets/kubernetes.io/serviceaccount", "source": source,
        "options": ["rbind", option],
    }])
}

#[test]
fn podmans_containers_are_known_with_their_image_and_what_that_says_apart() {
    let metadata = json!({ "image-name": "localhost/web:1", "image-id": "ab", "name": "web" });
    let config = json!({ "annotations": { "of.manifest": "x", "own": "z" } });
    let root = storage(&metadata, &config);
    let kept = find(root.path(), &id()).unwrap();
    let some = |text: &str| Some(text.to_owned());
    let expected = Workload {
        runtime: "podman".to_owned(),
        name: some("web"),
        image: some("localhost/web:1"),
        image_id: some("ab"),
        digest: some("sha256:d1"),
        ..Workload::default()
    };
    assert_eq!(kept.workload, expected);
    assert_eq!(kept.of_image, Some(names(&["of.config", "of.manifest"])));
    assert_eq!(kept.labels.get("own").map(String::as_str), Some("z"));
    let bundle = root
        .path()
        .join(format!("vfs-containers/{}/userdata", id()));
    assert_eq!(of_container(&bundle, &id(), &[]), Ok(Some(kept)));
    let runtimes = Runtimes::at(vec![root.path().to_owned()]);
    assert_eq!(runtimes.named("other"), names(&[&id()]));
    assert_eq!(runtimes.named("web-1"), names(&[]));
}

#[test]
fn a_container_whose_image_cannot_be_read_is_none_whose_labels_are_known() {
    let root = storage(&json!({}), &json!({}));
    fs::remove_file(root.path().join("vfs-images/ab/manifest")).unwrap();
    assert_eq!(find(root.path(), &id()).unwrap().of_image, None);
    fs::remove_file(root.path().join("vfs-containers/containers.json")).unwrap();
    let bundle = root
        .path()
        .join(format!("vfs-containers/{}/userdata", id()));
    let error = of_container(&bundle, &id(), &[]).unwrap_err();
    assert!(error.contains("not in the files of its runtime"), "{error}");
    assert!(of_container(&bundle, "other", &[]).is_err());
    // A bundle of whoever calls a runtime by hand.
    assert_eq!(of_container(Path::new("/b"), "other", &[]), Ok(None));
}

#[test]
fn cri_os_containers_are_known_with_their_pod() {
    let metadata = json!({
        "image-name": "registry.example/web:1", "pod-id": "p", "pod-name": "k8s_web-0", "metadata-name": "app",
    });
    let root = tempfile::tempdir().unwrap();
    let config = json!({
        "annotations": { "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop" },
        "mounts": mount(&token(&root, "shop"), "ro"),
    });
    let storage = storage(&metadata, &config);
    let workload = find(storage.path(), &id()).unwrap().workload;
    assert_eq!(workload.runtime, "cri-o");
    assert_eq!(workload.name.as_deref(), Some("app"));
    assert_eq!(workload.pod.as_deref(), Some("web-0"));
    assert_eq!(workload.namespace.as_deref(), Some("shop"));
    assert_eq!(workload.service_account.as_deref(), Some("sa"));
}

/// The tasks of a containerd with one container.
fn tasks(namespace: &str, config: &Value) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let tasks = root.path().join("io.containerd.runtime.v2.task");
    let file = format!(
        "io.containerd.runtime.v2.task/{namespace}/{}/config.json",
        id()
    );
    write(&root, &file, config);
    (root, tasks)
}

#[test]
fn containerds_pods_are_known_and_what_others_annotate_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let annotations = json!({
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.image-name": "registry.example/web@sha256:d1",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
    });
    let config = |option, namespace| {
        let mounts = mount(&token(&root, namespace), option);
        json!({ "annotations": annotations, "mounts": mounts })
    };
    let (_whole, place) = tasks("k8s.io", &config("ro", "shop"));
    let workload = find(&place, &id()).unwrap().workload;
    assert_eq!(workload.name.as_deref(), Some("app"));
    assert_eq!(workload.digest.as_deref(), Some("sha256:d1"));
    assert_eq!(workload.pod.as_deref(), Some("web-0"));
    assert_eq!(workload.service_account.as_deref(), Some("sa"));
    let (_whole, place) = tasks("default", &json!({ "annotations": annotations }));
    let kept = find(&place, &id()).unwrap();
    assert_eq!(kept.workload.pod, None);
    assert_eq!(kept.workload.image, None);
    assert_eq!(kept.of_image, Some(names(&[])));
}

#[test]
fn a_token_that_the_container_could_have_written_names_no_service_account() {
    let account = |namespace: &str, option: &str, place: Option<&Path>| {
        let root = tempfile::tempdir().unwrap();
        let token = token(&root, namespace);
        let place = place.map_or_else(
            || token.clone(),
            |other| {
                let other = root.path().join(other);
                fs::create_dir_all(&other).unwrap();
                fs::copy(token.join("token"), other.join("token")).unwrap();
                other
            },
        );
        let config = json!({
            "annotations": {
                "io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.sandbox-namespace": "shop",
            },
            "mounts": mount(&place, option),
        });
        let (_whole, place) = tasks("k8s.io", &config);
        find(&place, &id()).unwrap().workload.service_account
    };
    assert_eq!(account("shop", "ro", None).as_deref(), Some("sa"));
    assert_eq!(account("shop", "rw", None), None);
    assert_eq!(account("other", "ro", None), None);
    let empty = Path::new("pods/u/volumes/kubernetes.io~empty-dir/x");
    assert_eq!(account("shop", "ro", Some(empty)), None);
}

#[test]
fn dockers_containers_are_known_with_what_their_image_says_apart() {
    let root = tempfile::tempdir().unwrap();
    let container = json!({
        "ID": id(), "Name": "/web", "Image": "sha256:ab", "Driver": "overlay2",
        "Config": { "Image": "web:1", "Labels": {
            "role": "agent", "io.kubernetes.pod.name": "forged", "io.kubernetes.pod.namespace": "shop",
        } },
    });
    let file = format!("containers/{}/config.v2.json", id());
    write(&root, &file, &container);
    let image = json!({ "config": { "Labels": { "io.kubernetes.pod.name": "forged" } } });
    write(&root, "image/overlay2/imagedb/content/sha256/ab", &image);
    let kept = find(root.path(), &id()).unwrap();
    assert_eq!(kept.workload.name.as_deref(), Some("web"));
    assert_eq!(kept.workload.image.as_deref(), Some("web:1"));
    assert_eq!(kept.workload.image_id.as_deref(), Some("sha256:ab"));
    assert_eq!(kept.workload.namespace.as_deref(), Some("shop"));
    assert_eq!(kept.workload.pod, None);
    assert_eq!(kept.of_image, Some(names(&["io.kubernetes.pod.name"])));
    let bundle = PathBuf::from(format!(
        "/run/containerd/io.containerd.runtime.v2.task/moby/{}",
        id()
    ));
    let data = [root.path().to_owned()];
    assert_eq!(of_container(&bundle, &id(), &data), Ok(Some(kept)));
    assert!(of_container(&bundle, &id(), &[]).is_err());
    fs::remove_dir_all(root.path().join("image")).unwrap();
    let kept = find(root.path(), &id()).unwrap();
    assert_eq!((kept.of_image, kept.workload.namespace), (None, None));
}

#[test]
fn a_file_that_others_can_write_is_not_read() {
    let root = storage(&json!({}), &json!({}));
    let file = root.path().join("vfs-containers/containers.json");
    assert!(find(root.path(), &id()).is_some());
    for mode in [0o620, 0o602] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(find(root.path(), &id()), None, "{mode:o}");
    }
    for odd in ["", "..", "../x", "a/b", "."] {
        assert_eq!(find(root.path(), odd), None, "{odd}");
    }
}

#[test]
fn where_a_hook_ran_is_looked_at_from_then_on() {
    let root = storage(&json!({ "image-name": "i" }), &json!({}));
    let runtimes = Runtimes::at(Vec::new());
    assert_eq!(runtimes.workload(&id()), None);
    runtimes.learn(Path::new("/b"));
    assert_eq!(runtimes.workload(&id()), None);
    let bundle = root
        .path()
        .join(format!("vfs-containers/{}/userdata", id()));
    runtimes.learn(&bundle);
    let workload = runtimes.workload(&id()).unwrap();
    assert_eq!(workload.image.as_deref(), Some("i"));
    // It stays what it was as long as the daemon lives.
    drop(root);
    assert_eq!(runtimes.workload(&id()), Some(workload));
}
