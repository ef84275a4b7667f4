"""Give Ansible the resolved Service document, from the reader that every other target uses."""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError

from ansible.plugins.lookup import LookupBase
from assist.deployment import Overrides, resolve
from assist.paths import Paths
from stackfile import StackFileError

DOCUMENTATION = """
name: service
author: The ai-assist contributors
short_description: resolve a stack file with the catalogue
description:
  - Returns everything the roles need to know about one deployment. Roles never read a stack file themselves.
options:
  _terms:
    description: Name of a stack in C(stacks/), or the path of a stack file.
    required: true
  paths:
    description: The folders of the target; C(source) and C(home) are used.
    required: true
    type: dict
  host:
    description: Address for the gateway in place of the stack's; empty keeps it.
    default: ""
  port:
    description: Port for the gateway in place of the stack's; empty keeps it.
    default: ""
"""


class LookupModule(LookupBase):
    """``lookup('service', 'local', paths=..., port=5100)``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: object) -> list[Any]:
        """Return one resolved document a term. Raises AnsibleLookupError with every problem of the stack."""
        self.set_options(var_options=variables, direct=kwargs)
        paths = self.get_option("paths")
        layout = Paths(Path(paths["source"]), Path(paths["home"]))
        try:
            overrides = Overrides.of(str(self.get_option("host")), str(self.get_option("port")))
            return [resolve(str(term), layout, overrides).facts() for term in terms]
        except (StackFileError, ValueError) as error:
            raise AnsibleLookupError(str(error)) from error
