"""Ansible's modules document what they accept, in the form that ansible-doc and editors read."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

from stackfile.catalogue import ROOT
from tests.ansible.plugins import plugin

PLUGINS = ROOT / "ansible/plugins"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))


class Constructed(BaseException):
    """Ends a module's ``main`` as soon as its argument_spec is known."""


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the argument_spec that a module gives to AnsibleModule."""
    for util in sorted((PLUGINS / "module_utils").glob("*.py")):
        plugin(f"module_utils/{util.stem}")
    given: dict[str, Any] = {}

    def construct(argument_spec: dict[str, Any], **options: Any) -> None:
        given.update(argument_spec)
        assert options["supports_check_mode"], name
        raise Constructed

    monkeypatch.setattr(basic, "AnsibleModule", construct)
    with pytest.raises(Constructed):
        plugin(f"modules/{name}").main()
    return given


@cache
def documented() -> dict[str, Any]:
    """Return what ansible-doc reads of every module."""
    program = str(Path(sys.executable).with_name("ansible-doc"))
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LIBRARY": str(PLUGINS / "modules")}
    # Ansible refuses a standard input that another program, such as ssh, has left non-blocking.
    done = subprocess.run(
        [program, "--json", "--type", "module", *MODULES], cwd=ROOT, env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def compare(options: dict[str, Any], spec: dict[str, Any], where: str) -> None:
    assert set(options) == set(spec), where
    for name, option in options.items():
        given = spec[name]
        for key, default in (("type", "str"), ("required", False), ("default", None), ("choices", None)):
            assert option.get(key, default) == given.get(key, default), f"{where}.{name}.{key}"
        assert option.get("elements") == given.get("elements"), f"{where}.{name}"
        assert option["description"], f"{where}.{name}"
        if "suboptions" in option:
            compare(option["suboptions"], given["options"], f"{where}.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_documentation_lists_the_options_that_it_accepts(name, monkeypatch):
    compare(documented()[name]["doc"].get("options", {}), argument_spec(name, monkeypatch), name)


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_examples_are_tasks_with_options_that_it_accepts(name):
    options = documented()[name]["doc"].get("options", {})
    tasks = yaml.safe_load(documented()[name]["examples"])
    assert tasks
    for task in tasks:
        assert re.match(r"[A-Z]\w* \| [A-Z]", task["name"])
        required = {option for option, facts in options.items() if facts.get("required")}
        assert required <= set(task[name]) <= set(options), task["name"]


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PLUGINS.glob("*/*.py")) if path.parent.name != "module_utils"],
    ids=lambda path: path.stem,
)
def test_documentation_comes_before_the_imports_as_ansible_wants(path):
    text = path.read_text()
    blocks = ["DOCUMENTATION"] if path.parent.name == "callback" else ["DOCUMENTATION", "EXAMPLES", "RETURN"]
    places = [re.search(rf"^{block} = ", text, re.MULTILINE) for block in blocks]
    first_import = re.search(r"^(import|from) ", text, re.MULTILINE)
    assert all(places), path
    order = [match.start() for match in [*places, first_import] if match]
    assert order == sorted(order)
