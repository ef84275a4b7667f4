"""What lies on a host's disks: room, programs, model, keys, and whether all of it is the stack's."""

from collections.abc import Iterator

from assist.doctor.hosts.facts import Host, Site
from assist.doctor.local import FULL_DISK_MIB, LOW_DISK_GIB
from assist.findings import Finding

_MIB = 2**20


def check(site: Site, host: Host) -> list[Finding]:
    """Check the disks, the environments, the model, the keys and the settings of ``host``."""
    return [
        *_disks(site, host), *_environments(site, host), *_model(site, host), *_keys(site, host),
        *_drained(site, host), *_stack(site, host),
    ]  # fmt: skip


def _disks(site: Site, host: Host) -> Iterator[Finding]:
    seen: set[int] = set()
    for folder, room in sorted(host.facts["disks"].items()):
        if room["device"] in seen:
            continue
        seen.add(room["device"])
        free, remedy = room["free"], site.commands.on(host.name, f"du -xsh {folder}/* | sort -h | tail")
        remedy += "  # then make room"
        if room["read_only"]:
            cause = f"the file system of {folder} is read-only"
            remedy = site.commands.on(host.name, f"mount -o remount,rw {folder}{_start(host)}")
            yield host.wrong(f"disk {folder}", "disk-full", cause, remedy, where=folder)
        elif free < FULL_DISK_MIB * _MIB or room["inodes"] == 0:
            what = "no inode" if room["inodes"] == 0 else f"{free / _MIB:.0f} MiB"
            yield host.wrong(f"disk {folder}", "disk-full", f"{what} free for {folder}", remedy, where=folder)
        elif free < LOW_DISK_GIB * 2**30:
            cause = f"{free / _MIB:.0f} MiB free for {folder}"
            yield host.wrong(f"disk {folder}", "disk-low", cause, remedy, where=folder)
        else:
            yield host.ok(f"disk {folder}", f"{free / 2**30:.1f} GiB free for {folder}")


def _start(host: Host) -> str:
    """Return the end of a command that starts again what does not run."""
    down = " ".join(name for name in host.units if not host.active(name))
    return f" && systemctl reset-failed {down}; systemctl restart {down}" if down else ""


def _environments(site: Site, host: Host) -> Iterator[Finding]:
    for folder in host.facts["environments"]:
        cause = f"{folder} is missing or incomplete: what runs cannot be restarted"
        remedy = site.commands.playbook("site.yml")
        yield host.wrong("environments", "environment-missing", cause, remedy, where=folder)


def _model(site: Site, host: Host) -> Iterator[Finding]:
    found = host.facts["model"]
    if found is None:
        return
    model, folder = host.service["model_store"]["model"]["id"], found["folder"]
    if found["missing"]:
        cause = f"the model {model} is not in the store: {folder} has no manifest"
        yield host.wrong("model", "model-missing", cause, site.commands.playbook("site.yml"), where=folder)
    elif not found["faults"]:
        yield host.ok("model", f"{model}: every file as in the manifest")
    else:
        path, detail, since = found["faults"][0]
        names = ", ".join(name for name, _, _ in found["faults"])
        cause = f"the model {model} is damaged: {names}"
        remedy = _repair(site, host, model)
        yield host.wrong(
            "model", "model-damaged", cause, remedy, where=f"{folder}/{path}", since=since,
            evidence=f"{path}: {detail}",
        )  # fmt: skip


def _repair(site: Site, host: Host, model: str) -> str:
    """Return the command that downloads or converts the damaged files again, while Triton is stopped."""
    folders = host.service["folders"]
    loader = (
        f"runuser --user assist-loader -- env HOME={folders['hf_home']} HF_HOME={folders['hf_home']}"
        f" {folders['venvs']}/serving/bin/python -P -m model_loader verify {model}"
        f" --store {folders['models']} --repair"
    )
    unit = "ai-assist-triton"
    command = f"systemctl stop {unit} && {loader}; status=$?; systemctl start {unit}; exit $status"
    return site.commands.on(host.name, command)


def _keys(site: Site, host: Host) -> Iterator[Finding]:
    found = host.facts["files"]
    if not found:
        return
    path, again = found["path"], site.commands.playbook("site.yml")
    where = {"where": path, "since": found["since"]}
    if found["missing"]:
        yield host.wrong("keys", "keys-missing", f"{path} is missing", again, where=path)
    elif not found["valid"]:
        yield host.wrong("keys", "keys-damaged", f"{path} is not a valid key file", again, **where)
    elif found["mode"] & 0o007:
        cause = f"other users can read {path} (mode {found['mode']:04o})"
        yield host.wrong(
            "keys", "keys-open", cause, site.commands.on(host.name, f"chmod 640 {path}"), **where
        )
    elif not found["count"]:
        yield host.wrong("keys", "keys-missing", f"{path} has no valid key", again, **where)
    else:
        yield host.ok("keys", f"{found['count']} active keys")


def _drained(site: Site, host: Host) -> Iterator[Finding]:
    if found := host.facts["drained"]:
        cause = f"gateways send nothing to {', '.join(found['servers'])}, which an update has drained"
        remedy = site.commands.on(host.name, f"rm -f {found['path']}")
        remedy += f"  # if an update was cut off: {site.commands.playbook('update.yml')}"
        yield host.wrong(
            "drained", "update-interrupted", cause, remedy, where=found["path"], since=found["since"]
        )


def _stack(site: Site, host: Host) -> Iterator[Finding]:
    """Compare what a host was set up with to the stack; settings edited by hand are another check's."""
    found, edited = host.facts["settings"], any(unit["files_edited"] is True for unit in host.units.values())
    differing = [] if edited else list(found["environment"])
    if found["model"] and found["model"] != host.service["model_store"]["dir"]:
        differing.append(f"the model ({found['model'].rpartition('/models/')[2]})")
    if set(found["release"]) - {host.service["release"]["id"]}:
        differing.append(f"the release ({', '.join(sorted(set(found['release'])))})")
    if not differing:
        yield host.ok("stack", "the host has what the stack says")
        return
    cause = f"the stack or the clone has changed since this host was set up: {', '.join(differing)}"
    yield host.wrong("stack", "stack-not-applied", cause, site.commands.playbook("update.yml"))
