"""Give Ansible the resolved Service document for one host of an inventory."""

from typing import Any

from ansible.errors import AnsibleLookupError

from ansible.plugins.lookup import LookupBase
from assist.hosts.inventory import Inventory
from assist.hosts.role_vars import resolve
from stackfile import StackFileError

DOCUMENTATION = """
name: host_service
author: The ai-assist contributors
short_description: resolve a stack file for a host
description:
  - Returns everything the roles of target hosts need to know. Roles never read a stack file themselves.
options:
  _terms:
    description: Name of a stack in C(stacks/), or the path of a stack file.
    required: true
  host:
    description: The host's name in the inventory.
    required: true
  release:
    description: The name of the release that it is to run, from C(python -m assist.hosts.release).
    required: true
  groups:
    description: Hosts by group (gateway, gpu, queue).
    type: dict
    required: true
  addresses:
    description: Each host's address on the hosts' own network.
    type: dict
    required: true
"""


class LookupModule(LookupBase):
    """``lookup('host_service', 'hosts', host=..., release=..., groups=..., addresses=...)``."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: object) -> list[Any]:
        """Return one resolved document a term. Raises AnsibleLookupError with every problem found."""
        self.set_options(var_options=variables, direct=kwargs)
        groups = {name: [str(host) for host in hosts] for name, hosts in self.get_option("groups").items()}
        addresses = {str(host): str(address) for host, address in self.get_option("addresses").items()}
        inventory = Inventory(groups, addresses)
        host, release = str(self.get_option("host")), str(self.get_option("release"))
        try:
            return [resolve(str(term), inventory, host, release).facts() for term in terms]
        except (StackFileError, ValueError) as error:
            raise AnsibleLookupError(str(error)) from error
