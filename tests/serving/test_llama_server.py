"""llama.cpp's server on a converted model: it answers, and it ends only when what runs has ended."""

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import llama_server
from serving.convert import convert
from testing import needs
from testing.servers.llama_server import running_llama
from testing.servers.triton import TINY


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.package("xllamacpp")
    directory = tmp_path_factory.mktemp("gguf")
    convert(TINY, directory, "llama_cpp", "Q8_0")
    return directory


@pytest.fixture
def server(model: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_llama(model, alias="tiny-codegen", slots=2) as running:
        yield running


def ask(address: str, path: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})  # noqa: S310 -- http, above
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- http, above
        return json.load(answer)


def ready(address: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return ask(address, "/health")["status"]
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_it_completes_under_the_name_of_the_model(server):
    address, _ = server
    assert ready(address) == "ok"
    assert ask(address, "/v1/models")["data"][0]["id"] == "tiny-codegen"
    answer = ask(address, "/v1/completions", {"model": "tiny-codegen", "prompt": [5, 6, 7], "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["choices"][0]["text"]


def test_it_shows_nobody_the_prompts_of_others(server):
    address, _ = server
    ready(address)
    with pytest.raises(OSError, match=r"501|404"):
        ask(address, "/slots")


def resident_mib(pid: int) -> float:
    """Return the memory of a process that is no file's."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def test_it_keeps_prompts_in_its_slots_alone(model: Path):
    """Each of these prompts takes 4.5 MiB of cache; by its default llama.cpp would keep a copy of all of them."""
    with running_llama(model, context=2048, slots=2) as (address, process):
        ready(address)
        sizes = []
        for index in range(30):
            prompt = [300 + (7 * index + place * (index + 1)) % 1700 for place in range(1500)]
            ask(address, "/v1/completions", {"prompt": prompt, "max_tokens": 1})
            sizes.append(resident_mib(process.pid))
        assert sizes[-1] - sizes[3] < 40, sizes


def test_it_ends_when_told_to(server):
    address, process = server
    ready(address)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


def test_it_waits_for_requests_in_its_slots_and_no_longer_than_it_may():
    counts = iter([2, 1, 0])
    assert llama_server.drain(lambda: f"llamacpp:requests_processing {next(counts)}\n", 60)
    assert not llama_server.drain(lambda: "# HELP x\nllamacpp:requests_deferred 1\n", 0.2)


def test_a_directory_without_one_gguf_file_is_refused_with_the_remedy(tmp_path, capsys):
    needs.package("xllamacpp")
    assert llama_server.main([str(tmp_path), "--alias=m", "--context-length=8"]) == 1
    assert "whose format is gguf" in capsys.readouterr().err
