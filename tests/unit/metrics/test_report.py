"""Figures as JSON."""

import json
import math

from mixnmatch.metrics.report import finite_or_null


def test_json_has_null_for_what_is_not_finite() -> None:
    value = {"a": math.nan, "b": [1.0, -math.inf, {"c": math.inf, "d": "nan"}], "e": 2}
    plain = {"a": None, "b": [1.0, None, {"c": None, "d": "nan"}], "e": 2}
    assert finite_or_null(value) == plain
    assert json.loads(json.dumps(finite_or_null(value), allow_nan=False)) == plain
