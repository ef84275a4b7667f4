"""What the servers of a host answer, from the inside out."""

from collections.abc import Iterator

from assist.doctor.hosts.facts import Facts, Host, Site
from assist.findings import Finding


def check(site: Site, host: Host) -> list[Finding]:
    """Check the health of each server, and a real completion through NGINX."""
    return [*_health(site, host), *_completion(site, host)]


def _health(site: Site, host: Host) -> Iterator[Finding]:
    for name, answer in host.facts["http"].items():
        short = name.removesuffix(".service")
        if answer["status"] == 200:
            yield host.ok(f"{short} ready", f"it answers in {answer['seconds'] * 1000:.0f} ms")
        elif answer.get("silent") and not host.units[name]["suspended"]:
            kill = f"systemctl kill --kill-whom=all --signal=KILL {short}; systemctl start {short}"
            cause = f"{short} accepts connections and says nothing for {answer['seconds']:.0f} s"
            yield host.wrong(
                f"{short} ready", "process-hung", cause, site.commands.on(host.name, kill), where=short
            )
        else:
            yield _not_ready(site, host, short, answer)


def _not_ready(site: Site, host: Host, short: str, answer: Facts) -> Finding:
    fault = "engine-not-ready" if "triton" in short else "gateway-not-ready"
    cause = f"{short} answers {answer['status'] or 'nothing'}: {answer['text']}"
    remedy = site.commands.on(host.name, f"journalctl --unit {short} --lines 50 --no-pager")
    return host.wrong(f"{short} ready", fault, cause, remedy, where=short, evidence=answer["text"])


def _completion(site: Site, host: Host) -> Iterator[Finding]:
    answer = host.facts["completion"]
    if answer is None:
        return
    if answer["status"] == 200:
        yield host.ok("completion", f"a real completion took {answer['seconds'] * 1000:.0f} ms")
        return
    cause = f"a completion through NGINX gets {answer['status'] or 'no answer'}: {answer['text'][:200]}"
    remedy = site.commands.on(host.name, "journalctl --unit 'ai-assist-*' --lines 50 --no-pager")
    yield host.wrong("completion", "completion-fails", cause, remedy, where="ai-assist-nginx")
