"""What breaks a real host, one fault at a time: the command that breaks it, and what the doctor must name.

web1 is gateway and queue, gpu1 serves. ``after`` undoes what no command of the doctor's can, such as making room.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from testing.lab.driver import Lab

MODEL = "/var/lib/ai-assist/models/tiny-codegen/*.ctranslate2-int8"
_VENVS = "/opt/ai-assist/releases/*/venvs"
_KEYS = "/etc/ai-assist/keys/keys.json"
_DRAINED = "/run/ai-assist-drained"
# A small disk of its own below a folder, with what was there.
_SMALL_DISK = (
    "systemctl stop {units}; cp -a {folder} /root/kept && mount -t tmpfs -o size={size} tmpfs {folder}"
    " && cp -a /root/kept/. {folder} && chown --reference=/root/kept {folder} && chmod --reference=/root/kept {folder}"
)
_OLD_DISK = "systemctl stop {units}; umount {folder}; rm -rf /root/kept; systemctl reset-failed; systemctl start {units}"
_QUEUE, _CONFIG = "/var/lib/ai-assist/redis-queue", "/etc/ai-assist"


@dataclass(frozen=True)
class Injection:
    """One way to break ``host``. ``where``: part of what the finding says; ``heals``: its remedy is run and enough."""

    fault: str
    host: str
    command: str = ""
    where: str = ""
    heals: bool = True
    after: str = ""
    act: Callable[[Lab], None] | None = None
    seen_from: str = ""

    @property
    def named_on(self) -> str:
        """The host of the finding: the broken one, or the one that cannot reach it."""
        return self.seen_from or self.host

    def apply(self, lab: Lab) -> None:
        """Break the host."""
        if self.act is not None:
            self.act(lab)
        if self.command:
            lab.run(self.host, self.command)


def _squat(unit: str, port: int, ready: str) -> str:
    """Return a command that stops a unit, takes its port, and starts it again."""
    return (
        f"systemctl stop {unit} && systemd-run --quiet --collect --unit=squatter /usr/bin/python3 -m http.server {port}"
        f" && until ss -Hltn 'sport = :{port}' | grep -q .; do sleep 0.1; done; systemctl start --no-block {unit};"
        f" until {ready}; do sleep 0.2; done"
    )


def _certificate(begins: timedelta, ends: timedelta, name: str) -> Callable[[Lab], None]:
    """Return what gives NGINX a certificate of these times (from now) and this name."""

    def install(lab: Lab) -> None:
        address = lab.address("web1")
        certificate, key = _made(begins, ends, name, address)
        folder = f"{_CONFIG}/tls"
        for file, text in ((f"{folder}/certificate.pem", certificate), (f"{folder}/key.pem", key)):
            lab.run("web1", f"cat >{file} <<'END'\n{text}END")
        lab.run("web1", "systemctl reload ai-assist-nginx")

    return install


def _made(begins: timedelta, ends: timedelta, name: str, address: str) -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address(address))])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now + begins,
                                   now + ends).add_extension(names, critical=False).sign(key, hashes.SHA256())  # fmt: skip
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def faketime() -> Path | None:
    """Return libfaketime of this machine, if it is there."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def _move_clock(lab: Lab) -> None:
    """Let every new process of gpu1 see a clock two hours ahead; the kernel's own is this machine's, too."""
    library = faketime()
    assert library is not None
    subprocess.run(["scp", "-q", "-F", lab.ssh_config, library, "gpu1:/usr/lib/libfaketime.so.1"], check=True)
    lab.run("gpu1", "echo '+7200s' >/etc/faketimerc && echo /usr/lib/libfaketime.so.1 >/etc/ld.so.preload")


DAY = timedelta(days=1)
INJECTIONS = (
    Injection("process-stopped", "gpu1", "systemctl stop ai-assist-triton", "ai-assist-triton"),
    Injection("process-stopped", "gpu1", "systemctl stop ai-assist-worker@0", "ai-assist-worker@0"),
    Injection("process-stopped", "gpu1", "systemctl mask --now ai-assist-worker@0", "ai-assist-worker@0"),
    Injection("process-stopped", "web1", "systemctl stop ai-assist-gateway@5000", "ai-assist-gateway@5000"),
    Injection("process-stopped", "web1", "systemctl stop ai-assist-nginx", "ai-assist-nginx"),
    Injection("process-stopped", "web1", "systemctl stop ai-assist-redis-queue", "ai-assist-redis-queue"),
    Injection("process-stopped", "web1", "systemctl stop ai-assist-redis-cache", "ai-assist-redis-cache"),
    Injection("process-stopped", "web1", "systemctl stop ai-assist-node-exporter", "ai-assist-node-exporter"),
    Injection("unit-disabled", "web1", "systemctl disable ai-assist-nginx", "ai-assist-nginx"),
    Injection("process-hung", "gpu1", "systemctl kill -s STOP ai-assist-triton", "ai-assist-triton"),
    Injection("process-hung", "web1", "systemctl kill -s STOP ai-assist-gateway@5001", "ai-assist-gateway@5001"),
    Injection("process-hung", "web1", "systemctl kill -s STOP ai-assist-redis-queue", "ai-assist-redis-queue"),
    Injection("process-hung", "web1", "systemctl kill -s STOP ai-assist-nginx", "ai-assist-nginx"),
    Injection(
        "port-taken", "web1",
        _squat("ai-assist-nginx", 443, "test $(systemctl show ai-assist-nginx -P NRestarts) -ge 2"),
        "ai-assist-nginx",
    ),
    Injection(
        "port-taken", "gpu1",
        _squat("ai-assist-triton", 8001, "test \"$(systemctl show ai-assist-triton -P SubState -P MainPID | xargs)\" = '0 start-post'"),
        "ai-assist-triton",
    ),
    Injection(
        "version-old", "gpu1", "echo 0123456789abcdef.0123456789abcdef >/run/ai-assist/ai-assist-worker@0.service",
        "ai-assist-worker@0",
    ),
    Injection(
        "unit-edited", "gpu1",
        "mkdir -p /etc/systemd/system/ai-assist-triton.service.d && printf '[Service]\\nLimitNOFILE=512\\n'"
        " >/etc/systemd/system/ai-assist-triton.service.d/override.conf && systemctl daemon-reload",
        "ai-assist-triton",
    ),
    Injection("update-interrupted", "web1", f"echo 10.77.0.12:8001 >{_DRAINED}; chmod 644 {_DRAINED}", _DRAINED),
    Injection(
        "model-damaged", "gpu1",
        f"f=$(ls {MODEL}/model.bin) && chmod 644 $f && python3 -c 'import sys; f = open(sys.argv[1], \"r+b\");"
        " f.seek(-40000, 2); b = f.read(1)[0]; f.seek(-1, 1); f.write(bytes([b ^ 1]))' $f",
        "model.bin",
    ),
    Injection("model-damaged", "gpu1", f"chmod 644 {MODEL}/model.bin && truncate -s -1000 {MODEL}/model.bin", "model.bin"),
    Injection("firewall-missing", "gpu1", "nft delete table inet ai_assist", "ai-assist-firewall"),
    Injection(
        "firewall-differs", "web1", "nft insert rule inet ai_assist input tcp dport 5000 ip saddr 0.0.0.0/0 accept",
        "ai-assist-firewall",
    ),
    Injection(
        "path-blocked", "gpu1",
        "nft 'add table inet mine; add chain inet mine input { type filter hook input priority 0; };"
        " add rule inet mine input tcp dport 8001 drop'", "10.77.0.12:8001", heals=False,
        after="nft delete table inet mine", seen_from="web1",
    ),
    Injection("tls-expired", "web1", where="certificate.pem", act=_certificate(-9 * DAY, -DAY, "ai-assist.internal")),
    Injection("tls-not-yet-valid", "web1", where="certificate.pem", act=_certificate(DAY, 9 * DAY, "ai-assist.internal")),
    Injection("tls-wrong-name", "web1", where="certificate.pem", act=_certificate(-DAY, 90 * DAY, "other.internal")),
    Injection(
        "clock-off", "gpu1", act=_move_clock, heals=False, after="rm /etc/ld.so.preload /etc/faketimerc",
    ),
    Injection("keys-open", "web1", f"chmod 644 {_KEYS}", _KEYS),
    Injection(
        "disk-full", "web1",
        _SMALL_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE, size="8M")
        + f"; systemctl start ai-assist-redis-queue; dd if=/dev/zero of={_QUEUE}/filler bs=64k; true",
        _QUEUE, heals=False, after=_OLD_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE),
    ),
    Injection(
        "disk-full", "web1",
        _SMALL_DISK.format(units="ai-assist-nginx", folder=_CONFIG, size="2M")
        + f"; systemctl start ai-assist-nginx; dd if=/dev/zero of={_CONFIG}/filler bs=64k; true",
        _CONFIG, heals=False, after=_OLD_DISK.format(units="ai-assist-nginx", folder=_CONFIG),
    ),
    Injection(
        "disk-full", "web1",
        _SMALL_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE, size="100M")
        + f" && mount -o remount,ro {_QUEUE}; systemctl start ai-assist-redis-queue; true",
        "read-only", after=_OLD_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE),
    ),
    Injection(
        "disk-low", "web1",
        _SMALL_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE, size="300M")
        + "; systemctl start ai-assist-redis-queue",
        _QUEUE, heals=False, after=_OLD_DISK.format(units="ai-assist-redis-queue", folder=_QUEUE),
    ),
    Injection(
        "host-unreachable", "gpu1", "systemctl stop ssh.socket ssh.service; pkill -x sshd; true", heals=False,
        after="systemctl start ssh.service",
    ),
    # From here on `site.yml` is the remedy.
    Injection("unit-edited", "web1", "sed -i s/LimitNOFILE=16384/LimitNOFILE=1024/ /etc/systemd/system/ai-assist-nginx.service"
              " && systemctl daemon-reload", "ai-assist-nginx"),
    Injection("settings-edited", "web1", "echo ASSIST_MAX_QUEUE=1 >>/etc/ai-assist/gateway.env", "ai-assist-gateway"),
    Injection("settings-edited", "web1", "echo 'nonsense 1' >>/etc/ai-assist/redis/cache.conf; systemctl restart"
              " ai-assist-redis-cache; true", "ai-assist-redis-cache"),
    Injection("secret-missing", "gpu1", "rm /etc/ai-assist/secrets/worker/assist_jobs_redis_url; systemctl restart"
              " ai-assist-worker@0; true", "ai-assist-worker@0"),
    Injection("keys-damaged", "web1", f"truncate -s -30 {_KEYS}", _KEYS),
    Injection("keys-missing", "web1", f"rm {_KEYS}", _KEYS),
    Injection("environment-missing", "gpu1", f"rm -r {_VENVS}/gateway", "venvs/gateway"),
    Injection("model-missing", "gpu1", "rm -r /var/lib/ai-assist/models/tiny-codegen", "tiny-codegen"),
)  # fmt: skip
