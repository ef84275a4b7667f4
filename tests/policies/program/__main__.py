"""Register the resources of ``examples.json``, so that the engine shows them to the policy pack."""

import json
from pathlib import Path

import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as k8s

here = Path(__file__).parent
providers = {
    "kubernetes": k8s.Provider("files", render_yaml_to_directory=str(here / "rendered")),
    "gcp": gcp.Provider("google", project="demo-project", region="us-central1"),
}
for token, name, props in json.loads((here / "examples.json").read_text()):
    opts = pulumi.ResourceOptions(provider=providers[token.partition(":")[0]])
    pulumi.CustomResource(token, name, props, opts)
