"""G11: whatever the gateway's own OpenAPI document calls valid, or nearly valid, gives no 5xx (schemathesis)."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from gateway.app import create_app
from gateway.settings import Settings
from testing.doubles.instant_engine import InstantEngine
from testing.servers.gateway_process import MODEL_DIR

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document() -> Any:
    app = create_app(
        Settings(model_dir=MODEL_DIR, auth="none", metrics_port=None, openapi_url="/openapi.json"),
        InstantEngine(),
    )
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_no_request_made_from_the_openapi_document_gives_a_5xx(document: Any) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert {"/v1/completions", "/infill", "/v2/code/completions"} <= {each.path for each in operations}
    for operation in operations:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def one(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error])

        one()
