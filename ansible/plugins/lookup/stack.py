"""Ansible lookup: resolve a stack file for this machine, or for one host of an inventory."""

DOCUMENTATION = r"""
name: stack
author: The ai-assist contributors
short_description: resolve a stack file with the catalogue
description:
  - Returns everything that the roles need to know about one deployment, from the same reader that every
    other target uses. Roles never read a stack file themselves.
  - With O(inventory_host), returns what the roles of that host need; otherwise, what the roles of target
    C(local) need.
options:
  _terms:
    description: Names of stacks in C(stacks/), or paths of stack files.
    required: true
  paths:
    description: Target C(local). The folders of the clone; C(source) and C(home) are used.
    type: dict
  host:
    description: Target C(local). Address of the gateway in place of the stack's; empty keeps that.
    default: ""
  port:
    description: Target C(local). Port of the gateway in place of the stack's; empty keeps that.
    default: ""
  inventory_host:
    description: Target C(hosts). The host's name in the inventory.
  groups:
    description: Target C(hosts). The hosts of the groups gateway, gpu and queue.
    type: dict
  addresses:
    description: Target C(hosts). Each host's address on the network that the hosts share.
    type: dict
  release:
    description: Target C(hosts). Name of the release to run, from C(python -m assist.hosts.release).
"""

EXAMPLES = r"""
- name: Preflight | Resolve the stack
  ansible.builtin.set_fact:
    service: "{{ lookup('stack', 'local', paths=service_paths, port='5100') }}"

- name: Connectivity | Resolve the stack
  ansible.builtin.set_fact:
    service: >-
      {{ lookup('stack', 'hosts', inventory_host=inventory_hostname, release='0123456789ab',
                groups={'gateway': ['a'], 'gpu': ['a'], 'queue': ['a']}, addresses={'a': '192.0.2.10'}) }}
"""

RETURN = r"""
_list:
  description: One resolved document for each term.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.utils.display import Display

from ansible.plugins.lookup import LookupBase
from assist import deployment
from assist.hosts import role_vars
from assist.hosts.inventory import Inventory
from assist.paths import Paths
from stackfile import StackFileError, renamed_keys


class LookupModule(LookupBase):
    """``lookup('stack', NAME, paths=...)`` or ``lookup('stack', NAME, inventory_host=...)``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: object) -> list[Any]:
        """Return one resolved document for each term. Raises AnsibleLookupError with every problem found."""
        self.set_options(var_options=variables, direct=kwargs)
        # Ansible shows a warning once, although each worker process resolves the stack anew.
        renamed_keys.send_warnings(Display().warning)
        resolve = self._for_host if self.get_option("inventory_host") else self._for_this_machine
        try:
            return [resolve(str(term)) for term in terms]
        except (StackFileError, ValueError) as error:
            raise AnsibleLookupError(str(error)) from error

    def _for_this_machine(self, stack: str) -> dict[str, Any]:
        paths = self.get_option("paths") or {}
        layout = Paths(Path(paths["source"]), Path(paths["home"]))
        overrides = deployment.Overrides.of(str(self.get_option("host")), str(self.get_option("port")))
        return deployment.resolve(stack, layout, overrides).facts()

    def _for_host(self, stack: str) -> dict[str, Any]:
        groups = {name: [str(host) for host in hosts] for name, hosts in self.get_option("groups").items()}
        addresses = {str(host): str(address) for host, address in self.get_option("addresses").items()}
        host, release = str(self.get_option("inventory_host")), str(self.get_option("release"))
        return role_vars.resolve(stack, Inventory(groups, addresses), host, release).facts()
