"""A cluster's own authorities, its certificates and kubeconfigs, made with openssl."""

import base64
import json
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

DAYS = "365"


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for. ``authority`` is the name of the one that signs it."""

    name: str
    common_name: str
    organization: str = ""
    hosts: str = ""
    authority: str = "ca"


COMPONENTS = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


def _subjects(address: str, service: str) -> list[Subject]:
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names = [f"DNS:{name}" for name in ("localhost", *kubernetes, "kubernetes.default.svc.cluster.local")]
    addresses = [f"IP:{ip}" for ip in dict.fromkeys(("127.0.0.1", address, service))]
    node = f"DNS:node-1,DNS:localhost,IP:127.0.0.1,IP:{address}"
    return [
        Subject("apiserver", "kube-apiserver", hosts=",".join(names + addresses)),
        Subject("admin", "kubernetes-admin", "system:masters"),
        Subject("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Subject("kube-controller-manager", "system:kube-controller-manager"),
        Subject("kube-scheduler", "system:kube-scheduler"),
        Subject("kube-proxy", "system:kube-proxy"),
        Subject("kubelet", "system:node:node-1", "system:nodes", node),
        Subject("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
    ]


def make(folder: Path, address: str, service: str) -> None:
    """Make all keys and certificates, for an API server at ``address`` whose Service is at ``service``."""
    done = folder / "done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _authority(folder, name), ("ca", "front-proxy-ca")))
        signed = [pool.submit(_certificate, folder, subject) for subject in _subjects(address, service)]
        signed.append(pool.submit(_account_key, folder))
        for future in signed:
            future.result()
    done.touch()


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=120)


def _authority(folder: Path, name: str) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,digitalSignature", "-subj", f"/CN={name}")
    files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
    _openssl("req", "-x509", *curve, "-days", DAYS, *usage, *files)


def _certificate(folder: Path, subject: Subject) -> None:
    key, request, extensions = (folder / f"{subject.name}.{end}" for end in ("key", "csr", "ext"))
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    organization = f"/O={subject.organization}" if subject.organization else ""
    _openssl("req", "-new", "-key", key, "-subj", f"{organization}/CN={subject.common_name}", "-out", request)
    lines = [
        "basicConstraints=CA:FALSE",
        "keyUsage=digitalSignature",
        "extendedKeyUsage=clientAuth,serverAuth",
    ]
    if subject.hosts:
        lines.append(f"subjectAltName={subject.hosts}")
    extensions.write_text("\n".join(lines) + "\n")
    signer = ("-CA", folder / f"{subject.authority}.crt", "-CAkey", folder / f"{subject.authority}.key")
    serial = ("-set_serial", f"0x{secrets.token_hex(8)}", "-days", DAYS, "-extfile", extensions)
    _openssl("x509", "-req", "-in", request, *signer, *serial, "-out", folder / f"{subject.name}.crt")


def _account_key(folder: Path) -> None:
    _openssl("genrsa", "-out", folder / "sa.key", "2048")
    _openssl("rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")


def kubeconfig(folder: Path, user: str, server: str, target: Path) -> None:
    """Write a kubeconfig for ``server`` with the certificate of ``user``, as JSON, which is YAML too."""

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
    credentials = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(document))
    part.rename(target)
