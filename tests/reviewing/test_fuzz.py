"""The server asked whatever its OpenAPI description allows, and what it does not allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not there: pip install schemathesis")

from schemathesis.core.failures import FailureGroup  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from hybridseg.reviewing.desk import Desk  # noqa: E402
from hybridseg.reviewing.server.api import make_app  # noqa: E402

EXAMPLES = 20
"""A request of each kind, right and wrong ones apart."""
LEARNING = "/api/improve"
"""Starts work in the background: only wrong requests are sent."""


@pytest.fixture
def schema(town: tuple[Path, Path], tmp_path: Path) -> Any:
    with Desk.open(*town, edits=tmp_path / "edits.gpkg", who="Ada", device="cpu") as desk:
        yield schemathesis.openapi.from_asgi("/api/openapi.json", make_app(desk, page=False))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_server_does_as_its_description_says(schema: Any, mode: Any):
    """No failure of the server, no status, type or shape that is not described, nothing wrong taken for right.

    What is right in shape may still mean nothing, as an outline beside the scene: 422 is an answer to it.
    """
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    faults = []
    for operation in operations:
        if operation.path == LEARNING and mode is schemathesis.GenerationMode.POSITIVE:
            continue

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=120)

        try:
            ask()
        except Unsatisfiable:  # it takes nothing that could be wrong
            continue
        except (FailureGroup, Exception) as fault:
            faults.append(f"{operation.label}: {fault}")
    assert not faults, "\n\n".join(faults)
