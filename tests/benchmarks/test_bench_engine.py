"""The engine benchmark's arithmetic: who answers when, and what is compared with what."""

import json

import pytest

from benchmarks import bench_engine
from benchmarks.bench_engine import BOTH, PEER, TRITON, Rounds


@pytest.fixture
def asked():
    """Return who was asked, in order, and with which prompts."""
    return []


@pytest.fixture
def rounds(asked):
    def contender(name):
        def complete(prompt, tokens):
            asked.append((name, tuple(prompt)))
            return tokens

        return complete

    made = Rounds({name: contender(name) for name in (PEER, TRITON, BOTH)}, lambda text: list(text.encode()))
    for number in range(2):
        made.run(number, (1, 2), tokens=4)
    return made


def test_contenders_take_turns_in_alternating_order_with_each_number_of_clients(rounds, asked):
    names = [PEER, TRITON, BOTH]
    expected = [
        name for order in (names, names[::-1]) for many in (1, 2) for name in order for _ in range(many)
    ]
    assert [name for name, _ in asked] == expected
    assert all(len(speeds) == 2 for speeds in rounds.speeds.values())


def test_no_two_prompts_begin_alike(rounds, asked):
    first = [prompt[0] for _, prompt in asked]
    assert len(set(first)) == len(first)


def test_a_ratio_compares_the_same_round(rounds, capsys):
    rounds.speeds = {
        (name, many): list(speeds)
        for many in (1, 2)
        for name, speeds in ((PEER, (10.0, 20.0)), (TRITON, (9.0, 22.0)), (BOTH, (8.0, 18.0)))
    }
    assert rounds.ratios(TRITON, 1) == [0.9, 1.1]
    bench_engine.show(rounds, (1, 2))
    line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith(BOTH))
    assert line.split()[-4:] == ["13.0", "0.85", "0.80", "0.90"]


@pytest.mark.parametrize(("speed", "status"), [(9.7, 0), (9.6, 1)])
def test_the_goal_is_one_clients(rounds, capsys, tmp_path, speed, status):
    options = bench_engine._options(["--clients", "1", "--json"])
    rounds.speeds = {(PEER, 1): [10.0], (TRITON, 1): [1.0], (BOTH, 1): [speed]}
    assert bench_engine._report(rounds, tmp_path / "model.gguf", options) == status
    assert json.loads(capsys.readouterr().out)["results"][2]["ratios"] == [speed / 10]


def test_a_model_without_a_file_is_refused(tmp_path, capsys):
    assert bench_engine.main(["--model", str(tmp_path / "none.gguf")]) == 2
    assert "--model" in capsys.readouterr().err
