"""Every check of a GKE plan, with a remedy where it fails and ``unknown`` where nothing could be told."""

from collections.abc import Callable, Iterator

from assist.findings import Finding, ok, problem, unknown
from assist.gke import availability, price, quota
from assist.gke.google import LOGIN, Google, GoogleError
from assist.gke.prices import filestore
from stackfile.gke import APIS, Gke
from stackfile.resolved import ResolvedStack

FILESTORE_API = "file.googleapis.com"
Check = Callable[[ResolvedStack, Gke, Google], Iterator[Finding]]


def checks(service: ResolvedStack, client: Google) -> list[Finding]:
    """Return what was found for a stack with target ``gke``; later checks go on where an earlier one fails.

    Raises ``ValueError`` for another target. Nothing is changed at Google.
    """
    if service.gke is None:
        raise ValueError(f"stack {service.name} has target {service.target}; these checks are for target gke")
    found: list[Finding] = []
    for name, check in _CHECKS.items():
        try:
            found += check(service, service.gke, client)
        except GoogleError as error:
            found.append(refused(name, error, client.project))
    return found


def refused(check: str, error: GoogleError, project: str) -> Finding:
    """Return what a refusal of Google's means for ``check``, and what the user does about it."""
    match error.status:
        case 401:
            return problem(check, f"Google does not know who asks: {error}", LOGIN)
        case 403:
            remedy = f"ask an owner for roles/viewer on {project}, or enable the API that the message names"
            return problem(check, f"refused: {error}", remedy)
        case 404:
            return problem(check, f"not found: {error}", "check gcp:project with: gcloud projects list")
        case _:
            return unknown(check, str(error), "run it again where Google's APIs can be reached")


def _credentials(_: ResolvedStack, __: Gke, client: Google) -> Iterator[Finding]:
    project = client.get("cloudresourcemanager.googleapis.com/v1/projects/{project}")
    state = project.get("lifecycleState")
    if state != "ACTIVE":
        yield problem("credentials", f"project {client.project} is {state}", "choose an active project")
    else:
        yield ok("credentials", f"project {client.project} can be read")


def _billing(_: ResolvedStack, __: Gke, client: Google) -> Iterator[Finding]:
    billing = client.get("cloudbilling.googleapis.com/v1/projects/{project}/billingInfo")
    if billing.get("billingEnabled"):
        yield ok("billing", "a billing account is linked")
    else:
        command = f"gcloud billing projects link {client.project} --billing-account=ACCOUNT"
        yield problem("billing", "no billing account is linked; Google creates nothing without", command)


def _apis(service: ResolvedStack, _: Gke, client: Google) -> Iterator[Finding]:
    address = "serviceusage.googleapis.com/v1/projects/{project}/services?filter=state:ENABLED"
    enabled = {str(one["name"]).rpartition("/")[2] for one in client.items(address, "services")}
    # `pulumi up` enables the first two itself, where it may; Filestore's driver has no way to do so.
    wanted = [*APIS, *([FILESTORE_API] if filestore(service) else [])]
    absent = [api for api in wanted if api not in enabled]
    if absent:
        command = f"gcloud services enable {' '.join(absent)} --project {client.project}"
        yield problem("apis", f"not enabled: {', '.join(absent)}", command)
    else:
        yield ok("apis", "all that are needed are enabled")


def _model(service: ResolvedStack, _: Gke, __: Google) -> Iterator[Finding]:
    """Say what was checked when the stack was read: a model that does not fit never gets here."""
    weights, device = service.model.memory_gib.get(service.precision), service.accelerator
    cause = f"{service.model.id} as {service.precision} ({weights} GiB of weights) fits {device.kind}"
    yield ok("model", cause)


def _driver(service: ResolvedStack, gke: Gke, _: Google) -> Iterator[Finding]:
    pool, known = gke.gpu_pool, service.accelerator.driver
    if not service.accelerator.is_gpu or gke.autopilot:
        yield ok("driver", "none to choose: no GPU, or Autopilot brings it")
    elif pool.driver == "none":
        cause = "mode none: GPU nodes stay without a driver until an operator installs one"
        yield unknown("driver", cause, "install NVIDIA's GPU operator, or set gke.gpu_pool.driver: gke")
    elif pool.driver_version and known and _number(pool.driver_version) < _number(known.minimum):
        cause = f"{pool.driver_version} is older than {known.minimum}, which the runtime needs"
        yield problem("driver", cause, f"set gke.gpu_pool.driver_version to one of branch {known.branch}")
    else:
        yield ok("driver", f"mode {pool.driver}, {pool.driver_version or 'the version that GKE chooses'}")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


_CHECKS: dict[str, Check] = {
    "credentials": _credentials,
    "billing": _billing,
    "apis": _apis,
    "model": _model,
    "driver": _driver,
    "zones": availability.zones,
    "quota": quota.quota,
    "price": price.price,
}
