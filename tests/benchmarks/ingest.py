"""How fast pictures become a data set, with how much memory, and what Ray Data adds to it.

    python tests/benchmarks/ingest.py            # ten minutes and 5 GB of disk
    python tests/benchmarks/ingest.py --small    # a trial, whose numbers mean nothing

JPEGs of CUB's size are drawn for it; their files are in memory already when they are read. Each
run is a process of its own, and the ways take turns. Seconds are those of the work, without the
start of Python or of Ray, which is told apart. Memory is that which a process has for itself, the
most that is seen of it every few milliseconds.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from PIL import Image

WIDTH, HEIGHT, BOX = 500, 375, "150 80 210 200"  # usual in CUB
DISTINCT = 64
SAMPLE_SECONDS = 0.02
WAYS = {"1 worker": (1, False), "2 workers": (2, False), "Ray, 1": (1, True), "Ray, 2": (2, True)}
"""Workers, and whether they are Ray's."""


class Sizes(NamedTuple):
    """Numbers of pictures and of rounds."""

    speed: int
    memory: tuple[int, int]
    rounds: int


FULL = Sizes(speed=3000, memory=(1000, 20_000), rounds=3)
SMALL = Sizes(speed=600, memory=(300, 600), rounds=1)


class Measured(NamedTuple):
    """Of one run."""

    seconds: float
    start_seconds: float
    main_mb: float
    worker_mb: float
    """Of the largest process that is not the main one."""


def draw(folder: Path, count: int) -> Path:
    """A CUB folder; pictures have about as many bytes as CUB's, and no two are the same."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(min(count, DISTINCT)):
        coarse = rng.integers(256, size=(24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 12, (HEIGHT, WIDTH, 1))
        noisy = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
        jpegs.append(buffer.getvalue())
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        content = jpegs[number % DISTINCT] + number.to_bytes(4, "big")  # after the picture's end
        (folder / "images" / f"{number}.jpg").write_bytes(content)
    numbers = range(count)
    (folder / "images.txt").write_text("".join(f"{n} {n}.jpg\n" for n in numbers))
    (folder / "bounding_boxes.txt").write_text("".join(f"{n} {BOX}\n" for n in numbers))
    return folder


def read_once(source: str, out: str, way: str) -> dict[str, Any]:
    """One ingestion by this process."""
    from mixnmatch.data.ingest import Job
    from mixnmatch.data.layouts.known import read_source
    from mixnmatch.data.layouts.listing import LayoutOptions
    from mixnmatch.data.places import Place
    from mixnmatch.data.plan import Plan
    from mixnmatch.data.pool import make_in_pool

    workers, on_ray = WAYS[way]
    begun = time.perf_counter()
    make: Any = make_in_pool
    if on_ray:
        from mixnmatch_platform import cluster
        from mixnmatch_platform.ingest import make_on_ray

        cluster.connect()
        make = make_on_ray
    started = time.perf_counter()
    place = Place(source)
    listing = read_source(place, "cub", LayoutOptions())
    plan = Plan(place=place, listing=listing, files=place.files())
    info = Job(plan, Place(out)).run(partial(make, workers=workers))
    return {
        "seconds": time.perf_counter() - started,
        "start_seconds": started - begun,
        "fingerprint": info.fingerprint,
    }


def measure(source: Path, way: str, folder: Path) -> tuple[Measured, str]:
    """Run one ingestion in a process of its own; what it took, and the data set's fingerprint."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, __file__, "--once", str(source), f"{place}/set", way]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        main, peaks = psutil.Process(process.pid), dict[int, float]()
        while process.poll() is None:
            sample(main, peaks)
            time.sleep(SAMPLE_SECONDS)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
    told = json.loads(lines[-1])
    worker = max((peak for number, peak in peaks.items() if number != main.pid), default=0.0)
    measured = Measured(told["seconds"], told["start_seconds"], peaks[main.pid], worker)
    return measured, told["fingerprint"]


def sample(main: psutil.Process, peaks: dict[int, float]) -> None:
    """Note the memory that the main process and its workers have for themselves, in MB."""
    try:
        for process in (main, *main.children(recursive=True)):
            words = process.cmdline()
            # Ray has servers of its own besides its workers.
            at_work = words and (words[0].startswith("ray::") or "spawn_main" in " ".join(words))
            if process != main and not at_work:
                continue
            memory = process.memory_info()
            own = (memory.rss - memory.shared) / 1e6
            peaks[process.pid] = max(peaks.get(process.pid, 0.0), own)
    except psutil.Error:
        pass  # it has just ended


def compare_speed(source: Path, sizes: Sizes, folder: Path) -> None:
    """Print pictures a second of all ways, which take turns."""
    runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
    prints = set()
    for _ in range(sizes.rounds):
        for way, measured in runs.items():
            result, fingerprint = measure(source, way, folder)
            measured.append(result)
            prints.add(fingerprint)
    assert len(prints) == 1, "the same data set by all ways"
    print(f"\n{sizes.speed} pictures, medians of {sizes.rounds} rounds")
    print(f"{'':12}{'pictures/s':>12}{'seconds':>10}{'start, s':>10}{'largest worker, MB':>20}")
    medians = {}
    for way, measured in runs.items():
        seconds, start, _, worker = (
            statistics.median(values) for values in zip(*measured, strict=True)
        )
        medians[way] = seconds
        print(f"{way:12}{sizes.speed / seconds:12.0f}{seconds:10.2f}{start:10.2f}{worker:20.0f}")
    print(f"2 workers are {medians['1 worker'] / medians['2 workers']:.2f} times as fast as 1")
    for count, name in ((1, "1 worker"), (2, "2 workers")):
        more = medians[f"Ray, {count}"] / medians[name] - 1
        print(f"Ray Data with {count} takes {more:+.0%} of the time of {name}, its start aside")


def compare_memory(folder: Path, sizes: Sizes) -> None:
    """Print times and peaks of memory for few pictures and for many, one run each."""
    heads = f"{'seconds':>10}{'main, MB':>12}{'largest worker, MB':>20}"
    print(f"\n{'pictures':>10}{'way':>12}{heads}")
    for count in sizes.memory:
        source = draw(folder / f"memory-{count}", count)
        for way in WAYS:
            found, _ = measure(source, way, folder)
            figures = f"{found.seconds:10.1f}{found.main_mb:12.0f}{found.worker_mb:20.0f}"
            print(f"{count:10}{way:>12}{figures}")


def main() -> None:
    """Print both comparisons, or do one run of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a trial of a minute or two")
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(read_once(*options.once)))
        return
    sizes = SMALL if options.small else FULL
    with tempfile.TemporaryDirectory(prefix="ingest-") as name:
        folder = Path(name)
        compare_speed(draw(folder / "speed", sizes.speed), sizes, folder)
        compare_memory(folder, sizes)


if __name__ == "__main__":
    main()
