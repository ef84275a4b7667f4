"""Each fault of the file does what it says, to the calls that it names and no others."""

import json
import signal
import subprocess
import sys
import time

import pytest

from testing.gcp import faults
from testing.gcp.cloud import STATUS, GoogleError, open_gate
from testing.gcp.double import Double
from testing.gcp.gate import Gate
from testing.gcp.provider import Call, HalfDoneError, ProviderError
from tests.testing.gcp.world import CLUSTER_ID, World, changed, kind

POOL = f"{CLUSTER_ID}/nodePools/pool"


@pytest.fixture
def world(tmp_path):
    """Return a world with a cluster and no pool."""
    return World(tmp_path).before("NodePool")


def test_the_nth_creation_fails_and_no_other(tmp_path):
    world = World(tmp_path)
    world.make("Service")
    faults.write(world.cloud, {"method": "Create", "type": "gcp:compute/*", "nth": 2, "refuse": "quota"})
    refusals = [world.refusal("Network", name=f"net-{number}") for number in (1, 2, 3)]
    assert ["quotaExceeded" in one for one in refusals] == [False, True, False]
    assert len([one for one in world.cloud.calls() if one["status"] == 403]) == 1


def test_a_quota_that_is_used_up_leaves_nothing(world):
    faults.write(world.cloud, {"type": "*:NodePool", "refuse": "quota"})
    assert "Quota" in world.refusal("NodePool")
    with world.cloud.transaction() as state:
        assert state.all(kind("NodePool")) == {}


def test_an_answer_of_ones_own_is_googles(world):
    busy = {"code": 503, "message": "come back", "reason": "backendError"}
    faults.write(world.cloud, {"name": "pool", "refuse": busy})
    assert world.refusal("NodePool", name="other") == ""
    with pytest.raises(GoogleError, match="Error 503: come back, backendError"):
        world.make("NodePool", name="pool")


def test_too_many_operations_are_waited_out(world):
    many = {"code": 429, "message": "too many operations", "reason": "rateLimitExceeded"}
    assert world.provider.kind(kind("NodePool")).retries(GoogleError(**many))


def test_a_zone_without_machines_leaves_a_pool_in_the_state_of_an_error(world):
    """As at Google: the pool is there and costs, so Pulumi has to know it."""
    faults.write(world.cloud, {"type": "*:NodePool", "fail": "ZONE_RESOURCE_POOL_EXHAUSTED"})
    with pytest.raises(HalfDoneError, match="ZONE_RESOURCE_POOL_EXHAUSTED") as half:
        world.make("NodePool")
    assert (half.value.identity, half.value.outputs["name"]) == (POOL, "pool")
    assert world.pool("pool")[STATUS] == "ERROR"


def test_an_operation_takes_as_long_as_is_said(world):
    faults.write(world.cloud, {"type": "*:NodePool", "seconds": 0.5})
    begun = time.time()
    world.make("NodePool")
    assert time.time() - begun >= 0.5
    assert world.pool("pool")[STATUS] == "RUNNING"


def test_an_operation_that_outlasts_the_programs_time_limit_is_kept_in_the_state(world):
    faults.write(world.cloud, {"type": "*:NodePool", "hold": "operation", "gate": "never"})
    call = Call(kind("NodePool"), "pool", patience_s=0.1)
    with pytest.raises(HalfDoneError, match="timeout while waiting") as half:
        world.provider.create(call, changed("NodePool"))
    assert half.value.identity == POOL
    assert world.pool("pool")[STATUS] == "PROVISIONING"


def test_an_operation_ends_by_itself_when_nobody_waits_for_it(world):
    faults.write(world.cloud, {"type": "*:NodePool", "hold": "operation", "gate": "late"})
    with pytest.raises(HalfDoneError):
        world.provider.create(Call(kind("NodePool"), "pool", patience_s=0.1), changed("NodePool"))
    open_gate(world.cloud.folder, "late")
    assert world.pool("pool")[STATUS] == "RUNNING"


@pytest.mark.parametrize(("point", "there"), [("call", False), ("answer", True)])
def test_a_call_is_held_before_or_after_google_has_it(world, point, there):
    faults.write(world.cloud, {"type": "*:NodePool", "hold": point, "gate": "never"})
    with pytest.raises(ProviderError, match="the gate never"):
        world.provider.create(Call(kind("NodePool"), "pool", patience_s=0.1), changed("NodePool"))
    with world.cloud.transaction() as state:
        assert (POOL in state.all(kind("NodePool"))) is there
        assert [one["name"] for one in state.document["faults"]["held"]] == ["pool"]


PROVIDER = """
import json, sys
from pathlib import Path
from testing.gcp.cloud import Cloud
from testing.gcp.kinds.places import Where
from testing.gcp.provider import Call, Provider
provider = Provider(Cloud(Path(sys.argv[1])), Where("demo-project", "us-central1"))
provider.create(Call("gcp:container/nodePool:NodePool", "pool"), json.loads(sys.argv[2]))
"""


@pytest.mark.parametrize(("point", "there"), [("before", False), ("after", True)])
def test_a_provider_is_killed_before_or_after_google_has_the_call(world, point, there):
    faults.write(world.cloud, {"type": "*:NodePool", "exit": point})
    arguments = [str(world.cloud.folder), json.dumps(changed("NodePool"))]
    done = subprocess.run([sys.executable, "-c", PROVIDER, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    with world.cloud.transaction() as state:
        assert (POOL in state.all(kind("NodePool"))) is there


def test_once_is_once_for_each_resource_whatever_process_asks(tmp_path):
    world = World(tmp_path)
    world.make("Service")
    faults.write(world.cloud, {"method": "Create", "once": True, "refuse": "quota"})
    tries = [World(tmp_path).refusal("Network", name="net") for _ in range(2)]
    assert ["quotaExceeded" in one for one in tries] == [True, False]


def test_a_fault_with_an_unknown_key_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a fault has no holds"):
        faults.write(World(tmp_path).cloud, {"holds": "call"})


def test_a_gate_meets_each_creation_once_and_lets_go_what_it_holds(tmp_path):
    double = Double(tmp_path)
    world, gate = World(double.cloud.folder), Gate(double)
    gate.refuse("used up")
    assert "used up" in world.refusal("Service")
    assert world.refusal("Service") == ""
    gate.hold(arrives=False, always={"Network it": None})
    with pytest.raises(ProviderError):
        world.provider.create(Call(kind("Network"), "it", patience_s=0.1), changed("Network"))
    assert gate.held == ["Network it"]
    assert gate.met == ["Service it", "Network it"]
    with world.cloud.transaction() as state:
        assert state.all(kind("Network")), "what is in always has arrived"
    gate.open()
    world.make("Router")
    assert gate.met[-1] == "Router it", "what comes later has met the gate too"
