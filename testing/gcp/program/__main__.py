"""The Google half of the program alone, on the stack file that ``test:stack`` names."""

import gc
from pathlib import Path

import pulumi

gc.disable()  # as infra/__main__.py does, and for its reason

from infra.gcp.platform import Platform  # noqa: E402 -- after the collector
from stackfile import load_stack  # noqa: E402 -- after the collector

service = load_stack(Path(pulumi.Config("test").require("stack")))
platform = Platform(service.name, service, pulumi.Config())
for name, value in platform.outputs.items():
    pulumi.export(name, value)
