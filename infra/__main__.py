"""`pulumi up`: read the stack, create the cluster (target gke), and deploy the service on it."""

import gc
import sys
from pathlib import Path

import pulumi

# The SDKs create millions of lasting objects; collecting garbage among them takes a third of the start.
gc.disable()
ROOT = Path(__file__).resolve().parents[1]
# Pulumi runs this folder as the program; the packages that it imports are beside the folder.
sys.path.insert(0, str(ROOT))

from infra import credentials, program, providers  # noqa: E402 -- after the path
from stackfile import StackFileError, renamed_keys  # noqa: E402 -- after the path


def main() -> None:
    """Create the stack's resources and export the outputs."""
    renamed_keys.send_warnings(pulumi.warn)
    config = pulumi.Config()
    stack = program.load(ROOT, pulumi.get_stack())
    secrets = credentials.read(stack, config)
    if stack.target == "gke":
        from infra.gcp import driver_installer, platform

        google = platform.Platform(stack.name, stack, config)
        provider = providers.for_cluster(stack.name, google.provider_kubeconfig, google)
        driver_installer.install(stack, provider)
        program.export(google.outputs)
    else:
        provider = providers.for_kubeconfig(stack.name, config)
    program.export(program.deploy(stack, secrets, provider))


try:
    main()
except (StackFileError, program.TargetError, providers.KubeconfigError, credentials.MissingError) as refused:
    # A user's mistake needs the remedy, not a traceback.
    raise pulumi.RunError(str(refused)) from None
