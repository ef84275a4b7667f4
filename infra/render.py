"""`python -m infra.render`: what `pulumi up` makes, written as manifests for `kubectl apply`.

It needs the pulumi command and the Kubernetes provider, but no cluster. Secrets are never written.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation

from infra import naming, program, providers
from stackfile import ResolvedStack, StackFileError, load_stack
from stackfile.catalogue import ROOT

VARIANTS = {
    "code-completion/cpu": "code-completion-cpu",
    "code-completion/t4": "code-completion-t4",
    "personal-gpt/cpu": "personal-gpt-cpu",
}
# kubectl applies a folder's files by name: what others lie in or refer to goes first.
_ORDER = (
    ("Namespace", "PriorityClass"),
    ("ResourceQuota", "LimitRange", "NetworkPolicy", "PersistentVolume"),
    ("PersistentVolumeClaim", "Service", "Secret"),
    ("Job", "Deployment"),
)
_LAST = len(_ORDER)
_PULUMI = "pulumi.com/"
_MANAGED = "app.kubernetes.io/managed-by"


def render(service: ResolvedStack, target: Path) -> None:
    """Write the service's objects and a kustomization to ``target``, which is replaced as a whole."""
    with tempfile.TemporaryDirectory(prefix="render-") as work:
        objects = [_cleaned(item) for item in _rendered(service, Path(work))]
        fresh = Path(work) / "manifests"
        fresh.mkdir()
        files = {_file_name(item): item for item in objects}
        for name, item in files.items():
            (fresh / name).write_text(_text(item), encoding="utf-8")
        (fresh / "kustomization.yaml").write_text(_text(_kustomization(service, files)), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fresh, target)


def _rendered(service: ResolvedStack, work: Path) -> Iterator[dict[str, Any]]:
    """Run the real engine with a provider that writes files, on a state of its own; yield the objects."""
    output, backend = work / "rendered", work / "state"
    backend.mkdir()

    def run() -> None:
        program.deploy(service, None, providers.for_files(service.name, output))

    options = automation.LocalWorkspaceOptions(
        project_settings=automation.ProjectSettings(
            name=naming.PROJECT, runtime="python", backend=automation.ProjectBackend(f"file://{backend}")
        ),
        env_vars={"PULUMI_CONFIG_PASSPHRASE": "", "PULUMI_BACKEND_URL": f"file://{backend}"},
    )
    stack = automation.create_stack(service.name, project_name=naming.PROJECT, program=run, opts=options)
    stack.up()
    for file in sorted(output.rglob("*.yaml")):
        yield yaml.safe_load(file.read_text(encoding="utf-8"))


def _cleaned(item: dict[str, Any]) -> dict[str, Any]:
    """Take out what only Pulumi reads, and say truly who manages the object."""
    metadata = item["metadata"]
    annotations = metadata.pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if not key.startswith(_PULUMI)}
    metadata["labels"].pop(_MANAGED, None)
    return item | {"metadata": metadata | ({"annotations": kept} if kept else {})}


def _file_name(item: dict[str, Any]) -> str:
    kind, labels = item["kind"], item["metadata"]["labels"]
    place = next((place for place, kinds in enumerate(_ORDER) if kind in kinds), _LAST)
    # A Job's name carries a digest; a file that is renamed with it would hide what changed.
    name = labels["app.kubernetes.io/name"] if kind == "Job" else item["metadata"]["name"]
    return f"{place}-{kind.lower()}-{name}.yaml"


def _kustomization(service: ResolvedStack, files: dict[str, Any]) -> dict[str, Any]:
    images = service.kubernetes.images.model_dump() if service.kubernetes else {}
    used = [image for image in images.values() if image in str(files)]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": service.kubernetes.namespace if service.kubernetes else "",
        "images": [_image(reference) for reference in used],
        "resources": sorted(files),
    }


def _image(reference: str) -> dict[str, str]:
    name, _, tag = reference.partition("@")[0].rpartition(":")
    return {"name": name, "newName": name, "newTag": tag}


def _text(item: dict[str, Any]) -> str:
    first = [key for key in ("apiVersion", "kind", "metadata") if key in item]
    ordered = {key: item[key] for key in [*first, *sorted(set(item) - set(first))]}
    return "".join(
        yaml.safe_dump({key: value}, width=110, default_flow_style=False) for key, value in ordered.items()
    )


def main(arguments: list[str] | None = None) -> int:
    """Render every variant, or one stack file to one folder; return 1 with the reason if that fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.render", description=__doc__)
    parser.add_argument("--stack", type=Path, help="a stack file of your own; the default is every variant")
    parser.add_argument("--to", type=Path, default=ROOT / "manifests", help="the folder to write")
    options = parser.parse_args(arguments)
    jobs = {options.to / folder: ROOT / "stacks" / f"{stack}.yaml" for folder, stack in VARIANTS.items()}
    try:
        for target, file in ({options.to: options.stack} if options.stack else jobs).items():
            render(load_stack(file), target)
            sys.stdout.write(f"{target}\n")
    except (StackFileError, automation.CommandError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
