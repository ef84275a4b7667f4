"""The Google half of the program alone, on the stack file that ``test:stack`` names."""

from pathlib import Path

import pulumi

from infra.gcp.platform import Platform
from stackfile import load_stack

service = load_stack(Path(pulumi.Config("test").require("stack")))
platform = Platform(service.name, service, pulumi.Config())
for name, value in platform.outputs.items():
    pulumi.export(name, value)
