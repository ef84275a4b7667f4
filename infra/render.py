"""`python -m infra.render`: the objects of `pulumi up`, written as manifests for `kubectl apply`.

Needs the pulumi command and the Kubernetes provider, but no cluster. Secrets are never written.
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
# kubectl applies a folder's files by name: objects that others are in or refer to go first.
_ORDER = (
    ("Namespace", "PriorityClass"),
    ("ResourceQuota", "LimitRange", "NetworkPolicy", "PersistentVolume"),
    ("PersistentVolumeClaim", "Service", "Secret"),
    ("Job", "Deployment"),
)
_LAST = len(_ORDER)
_PULUMI = "pulumi.com/"
_MANAGED = "app.kubernetes.io/managed-by"


def render(stack: ResolvedStack, target: Path) -> None:
    """Write the service's objects and a kustomization to ``target``, which is replaced as a whole."""
    with tempfile.TemporaryDirectory(prefix="render-") as work:
        objects = [_cleaned(item) for item in _rendered(stack, Path(work))]
        fresh = Path(work) / "manifests"
        fresh.mkdir()
        files = {_file_name(item): item for item in objects}
        for name, item in files.items():
            (fresh / name).write_text(_text(item), encoding="utf-8")
        (fresh / "kustomization.yaml").write_text(_text(_kustomization(stack, files)), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fresh, target)


def _rendered(stack: ResolvedStack, work: Path) -> Iterator[dict[str, Any]]:
    """Run the real engine with a provider that writes files, on a temporary state; yield the objects."""
    output, backend = work / "rendered", work / "state"
    backend.mkdir()

    def run() -> None:
        program.deploy(stack, None, providers.for_files(stack.name, output))

    options = automation.LocalWorkspaceOptions(
        project_settings=automation.ProjectSettings(
            name=naming.PROJECT, runtime="python", backend=automation.ProjectBackend(f"file://{backend}")
        ),
        env_vars={"PULUMI_CONFIG_PASSPHRASE": "", "PULUMI_BACKEND_URL": f"file://{backend}"},
    )
    engine = automation.create_stack(stack.name, project_name=naming.PROJECT, program=run, opts=options)
    engine.up()
    for file in sorted(output.rglob("*.yaml")):
        yield yaml.safe_load(file.read_text(encoding="utf-8"))


def _cleaned(item: dict[str, Any]) -> dict[str, Any]:
    """Remove Pulumi's own annotations and its label for managed objects."""
    metadata = item["metadata"]
    annotations = metadata.pop("annotations", {})
    kept = {key: value for key, value in annotations.items() if not key.startswith(_PULUMI)}
    metadata["labels"].pop(_MANAGED, None)
    return item | {"metadata": metadata | ({"annotations": kept} if kept else {})}


def _file_name(item: dict[str, Any]) -> str:
    kind, labels = item["kind"], item["metadata"]["labels"]
    rank = next((rank for rank, kinds in enumerate(_ORDER) if kind in kinds), _LAST)
    # A Job's name contains a digest; renaming the file with it would hide the change.
    name = labels["app.kubernetes.io/name"] if kind == "Job" else item["metadata"]["name"]
    return f"{rank}-{kind.lower()}-{name}.yaml"


def _kustomization(stack: ResolvedStack, files: dict[str, Any]) -> dict[str, Any]:
    images = stack.kubernetes.images.model_dump(exclude_none=True) if stack.kubernetes else {}
    used = [image for image in images.values() if image in str(files)]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": stack.kubernetes.namespace if stack.kubernetes else "",
        "images": [_image(reference) for reference in used],
        "resources": sorted(files),
    }


def _image(reference: str) -> dict[str, str]:
    name, _, digest = reference.partition("@")
    folder, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    name = folder + slash + last
    return {"name": name, "newName": name} | ({"digest": digest} if digest else {"newTag": tag})


def _text(item: dict[str, Any]) -> str:
    first = [key for key in ("apiVersion", "kind", "metadata") if key in item]
    ordered = {key: item[key] for key in [*first, *sorted(set(item) - set(first))]}
    return "".join(
        yaml.safe_dump({key: value}, width=110, default_flow_style=False) for key, value in ordered.items()
    )


def main(arguments: list[str] | None = None) -> int:
    """Render every variant, or one stack file to one folder; return 1 with the reason on failure."""
    parser = argparse.ArgumentParser(prog="python -m infra.render", description=__doc__)
    parser.add_argument("--stack", type=Path, help="render this stack file; default: every variant")
    parser.add_argument("--to", type=Path, default=ROOT / "manifests", help="the folder to write to")
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
