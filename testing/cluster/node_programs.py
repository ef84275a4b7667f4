"""What runs on the real node, and how it is set up: containerd, CNI, the kubelet, kube-proxy, a registry."""

import json
from pathlib import Path
from typing import Any

from testing import tools
from testing.cluster.control_plane import DNS_SERVICE, PODS

ADDRESS = "198.18.100.2"
REGISTRY = "registry.test:5000"
# The registry's only account. It takes bcrypt alone, which the standard library does not have.
USER, PASSWORD = "puller", "s3cret"
_HASH = "$2b$04$qUpiLp9orxXzUpg38HzfM.PD7Dl.U5si2m0t3NAhLSk0BUxfHv/9i"
SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
NAME = "node-1"


def runtime(name: str) -> Path:
    """Return a file of the container runtime's Debian packages."""
    return tools.file("container-runtime", name)


def runtime_path() -> str:
    """Return the PATH on which containerd finds its shim and runc."""
    return f"{runtime('usr/bin/containerd').parent}:{runtime('usr/sbin/runc').parent}:{tools.search_path()}"


def containerd_settings() -> str:
    """Return containerd's configuration (TOML).

    ``restrict_oom_score_adj``: without CAP_SYS_RESOURCE, runc could start no sandbox.
    """
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runtime("usr/sbin/runc")}"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{runtime("usr/lib/cni/bridge").parent}"
    conf_dir = "/etc/cni/net.d"
"""


def network_settings() -> dict[str, Any]:
    """Return the CNI configuration: a bridge for the pods."""
    subnet = f"{PODS.rsplit('.', 2)[0]}.0.0/24"
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "1.0.0", "name": "test", "plugins": [bridge, ports]}


def kubelet_settings(pki: Path, state: Path) -> dict[str, Any]:
    """Return the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": str(state / "resolv.conf"),
        "address": "0.0.0.0",
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
        "failSwapOn": False,
        "nodeStatusUpdateFrequency": "5s",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "makeIPTablesUtilChains": True,
        "shutdownGracePeriod": "0s",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
    }


def proxy_settings(config: Path) -> dict[str, Any]:
    """Return kube-proxy's configuration. The machine's connection tracking can't be set from in here."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": str(config)},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def registry_settings(folder: Path) -> dict[str, Any]:
    """Return the registry's configuration, and write its one account."""
    folder.mkdir(parents=True, exist_ok=True)
    accounts = folder / "htpasswd"
    accounts.write_text(f"{USER}:{_HASH}\n")
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}
    return {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": storage,
        "http": {"addr": ":5000"},
        "auth": {"htpasswd": {"realm": "test", "path": str(accounts)}},
    }


def mirror_settings() -> str:
    """Return where containerd pulls the registry's images from (TOML)."""
    address = f"http://{ADDRESS}:5000"
    return f'server = "{address}"\n[host."{address}"]\n  capabilities = ["pull", "resolve"]\n'


def write_changed(file: Path, content: str | dict[str, Any]) -> Path:
    """Write a file unless it says that already: kube-proxy ends when its own is written."""
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
    return file
