"""``assist keys``: the callers' API keys. A change takes effect within a second, without a restart."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from assist.client_env import client_env
from assist.options import Json
from assist.paths import Paths
from assist.terminal import err, fail, out
from gateway.auth.keys import Key, KeyFileError, create_key, list_keys, revoke_key, rotate_key
from gateway.auth.keys import repair as repair_keys

keys = typer.Typer(
    help="API keys: hashed at rest, several per user, changed without a restart.", no_args_is_help=True
)

KeyId = Annotated[str, typer.Argument(help="Id of the key, as `assist keys list` prints it.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--file", dir_okay=False, help="File of another deployment's keys, e.g. for Pulumi's configuration."
    ),
]
Limit = Annotated[int | None, typer.Option(min=0, help="0 for no limit. Default: the stack's own limit.")]


@keys.command()
def add(
    user: str,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days until the key expires. Default: never.")
    ] = None,
    rpm: Limit = None,
    tpm: Limit = None,
    concurrency: Limit = None,
    file: KeyFile = None,
) -> None:
    """Make a key and print it once; only its hash is stored. rpm and tpm: requests and tokens a minute."""
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    try:
        key_id, secret = create_key(
            file or Paths().keys, user, expires=expires, rpm=rpm, tpm=tpm, concurrency=concurrency
        )
    except (KeyFileError, ValueError) as error:
        fail(str(error))
    err.print(f"{key_id}: store this key now; it is not shown again.", highlight=False)
    typer.echo(secret)


@keys.command("list")
def list_(as_json: Json = False, file: KeyFile = None) -> None:
    """List the keys, without their secrets, which are not stored."""
    stored = _list(file)
    if as_json:
        typer.echo(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in stored], indent=1))
        return
    table = Table("id", "user", "created", "expires", "state", "requests/min", "tokens/min", "at a time")
    now = datetime.now(UTC)
    for key in stored:
        limits = [
            str(limit) if limit is not None else "default" for limit in (key.rpm, key.tpm, key.concurrency)
        ]
        expires = f"{key.expires:%Y-%m-%d}" if key.expires else "never"
        state = "revoked" if key.revoked else "expired" if key.refusal(now) else "active"
        table.add_row(key.id, key.user, f"{key.created:%Y-%m-%d}", expires, state, *limits)
    out.print(table)


@keys.command()
def revoke(key_id: KeyId, file: KeyFile = None) -> None:
    """Revoke a key: requests with it are refused from now on."""
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
    """Replace a key by a new one of the same user and limits, and print it.

    The old key stays valid for the overlap.
    """
    try:
        new_id, secret = rotate_key(file or Paths().keys, key_id, timedelta(hours=overlap_hours))
    except KeyFileError as error:
        fail(str(error))
    err.print(f"{new_id} replaces {key_id}: store this key now; it is not shown again.", highlight=False)
    typer.echo(secret)


@keys.command()
def repair() -> None:
    """Make a damaged key file valid: keep every record that can be read, and this machine's own key."""
    layout = Paths()
    try:
        list_keys(layout.keys)
    except KeyFileError:
        kept, damaged = repair_keys(layout.keys, "local", client_env(layout).get("ASSIST_KEY", ""))
        out.print(f"{kept} keys could be read and stay; the damaged file is {damaged}.", highlight=False)
        out.print("Make new keys for the others: assist keys add USER")
    else:
        out.print("The key file is valid; nothing to repair.")


@keys.command()
def usage(as_json: Json = False) -> None:
    """Print each caller's requests, refusals and tokens since the gateway started."""
    from assist import probe
    from assist.deployment import current
    from stackfile import StackFileError

    try:
        deployment = current(Paths())
        used = (
            probe.usage(deployment) if deployment else fail("The service has not been started here: make up")
        )
    except StackFileError as error:
        fail(str(error), 2)
    except probe.NotServingError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(used, indent=1))
        return
    table = Table("key", "user", "requests", "refused", "tokens", "last request")
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
