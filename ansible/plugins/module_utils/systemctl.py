"""systemctl for the modules that start, reload and stop this project's units."""

import re

from ansible.module_utils.basic import AnsibleModule

ACTIVE = frozenset({"active", "reloading"})


def revision_in(text: str) -> str:
    """Return the digest that a unit, given its file's text, records at each start; empty without one."""
    match = re.search(r"echo (\S+) >/run/ai-assist/", text)
    return match[1] if match else ""


def unit_state(module: AnsibleModule, unit: str) -> dict[str, str]:
    """Return a unit's ActiveState, UnitFileState and MainPID; without such a unit, empty strings and "0"."""
    properties = "--property=ActiveState,UnitFileState,MainPID"
    lines = module.run_command(["systemctl", "show", unit, properties])[1].splitlines()
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    return {"ActiveState": "", "UnitFileState": "", "MainPID": "0"} | known


def systemctl(module: AnsibleModule, changes: list[str], *arguments: str) -> None:
    """Change a state; fail with ``changes`` and the end of the journal of the unit, the last argument."""
    code, output, errors = module.run_command(["systemctl", *arguments])
    if code:
        last = ["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={arguments[-1]}"]
        journal = module.run_command(last)[1].strip()
        module.fail_json(
            msg=f"systemctl {' '.join(arguments)} failed: {(errors or output).strip()}\n{journal}",
            changes=changes,
        )
