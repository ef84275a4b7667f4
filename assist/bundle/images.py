"""Container images from buildah's local storage, in one OCI layout, which holds shared layers once.

`skopeo copy oci:images:NAME docker://REGISTRY/NAME` copies an image to the registry of an air-gapped cluster.
"""

import json
import shutil
import subprocess
from pathlib import Path

LIST = "images/images.json"
_OURS = "localhost/"
_REFERENCE = "org.opencontainers.image.ref.name"


def gather(names: tuple[str, ...], target: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the files by their path in the bundle, and the missing images with remedies.

    ``images/images.json`` lists every image with its digest, ``null`` for a missing one.
    """
    if not names:
        return {}, []
    layout = target / "layout"
    missing = [f"image {name}: {why}" for name in names if (why := _push(name, layout))]
    index = json.loads((layout / "index.json").read_text()) if (layout / "index.json").exists() else {}
    digests = {item["annotations"][_REFERENCE]: item["digest"] for item in index.get("manifests", [])}
    listing = target / "images.json"
    rows = [{"image": name, "digest": digests.get(name)} for name in names]
    listing.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    files = {f"images/{path.relative_to(layout)}": path for path in layout.rglob("*") if path.is_file()}
    return {**files, LIST: listing}, missing


def _push(name: str, layout: Path) -> str:
    """Copy an image from the local storage; return the reason of a failure, or an empty string."""
    if shutil.which("buildah") is None:
        return "buildah is missing; sudo apt-get install buildah, then: images/build"
    command = ["buildah", "push", "--quiet", name, f"oci:{layout}:{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        remedy = _build(name) if name.startswith(_OURS) else f"buildah pull {name}"
        return f"not in buildah's storage; {remedy}"
    return ""


def _build(name: str) -> str:
    """Return the command that makes an image of ours: those with a variant's tag are not made by default."""
    parts = {"-torch": " loader loader-torch", "-gpu": " triton"}
    return "images/build" + next((part for suffix, part in parts.items() if name.endswith(suffix)), "")
