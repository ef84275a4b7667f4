"""Where on Google Cloud: what Pulumi's own configuration says, and the provider that every resource names."""

from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

from stackfile.gke import Gke


@dataclass(frozen=True)
class Project:
    """A Google Cloud project and the region that the stack's zones are in."""

    id: str
    region: str

    @classmethod
    def configured(cls, gke: Gke) -> "Project":
        """Return what ``gcp:project`` and ``gcp:region`` say.

        Raises ``pulumi.RunError`` with the command to run where one is missing or contradicts the stack file.
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
    """Return the labels by which cost is reported and leftovers of a teardown are found."""
    return {"app": "ai-assist", "stack": stack, "managed-by": "pulumi"}


def provider(project: Project, stack: str) -> gcp.Provider:
    """Return the one Google provider; every resource names it, so none can land in an ambient project."""
    return gcp.Provider("google", project=project.id, region=project.region, default_labels=labels(stack))
