"""`pulumi up`: read the stack, make the cluster where the stack asks for one, put the service on it."""

import gc
import sys
from pathlib import Path

import pulumi

# The SDKs make millions of objects that stay; looking through them again and again is a third of the start.
gc.disable()
ROOT = Path(__file__).resolve().parents[1]
# Pulumi runs this folder as the program; the packages it is made of lie beside it.
sys.path.insert(0, str(ROOT))

from infra import credentials, program, providers  # noqa: E402 -- after the path
from stackfile import StackFileError  # noqa: E402 -- after the path


def main() -> None:
    """Wire the stack's parts together and export what a user does next."""
    config = pulumi.Config()
    service = program.load(ROOT, pulumi.get_stack())
    given = credentials.read(service, config)
    if service.target == "gke":
        from infra.gcp import driver_installer, platform

        google = platform.Platform(service.name, service, config)
        provider = providers.for_cluster(service.name, google.provider_kubeconfig, google)
        driver_installer.install(service, provider)
        program.export(google.outputs)
    else:
        provider = providers.for_kubeconfig(service.name, config)
    program.export(program.deploy(service, given, provider))


try:
    main()
except (StackFileError, program.TargetError, providers.KubeconfigError, credentials.MissingError) as refused:
    # A user's mistake needs its remedy, not a trace of our calls.
    raise pulumi.RunError(str(refused)) from None
