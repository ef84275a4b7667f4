"""`assist up` says how an interruption left the service."""

import json
from types import SimpleNamespace
from typing import NoReturn

import pytest

from assist import preflight, probe, snapshot, up
from assist.paths import SOURCE, Paths
from assist.terminal import err, out


@pytest.mark.parametrize(("ready", "said"), [(200, "still serves"), (None, "Nothing serves yet")])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interruption_says_what_serves(tmp_path, monkeypatch, capsys, ready, said, as_json):
    layout = Paths(SOURCE, tmp_path / "home")
    layout.gateway_env.parent.mkdir(parents=True)
    layout.gateway_env.touch()
    monkeypatch.setattr(snapshot, "url", lambda _: "http://127.0.0.1:1")
    monkeypatch.setattr(probe, "status", lambda _: ready)

    def interrupted(*_arguments: object, **_options: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(preflight, "run", interrupted)
    request = up.Request("local", "", "", as_json=as_json)
    with pytest.raises(KeyboardInterrupt):
        up.run(SimpleNamespace(layout=layout), request, out, err)
    shown = capsys.readouterr()
    assert said in shown.err
    if as_json:
        assert json.loads(shown.out) == {"status": "interrupted", "kept": ready == 200}
