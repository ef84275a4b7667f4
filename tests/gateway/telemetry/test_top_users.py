from gateway.telemetry.metrics import Metrics
from gateway.telemetry.top_users import OTHER, TopUsers


def samples(metrics: Metrics, name: str) -> dict[str, float]:
    family = next(each for each in metrics.registry.collect() if each.name == name)
    return {each.labels["user"]: each.value for each in family.samples if each.name.endswith("_total")}


def test_a_thousand_users_make_a_bounded_number_of_series_and_every_request_is_counted_once():
    metrics = Metrics(max_users=20)
    for number in range(1000):
        metrics.user(f"user-{number}", requests=1)
    found = samples(metrics, "assist_user_requests")
    assert len(found) == 21
    assert sum(found.values()) == 1000


def test_a_heavy_newcomer_takes_the_place_of_the_lightest_user_and_no_count_is_lost():
    metrics = Metrics(max_users=2)
    metrics.user("ada", requests=1, tokens=1000)
    metrics.user("light", requests=1, tokens=10)
    before = sum(samples(metrics, "assist_user_tokens").values())
    metrics.user("heavy", requests=1, tokens=15)
    assert samples(metrics, "assist_user_tokens") == {"ada": 1000, "light": 10, OTHER: 15}
    metrics.user("heavy", requests=1, tokens=500)
    assert samples(metrics, "assist_user_tokens") == {"ada": 1000, "heavy": 500, OTHER: 15}
    assert before == 1010


def test_two_equal_users_do_not_replace_each_other():
    dropped: list[str] = []
    top = TopUsers(1, dropped.append)
    for _ in range(100):
        top.label("ada", 1)
        top.label("bob", 1)
    assert dropped == []


def test_without_named_users_all_are_others():
    metrics = Metrics(max_users=0)
    metrics.user("ada", requests=1, refused=2, tokens=3)
    assert samples(metrics, "assist_user_requests") == {OTHER: 1}
    assert samples(metrics, "assist_user_refused") == {OTHER: 2}


def test_what_is_remembered_of_the_others_is_bounded():
    top = TopUsers(2, lambda _user: None)
    for number in range(10_000):
        top.label(f"user-{number}", 1)
    assert len(top._others) <= 20
