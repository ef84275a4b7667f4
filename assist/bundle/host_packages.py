"""The Debian packages that the roles of target hosts install, derived from the roles' tasks."""

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


def of(stack: ResolvedStack, ansible: Path, release: str) -> tuple[str, ...]:
    """Return every package that a task passes to ``debian_packages`` on hosts of ``release`` ("debian 12").

    Raises BundleError where a task computes its packages from facts that only the hosts have.
    """
    packages: set[str] = set()
    for role in sorted({file.parents[1] for file in ansible.glob("roles/*/tasks/*.yml")}):
        names = [names for names in _of_role(role) if stack.accelerator.is_gpu or "driver" not in role.name]
        variables = _variables(role) | _host_variables(stack, release) if names else {}
        for template in names:
            packages |= set(_rendered(template, variables, role))
    return tuple(sorted(packages))


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
    variables: dict[str, Any] = {}
    for folder in ("defaults", "vars"):
        file = role / folder / "main.yml"
        variables |= (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    return variables


def _host_variables(stack: ResolvedStack, release: str) -> dict[str, Any]:
    """Return the roles' variables of a host that is in every group, under the roles' names."""
    from assist.hosts.role_vars import EVERYWHERE, EXPORTER, PACKAGES

    system, _, version = release.partition(" ")
    driver = stack.accelerator.driver
    systems = drivers()[driver.branch].systems if driver else {}
    offer = systems.get(f"{system}-{version}")
    packages = [*EVERYWHERE, EXPORTER, *(name for names in PACKAGES.values() for name in names)]
    return {
        "base_service": {"packages": packages},
        "base_host": {"os": system, "version": version, "container": False},
        "nvidia_driver_decision": {"packages": list(offer.packages) if offer else []},
    }


def _rendered(template: Any, variables: dict[str, Any], role: Path) -> list[str]:  # noqa: ANN401  -- any YAML
    try:
        return [str(name) for name in _value(template, variables)]
    except TemplateError as error:
        raise BundleError(
            f"role {role.name} computes its Debian packages from facts of the hosts: {error.message}. Name"
            " the packages in the role's vars/main.yml, or build the bundle on the hosts' Debian release."
        ) from error


def _value(value: Any, variables: dict[str, Any]) -> Any:  # noqa: ANN401  -- any YAML
    """Return ``value`` with its templates rendered, and the templates of the variables in them."""
    if isinstance(value, list):
        return [_value(item, variables) for item in value]
    if isinstance(value, dict):
        return {name: _value(item, variables) for name, item in value.items()}
    if not (isinstance(value, str) and "{{" in value):
        return value
    # Without autoescape: the results are package names, not HTML.
    jinja = NativeEnvironment(undefined=StrictUndefined, autoescape=False)
    named = meta.find_undeclared_variables(jinja.parse(value)) & set(variables)
    return jinja.from_string(value).render({name: _value(variables[name], variables) for name in named})
