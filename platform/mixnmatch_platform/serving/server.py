"""Serving from the command's side: what is started, watched and ended."""

import json
import logging
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mixnmatch.errors import InputError, RunError
from mixnmatch_platform.cluster import connect
from mixnmatch_platform.periodic import every
from mixnmatch_platform.placing import check_placeable
from mixnmatch_platform.services import open_here
from mixnmatch_platform.serving.board import BEAT_SECONDS, BOARD, NAMESPACE, Board
from mixnmatch_platform.serving.deployment import Replica, Settings
from mixnmatch_platform.serving.ending import (
    ask,
    end_replicas,
    end_requests,
    end_serve,
    told_to_end,
)
from mixnmatch_platform.serving.follow import Follower
from mixnmatch_platform.serving.gallery import choose_pictures
from mixnmatch_platform.serving.plan import Plan, Prepared, words_of
from mixnmatch_platform.serving.watch import digest

__all__ = ["serve_until_told", "serving"]

APPLICATION = "mixnmatch"
SERVE_SETTINGS = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "mixnmatch_platform.serving.guard:middlewares",
    # A busy machine may need longer than Ray's 5 s until a proxy answers.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # That there is no room is said here, in one line, and sooner.
    "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "86400",
}
"""Variables of Serve's controller and its proxies, which read them as they start."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
READY_SECONDS = 60.0
ROOM_SECONDS = 10.0
"""Until it is said that replicas wait for room."""
POLL_SECONDS = 0.5
UPSCALE_SECONDS, DOWNSCALE_SECONDS = 5, 120


def serve_until_told(prepared: Prepared) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that have begun are then answered.

    Raises:
        InputError: If the cluster has no room, or serves already.
        RunError: If the service does not come up, or its cluster is gone.
        Stopped: If SIGTERM comes before it is up.
    """
    plan = prepared.plan
    with ExitStack() as stack:
        connected = connect(home=plan.home)
        if connected.started:
            import ray

            stack.callback(ray.shutdown)
        up, over = stack.enter_context(told_to_end())
        begun = time.monotonic()
        board = stack.enter_context(serving(prepared, grows=connected.grows))
        up.set()
        print(f"serving {prepared.served} at {plan.url} (Ctrl-C ends it)", flush=True)
        if plan.follows:
            follower = Follower(
                plan.model,
                plan.store,
                prepared.served,
                want=lambda served: ask(board.want.remote(served)),
            )
            stack.enter_context(every(plan.follow_seconds, follower.look, "follow"))
        while not over.wait(POLL_SECONDS):
            for line in ask(board.troubles.remote()).values():
                print(line, file=sys.stderr, flush=True)
        end_requests(board, plan.timeout_seconds)
        time.sleep(2 * BEAT_SECONDS)  # for the last reports
        print(_summary(ask(board.totals.remote()), time.monotonic() - begun), flush=True)


@contextmanager
def serving(prepared: Prepared, *, grows: bool) -> Iterator[Any]:
    """Serve during a block, on the cluster that this process is connected to.

    Requests that have begun when it ends are answered.

    Args:
        prepared: What.
        grows: Whether the cluster may get more machines.

    Yields:
        The handle of the actor ``Board``.

    Raises:
        InputError: If the cluster has no room, or serves already.
        RunError: If the service does not come up.
    """
    import ray
    from ray import serve
    from ray.exceptions import RayError

    plan = prepared.plan
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    check_placeable(prepared.replica, plan.replicas[1], grows=grows)
    _end_what_is_left()
    actor = ray.remote(num_cpus=0)(Board).options(name=BOARD, namespace=NAMESPACE)
    board = actor.remote(prepared.served)
    try:
        try:
            _start(plan)
            application = _deployment(plan).bind(_settings(prepared), board)
            serve.run_many(
                [serve.RunTarget(application, name=APPLICATION, route_prefix="/")],
                wait_for_applications_running=False,  # for which Serve waits as long as it takes
            )
            _wait_for_replicas(prepared, board)
            _waited_for(f"{plan.url}/healthz", lambda content: content.get("status") == "ok")
        except (RuntimeError, TimeoutError, RayError) as error:
            raise RunError(f"the service did not come up: {_reason(error)}") from error
        yield board
        end_requests(board, plan.timeout_seconds)
        end_serve()
    except KeyboardInterrupt:
        end_replicas(APPLICATION)
        end_serve()
        raise
    finally:
        serve.shutdown()
        ray.kill(board)


def _start(plan: Plan) -> None:
    """Start Serve's controller and proxies, and see that the guard is before them."""
    from ray import serve

    serve.start(
        proxy_location="EveryNode" if plan.is_public else "HeadOnly",
        http_options={
            "host": plan.host,
            "port": plan.port,
            "request_timeout_s": plan.timeout_seconds,
        },
        logging_config=QUIET,
        controller_options={"runtime_env": {"env_vars": SERVE_SETTINGS}},
    )
    # Without a model there is nothing to answer, which the guard says in JSON and Serve does not.
    if "error" not in _waited_for(plan.url, lambda _: True):
        raise RuntimeError(
            f"Ray Serve puts nothing before {plan.url}, so bodies would have no limit: use the "
            "version of Ray that this package names"
        )


def _wait_for_replicas(prepared: Prepared, board: Any) -> None:
    """Wait until they are up, and say so once if that is for want of room."""
    import ray
    from ray import serve

    wanted, words = prepared.plan.replicas[0], words_of(prepared.replica)
    begun, said = time.monotonic(), False
    while True:
        app = serve.status().applications.get(APPLICATION)
        if app is None or app.status == "DEPLOY_FAILED":
            raise RuntimeError(app.message if app else "Ray Serve has ended")
        if app.status == "RUNNING":
            return
        if not said and time.monotonic() - begun > ROOM_SECONDS:
            said = True
            if (lacking := wanted - ray.get(board.begun.remote())) > 0:
                free = ray.available_resources()
                left = words_of({kind: free.get(kind, 0) for kind in prepared.replica})
                print(
                    f"{lacking} of {wanted} replicas still wait for room: each takes {words}, "
                    f"the cluster has {left} free (Ctrl-C ends this)",
                    file=sys.stderr,
                    flush=True,
                )
        time.sleep(POLL_SECONDS)


def _deployment(plan: Plan) -> Any:
    from ray import serve

    fewest, most = plan.replicas
    number: dict[str, Any] = {"num_replicas": most}
    if fewest != most:
        number = {
            "autoscaling_config": {
                "min_replicas": fewest,
                "max_replicas": most,
                # Another replica helps once batches are half full.
                "target_ongoing_requests": max(1, plan.batch_size // 2),
                "upscale_delay_s": UPSCALE_SECONDS,
                "downscale_delay_s": DOWNSCALE_SECONDS,
            }
        }
    return serve.deployment(
        serve.ingress()(Replica),
        name="replica",
        # One batch is painted while the next one gathers.
        max_ongoing_requests=2 * plan.batch_size,
        max_queued_requests=plan.queue,
        graceful_shutdown_timeout_s=plan.timeout_seconds,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=5,
        max_constructor_retry_count=3,
        ray_actor_options={
            "num_cpus": plan.cpus_per_replica,
            "num_gpus": plan.gpus_per_replica,
        },
        logging_config=QUIET,
        **number,
    )


def _settings(prepared: Prepared) -> Settings:
    plan, dataset = prepared.plan, prepared.dataset
    return Settings(
        served=prepared.served,
        gallery={} if dataset is None else choose_pictures(dataset),
        batch_size=plan.batch_size,
        threads=max(1, int(plan.cpus_per_replica)),
        device="cuda" if plan.gpus_per_replica else "cpu",
        token=None if plan.token is None else digest(plan.token),
    )


def _end_what_is_left() -> None:
    """End what a command has left that was killed; refuse if one still serves."""
    import ray
    from ray import serve

    try:
        ray.get_actor(BOARD, namespace=NAMESPACE)
    except ValueError:
        pass
    else:
        raise InputError("this cluster serves already: end that `platform serve` first")
    if others := set(serve.status().applications) - {APPLICATION}:
        raise InputError(
            f"Ray Serve runs {', '.join(sorted(others))} on this cluster: use another --home"
        )
    serve.shutdown()


def _waited_for(url: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What is answered there, whatever its status; an empty object for what is no JSON object.

    Raises:
        TimeoutError: If no good answer comes.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with open_here(url, READY_SECONDS) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:  # nothing listens yet
            time.sleep(POLL_SECONDS)
            continue
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        if good(content := content if isinstance(content, dict) else {}):
            return content
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"{url} does not answer after {READY_SECONDS:g} s")


def _reason(error: BaseException) -> str:
    """The last line that says something: Ray's errors begin with where they were raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _summary(totals: dict[str, int], seconds: float) -> str:
    before_replicas = totals.get("refused", 0)
    answered = sum(totals.get(digit, 0) for digit in "12345") + before_replicas
    refused = totals.get("4", 0) + before_replicas
    failed = totals.get("5", 0)
    return (
        f"answered {answered} requests in {seconds:.0f} s ({refused} refused, {failed} failed), "
        f"painted {totals.get('painted', 0)} pictures"
    )
