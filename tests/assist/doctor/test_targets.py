"""Which target the doctor examines follows from the stack; what cannot be examined is said with the remedy."""

import pytest

from assist.doctor.hosts import Hosts
from assist.doctor.local import Local
from assist.doctor.targets import TargetError, choose
from assist.paths import SOURCE, Paths
from stackfile import StackFileError


@pytest.fixture
def layout(tmp_path):
    return Paths(SOURCE, tmp_path / ".run")


def test_without_a_stack_and_for_a_local_one_it_is_this_machine(layout):
    for stack in ("", "tiny"):
        assert choose(stack, layout, [], [], quick=True) == Local(layout, quick=True)


def test_a_stack_of_hosts_needs_to_know_which(layout, tmp_path):
    target = choose("hosts", layout, ["gpu1"], [str(tmp_path)], quick=False)
    assert isinstance(target, Hosts)
    assert (target.only, target.inventories) == (("gpu1",), (str(tmp_path),))
    with pytest.raises(ValueError, match="--inventory"):
        choose("hosts", layout, [], [], quick=False)


def test_hosts_of_another_target_and_targets_to_come_are_refused(layout):
    with pytest.raises(TargetError, match="target hosts"):
        choose("tiny", layout, ["gpu1"], [], quick=False)
    with pytest.raises(TargetError, match="kubectl"):
        choose("kube-local", layout, [], [], quick=False)


def test_a_stack_that_cannot_be_read_is_a_finding_only_where_it_is_what_runs(layout, tmp_path):
    broken = tmp_path / "mine.yaml"
    broken.write_text("model: [")
    with pytest.raises(StackFileError):
        choose(str(broken), layout, [], [], quick=False)
    layout.config.mkdir(parents=True)
    layout.gateway_env.write_text(f"ASSIST_STACK={broken}\nASSIST_HOST=127.0.0.1\nAPI_EXTERNAL_PORT=5000\n")
    (finding,) = choose(str(broken), layout, [], [], quick=False).findings()
    assert (finding.status, finding.fault) == ("unknown", "stack-unreadable")
