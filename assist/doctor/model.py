"""The served model's files: every byte against the manifest."""

import time

from assist.deployment import Deployment
from assist.doctor.logs import iso
from assist.findings import Finding, ok
from model_loader.store import store as stores
from model_loader.store import verify


def check(deployment: Deployment, *, quick: bool = False) -> Finding:
    """Compare the model with its manifest; ``quick`` compares presence and sizes alone."""
    if not deployment.needs_triton:
        return ok("model", f"the engine at {deployment.stack.engine.url} has its own")
    folder, model = deployment.model_dir, deployment.stack.model.id
    manifest = stores.read(folder)
    if manifest is None:
        broken = deployment.model_link.is_symlink() and not folder.exists()
        why = "its link points nowhere" if broken else f"{folder} has no valid manifest"
        cause = f"the model {model} is not in the store: {why}"
        return _wrong("model-missing", cause, deployment.up_command, str(deployment.model_link))
    if quick:
        whole = stores.is_complete(folder, manifest)
        faults = [] if whole else [verify.Fault(folder.name, "size", "a file is missing or cut")]
    else:
        began = time.monotonic()
        faults = [fault for fault in verify.check(folder, manifest) if fault.kind in verify.REFETCH]
    if not faults:
        how = "sizes" if quick else f"checksums ({time.monotonic() - began:.1f} s)"
        return ok("model", f"{model}: {folder.name}, {len(manifest.files)} files with the manifest's {how}")
    first = faults[0]
    cause = f"the model {model} is damaged: {', '.join(f'{one.path} ({one.kind})' for one in faults)}"
    remedy = f"make down && .run/bin/model-loader verify {model} --repair && {deployment.up_command}"
    path = folder / first.path
    since = iso(path.stat().st_mtime) if path.exists() else ""
    return _wrong("model-damaged", cause, remedy, str(path), since, f"{first.path}: {first.detail}")


def _wrong(fault: str, cause: str, remedy: str, where: str, since: str = "", evidence: str = "") -> Finding:
    return Finding(
        "model", "problem", cause, remedy, fault=fault, where=where, since=since, evidence=evidence
    )
