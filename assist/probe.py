"""Requests to the running service: readiness, usage, and a real completion."""

import ssl
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from assist import causes, processes
from assist.addresses import local_url
from assist.client_env import client_env
from assist.deployment import Deployment
from assist.paths import Paths

# The verification asks for the middle of this code, or for what follows from a model without such tokens.
PROMPT = "def fibonacci(n):\n    if n < 2:\n        return n\n    return"
SUFFIX = "\n\n\nprint(fibonacci(10))\n"
_STARTS = 4
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class NotServingError(Exception):
    """The service does not serve; the message has cause and remedy."""


@dataclass(frozen=True)
class Completion:
    """A completion of ``PROMPT``, with ``suffix`` behind it if there is one.

    ``tokens``: those generated. ``seconds``: the whole request, as a client sees it.
    """

    text: str
    suffix: str
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated per second of the whole request, the time for reading the prompt included."""
        return self.tokens / self.seconds

    def facts(self) -> dict[str, Any]:
        """Return it as plain data, with the prompt and the rate."""
        return {"prompt": PROMPT, **asdict(self), "tokens_per_second": round(self.tokens_per_second, 1)}


def status(url: str) -> int | None:
    """Return the status of a GET, or None where no server responds."""
    try:
        with _client() as client:
            return client.get(url).status_code
    except httpx.HTTPError:
        return None


def triton_url(deployment: Deployment) -> str:
    """Return the URL of Triton's readiness."""
    triton = deployment.stack.triton
    return f"http://{triton.host}:{triton.http_port}/v2/health/ready"


def wait_until_ready(deployment: Deployment, timeout_s: float) -> None:
    """Wait until the gateway is ready. Raises NotServingError after ``timeout_s`` or a program's failure."""
    end = time.monotonic() + timeout_s
    seen: dict[str, set[int]] = {}
    while status(f"{deployment.url}/ready") != 200:
        check_starts(deployment.layout, seen)
        if time.monotonic() > end:
            raise NotServingError(f"not ready after {timeout_s:.0f} s; run `assist doctor` for the cause")
        time.sleep(0.1)


def check_starts(layout: Paths, seen: dict[str, set[int]]) -> None:
    """Raise NotServingError with the cause where a program does not start; ``seen`` collects the attempts."""
    for program in processes.programs(layout) or []:
        seen.setdefault(program.name, set()).update({program.pid} - {0})
        starts = len(seen[program.name])
        # A program that dies after its start counted as successful is restarted for ever; one that has said
        # why it cannot start, and was started again, need not be waited for.
        said_why = starts > 1 and causes.of(layout.log / f"{program.name}.log") is not None
        if program.state == "FATAL" or starts > _STARTS or said_why:
            raise NotServingError(why(layout, program.name))


def why(layout: Paths, program: str) -> str:
    """Return why a program of the service does not run, with the remedy."""
    code = causes.ended(layout.log / "supervisord.log", program)
    cause = causes.of(layout.log / f"{program}.log", code=code)
    return f"{cause.text}. {cause.remedy}" if cause else f"{program} does not start. assist logs {program}"


def usage(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return what each caller used since the gateway started, by the key's id. Raises NotServingError."""
    host, port = deployment.ports["gateway metrics"]
    url = f"{local_url(host, port)}/usage"
    try:
        with _client() as client:
            callers: dict[str, dict[str, Any]] = client.get(url).raise_for_status().json()["callers"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotServingError(f"{url} can't be read ({error}). Start the service with: make up") from error
    return callers


def completion_request(deployment: Deployment) -> dict[str, Any]:
    """Return the body of the verification's request, which is greedy.

    A model with fill-in-the-middle tokens gets a suffix and ends at the line's end, as in an editor.
    """
    body = {"model": deployment.stack.model.id, "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    return body | ({"suffix": SUFFIX, "stop": ["\n"]} if deployment.stack.model.fim else {})


def complete(deployment: Deployment) -> Completion:
    """Make a real completion with the user's key. Raises NotServingError with the server's message."""
    key = client_env(deployment.layout).get("ASSIST_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = completion_request(deployment)
    since = time.monotonic()
    try:
        with _client() as client:
            response = client.post(f"{deployment.url}/v1/completions", json=body, headers=headers)
    except httpx.HTTPError as error:
        raise NotServingError(f"the gateway at {deployment.url} does not respond: {error}") from error
    if response.status_code != 200:
        raise NotServingError(f"the gateway returned {response.status_code}: {response.text[:500]}")
    seconds = time.monotonic() - since
    answer = response.json()
    text = answer["choices"][0]["text"]
    if not text.strip():
        raise NotServingError(
            "the completion is empty; the model or its tokenizer may be damaged: model-loader verify --repair"
        )
    return Completion(text, body.get("suffix", ""), answer["usage"]["completion_tokens"], seconds)


def _client() -> httpx.Client:
    # No proxy for this machine's own addresses; and without TLS there, the list of certificate authorities,
    # which is slow to read, can stay empty.
    return httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
