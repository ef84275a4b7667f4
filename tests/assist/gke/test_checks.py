"""`assist plan` for GKE, against answers of Google that were written down: no network, no account."""

import pytest

from assist.findings import Finding, exit_status
from assist.gke.availability import Size
from assist.gke.checks import checks
from assist.gke.prices import bill, total
from assist.gke.quota import needs
from tests.assist.gke import google
from tests.infra.gcp.stacks import plain, stack

FIXED = {"gpu_pool__spot": False}
SIZES = {"n1-standard-2": Size(2, 7.5), "n1-standard-4": Size(4, 15.0)}


def findings_of(responses, tmp_path, **changes) -> dict[str, Finding]:
    service = plain(**FIXED | changes)
    return {one.id: one for one in checks(service, google.client(responses, tmp_path))}


def test_a_healthy_project_passes_every_check_and_learns_the_price(tmp_path):
    findings = findings_of(google.responses(), tmp_path)
    assert exit_status(findings.values()) == 0, findings
    assert "USD an hour" in findings["price"].cause
    assert "2025-06-01" in findings["price"].cause


def test_without_a_network_nothing_is_concluded_and_nothing_passes_but_what_needs_none():
    findings = {one.id: one.status for one in checks(stack(), google.unreachable())}
    assert findings["credentials"] == findings["quota"] == findings["zones"] == "unknown"
    assert {name for name, status in findings.items() if status == "ok"} == {"model", "licence", "driver"}


@pytest.mark.parametrize(
    ("part", "status", "check", "remedy"),
    [
        ("cloudresourcemanager", 401, "credentials", "gcloud auth application-default login"),
        ("cloudresourcemanager", 403, "credentials", "roles/viewer"),
        ("cloudresourcemanager", 404, "credentials", "gcloud projects list"),
        ("regions/us-central1", 403, "quota", "enable the API that the message names"),
        ("cloudbilling", 500, "billing", "try again"),
    ],
)
def test_a_refusal_is_one_finding_with_its_remedy_and_the_other_checks_go_on(
    tmp_path, part, status, check, remedy
):
    responses = google.responses()
    google.refuse(responses, part, status, "the message of Google")
    findings = findings_of(responses, tmp_path)
    assert "the message of Google" in findings[check].cause
    assert remedy in findings[check].remedy
    assert findings["zone us-central1-a"].status == "ok"


def test_an_api_that_is_off_is_named_with_the_command_that_turns_it_on(tmp_path):
    responses = google.responses()
    google.body(responses, "state:ENABLED")["services"].pop()
    finding = findings_of(responses, tmp_path)["apis"]
    assert finding.remedy == "gcloud services enable container.googleapis.com --project demo-project"


def test_services_are_read_to_the_last_page(tmp_path):
    responses = google.responses()
    (first,) = [url for url in responses if url.endswith("state:ENABLED")]
    services = responses[first]["body"]["services"]
    responses[f"{first}&pageToken=2"] = {"body": {"services": services[1:]}}
    responses[first]["body"] = {"services": services[:1], "nextPageToken": "2"}
    assert findings_of(responses, tmp_path)["apis"].status == "ok"


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({}, "NVIDIA_T4_GPUS"),
        ({"gpu_pool__spot": True}, "PREEMPTIBLE_NVIDIA_T4_GPUS"),
        ({}, "GPUS_ALL_REGIONS"),
        ({}, "CPUS"),
        ({"gpu_pool__spot": True}, "PREEMPTIBLE_CPUS"),
        ({}, "SSD_TOTAL_GB"),
    ],
)
def test_too_small_a_quota_is_a_problem_that_says_how_much_to_ask_for(tmp_path, changes, metric):
    finding = findings_of(google.responses(**{metric: 1}), tmp_path, **changes)[f"quota {metric}"]
    assert finding.status == "problem"
    assert "raise the quota to" in finding.remedy
    assert "max_nodes" in finding.remedy


def test_quota_in_use_does_not_count_as_free(tmp_path):
    responses = google.responses()
    for quota in google.body(responses, "regions/us-central1")["quotas"]:
        quota["usage"] = quota["limit"] - 1
    assert findings_of(responses, tmp_path)["quota NVIDIA_T4_GPUS"].status == "problem"


def test_a_quota_for_the_pool_but_not_for_its_upgrade_is_said_and_passes(tmp_path):
    finding = findings_of(google.responses(NVIDIA_T4_GPUS=5), tmp_path)["quota NVIDIA_T4_GPUS"]
    assert finding.status == "ok"
    assert "raise the quota to 6" in finding.cause


def test_a_quota_that_google_does_not_list_stays_unknown(tmp_path):
    responses = google.responses()
    region = google.body(responses, "regions/us-central1")
    region["quotas"] = [quota for quota in region["quotas"] if quota["metric"] != "NVIDIA_T4_GPUS"]
    assert findings_of(responses, tmp_path)["quota NVIDIA_T4_GPUS"].status == "unknown"


def test_both_pools_draw_on_the_general_cpu_quota():
    gke = stack(**FIXED).gke
    drawn = {need.metric: (need.most, need.surging) for need in needs(stack(**FIXED), gke, SIZES)}
    assert drawn["CPUS"] == (3 * 2 + 5 * 4, 4 * 2 + 6 * 4)
    assert drawn["NVIDIA_T4_GPUS"] == (5, 6)


@pytest.mark.parametrize(
    ("part", "lacks"),
    [("us-central1-c/machineTypes/n1-standard-4", "n1-standard-4"), ("us-central1-c/acceleratorTypes", "T4")],
)
def test_a_zone_that_lacks_something_is_named_with_what_it_lacks(tmp_path, part, lacks):
    responses = google.responses()
    if lacks == "T4":
        google.body(responses, part)["items"] = []
        lacks = "1 x nvidia-tesla-t4"
    else:
        google.refuse(responses, part, 404, "not found")
    findings = findings_of(responses, tmp_path)
    assert lacks in findings["zone us-central1-c"].cause
    assert "remove us-central1-c from gke.zones" in findings["zone us-central1-c"].remedy
    assert findings["zone us-central1-a"].status == "ok"


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({}, "ok", "mode gke"),
        ({"gpu_pool__driver": "none"}, "unknown", "GPU operator"),
        ({"gpu_pool__driver": "daemonset", "gpu_pool__driver_version": "470.1"}, "problem", "branch 580"),
        ({"gpu_pool__driver": "daemonset", "gpu_pool__driver_version": "580.95.05"}, "ok", "580.95.05"),
    ],
)
def test_the_driver_mode_is_judged(tmp_path, changes, status, says):
    finding = findings_of(google.responses(), tmp_path, **changes)["driver"]
    assert finding.status == status
    assert says in finding.cause + finding.remedy


def test_the_price_is_the_sum_of_list_prices_from_the_fewest_to_the_most_nodes():
    lines = {line.name: line for line in bill(plain(**FIXED), SIZES)}
    disk, nat = 50 * 0.10 / 730, 0.0014
    cpu_node = 2 * 0.031611 + 7.5 * 0.004237 + disk + nat
    gpu_node = 4 * 0.031611 + 15 * 0.004237 + 2 * disk + nat + 0.35
    assert lines["CPU nodes"].least == pytest.approx(cpu_node)
    assert lines["GPU nodes"].least == 0
    store = 1024 * 0.10 / 730
    least, most, unknown = total(list(lines.values()))
    assert least == pytest.approx(0.10 + cpu_node + store)
    assert most == pytest.approx(0.10 + 3 * cpu_node + 5 * gpu_node + store)
    assert unknown == []


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"gpu_pool__spot": True}, ["GPU nodes"]),
        ({"zones": ("europe-west4-a",)}, ["model store", "CPU nodes", "GPU nodes"]),
    ],
)
def test_a_line_without_a_price_is_named_beside_the_sum_and_adds_nothing(changes, unknown):
    assert total(bill(plain(**FIXED | changes), SIZES))[2] == unknown


def test_a_filestore_of_unknown_price_and_its_api_are_not_forgotten(tmp_path):
    responses = google.responses()
    client = google.client(responses, tmp_path)
    findings = {one.id: one for one in checks(stack(**FIXED), client)}
    assert findings["price model store"].status == "unknown"
    assert "unknown price of: model store" in findings["price"].cause
    assert "file.googleapis.com" in findings["apis"].remedy


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path):
    responses = google.responses(CPUS=1, NVIDIA_T4_GPUS=0, SSD_TOTAL_GB=0)
    google.refuse(responses, "cloudresourcemanager", 401, "no")
    google.refuse(responses, "us-central1-f/acceleratorTypes", 404, "no")
    bad = [one for one in findings_of(responses, tmp_path).values() if one.status != "ok"]
    assert len(bad) >= 4
    assert all(one.remedy for one in bad)
