"""Bodies: half a character becomes U+FFFD wherever it stands, and nothing else that is not JSON is taken."""

import httpx
import orjson
import pytest

from gateway.app import create_app
from gateway.body import whole_characters
from gateway.dialects.chat_tools import CalledFunction, ToolCall
from testing.doubles.instant_engine import InstantEngine
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat import model_folder
from tests.gateway.scripted_triton import tensors

HALF, CUT = r"\ud83d", "# caf\u00e9 \ufffd"
# What JavaScript's JSON.stringify makes of a text that was cut within an emoji.
TEXT = rf'"# caf\u00e9 {HALF}"'
FILE = rf'{{"file_name": "a.py", "content_above_cursor": {TEXT}, "content_below_cursor": ""}}'
ROUTES = {
    "/v1/completions": rf'{{"prompt": {TEXT}, "max_tokens": 4}}',
    "/v1/engines/codegen/completions": rf'{{"prompt": {TEXT}, "max_tokens": 4}}',
    "/completion": rf'{{"prompt": {TEXT}, "n_predict": 4}}',
    "/infill": rf'{{"input_prefix": {TEXT}, "input_suffix": "", "n_predict": 4}}',
    "/v2/code/completions": rf'{{"prompt_version": 1, "current_file": {FILE}}}',
    "/v3/code/completions": rf'{{"prompt_components": [{{"type": "code_editor_completion", "payload": {FILE}}}]}}',
}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\uDE00", "\ufffd"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\ud83dx\ude00", "\ufffdx\ufffd"),
        (r"\ud83d\n", "\ufffd\n"),
        (r"\\ud83d", r"\ud83d"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\\\\ud83d\ud83d", "\\\\ud83d\ufffd"),
        (r"\u00e9\ud83d\ude00", "\u00e9\U0001f600"),
    ],
)
def test_half_a_character_is_replaced_and_nothing_else(sent, read):
    assert orjson.loads(whole_characters(f'"{sent}"'.encode())) == read


@pytest.mark.parametrize("path", ROUTES)
async def test_every_dialect_completes_a_text_that_is_cut_within_a_character(client, script, codegen, path):
    answer = await client.post(path, content=ROUTES[path])
    assert answer.status_code == 200, answer.text
    sent = {tensor["name"]: tensor["data"] for tensor in tensors(script.requests[-1])}
    assert codegen.decode(sent["input_ids"][0]).endswith(CUT)


async def test_a_chat_is_answered_too(tmp_path):
    app = create_app(settings(model_dir=model_folder(tmp_path)), InstantEngine())
    body = f'{{"messages": [{{"role": "user", "content": {TEXT}}}], "max_tokens": 2}}'
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        answer = await client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 200, answer.text


def test_the_arguments_of_a_call_are_json_of_their_own():
    call = ToolCall(function=CalledFunction(name="f", arguments=rf'{{"x": "{HALF}"}}'))
    assert call.for_template()["function"]["arguments"] == {"x": "\ufffd"}


@pytest.mark.parametrize(
    "body",
    [rb'{"prompt": "\ud83d", }', b'{"prompt": "\xed\xa0\x80"}', rb'{"prompt": "\ud83"}', rb'["\ud83d"]'],
)
async def test_what_is_not_a_json_object_in_utf8_is_still_refused(client, body):
    answer = await client.post("/v1/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
