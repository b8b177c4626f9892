"""Decisions about a registered model, one after another.

MLflow's registry has no locks, and the last one to set an alias wins. But it numbers the versions
of a model, never the same number twice, whoever asks at once. So every decision, a promotion or a
rollback, begins as a version that waits: it is decided once all earlier ones are, and only then is
the champion looked at. The versions thus are the history as well.

A process that dies while it waits stops beating; the next one in the queue deletes its version, and
with it the right to set an alias to it, should the process only have been asleep. Where the alias
is set already, the decision is made: its version stays, and what is left to do is done by the next.
"""

import getpass
import platform
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mixnmatch.errors import RunError
from mixnmatch_platform.registry import STATE_TAG, WAITING, registered_model
from mixnmatch_platform.store import TAG_LENGTH, cut, mlflow_errors, one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "PREVIOUS",
    "STATE_TAG",
    "Turn",
    "champion_version",
    "take_turn",
    "who",
]

CHAMPION, PREVIOUS, CANDIDATE = "champion", "previous", "candidate"
"""Aliases: the version that users get, the one before it, and the last one put up for it."""

REPLACED_TAG = "mixnmatch.replaced"
"""Tag of a version: the champion before it."""
AT_TAG, BY_TAG = "mixnmatch.at", "mixnmatch.by"
PULSE_TAG = "mixnmatch.pulse"

BEAT_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""How long a waiting version may show no pulse before its process counts as dead."""
POLL_SECONDS, LONGEST_POLL_SECONDS = 1.0, 15.0
"""For each decision before one's own, so that a long queue does not keep the server busy."""
TRIES = 40
"""Attempts at a call that may meet others': a store gives up after a few of its own."""

T = TypeVar("T")


class Turn:
    """The right to decide about a model, held by a version of it.

    Args:
        client: Of the registry.
        name: Of the model.
        version: The version.
    """

    def __init__(self, client: "MlflowClient", name: str, version: int) -> None:
        self.client = client
        self.name = name
        self.version = version
        self.begun = False
        """Whether an alias may have been set: an interrupted call tells nobody."""
        self.decided = False

    def champion(self) -> Any | None:
        """The version that is champion now."""
        return champion_version(self.client, self.name)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add tags to the version."""
        for key, value in tags.items():
            _persistently(
                partial(
                    self.client.set_model_version_tag,
                    self.name,
                    str(self.version),
                    key,
                    cut(value, TAG_LENGTH),
                )
            )

    def crown(self) -> None:
        """Make the version champion, and the champion the previous one.

        The first alias decides. Whoever finds that the rest was not done has the number of the
        champion before from the version's tag.
        """
        old = self.champion()
        replaced = None if old is None else int(old.version)
        self.tag({REPLACED_TAG: "" if old is None else str(replaced), AT_TAG: _now()})
        self._alias(CHAMPION, self.version)
        self._mark(CHAMPION, replaced)

    def put_up(self) -> None:
        """Make the version the candidate; the champion stays."""
        self.tag({AT_TAG: _now()})
        self._alias(CANDIDATE, self.version)
        self._mark(CANDIDATE)

    def complete(self) -> bool:
        """Do what is left to do where an alias names the version; says whether one does."""
        aliases = self.client.get_registered_model(self.name).aliases
        named = {alias for alias, version in aliases.items() if int(version) == self.version}
        if CHAMPION in named:
            found = self.client.search_model_versions(f"name = '{self.name}'")
            tags = {int(version.version): version.tags for version in found}
            replaced = int(tags[self.version].get(REPLACED_TAG) or 0)
            self._mark(CHAMPION, replaced if replaced in tags else None)
        elif named:
            self._mark(CANDIDATE)
        return bool(named)

    def _mark(self, state: str, replaced: int | None = None) -> None:
        with mlflow_errors(f"{self.name} v{self.version} is {state} now, but was not marked so"):
            if replaced is not None:
                self._alias(PREVIOUS, replaced)
            self.tag({STATE_TAG: state})
        self.decided = True

    def _alias(self, alias: str, version: int) -> None:
        self.begun = True
        _persistently(
            lambda: self.client.set_registered_model_alias(self.name, alias, str(version))
        )


@contextmanager
def take_turn(
    client: "MlflowClient",
    name: str,
    *,
    source: str,
    run_id: str | None,
    tags: Mapping[str, str],
    description: str,
    waiting: Callable[[int], None] = lambda _: None,
) -> Iterator[Turn]:
    """Make a version of a model, and wait until all earlier ones are decided.

    What is not decided in the block leaves no version, but for one whose alias was just being set:
    that is looked at by whoever is next.

    Args:
        client: Of the registry.
        name: Of the model; its first decision creates it.
        source: Where the version's files are, or will be.
        run_id: The run that trained it.
        tags: Of the version.
        description: Of the version.
        waiting: Called with the number of decisions before this one, whenever that changes.

    Raises:
        RunError: If the version was taken for that of a dead process meanwhile.
    """
    _ensure_model(client, name)
    version = _persistently(
        lambda: client.create_model_version(
            name,
            source,
            run_id,
            tags={**tags, STATE_TAG: WAITING, BY_TAG: who(), PULSE_TAG: "0"},
            description=description,
            await_creation_for=0,
        )
    )
    turn = Turn(client, name, int(version.version))
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(turn, over), daemon=True)
    beating.start()
    try:
        _wait_for_turn(turn, waiting)
        yield turn
    finally:
        over.set()
        beating.join()
        if not turn.decided:
            with suppress(Exception):  # else whoever is next does it
                if not turn.complete() and not turn.begun:
                    client.delete_model_version(name, str(turn.version))


def champion_version(client: "MlflowClient", name: str) -> Any | None:
    """The version of a model that is champion now; None where there is none, or no model."""
    model = registered_model(client, name)
    if model is None or CHAMPION not in model.aliases:
        return None
    return client.get_model_version(name, model.aliases[CHAMPION])


def who() -> str:
    """Who decides: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{platform.node()}"


def _wait_for_turn(turn: Turn, waiting: Callable[[int], None]) -> None:
    seen: dict[int, tuple[str, float]] = {}
    told = None
    while True:
        versions = _persistently(lambda: turn.client.search_model_versions(f"name = '{turn.name}'"))
        undecided = {int(v.version): v for v in versions if v.tags.get(STATE_TAG) == WAITING}
        if turn.version not in undecided:
            raise RunError(
                f"version {turn.version} of {turn.name} was deleted while it waited: this process "
                f"showed no sign of life for {PATIENCE_SECONDS:g} s; promote again"
            )
        before = sorted(number for number in undecided if number < turn.version)
        if not before:
            return
        if told != len(before):
            waiting(told := len(before))
        now = time.monotonic()
        for number in before:
            pulse = undecided[number].tags.get(PULSE_TAG, "")
            last, since = seen.get(number, (None, now))
            seen[number] = (pulse, since if pulse == last else now)
            if now - seen[number][1] > PATIENCE_SECONDS:
                _bury(turn, number)
        pause = min(POLL_SECONDS * len(before), LONGEST_POLL_SECONDS)
        time.sleep(pause * random.uniform(0.5, 1.0))


def _bury(turn: Turn, number: int) -> None:
    """Decide for a process that died before it could: it had set the alias, or else had not."""
    with suppress(Exception):  # another one in the queue may have done it
        if not Turn(turn.client, turn.name, number).complete():
            turn.client.delete_model_version(turn.name, str(number))


def _beat(turn: Turn, over: threading.Event) -> None:
    count = 0
    while not over.wait(BEAT_SECONDS):
        count += 1
        with suppress(Exception):  # a beat more or less
            turn.client.set_model_version_tag(turn.name, str(turn.version), PULSE_TAG, str(count))


def _ensure_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    def create() -> None:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    if registered_model(client, name) is None:
        _persistently(create)


def _persistently(call: Callable[[], T]) -> T:
    """Repeat a call that others' calls got in the way of."""
    for remaining in reversed(range(TRIES)):
        try:
            return call()
        except Exception as error:  # stores raise errors of their own libraries
            if not remaining or not _collided(error):
                raise
            time.sleep(random.uniform(0.05, 0.5))
    raise AssertionError


def _collided(error: Exception) -> bool:
    said = str(error).lower()
    return (
        any(
            words in said
            for words in ("giving up after", "database is locked", "unique constraint")
        )
        or "deadlock" in one_line(error).lower()
    )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
