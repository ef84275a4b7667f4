"""Where a model's files come from: the hub, a mirror, or parts inside wheels on a package index."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from stackfile.validation import Strict

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Requirement = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!+]*$", max_length=200)
]
MirrorAddress = Annotated[str, StringConstraints(pattern=r"^(https://|s3://|gs://)[^\s?#@]+$")]


class WheelPart(Strict):
    """Consecutive bytes of a file: the member ``path`` of the wheel of ``index`` (``NAME==VERSION``).

    ``sha256`` is the wheel's. Nothing in a wheel is ever imported, executed or installed.
    """

    index: Requirement
    path: str = Field(min_length=1)
    sha256: Sha256


class ModelSource(Strict):
    """One place that has a model's files: exactly one of ``hub``, ``mirror`` and ``index``.

    Attributes:
        hub: repository on the hub, such as ``Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF``.
        revision: the hub's revision where it differs from the model's own, for the same bytes.
        mirror: base address of the files: https, s3://bucket/folder or gs://bucket/folder.
        index: the parts of each file, in the order of its bytes, on the configured package index.

    """

    hub: str | None = None
    revision: str | None = None
    mirror: MirrorAddress | None = None
    index: dict[str, Annotated[tuple[WheelPart, ...], Field(min_length=1)]] | None = None

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        if sum(place is not None for place in (self.hub, self.mirror, self.index)) != 1:
            raise ValueError("give exactly one of hub, mirror and index")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision belongs to a hub; a mirror and an index have the model's own revision")
        return self
