"""Programs built from their Go modules, where the module proxy is all that can be reached."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from testing.tools.download import MismatchError, Say
from testing.tools.kits import HERE, Kit, Module, kits
from testing.tools.store import folder_of

# Go's own archive is unpacked there, which is on few PATHs.
USUAL = Path("/usr/local/go/bin/go")
KUBERNETES = HERE / "go/kubernetes"
_STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
)
_MULTICALL = (
    "etcd",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kwok",
    "metrics-server",
    "coredns",
)


class BuildError(Exception):
    """Go could not download or compile something; the message has its last lines."""


def find_go() -> Path | None:
    """Return a Go that compiles the sources here: on PATH, in Go's usual folder or in the cache.

    An older one than they ask for counts where it downloads the newer one by itself (GOTOOLCHAIN).
    """
    candidates = (shutil.which("go"), USUAL, folder_of(kits()["go"]) / "sdk/bin/go")
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            version = subprocess.run([candidate, "version"], cwd=KUBERNETES, capture_output=True, check=False)
            if version.returncode == 0:
                return Path(candidate)
    return None


@dataclass
class Builder:
    """Compiles into ``target``, with copies of modules in ``work``. Go's own caches stay where Go has them."""

    go: Path
    kit: Kit
    work: Path
    target: Path
    say: Say

    @property
    def environment(self) -> dict[str, str]:
        """Return what makes a build the same for everybody: nothing of C, no workspace, no version control."""
        return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}

    def run(self, *arguments: str | Path, cwd: Path, **variables: str) -> str:
        """Run ``go`` and return what it prints.

        Raises:
            BuildError: Where it fails.

        """
        command = ["nice", "-n", "10", self.go, *arguments]
        environment = self.environment | variables
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"go {arguments[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def module(self, name: str) -> Path:
        """Return the folder of a pinned module in Go's cache.

        Raises:
            MismatchError: Where its checksum is not the pinned one.

        """
        module = self.kit.module(name)
        self.say(f"downloading the module {module.path} {module.version}")
        facts = json.loads(
            self.run("mod", "download", "-json", f"{module.path}@{module.version}", cwd=self.work)
        )
        _require_sum(module, facts["Sum"])
        return Path(facts["Dir"])

    def copy(self, name: str) -> Path:
        """Return a copy of a pinned module, to be changed and compiled in."""
        copy = self.work / name
        shutil.copytree(self.module(name), copy)
        for folder, _, files in os.walk(copy):
            Path(folder).chmod(0o755)
            for file in files:
                (Path(folder) / file).chmod(0o644)
        return copy

    def compile(self, folder: Path, package: str, program: str, *variables: str) -> None:
        """Compile one program; ``variables`` are settings of the linker, as NAME=VALUE."""
        flags = " ".join(["-s -w", *(f"-X {variable}" for variable in variables)])
        command = ["nice", "-n", "10", str(self.go), "build", "-v", "-trimpath", "-ldflags", flags]
        command += ["-o", str(self.target / program), package]
        self.say(f"compiling {program}")
        with subprocess.Popen(
            command, cwd=folder, env=self.environment, stderr=subprocess.PIPE, text=True
        ) as process:
            said = self._follow(process.stderr or ())
        if process.returncode:
            text = "".join(said[-20:]) or f"go build ended with status {process.returncode}"
            raise BuildError(f"{program} could not be compiled:\n{text}")

    def _follow(self, lines: Iterable[str]) -> list[str]:
        """Count the packages that `go build -v` names as it goes on, and return what else it says."""
        begun = reported = time.monotonic()
        packages, said = 0, []
        for line in lines:
            if " " not in line.strip() and not line.startswith("#"):
                packages += 1
            elif not line.startswith("go: downloading"):
                said.append(line)
            if time.monotonic() - reported > 15:
                reported = time.monotonic()
                self.say(f"  {packages} packages compiled in {reported - begun:.0f} s")
        return said


def _require_sum(module: Module, got: str) -> None:
    if got != module.sum:
        raise MismatchError(f"{module.path} {module.version} has the checksum {got}, not {module.sum}")


def _pulumi(build: Builder) -> None:
    engine, version = build.copy("engine"), f"v{build.kit.version}"
    # The module names its sibling by a path of its repository, which is not here.
    sdk = build.kit.module("sdk")
    edit = [f"-dropreplace={sdk.path}", f"-require={sdk.path}@{sdk.version}"]
    build.run("mod", "edit", *edit, cwd=engine)
    stamped = f"{sdk.path}/go/common/version.Version={version}"
    build.compile(engine, "./cmd/pulumi", "pulumi", stamped)
    host = build.work / "language_host"
    shutil.copytree(HERE / "go/language_host", host)
    build.compile(host, ".", "pulumi-language-python", stamped)
    runner = build.target / "pulumi-language-python-exec"
    shutil.copyfile(build.module("sdk") / "python/cmd/pulumi-language-python-exec", runner)
    runner.chmod(0o755)


def _provider(build: Builder) -> None:
    provider = build.copy("provider")
    build.run("mod", "edit", "-dropreplace=github.com/pulumi/pulumi-kubernetes/sdk/v4", cwd=provider)
    command = provider / "cmd/pulumi-resource-kubernetes"
    build.say("writing the schema into the sources")
    build.run("run", "generate.go", cwd=command, VERSION=build.kit.version)
    stamped = f"{build.kit.module('provider').path}/pkg/version.Version=v{build.kit.version}"
    build.compile(provider, "./cmd/pulumi-resource-kubernetes", "pulumi-resource-kubernetes", stamped)


def _kubernetes(build: Builder) -> None:
    """Link all of it as one program, which does what it is called as: packages that all share are there once."""
    sources = _copied(build)
    major, minor, _ = build.kit.version.split(".")
    # Else the API server calls itself v0.0.0, and nothing that asks for its version works.
    version = {
        "gitVersion": f"v{build.kit.version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamped = [f"{package}.{key}={value}" for package in packages for key, value in version.items()]
    build.compile(sources, "./kubeall", "kubeall", *stamped)
    for name in _MULTICALL:
        (build.target / name).symlink_to("kubeall")
    stages = build.module("kwok") / "kustomize/stage"
    texts = [(stages / f"{name}.yaml").read_text() for name in _STAGES]
    (build.target / "kwok-stages.yaml").write_text("---\n" + "---\n".join(texts))


def _gpu_nodes(build: Builder) -> None:
    sources = _copied(build)
    build.compile(sources, "./fakegpu", "fakegpu")
    build.compile(sources, "sigs.k8s.io/karpenter/kwok", "karpenter-kwok")
    definitions = build.target / "karpenter-crds"
    definitions.mkdir()
    for folder in ("kwok/charts/crds", "kwok/apis/crds"):
        for file in (build.module("karpenter") / folder).glob("*.yaml"):
            shutil.copyfile(file, definitions / file.name)


def _copied(build: Builder) -> Path:
    """Return a copy of the sources here: Go writes into go.sum, and never into the clone."""
    return Path(shutil.copytree(KUBERNETES, build.work / "kubernetes"))


def _keda(build: Builder) -> None:
    keda = build.copy("keda")
    stamped = f"{build.kit.module('keda').path}/version.Version={build.kit.version}"
    for package, program in (
        ("operator", "keda"),
        ("adapter", "keda-adapter"),
        ("webhooks", "keda-admission-webhooks"),
    ):
        build.compile(keda, f"./cmd/{package}", program, stamped)
    shutil.copytree(keda / "config", build.target / "keda-install")


def _kube_score(build: Builder) -> None:
    stamped = f"main.version={build.kit.version}"
    build.compile(build.copy("kube-score"), "./cmd/kube-score", "kube-score", stamped)


RECIPES: dict[str, Callable[[Builder], None]] = {
    "pulumi": _pulumi,
    "pulumi-kubernetes": _provider,
    "kubernetes": _kubernetes,
    "gpu-nodes": _gpu_nodes,
    "keda": _keda,
    "kube-score": _kube_score,
}


def build_kit(go: Path, kit: Kit, target: Path, say: Say) -> None:
    """Compile the kit into ``target``.

    Raises:
        BuildError: Where Go could not download or compile something.
        MismatchError: Where a module's checksum is not the pinned one.

    """
    work = target.with_name("work")
    work.mkdir()
    RECIPES[kit.name](Builder(go, kit, work, target, say))
