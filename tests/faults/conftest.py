"""The fault table: what each of these tests has measured, printed after them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cost import Tell

KEY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--away", type=float, default=3, help="seconds that the MLflow server is away (default: 3)"
    )


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Adds a line to the fault table: the fault, and what it has cost."""
    return lambda fault, cost: record_property(KEY, json.dumps([fault, str(cost)]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        json.loads(value)
        for report in terminalreporter.stats.get("passed", [])
        for key, value in report.user_properties
        if key == KEY and report.when == "call"
    ]
    if rows:
        terminalreporter.section("what the faults have cost")
        width = max(len(fault) for fault, _ in rows)
        for fault, cost in rows:
            terminalreporter.line(f"{fault:{width}}  {cost}")
