"""A host's own layer over the image: what makes it this host and no other."""

import json
import os
import shutil
import stat
import uuid
from pathlib import Path

from testing.lab.processes import LabError, run
from testing.lab.record import Host, LabFolder, Record
from testing.lab.settings import GATEWAY, PROXY_PORT, sources_list

_GUEST = Path(__file__).parent / "guest"
_PROXY = f"http://{GATEWAY}:{PROXY_PORT}"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_FIRST_BUS = 0x3B
_STAND_INS_UNIT = """\
[Unit]
Description=Stand-ins for the kernel settings and devices that a test host does not have
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/lab/stand_ins
"""


class _Layer:
    """A folder that is mounted over ``lower`` and hides what it has as well."""

    def __init__(self, folder: Path, lower: Path) -> None:
        self.folder, self.lower = folder, lower
        folder.mkdir()
        folder.chmod(0o755)

    def put(self, path: str, text: str, mode: int = 0o644, owner: int = 0) -> None:
        """Write a file, and make the folders that it lies in."""
        file = self.folder / path
        self._make(file.parent, owner)
        file.write_text(text)
        file.chmod(mode)
        os.chown(file, owner, owner)

    def _make(self, folder: Path, owner: int) -> None:
        if folder.exists():
            return
        self._make(folder.parent, owner)
        folder.mkdir()
        below = self.lower / folder.relative_to(self.folder)
        if below.is_dir():  # its mode and owner are hidden by this one's
            found = below.stat()
            folder.chmod(stat.S_IMODE(found.st_mode))
            os.chown(folder, found.st_uid, found.st_gid)
        else:
            folder.chmod(0o700 if folder.name == ".ssh" else 0o755)
            os.chown(folder, owner, owner)


def clone(lab: LabFolder, record: Record, host: Host) -> None:
    """Give a host a layer of its own on the image, and an SSH key; what it had before is gone.

    Raises LabError where the kept layer that it starts from does not exist.
    """
    folder = lab.host(host.name)
    if host.layer and not lab.settings.layer(host.layer).is_dir():
        raise LabError(f"no layer {host.layer!r}: `save HOST {host.layer}` makes one")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("work", "root"):
        (folder / name).mkdir(parents=True)
    layer = _Layer(folder / "upper", record.image)
    _put_identity(layer, lab, host)
    _put_packaging(layer, lab, record.net)
    _put_stand_ins(layer, host)


def make_key(file: Path, comment: str) -> None:
    """Make an SSH key pair without a passphrase; nothing happens where the file exists."""
    if not file.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file)


def _put_identity(layer: _Layer, lab: LabFolder, host: Host) -> None:
    """Who may log in, and what the host is known by."""
    public = lab.key.with_suffix(".pub").read_text()
    users = (line.split(":") for line in (layer.lower / "etc/passwd").read_text().splitlines())
    deploy = next(int(fields[2]) for fields in users if fields[0] == "deploy")
    layer.put("root/.ssh/authorized_keys", public, 0o600)
    layer.put("home/deploy/.ssh/authorized_keys", public, 0o600, deploy)
    key = lab.host(host.name) / "hostkey"
    make_key(key, host.name)
    host.hostkey = key.with_suffix(".pub").read_text().strip()
    layer.put("etc/ssh/ssh_host_ed25519_key", key.read_text(), 0o600)
    layer.put("etc/ssh/ssh_host_ed25519_key.pub", host.hostkey + "\n")
    layer.put("etc/ssh/sshd_config.d/lab.conf", "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n")
    layer.put("etc/hostname", host.name + "\n")
    layer.put("etc/machine-id", uuid.uuid4().hex + "\n", 0o444)
    layer.put("etc/resolv.conf", "")


def _put_packaging(layer: _Layer, lab: LabFolder, net: str) -> None:
    """Where apt and pip look: at the lab's proxy, or nowhere."""
    layer.put("etc/apt/sources.list", sources_list(lab.settings))
    if net == "none":
        return
    layer.put(
        "etc/apt/apt.conf.d/01lab",
        f'Acquire::http::Proxy "{_PROXY}";\nAcquire::Languages "none";\nAcquire::Retries "2";\n'
        'Dpkg::Options { "--force-unsafe-io"; };\n',
    )
    if lab.settings.wheels or net == "offline":
        pip = f"no-index = true\nfind-links = {_PROXY}/wheels/\ntrusted-host = {GATEWAY}\n"
    else:
        pip = f"proxy = {_PROXY}\ncert = /etc/ssl/certs/lab-ca.crt\n"
        layer.put("etc/ssl/certs/lab-ca.crt", _AUTHORITIES.read_text())
    layer.put("etc/pip.conf", f"[global]\n{pip}")


def _put_stand_ins(layer: _Layer, host: Host) -> None:
    """Kernel settings that belong to this machine, and GPUs where there are none."""
    gpus = [
        {
            "index": index,
            "name": host.gpu_name,
            "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, host.name + str(index))}",
            "bus": f"0000:{_FIRST_BUS + index:02x}:00.0",
            "memory": host.gpu_mem,
            "driver": host.gpu_driver,
        }
        for index in range(host.gpus)
    ]
    layer.put("etc/lab/gpus.json", json.dumps(gpus))
    layer.put("usr/local/lib/lab/stand_ins", (_GUEST / "stand_ins.py").read_text(), 0o755)
    if gpus:
        layer.put("usr/local/bin/nvidia-smi", (_GUEST / "nvidia_smi.py").read_text(), 0o755)
    layer.put("etc/systemd/system/lab-stand-ins.service", _STAND_INS_UNIT)
    wants = layer.folder / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "lab-stand-ins.service").symlink_to("/etc/systemd/system/lab-stand-ins.service")
