"""Requests drawn from the API's own description, right ones and wrong ones: the answers are as it says."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.in_process import STREAM, Service

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

api = Service().api
# The document says what stands in the data of an event, as generators read it; this tool checks the event, as 3.2 does.
stream = api.openapi()["paths"][STREAM]["post"]["responses"]["200"]["content"]["text/event-stream"]
data = {"contentMediaType": "application/json", "contentSchema": stream.pop("schema")}
stream["itemSchema"] = {"required": ["data"], "properties": {"data": data}}

schema = schemathesis.openapi.from_asgi("/openapi.json", api)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_the_description_says(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(checks=list(CHECKS))
