"""``assist keys``: who may ask. A change counts within a second; nothing is restarted."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from assist.paths import Paths
from assist.terminal import err, fail, out
from gateway.auth.keys import Key, KeyFileError, create_key, list_keys, revoke_key, rotate_key

keys = typer.Typer(
    help="API keys: hashed at rest, several per user, changed without a restart.", no_args_is_help=True
)

KeyId = Annotated[str, typer.Argument(help="As `assist keys list` names it.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--file", dir_okay=False, help="The keys of another deployment, e.g. for Pulumi's configuration."
    ),
]
Limit = Annotated[int | None, typer.Option(min=0, help="0 for no limit; the stack's own limit by default.")]


@keys.command()
def add(
    user: str,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; never by default.")] = None,
    rpm: Limit = None,
    tpm: Limit = None,
    concurrency: Limit = None,
    file: KeyFile = None,
) -> None:
    """Make a key and print it, once: it is stored as a hash. rpm and tpm: requests and tokens a minute."""
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    try:
        key_id, secret = create_key(
            file or Paths().keys, user, expires=expires, rpm=rpm, tpm=tpm, concurrency=concurrency
        )
    except (KeyFileError, ValueError) as error:
        fail(str(error))
    err.print(f"{key_id}: keep this key, it is not shown again.", highlight=False)
    typer.echo(secret)


@keys.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, file: KeyFile = None
) -> None:
    """List the keys; none can be read back."""
    found = _list(file)
    if as_json:
        typer.echo(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in found], indent=1))
        return
    table = Table("id", "user", "created", "expires", "state", "requests/min", "tokens/min", "at a time")
    now = datetime.now(UTC)
    for key in found:
        limits = [
            str(limit) if limit is not None else "default" for limit in (key.rpm, key.tpm, key.concurrency)
        ]
        expires = f"{key.expires:%Y-%m-%d}" if key.expires else "never"
        state = "revoked" if key.revoked else "expired" if key.refusal(now) else "in force"
        table.add_row(key.id, key.user, f"{key.created:%Y-%m-%d}", expires, state, *limits)
    out.print(table)


@keys.command()
def revoke(key_id: KeyId, file: KeyFile = None) -> None:
    """Make a key useless from now on."""
    try:
        key = revoke_key(file or Paths().keys, key_id)
    except KeyFileError as error:
        fail(str(error))
    out.print(f"{key.id} of {key.user} is revoked.", highlight=False)


@keys.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[float, typer.Option(min=0)] = 0.0,
    file: KeyFile = None,
) -> None:
    """Replace a key by one of the same user and limits, and print it; the old one works for the overlap."""
    try:
        new_id, secret = rotate_key(file or Paths().keys, key_id, timedelta(hours=overlap_hours))
    except KeyFileError as error:
        fail(str(error))
    err.print(f"{new_id} replaces {key_id}: keep this key, it is not shown again.", highlight=False)
    typer.echo(secret)


@keys.command()
def usage(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what each caller has used since the gateway started: requests, refusals and tokens."""
    from assist import probe
    from assist.deployment import current
    from stackfile import StackFileError

    try:
        deployment = current(Paths())
        used = probe.usage(deployment) if deployment else fail("Nothing has been started here: make up")
    except StackFileError as error:
        fail(str(error), 2)
    except probe.NotServingError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(used, indent=1))
        return
    table = Table("key", "user", "requests", "refused", "tokens", "last asked")
    for key_id, use in sorted(used.items(), key=lambda item: -item[1]["tokens"]):
        last = datetime.fromtimestamp(use["last"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        counts = [f"{use[name]:,}" for name in ("requests", "refused", "tokens")]
        table.add_row(key_id, use["user"], *counts, last)
    out.print(table)


def _list(file: Path | None) -> tuple[Key, ...]:
    try:
        return list_keys(file or Paths().keys)
    except KeyFileError as error:
        fail(str(error))
