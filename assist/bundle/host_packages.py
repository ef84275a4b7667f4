"""Which Debian packages the roles of target hosts install, worked out as Ansible does: from the tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.nativetypes import NativeEnvironment

from assist.bundle.errors import BundleError
from stackfile import ResolvedStack
from stackfile.catalogue import drivers

_MODULE = "debian_packages"


def wanted(service: ResolvedStack, ansible: Path, release: str) -> tuple[str, ...]:
    """Return every package that a task hands to ``debian_packages`` on hosts of ``release`` ("debian 12").

    Raises BundleError where a task computes its packages from what is not known before the hosts are seen.
    """
    found: set[str] = set()
    for role in sorted({file.parents[1] for file in ansible.glob("roles/*/tasks/*.yml")}):
        names = [names for names in _of_role(role) if service.accelerator.is_gpu or "driver" not in role.name]
        known = _variables(role) | _known(service, release) if names else {}
        for template in names:
            found |= set(_rendered(template, known, role))
    return tuple(sorted(found))


def _of_role(role: Path) -> Iterator[Any]:
    for file in sorted(role.glob("tasks/*.yml")):
        for task in _tasks(yaml.safe_load(file.read_text(encoding="utf-8"))):
            arguments = task.get(_MODULE) or {}
            if arguments.get("names"):
                yield arguments["names"]


def _tasks(tasks: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    for task in tasks or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from _tasks(task.get(part))


def _variables(role: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in ("defaults", "vars"):
        file = role / folder / "main.yml"
        found |= (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    return found


def _known(service: ResolvedStack, release: str) -> dict[str, Any]:
    """Return what the roles are told of a host that does everything, under the names that they know it by."""
    from assist.hosts.role_vars import EVERYWHERE, EXPORTER, PACKAGES

    system, _, version = release.partition(" ")
    driver = service.accelerator.driver
    systems = drivers()[driver.branch].systems if driver else {}
    offered = systems.get(f"{system}-{version}")
    packages = [*EVERYWHERE, EXPORTER, *(name for names in PACKAGES.values() for name in names)]
    return {
        "base_service": {"packages": packages},
        "base_host": {"os": system, "version": version, "container": False},
        "nvidia_driver_decision": {"packages": list(offered.packages) if offered else []},
    }


def _rendered(template: Any, known: dict[str, Any], role: Path) -> list[str]:  # noqa: ANN401  -- any YAML
    try:
        return [str(name) for name in _value(template, known)]
    except TemplateError as error:
        raise BundleError(
            f"role {role.name} computes its Debian packages from what is not known: {error.message}. Name"
            " them in its vars/main.yml, or build the bundle on the hosts' Debian release."
        ) from error


def _value(value: Any, known: dict[str, Any]) -> Any:  # noqa: ANN401  -- any YAML
    """Return ``value`` with its templates rendered, and those of the variables that it names."""
    if isinstance(value, list):
        return [_value(item, known) for item in value]
    if isinstance(value, dict):
        return {name: _value(item, known) for name, item in value.items()}
    if not (isinstance(value, str) and "{{" in value):
        return value
    # No HTML is made here: it is names of packages.
    jinja = NativeEnvironment(undefined=StrictUndefined, autoescape=False)
    named = meta.find_undeclared_variables(jinja.parse(value)) & set(known)
    return jinja.from_string(value).render({name: _value(known[name], known) for name in named})
