"""Any stack file of target gke is refused with a remedy, or what is registered keeps the rules that always hold."""

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackfile import ResolvedStack, StackFileError, load_stack
from tests.infra.gcp.recorder import Recorder, deploy
from tests.infra.gcp.stacks import stack, written
from tests.infra.gcp.test_settings_reach_resources import OTHER

CHANGES = st.sets(st.sampled_from(sorted(OTHER)), max_size=6)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=CHANGES, base=st.sampled_from(["gke-dev", "gke-prod"]))
def test_any_mix_of_settings_is_refused_with_a_remedy_or_keeps_the_rules(tmp_path, names, base):
    """I1. The settings are chosen freely; most mixes are valid, and those that are not must say what to do."""
    service = read(written(stack(base, **{name: OTHER[name] for name in names}), tmp_path))
    if isinstance(service, str):
        assert f"{base}.yaml" in service
        assert "gke" in service
        return
    recorder, outputs = deploy(service)
    keeps_the_rules(recorder)
    assert {"cluster", "kubeconfig", "kubeconfig_command"} <= set(outputs)


def read(file: Path) -> ResolvedStack | str:
    """Return what the file describes, or why it is refused."""
    try:
        return load_stack(file)
    except StackFileError as refused:
        return str(refused)


def keeps_the_rules(recorder: Recorder) -> None:
    google = [one for one in recorder.resources if one.typ.startswith("gcp:")]
    assert {one.provider.split("::")[3] for one in google} == {"google"}
    cluster, pools = recorder.one("container/cluster"), recorder.of("container/nodePool")
    assert cluster["privateClusterConfig"]["enablePrivateNodes"] is True
    assert cluster["workloadIdentityConfig"]
    assert bool(pools) is not cluster.get("enableAutopilot", False)
    for name, pool in pools.items():
        assert len(name) <= 32
        node: dict[str, Any] = pool["nodeConfig"]
        assert node["serviceAccount"].startswith(recorder.one("serviceaccount/account")["accountId"])
        assert bool(node.get("taints")) is bool(node.get("guestAccelerators"))
        assert pool["autoscaling"]["totalMinNodeCount"] <= pool["autoscaling"]["totalMaxNodeCount"]
