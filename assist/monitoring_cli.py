"""``assist monitoring``: the rules and the scrape file of a stack, and a Prometheus on this machine."""

from typing import NoReturn

import typer

from assist.deployment import Deployment, Overrides, current, resolve
from assist.monitoring import MonitoringError, Prometheus
from assist.options import Stack
from assist.paths import Paths
from assist.terminal import fail, out
from monitoring import rules as rule_files
from monitoring import scrape as scraping
from stackfile import StackFileError

monitoring = typer.Typer(
    help="Prometheus: its rules, its scrape file, and one on this machine.", no_args_is_help=True
)


@monitoring.command()
def up() -> None:
    """Start Debian's Prometheus on the running service, on loopback; a second run restarts it."""
    try:
        deployment = current(Paths())
    except (StackFileError, ValueError) as error:
        fail(str(error), 2)
    if deployment is None:
        _not_started()
    try:
        with out.status("Starting Prometheus"):
            url = Prometheus(deployment.layout).start(deployment)
    except MonitoringError as error:
        fail(str(error))
    out.print(f"Prometheus: {url}  (alerts: {url}/alerts). Stop it with: assist monitoring down")


@monitoring.command()
def down() -> None:
    """Stop the Prometheus of this machine; its series stay until `make clean`."""
    stopped = Prometheus(Paths()).stop()
    out.print("Prometheus has stopped." if stopped else "Prometheus does not run here; nothing to stop.")


@monitoring.command()
def rules(stack: Stack = "local") -> None:
    """Print the recording rules and the alerts of a stack, for Prometheus' `rule_files`."""
    print(rule_files.to_yaml(rule_files.rule_file(_resolved(stack).stack)), end="")  # noqa: T201 -- a file


@monitoring.command()
def scrape(stack: Stack = "local") -> None:
    """Print the scrape configurations of a stack on this machine, for a Prometheus of your own.

    On hosts, Ansible writes them: see docs/monitoring.md.
    """
    resolved = _resolved(stack).stack
    if resolved.target != "local":
        fail(
            f"{stack} has target {resolved.target}, whose addresses are not known here. On hosts, site.yml "
            "writes the file; on clusters, ServiceMonitors and annotations have them (docs/monitoring.md)."
        )
    configurations = scraping.scrape_configs(resolved, scraping.local_targets(resolved))
    print(rule_files.to_yaml({"scrape_configs": configurations}), end="")  # noqa: T201 -- a file


def _resolved(stack: str) -> Deployment:
    try:
        return resolve(stack, Paths(), Overrides())
    except StackFileError as error:
        fail(str(error), 2)


def _not_started() -> NoReturn:
    fail("The service has not been started here. Start it with: make up")
