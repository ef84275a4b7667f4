"""The Google half of the program alone, on the stack file that ``test:stack`` names."""

from pathlib import Path

import pulumi

from infra.gcp.platform import Platform
from spec import load_service

service = load_service(Path(pulumi.Config("test").require("stack")))
platform = Platform(service.name, service, pulumi.Config())
for name, value in platform.outputs.items():
    pulumi.export(name, value)
