"""Ansible's plugins as modules to test: imported by their file, as Ansible itself does."""

import importlib.util
import sys
from types import ModuleType

from stackfile.catalogue import ROOT


def plugin(path: str) -> ModuleType:
    """Import ``ansible/plugins/<path>.py``; what it imports of ``module_utils`` must have been before."""
    name = path.rpartition("/")[2]
    found = importlib.util.spec_from_file_location(name, ROOT / f"ansible/plugins/{path}.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    # Where Ansible puts it on a host, so that the modules that use it find it.
    if path.startswith("module_utils/"):
        sys.modules[f"ansible.module_utils.{name}"] = module
    else:
        sys.modules[name] = module
    found.loader.exec_module(module)
    return module
