"""Every check of a GKE plan, with a remedy for a failure and ``unknown`` where Google did not respond."""

from collections.abc import Callable, Iterator

from assist.findings import Finding, ok, problem, unknown
from assist.gke import availability, prices, quota
from assist.gke.google import LOGIN, Google, GoogleError
from assist.versions import numbers
from stackfile import ResolvedStack
from stackfile.gke import APIS, Gke
from stackfile.memory_checks import memory_words

FILESTORE_API = "file.googleapis.com"
Check = Callable[[ResolvedStack, Gke, Google], Iterator[Finding]]


def checks(stack: ResolvedStack, client: Google) -> list[Finding]:
    """Return the findings for a stack with target ``gke``; a failed check does not stop later ones.

    Reads only. Raises ``ValueError`` for another target.
    """
    if stack.gke is None:
        raise ValueError(f"stack {stack.name} has target {stack.target}; these checks are for target gke")
    findings: list[Finding] = []
    for name, check in _CHECKS.items():
        try:
            findings += check(stack, stack.gke, client)
        except GoogleError as error:
            findings.append(refused(name, error, client.project))
    return findings


def refused(check: str, error: GoogleError, project: str) -> Finding:
    """Return the finding for a request of ``check`` that failed."""
    match error.status:
        case 401:
            return problem(check, f"Google rejects the credentials: {error}", LOGIN)
        case 403:
            remedy = f"ask an owner for roles/viewer on {project}, or enable the API that the message names"
            return problem(check, f"permission denied: {error}", remedy)
        case 404:
            return problem(check, f"not found: {error}", "check gcp:project with: gcloud projects list")
        case _:
            return unknown(check, str(error), "try again on a machine that can reach Google's APIs")


def _credentials(_: ResolvedStack, __: Gke, client: Google) -> Iterator[Finding]:
    project = client.get("cloudresourcemanager.googleapis.com/v1/projects/{project}")
    state = project.get("lifecycleState")
    if state != "ACTIVE":
        yield problem("credentials", f"project {client.project} is {state}", "choose an active project")
    else:
        yield ok("credentials", f"project {client.project} is readable")


def _billing(_: ResolvedStack, __: Gke, client: Google) -> Iterator[Finding]:
    billing = client.get("cloudbilling.googleapis.com/v1/projects/{project}/billingInfo")
    if billing.get("billingEnabled"):
        yield ok("billing", "a billing account is linked")
    else:
        command = f"gcloud billing projects link {client.project} --billing-account=ACCOUNT"
        yield problem("billing", "no billing account is linked, so Google creates no resources", command)


def _apis(stack: ResolvedStack, _: Gke, client: Google) -> Iterator[Finding]:
    address = "serviceusage.googleapis.com/v1/projects/{project}/services?filter=state:ENABLED"
    enabled = {str(one["name"]).rpartition("/")[2] for one in client.items(address, "services")}
    # `pulumi up` enables the first two itself, with the permission to; Filestore's driver cannot.
    required = [*APIS, *([FILESTORE_API] if prices.filestore(stack) else [])]
    absent = [api for api in required if api not in enabled]
    if absent:
        command = f"gcloud services enable {' '.join(absent)} --project {client.project}"
        yield problem("apis", f"not enabled: {', '.join(absent)}", command)
    else:
        yield ok("apis", "every required API is enabled")


def _model(stack: ResolvedStack, _: Gke, __: Google) -> Iterator[Finding]:
    """Report the check that was made when the stack was read, which refuses a model that does not fit."""
    yield ok("model", f"{stack.model.id} fits {stack.accelerator.kind}: {memory_words(stack)}")


def _licence(stack: ResolvedStack, _: Gke, __: Google) -> Iterator[Finding]:
    """Report the licence; the reader of the stack has refused one that is not accepted."""
    yield ok("licence", f"{stack.model.id}: {stack.model.terms}")


def _driver(stack: ResolvedStack, gke: Gke, _: Google) -> Iterator[Finding]:
    pool, required = gke.gpu_pool, stack.accelerator.driver
    if not stack.accelerator.is_gpu or gke.autopilot:
        yield ok("driver", "no choice to make: no GPU, or Autopilot, which brings its driver")
    elif pool.driver == "none":
        cause = "mode none: GPU nodes have no driver until an operator installs one"
        yield unknown("driver", cause, "install NVIDIA's GPU operator, or set gke.gpu_pool.driver: gke")
    elif pool.driver_version and required and numbers(pool.driver_version) < numbers(required.minimum):
        cause = f"{pool.driver_version} is older than {required.minimum}, which the runtime requires"
        yield problem(
            "driver", cause, f"set gke.gpu_pool.driver_version to a version of branch {required.branch}"
        )
    else:
        yield ok("driver", f"mode {pool.driver}, {pool.driver_version or 'the version that GKE chooses'}")


_CHECKS: dict[str, Check] = {
    "credentials": _credentials,
    "billing": _billing,
    "apis": _apis,
    "model": _model,
    "licence": _licence,
    "driver": _driver,
    "zones": availability.zones,
    "quota": quota.quota,
    "price": prices.price,
}
