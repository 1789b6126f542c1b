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

from tests.support.in_process import Service

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

schema = schemathesis.openapi.from_asgi("/openapi.json", Service().api)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_the_description_says(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(checks=list(CHECKS))
