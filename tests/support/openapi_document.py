"""The service's own OpenAPI document, as the frontend's types are made from it.

`python -m tests.support.openapi_document` writes it into `frontend/`.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.in_process import Service

DOCUMENT = Path(__file__).parents[2] / "frontend" / "openapi.json"


def openapi_document() -> str:
    """Give the document that a running service serves at `/openapi.json`, indented."""
    return json.dumps(Service().api.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(openapi_document())
