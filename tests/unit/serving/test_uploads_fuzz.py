"""Whatever is sent, the answer is of the one who sent it: never 5xx."""

import asyncio
from collections import Counter
from collections.abc import Callable

import fuzzed
import pytest
from asking import Answer, ask_app, nobody

from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.guard import Guard
from mixnmatch_platform.serving.service import Service

REQUESTS = 500


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_uploads_are_refused(make_service: Callable[..., Service]) -> None:
    async def go() -> list[Answer]:
        app = Guard(make_app(make_service(), nobody))
        answers = []
        for number in range(REQUESTS):
            route, parts = fuzzed.request(number)
            answer = await ask_app(app, "POST", route, **parts)
            assert answer.status == 200 or answer.error, (number, answer)
            answers.append(answer)
        return answers

    statuses = Counter(answer.status for answer in asyncio.run(go()))
    assert set(statuses) <= {200, 400, 413, 415, 422}
    # Else all of them would fail at the first check.
    assert min(statuses[200], statuses[400], statuses[422]) >= 5
