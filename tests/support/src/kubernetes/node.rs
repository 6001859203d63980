//! A node of a throw-away cluster: a real kubelet over Debian's containerd and runc, with one pod on it. Its images are
//! made here of Debian's busybox; its address lies on loopback, and all of it is gone when dropped.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

use super::{ADMIN, Cluster};
use crate::process::{Finished, Process};
use crate::{DEADLINE, place, port, wait};

/// The pod, in the namespace `default`.
pub const POD: &str = "web";
/// Makes images as Docker saves them: a file system of busybox alone, for a pod's sandbox and for what runs in it.
const IMAGES: &str = r#"
import hashlib, io, json, os, shutil, sys, tarfile
os.chdir(sys.argv[1])
os.makedirs("layer/bin"), os.makedirs("layer/tmp"), os.makedirs("layer/etc")
shutil.copy("/bin/busybox", "layer/bin/busybox")
for name in "sh sleep cat echo ls tar nc env id printf stty wc head rm".split():
    os.symlink("busybox", f"layer/bin/{name}")
open("layer/etc/passwd", "w").write("root:x:0:0::/:/bin/sh\n")
with tarfile.open("layer.tar", "w") as layer:
    layer.add("layer", ".")
layer = open("layer.tar", "rb").read()
for name in ("pause", "box"):
    runs = {"Cmd": ["/bin/sleep", "1000000000"], "Env": ["PATH=/bin", f"IMAGE={name}"]}
    layers = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": runs, "rootfs": layers}).encode()
    named = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": named, "RepoTags": [f"localhost/{name}:1"], "Layers": ["l/layer.tar"]}]
    with tarfile.open(name + ".tar", "w") as image:
        for path, data in ((named, config), ("l/layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            image.addfile(entry, io.BytesIO(data))
"#;
/// Where the runtime keeps what, for a host that lets nobody lower its score of the killer of processes.
const RUNTIME: &str = r#"version = 2
root = "PLACE/images"
state = "PLACE/state"
[grpc]
  address = "PLACE/containerd.sock"
[ttrpc]
  address = "PLACE/containerd.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "PLACE/cni"
    conf_dir = "PLACE/cni"
"#;

/// A running node. Fields are dropped in order, after what runs in it.
pub struct Node {
    kubelet: Process,
    containerd: Process,
    address: Ipv4Addr,
    served: u16,
    directory: TempDir,
}

impl Node {
    /// Starts one with its pod, which says `started`, echoes what comes to [`Node::served`], and stays.
    ///
    /// # Errors
    /// When the programs are missing, or the pod does not come to run.
    pub fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let directory = place::temporary("node")?;
        // As a port that was free is nobody else's for a while, so is what is made of it.
        let [high, low] = port::free()?.port().to_be_bytes();
        // Set aside for measurements (RFC 2544): nobody's.
        let address = Ipv4Addr::new(198, 18, high, low);
        ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
        let started = runtime(&directory).and_then(|containerd| {
            let kubelet = kubelet(cluster, &directory, address)?;
            Ok((containerd, kubelet))
        });
        let (containerd, kubelet) = match started {
            Ok(started) => started,
            Err(error) => {
                drop(ip(&["addr", "del", &format!("{address}/32"), "dev", "lo"]));
                return Err(error);
            }
        };
        let node = Self {
            kubelet,
            containerd,
            address,
            served: port::free()?.port(),
            directory,
        };
        node.run(cluster)
            .with_context(|| format!("{}{}", node.containerd.log(), node.kubelet.log()))?;
        Ok(node)
    }

    /// The port at which the pod answers with what it is sent.
    #[must_use]
    pub fn served(&self) -> u16 {
        self.served
    }

    fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        wait::for_fact("the node", DEADLINE, || {
            let asked = cluster.kubectl(&["get", "node", &self.name()])?;
            Ok(asked.status.success().then_some(()))
        })?;
        let runs = format!(
            "echo started; while true; do nc -l -p {} -e cat; done",
            self.served
        );
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD, "namespace": "default" },
            "spec": {
                "nodeName": self.name(), "hostNetwork": true, "automountServiceAccountToken": false,
                "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{
                    "name": "app", "image": "localhost/box:1", "imagePullPolicy": "Never",
                    "command": ["sh", "-c", runs],
                }],
            },
        });
        cluster.apply(&pod.to_string())?;
        wait::for_fact("the pod", DEADLINE, || {
            let phase = ["get", "pod", POD, "-o", "jsonpath={.status.phase}"];
            Ok((cluster.kubectl(&phase)?.stdout == "Running").then_some(()))
        })
    }

    fn name(&self) -> String {
        name(self.address)
    }

    fn ctr(&self, words: &[&str]) -> anyhow::Result<Finished> {
        ctr(&self.directory, words)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        use nix::sys::signal::Signal::SIGKILL;
        // Nothing starts its containers again.
        self.kubelet.signal(SIGKILL);
        drop(self.kubelet.finish(DEADLINE));
        let tasks = self.ctr(&["tasks", "ls", "-q"]).map(|tasks| tasks.stdout);
        for task in tasks.iter().flat_map(|tasks| tasks.lines()) {
            drop(self.ctr(&["tasks", "delete", "--force", task]));
        }
        self.containerd.signal(SIGKILL);
        drop(self.containerd.finish(DEADLINE));
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let own = self.directory.path().display().to_string();
        for mount in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1))
        {
            if mount.starts_with(&own) {
                let lazily = nix::mount::MntFlags::MNT_DETACH;
                nix::mount::umount2(mount, lazily).unwrap_or(());
            }
        }
        drop(ip(&[
            "addr",
            "del",
            &format!("{}/32", self.address),
            "dev",
            "lo",
        ]));
    }
}

/// A program's command, with a clean environment.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/");
    command
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    let mut ip = command("ip");
    ip.args(words);
    Process::run(ip, DEADLINE)?.ok().map(drop)
}

fn name(address: Ipv4Addr) -> String {
    format!("node-{address}")
}

fn ctr(directory: &TempDir, words: &[&str]) -> anyhow::Result<Finished> {
    let mut ctr = command("ctr");
    ctr.arg("--address")
        .arg(directory.path().join("containerd.sock"))
        .args(["--namespace", "k8s.io"])
        .args(words);
    Process::run(ctr, DEADLINE)
}

/// The runtime, with the images.
fn runtime(directory: &TempDir) -> anyhow::Result<Process> {
    let path = directory.path().display().to_string();
    let mut images = command("/usr/bin/python3");
    images.args(["-c", IMAGES, &path]);
    Process::run(images, DEADLINE)?
        .ok()
        .context("make images of /bin/busybox (Debian's busybox-static)")?;
    let settings = directory.path().join("containerd.toml");
    fs::write(&settings, RUNTIME.replace("PLACE", &path))?;
    let mut containerd = command("containerd");
    containerd.arg("--config").arg(settings);
    let containerd = Process::start(containerd)?;
    wait::for_fact("containerd", DEADLINE, || {
        Ok(ctr(directory, &["version"])?.status.success().then_some(()))
    })?;
    for image in ["pause.tar", "box.tar"] {
        let image = directory.path().join(image).display().to_string();
        let import = ["images", "import", "--snapshotter", "native", &image];
        ctr(directory, &import)?.ok()?;
    }
    Ok(containerd)
}

fn kubelet(cluster: &Cluster, directory: &TempDir, address: Ipv4Addr) -> anyhow::Result<Process> {
    let at = |file: &str| directory.path().join(file).display().to_string();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": {
            "server": format!("https://{}", cluster.address),
            "certificate-authority": cluster.authority.ca,
        } }],
        "users": [{ "name": "it", "user": { "token": ADMIN } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    fs::write(at("kubeconfig"), kubeconfig.to_string())?;
    let program = place::kubernetes()?.join("kubelet");
    let mut kubelet = command(&program.display().to_string());
    kubelet.args([
        format!("--kubeconfig={}", at("kubeconfig")),
        "--container-runtime=remote".to_owned(),
        format!(
            "--container-runtime-endpoint=unix://{}",
            at("containerd.sock")
        ),
        format!("--image-service-endpoint=unix://{}", at("containerd.sock")),
        format!("--root-dir={}", at("kubelet")),
        format!("--cert-dir={}", at("certificates")),
        format!("--hostname-override={}", name(address)),
        format!("--node-ip={address}"),
        format!("--address={address}"),
        format!("--port={}", port::free()?.port()),
        "--anonymous-auth=true".to_owned(),
        "--authorization-mode=AlwaysAllow".to_owned(),
        "--read-only-port=0".to_owned(),
        "--healthz-port=0".to_owned(),
        "--fail-swap-on=false".to_owned(),
        "--cgroups-per-qos=false".to_owned(),
        "--enforce-node-allocatable=".to_owned(),
        "--eviction-hard=".to_owned(),
        "--image-gc-high-threshold=100".to_owned(),
        "--resolv-conf=".to_owned(),
    ]);
    Process::start(kubelet)
}
