"""The Google project and region from Pulumi's configuration, and the provider of every resource."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from stackfile.gke import Gke


@dataclass(frozen=True)
class Project:
    """A Google Cloud project and the region of the stack's zones."""

    id: str
    region: str

    @classmethod
    def configured(cls, gke: Gke) -> "Project":
        """Return the values of ``gcp:project`` and ``gcp:region``.

        Raises ``pulumi.RunError`` with the remedy where one is missing or contradicts the stack file.
        """
        config = pulumi.Config("gcp")
        project, region = config.get("project"), config.get("region")
        if not project:
            raise pulumi.RunError(_remedy("gcp:project is not set", "project", "YOUR-PROJECT-ID"))
        if not region:
            raise pulumi.RunError(_remedy("gcp:region is not set", "region", gke.region))
        if region != gke.region:
            fault = f"gcp:region is {region}, but the stack file's zones are in {gke.region}"
            raise pulumi.RunError(_remedy(fault, "region", gke.region) + " (or change gke.zones)")
        return cls(project, region)


def _remedy(fault: str, key: str, value: str) -> str:
    return f"{fault}; run: pulumi config set gcp:{key} {value} --stack {pulumi.get_stack()}"


def labels(stack: str) -> dict[str, str]:
    """Return the labels for cost reports and for finding leftovers of a teardown."""
    return {"app": "ai-assist", "stack": stack, "managed-by": "pulumi"}


def provider(project: Project, stack: str) -> gcp.Provider:
    """Return the Google provider of every resource, so that none lands in an ambient project."""
    return gcp.Provider("google", project=project.id, region=project.region, default_labels=labels(stack))
