"""The provider as a server: Pulumi's messages in, the double's plain values through, Pulumi's messages out."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2

from testing.gcp import schema, sdk
from testing.gcp.cloud import VARIABLE, Body, Cloud, GoogleError
from testing.gcp.kinds import KINDS
from testing.gcp.kinds.places import Where
from testing.gcp.protocol import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2
from testing.gcp.provider import PATIENCE_S, Call, HalfDoneError, Provider, ProviderError
from testing.gcp.sdk import SdkError
from testing.gcp.values import UNKNOWN, Secret, decode, encode, marked, merged, plain

_CREDENTIALS = ("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS")
_OPTIONS = [("grpc.max_receive_message_length", 400 * 1024 * 1024)]
# Many calls may be held at once.
_THREADS = 64
_VERBS = {"add": 0, "delete": 2, "update": 4}
_REPLACE = 1


@dataclass
class _Status(grpc.Status):  # type: ignore[misc]  # grpc has no types
    code: Any
    details: str
    trailing_metadata: Any = None


def _answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what the provider raises into gRPC's errors."""

    @wraps(method)
    def call(self: "Server", request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except HalfDoneError as half:
            context.abort_with_status(_half_done(half, request))
        except (GoogleError, ProviderError, SdkError) as refused:
            context.abort(grpc.StatusCode.UNKNOWN, str(refused))

    return call


def _half_done(half: HalfDoneError, request: Any) -> _Status:
    detail = provider_pb2.ErrorResourceInitFailed(id=half.identity, reasons=[half.reason])
    detail.properties.CopyFrom(encode(half.outputs))
    detail.inputs.CopyFrom(getattr(request, "news", None) or request.properties)
    whole = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=half.reason)
    whole.details.add().Pack(detail)
    metadata = (("grpc-status-details-bin", whole.SerializeToString()),)
    return _Status(grpc.StatusCode.UNKNOWN, half.reason, metadata)


class Server(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[misc, name-defined]  # generated, without types
    """Google's provider for Pulumi's engine, on the cloud in one folder."""

    def __init__(self, cloud: Cloud) -> None:
        self.provider = Provider(cloud, Where(""))

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=sdk.version())

    def GetSchema(self, request: Any, context: Any) -> Any:
        document = schema.document({token: kind.inputs() for token, kind in KINDS.items()})
        return provider_pb2.GetSchemaResponse(schema=json.dumps(document))

    def Cancel(self, request: Any, context: Any) -> Any:
        """Do nothing: what Google has begun it finishes, and the engine waits for that."""
        return empty_pb2.Empty()

    @_answered
    def CheckConfig(self, request: Any, context: Any) -> Any:
        given = {key: _from_json(value) for key, value in plain(decode(request.news)).items()}
        shape = sdk.shape("provider", "ProviderArgs")
        found = [
            one for one in schema.findings(shape, given) if one.path not in {"version", "pluginDownloadURL"}
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(found))

    def DiffConfig(self, request: Any, context: Any) -> Any:
        old, new = plain(decode(request.old_inputs)), plain(decode(request.news))
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        return provider_pb2.DiffResponse(changes=2 if changed else 1, diffs=changed)

    @_answered
    def Configure(self, request: Any, context: Any) -> Any:
        given = {
            key: _from_json(value)
            for key, value in plain(decode(request.args)).items()
            if value is not UNKNOWN
        }
        if (
            not given.get("accessToken")
            and not given.get("credentials")
            and not any(map(os.environ.get, _CREDENTIALS))
        ):
            raise ProviderError("no credentials for Google; run: gcloud auth application-default login")
        self.provider.where = Where(
            project=given.get("project") or os.environ.get("GOOGLE_PROJECT", ""),
            region=given.get("region") or os.environ.get("GOOGLE_REGION"),
            zone=given.get("zone") or os.environ.get("GOOGLE_ZONE"),
            labels=given.get("defaultLabels") or {},
        )
        if not self.provider.where.project:
            raise ProviderError(
                "project: required field is not set; run: pulumi config set gcp:project YOUR-PROJECT-ID"
            )
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    @_answered
    def Check(self, request: Any, context: Any) -> Any:
        given = decode(request.news)
        inputs, found = self.provider.check(
            _call(request), plain(decode(request.olds)), plain(given), request.randomSeed
        )
        return provider_pb2.CheckResponse(inputs=encode(marked(inputs, given)), failures=_failures(found))

    @_answered
    def Diff(self, request: Any, context: Any) -> Any:
        found = self.provider.diff(
            _call(request),
            before=plain(decode(request.old_inputs)),
            state=plain(decode(request.olds)),
            asked=plain(decode(request.news)),
            ignored=list(request.ignoreChanges),
        )
        details = {
            one.path: provider_pb2.PropertyDiff(kind=_VERBS[one.verb] + (_REPLACE if one.replaces else 0))
            for one in found.changes
        }
        return provider_pb2.DiffResponse(
            changes=2 if found.changes else 1,
            diffs=sorted({one.top for one in found.changes}),
            replaces=found.replaces,
            deleteBeforeReplace=found.delete_first,
            detailedDiff=details,
            hasDetailedDiff=True,
        )

    @_answered
    def Create(self, request: Any, context: Any) -> Any:
        given = decode(request.properties)
        if request.preview:
            planned = self.provider.plan(_call(request), plain(given))
            return provider_pb2.CreateResponse(properties=encode(_hidden(request.type, planned, given)))
        identity, outputs = self.provider.create(_call(request), plain(given))
        return provider_pb2.CreateResponse(
            id=identity, properties=encode(_hidden(request.type, outputs, given))
        )

    @_answered
    def Read(self, request: Any, context: Any) -> Any:
        last, given = decode(request.properties), decode(request.inputs)
        found = self.provider.read(_call(request), request.id, plain(last), plain(given))
        if found is None:
            return provider_pb2.ReadResponse()
        outputs, inputs = found
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=encode(_hidden(request.type, outputs, last | given)),
            inputs=encode(marked(inputs, given)),
        )

    @_answered
    def Update(self, request: Any, context: Any) -> Any:
        given, last = decode(request.news), decode(request.olds)
        if request.preview:
            shown = {key: value for key, value in given.items() if not key.startswith("__")}
            return provider_pb2.UpdateResponse(properties=encode(merged(last, shown)))
        outputs = self.provider.update(_call(request), request.id, plain(last), plain(given))
        return provider_pb2.UpdateResponse(properties=encode(_hidden(request.type, outputs, given)))

    @_answered
    def Delete(self, request: Any, context: Any) -> Any:
        self.provider.delete(_call(request), request.id, plain(decode(request.properties)))
        return empty_pb2.Empty()

    @_answered
    def Invoke(self, request: Any, context: Any) -> Any:
        found = self.provider.invoke(request.tok, plain(decode(request.args)))
        return provider_pb2.InvokeResponse(**{"return": encode(found)})


def _call(request: Any) -> Call:
    return Call(request.type, request.name, getattr(request, "timeout", 0) or PATIENCE_S)


def _failures(found: list[schema.Finding]) -> list[Any]:
    return [provider_pb2.CheckFailure(property=one.path, reason=f"{one.path}: {one.reason}") for one in found]


def _hidden(token: str, outputs: Body, given: Body) -> Body:
    """Return outputs with what is secret marked: what was given as a secret, and what the type says."""
    hidden: Body = marked(outputs, given)
    for path in KINDS[token].secrets if token in KINDS else ():
        hidden = _secret(hidden, path.split("."))
    return hidden


def _secret(value: Any, path: list[str]) -> Any:
    if isinstance(value, dict) and path[0] in value:
        inner = value[path[0]]
        return value | {path[0]: _secret(inner, path[1:]) if path[1:] else Secret(plain(inner))}
    return value


def _from_json(value: Any) -> Any:
    """Return what the SDK's provider sends as JSON: all but strings."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in {"{", "[", "t", "f"} else value
    except ValueError:
        return value


def _leave_with(parent: int) -> None:
    """End this process when the engine has ended, however that came about."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> int:
    """Serve until the engine ends; print the port as Pulumi wants it. Return 1 without a cloud."""
    # Before the port is written: an engine that ends earlier leaves a pipe that nobody reads, and the write fails;
    # one that ends later is seen, as this is then its process id.
    engine = os.getppid()
    folder = os.environ.get(VARIABLE)
    if not folder:
        sys.stderr.write(f"{VARIABLE} is not set: it names the folder of the test double's cloud\n")
        return 1
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Server(Cloud(Path(folder))), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    threading.Thread(target=_leave_with, args=(engine,), daemon=True).start()
    server.wait_for_termination()
    return 0
