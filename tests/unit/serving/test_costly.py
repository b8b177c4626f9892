"""Requests that are made to cost much, or do by their nature."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asking import Answer, Ask, ask_app, files, nobody

from mixnmatch_platform.serving import pictures
from mixnmatch_platform.serving import service as service_module
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.fields import Encode, Mix
from mixnmatch_platform.serving.service import Service


def test_many_that_are_wrong_cost_no_more_than_one(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pydantic would make an error of each."""
    for kind in (Mix, Encode):
        monkeypatch.setattr(kind, "model_validate", None)
    fields = {f"f{i}": 0 for i in range(1000)}
    assert "there is no field 'f0'" in ask("POST", "/mix", json=fields).error
    assert "there is no field 'f0'" in ask("POST", "/mix", files=files(f0="a", f1="b")).error
    line = "1000 pictures: at most 64 are encoded at once"
    assert ask("POST", "/encode", json={"picture": [0] * 1000}).error == line


@pytest.mark.parametrize("work", [pictures.read_film, pictures.gif_of])
def test_films_hold_up_no_pictures(
    work: Callable[..., Any],
    make_service: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    film: bytes,
    png: bytes,
) -> None:
    may_go_on = threading.Event()
    begun = []

    def waiting(*arguments: Any) -> Any:
        begun.append(threading.current_thread())
        may_go_on.wait(60)
        return work(*arguments)

    monkeypatch.setattr(service_module, work.__name__, waiting)

    async def go() -> list[Answer]:
        service = make_service()
        app = make_app(service, nobody)
        parts = files(driving=film, background=png, texture=png)
        films = [asyncio.create_task(ask_app(app, "POST", "/animate", files=parts)) for _ in "123"]
        while not begun:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # for the others to come as far
        mix = ask_app(app, "POST", "/mix", files=files(background=png, shape=png, texture=png))
        try:
            mixed = await asyncio.wait_for(mix, 10)
            assert len(begun) == 1, "one at a time"
        finally:
            may_go_on.set()
        return [mixed, *await asyncio.gather(*films)]

    assert [answer.status for answer in asyncio.run(go())] == [200] * 4
    assert len(begun) == 3
