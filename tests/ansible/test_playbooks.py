"""Names, defaults, programs and documentation of the playbooks and roles, without a host."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stackfile.catalogue import ROOT
from stackfile.version import VERSION

ANSIBLE = ROOT / "ansible"
PLAYBOOKS = [path for path in ANSIBLE.glob("*.yml") if path.name != "galaxy.yml"]
FILES = sorted([*PLAYBOOKS, *ANSIBLE.glob("plays/*.yml"), *ANSIBLE.glob("roles/*/tasks/*.yml")])
# The first word of a task's name after its phase.
VERBS = [
    "Add",
    "Assert",
    "Build",
    "Check",
    "Complete",
    "Configure",
    "Connect",
    "Copy",
    "Create",
    "Decide",
    "Drain",
    "Export",
    "Fetch",
    "Find",
    "Generate",
    "Hold",
    "Install",
    "Load",
    "Log",
    "Open",
    "Pack",
    "Process",
    "Read",
    "Reboot",
    "Record",
    "Release",
    "Reload",
    "Remove",
    "Replace",
    "Request",
    "Resolve",
    "Restart",
    "Restore",
    "Run",
    "Save",
    "Serve",
    "Stop",
    "Undrain",
    "Unhold",
    "Unpack",
    "Wait",
    "Write",
]


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every task of a playbook or task file, those of blocks included."""
    for item in node or []:
        if "hosts" in item:
            yield from tasks(item.get("tasks"))
        elif "ansible.builtin.import_playbook" not in item and "import_playbook" not in item:
            yield item
            for part in ("block", "rescue", "always"):
                yield from tasks(item.get(part))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ANSIBLE)))
def test_every_tasks_name_is_its_phase_and_what_it_does(file):
    for task in tasks(yaml.safe_load(file.read_text())):
        match = re.fullmatch(r"[A-Z][a-z]+ \| ([A-Z][a-z]+)(,? .+)?", task["name"])
        assert match, task["name"]
        assert match[1] in VERBS, task["name"]


def test_every_program_that_a_task_or_a_unit_runs_is_a_module_of_the_project():
    texts = [path.read_text() for path in ANSIBLE.rglob("*") if path.suffix in {".yml", ".j2"}]
    named = {name for text in texts for name in re.findall(r"-m,? ([a-z_]+(?:\.[a-z_]+)*)", text)}
    named |= {name for text in texts for name in re.findall(r"from ([a-z_.]+) import", text)}
    named |= {
        name for text in texts for name in re.findall(r"^ +- ([a-z]+(?:[_.][a-z_]+)+)$", text, re.MULTILINE)
    }
    packages = {name for name in named if (ROOT / name.partition(".")[0]).is_dir()}
    assert {"gateway", "gateway.worker", "serving.tritonserver", "serving.model_repository"} <= packages
    for name in packages | {"serving.tokenizer_files", "assist.client_env", "model_loader"}:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
    assert named - packages <= {"ansible", "playbook"}, named - packages


def test_an_inventory_overrides_the_defaults_of_the_playbooks(tmp_path):
    hosts = {"a": {"ansible_host": "192.0.2.1", "ansible_connection": "local"}}
    children = {group: {"hosts": hosts} for group in ("gateway", "gpu", "queue")}
    document = {"all": {"children": {"assist": {"children": children, "vars": {"service_stack": "mine"}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(document))
    program = str(Path(sys.executable).with_name("ansible"))
    shown = {}
    for name in ("service_stack", "service_stack_name", "service_address"):
        command = [program, "-i", str(tmp_path), "--playbook-dir", str(ANSIBLE / "plays"), "a"]
        done = subprocess.run(
            [*command, "-m", "ansible.builtin.debug", "-a", f"var={name}"],
            cwd=ROOT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        shown |= json.loads(done.stdout.partition("=>")[2])
    assert shown == {
        "service_stack": "mine", "service_stack_name": "mine", "service_address": "192.0.2.1",
    }  # fmt: skip


def test_the_readmes_of_roles_are_what_their_argument_specs_say():
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/role_docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_readme_that_is_not_current_is_found(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "ansible/roles/r/meta").mkdir(parents=True)
    script = tmp_path / "scripts/role_docs.py"
    script.write_bytes((ROOT / "scripts/role_docs.py").read_bytes())
    meta = tmp_path / "ansible/roles/r/meta"
    (meta / "main.yml").write_text("galaxy_info: {description: A role.}")
    option = "{description: Its C(x) (an int)., type: int, default: 3}"
    (meta / "argument_specs.yml").write_text(
        f"argument_specs: {{main: {{short_description: Does it, options: {{r_x: {option}}}}}}}"
    )

    def run(*options: str) -> int:
        return subprocess.run([sys.executable, script, *options], capture_output=True, check=False).returncode

    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    assert "| `r_x` | int | `3` | Its `x` (an int). |" in (meta.parent / "README.md").read_text()


def test_the_collections_metadata_agrees_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    galaxy = yaml.safe_load((ANSIBLE / "galaxy.yml").read_text())
    runtime = yaml.safe_load((ANSIBLE / "meta/runtime.yml").read_text())
    (core,) = [
        need for need in project["optional-dependencies"]["control"] if need.startswith("ansible-core")
    ]
    assert galaxy["version"] == VERSION
    assert f"ansible-core{runtime['requires_ansible']}" == core
    for meta in ANSIBLE.glob("roles/*/meta/main.yml"):
        assert yaml.safe_load(meta.read_text())["galaxy_info"]["role_name"] == meta.parents[1].name
