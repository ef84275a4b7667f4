"""What lies between the hosts and their clients: paths, the firewall, TLS, clocks."""

import shlex
from collections.abc import Iterator
from ipaddress import ip_network

from assist.doctor.hosts.facts import Facts, Host, Site
from assist.doctor.logs import iso
from assist.findings import Finding

_CLOCK_S = 30.0
_EXPIRING_S = 14 * 86400.0
# OpenSSL's verification results (X509_V_ERR_*).
_TLS = {
    9: ("tls-not-yet-valid", "is not valid yet"),
    10: ("tls-expired", "has expired"),
    62: ("tls-wrong-name", "is for another name than {name}"),
}


def check(site: Site, host: Host) -> list[Finding]:
    """Check what ``host`` reaches, what may reach it, its certificate and its clock."""
    return [*_paths(site, host), *_firewall(site, host), *_tls(site, host), _clock(site, host)]


def _paths(site: Site, host: Host) -> Iterator[Finding]:
    for address, port, answer in host.facts["reach"]:
        known = site.listening(address, port)
        if answer == "open":
            yield host.ok(f"path {address}:{port}", f"{address}:{port} accepts connections from {host.name}")
        elif known is not None and known[1] and known[0] is not host:
            other = known[0].name
            cause = f"{other} listens on {address}:{port}, but {host.name} gets: {answer}"
            remedy = site.commands.on(other, "systemctl reload ai-assist-firewall")
            remedy += f"  # if it does not help: what filters between {host.name} and {other}?"
            where = f"{address}:{port}"
            yield host.wrong(f"path {where}", "path-blocked", cause, remedy, where=where, towards=other)


def _firewall(site: Site, host: Host) -> Iterator[Finding]:
    if not host.service["firewall"]["enabled"] or "nft list table inet ai_assist" in host.facts["denied"]:
        return
    found, check = host.facts["firewall"], "firewall"
    reload = site.commands.on(host.name, "systemctl reload-or-restart ai-assist-firewall")
    if found is None:
        cause = "the firewall's table inet ai_assist is gone: every port of the host is open"
        yield host.wrong(check, "firewall-missing", cause, reload, where="ai-assist-firewall")
        return
    wanted = {str(rule["port"]): rule["ipv4"] + rule["ipv6"] for rule in host.service["firewall"]["rules"]}
    differing = sorted(
        port for port in found.keys() | wanted.keys()
        if _spans(found.get(port, [])) != _spans(wanted.get(port, []))
    )  # fmt: skip
    if not differing:
        yield host.ok(check, f"{len(found)} ports, as in the stack")
        return
    now = "; ".join(f"{port}: {', '.join(found.get(port, ['closed']))}" for port in differing)
    cause = f"the running rules differ from the stack's for port {', '.join(differing)}"
    yield host.wrong(check, "firewall-differs", cause, reload, where="ai-assist-firewall", evidence=now)


def _spans(sources: list[str]) -> list[tuple[int, int, int]]:
    """Return addresses, networks and ranges as merged spans: nftables merges neighbours."""
    spans = []
    for source in sources:
        first, _, last = source.partition("-")
        begin = ip_network(first, strict=False)
        end = ip_network(last) if last else begin
        spans.append((int(begin.version), int(begin[0]), int(end[-1])))
    merged: list[tuple[int, int, int]] = []
    for version, low, high in sorted(spans):
        if merged and merged[-1][0] == version and low <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(high, merged[-1][2]))
        else:
            merged.append((version, low, high))
    return merged


def _tls(site: Site, host: Host) -> Iterator[Finding]:
    found = host.facts["tls"]
    if found is None or found.get("missing"):
        return
    if "code" in found:
        fault, words = _TLS.get(found["code"], ("tls-wrong-name", "is refused"))
        cause = f"the certificate {words.format(name=host.service['nginx']['server_name'])}"
        yield host.wrong("certificate", fault, cause, _renewal(site, host, found), where=found["file"],
                         since=found["since"], evidence=found["error"])  # fmt: skip
    elif "until" in found:
        left = found["until"] - host.facts["time"]
        cause = f"the certificate is valid until {iso(found['until'])}"
        if left < _EXPIRING_S:
            yield Finding("certificate", "warning", cause, _renewal(site, host, found), host=host.name,
                          where=found["file"])  # fmt: skip
        else:
            yield host.ok("certificate", cause)


def _renewal(site: Site, host: Host, found: Facts) -> str:
    """Return the command that makes a new certificate; one of the inventory must be renewed by its owner."""
    if host.service["nginx"]["certificate"] == "files":
        again = site.commands.playbook("site.yml")
        return f"{again}  # after renewing the inventory's service_tls_certificate and service_tls_key"
    folder = found["file"].rpartition("/")[0]
    address = host.service["monitoring"]["listen"].rpartition(":")[0].strip("[]")
    words = [
        "ansible/roles/nginx/files/self-signed.sh",
        folder,
        host.service["nginx"]["server_name"],
        address,
    ]
    make = site.commands.script(host.name, shlex.join(words))
    return f"{make} && {site.commands.on(host.name, 'systemctl reload ai-assist-nginx')}"


def _clock(site: Site, host: Host) -> Finding:
    (began, ended), now = host.asked, host.facts["time"]
    off = now - ended if now > ended else min(0.0, now - began)
    if abs(off) <= _CLOCK_S:
        return host.ok("clock", "the clock agrees with this machine's")
    cause = f"the clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    remedy = site.commands.on(host.name, "timedatectl set-ntp true && systemctl restart systemd-timesyncd")
    return host.wrong("clock", "clock-off", cause, remedy, evidence=iso(now))
