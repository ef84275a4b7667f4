"""Root causes come first, what follows from them is folded below, and the table of faults has no circle."""

from graphlib import TopologicalSorter

from assist.doctor.faults import BY_NAME, FAULTS
from assist.doctor.folding import fold
from assist.findings import Finding, document, ok


def found(fault: str, host: str = "", status: str = "problem") -> Finding:
    return Finding(fault, status, "it is", fault=fault, host=host)  # type: ignore[arg-type]


def test_symptoms_are_below_their_root_also_over_several_steps():
    folded = fold([
        found("completion-fails"), ok("disk", "room"), found("gateway-not-ready"), found("engine-not-ready"),
        found("process-crashing"), found("model-damaged"), found("log-errors", status="warning"),
    ])  # fmt: skip
    assert [one.id for one in folded] == ["model-damaged", "disk"]
    symptoms = {one.fault for one in folded[0].symptoms}
    assert symptoms == {
        "completion-fails", "gateway-not-ready", "engine-not-ready", "process-crashing", "log-errors",
    }  # fmt: skip


def test_two_causes_are_two_roots():
    folded = fold([found("keys-open"), found("process-stopped"), found("engine-not-ready")])
    assert [one.id for one in folded] == ["process-stopped", "keys-open"]


def test_a_symptom_follows_from_another_host_only_where_it_reaches_across():
    stopped, far = found("process-stopped", "gpu1"), found("gateway-not-ready", "web1")
    assert len(fold([far, stopped])) == 1
    engine = found("engine-not-ready", "gpu2")
    assert {one.host for one in fold([engine, stopped])} == {"gpu1", "gpu2"}


def test_a_units_own_fault_explains_no_other_units_crash():
    def of(fault: str, unit: str) -> Finding:
        return Finding(fault, "problem", "it is", fault=fault, host="web1", where=unit)

    crash = of("process-crashing", "redis-cache")
    assert len(fold([crash, of("unit-edited", "nginx")])) == 2
    assert [one.fault for one in fold([crash, of("unit-edited", "nginx"), of("settings-edited", "redis-cache")])] == [
        "settings-edited", "unit-edited",
    ]  # fmt: skip
    assert len(fold([of("process-crashing", "gateway@5001"), of("settings-edited", "gateway@5000")])) == 1


def test_a_path_follows_from_what_is_wrong_at_its_other_end_alone():
    path = Finding("path", "problem", "it is", fault="path-blocked", host="web1", towards="gpu1")
    assert len(fold([path, found("firewall-differs", "gpu1")])) == 1
    assert len(fold([path, found("firewall-differs", "gpu2")])) == 2


def test_a_warning_is_no_cause():
    assert len(fold([found("process-stopped", status="warning"), found("engine-not-ready")])) == 2


def test_every_cause_in_the_table_is_in_the_table_and_none_follows_from_itself():
    named = {name for fault in FAULTS for name in fault.follows}
    assert named <= BY_NAME.keys()
    assert len(BY_NAME) == len(FAULTS)
    TopologicalSorter({fault.name: fault.follows for fault in FAULTS}).prepare()


def test_json_has_the_runbook_of_each_fault_and_of_each_symptom():
    plain = document(fold([found("process-stopped"), found("engine-not-ready")]))
    (root,) = plain["findings"]
    assert (plain["status"], root["runbook"]) == ("problem", "docs/faults.md#process-stopped")
    assert root["symptoms"][0]["runbook"] == "docs/faults.md#engine-not-ready"
