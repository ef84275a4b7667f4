"""What a killed update left behind is found before the next one repeats it."""

from assist.gke.pending import pending

URN = "urn:pulumi:gke-dev::ai-assist::ai-assist:gcp:Platform$ai-assist:gcp:NodePool$gcp:container/nodePool:NodePool::gke-dev-gpu-g1"


def test_a_cut_off_creation_is_a_problem_that_names_the_resource_and_the_way_out():
    operation = {"resource": {"urn": URN}, "type": "creating"}
    (finding,) = pending({"deployment": {"pending_operations": [operation]}}, "gke-dev")
    assert finding.status == "problem"
    assert finding.id == "pending gke-dev-gpu-g1"
    assert "gcp:container/nodePool:NodePool" in finding.cause
    assert "--clear-pending-creates --stack gke-dev" in finding.remedy


def test_a_whole_state_and_an_empty_one_have_nothing_pending():
    for export in ({"deployment": {"resources": []}}, {"deployment": None}, {}):
        assert [one.status for one in pending(export, "s")] == ["ok"]
