"""Time our batches against decoding every picture in every epoch, and a step's wait for them.

    python tests/benchmarks/loader.py                    # JPEGs of CUB's size, drawn for it
    python tests/benchmarks/loader.py data/birds --device cuda
    python tests/benchmarks/loader.py --published        # the published networks too: slow

The plain way is one process that decodes, resizes, crops, flips and scales each picture anew; its
files are in memory already, which flatters it. Both ways run in turn on one thread, at 128 px; the
ratio is of medians. Ours starts from a cache made for it, whose making is timed on its own (all
cores). The wait is the share of the time of some steps, on all cores, that ``next(batches)`` takes.
"""

import argparse
import io
import os
import runpy
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mixnmatch.config import RunConfig
from mixnmatch.data.batches import Batch, TrainingSet
from mixnmatch.data.crops import carry_boxes
from mixnmatch.data.pictures import decode_picture
from mixnmatch.data.prepared import open_prepared
from mixnmatch.data.records import Box, Record
from mixnmatch.data.store import Dataset, open_dataset, write_dataset
from mixnmatch.data.views import prepare_views
from mixnmatch.device import choose_device
from mixnmatch.training.stage1 import CodeStage

DEMO = Path(__file__).parents[2] / "experiments" / "sweep_demo.py"
WIDTH, HEIGHT, BOX = 500, 375, Box(150, 80, 210, 200)  # usual in CUB
SIDE, BATCH = 128, 12
PLAIN_BATCHES, OUR_BATCHES = 4, 40  # a round


def drawn_pictures(count: int) -> Iterator[Record]:
    """JPEGs with about as many bytes as those of CUB."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(256, size=(24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 12, (HEIGHT, WIDTH, 1))
        noisy = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
        yield Record(
            id=number,
            source=f"drawn {number}",
            image=buffer.getvalue(),
            width=WIDTH,
            height=HEIGHT,
            box=BOX,
            split="train",
        )


def plain_batches(records: list[Record]) -> Iterator[Batch]:
    """Each picture decoded whenever it is needed."""
    rng = np.random.default_rng(0)
    while True:
        parts: list[list[torch.Tensor]] = [[], [], [], []]
        for number in rng.integers(len(records), size=BATCH):
            record = records[number]
            views = prepare_views(decode_picture(record.image, record.source), record.box, SIDE)
            for view, (pixels, box) in enumerate((views[:2], views[2:])):
                side = SIDE - 2 * view
                height, width = pixels.shape[:2]
                x, y = rng.integers(width - side + 1), rng.integers(height - side + 1)
                square, flip = pixels[y : y + side, x : x + side], bool(rng.random() < 0.5)
                square = square[:, ::-1] if flip else square
                scaled = torch.from_numpy(square.copy()).permute(2, 0, 1).float() / 127.5 - 1
                corner, flips = torch.tensor([[x, y]]), torch.tensor([flip])
                carried = carry_boxes(torch.from_numpy(box)[None], corner, side, flips)
                parts[2 * view].append(scaled)
                parts[2 * view + 1].append(carried[0])
        yield Batch(*map(torch.stack, parts))


def images_per_second(batches: Iterator[Batch], count: int) -> float:
    """Over some batches."""
    began = time.perf_counter()
    for batch in islice(batches, count):
        batch.image.mean().item()  # so that a GPU's work is waited for
    return BATCH * count / (time.perf_counter() - began)


def waiting_share(
    config: RunConfig, dataset: Dataset, device: torch.device, steps: int
) -> tuple[float, float]:
    """Seconds a step of stage 1, and the share of them that waits for data."""
    pictures = TrainingSet(dataset, config.model.image_size, "train", device)
    batches = pictures.batches(config.stage1.batch_size, seed=0)
    stage = CodeStage(config, device)
    stage.step(next(batches))
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        losses = stage.step(batch)
    float(next(iter(losses.values())))
    total = time.perf_counter() - began
    batches.close()
    return total / steps, waited / total


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="Time the loader.")
    parser.add_argument("data", type=Path, nargs="?", help="data set folder; drawn without it")
    parser.add_argument("--count", type=int, default=512, help="pictures drawn")
    parser.add_argument("--rounds", type=int, default=7, help="of the two ways in turn")
    parser.add_argument("--steps", type=int, default=20, help="of training at the demo's sizes")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--published", action="store_true", help="the published networks too")
    return parser.parse_args()


def main() -> None:
    """Print both tables."""
    options = parse()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIXNMATCH_CACHE"] = folder
        if options.data is None:
            options.data = Path(folder) / "set"
            write_dataset(drawn_pictures(options.count), options.data, kind="cub")
        dataset = open_dataset(options.data)
        compare(dataset, device, options.rounds)
        wait(dataset, device, options.steps, options.published)


def compare(dataset: Dataset, device: torch.device, rounds: int) -> None:
    """Print the table of both ways."""
    rows = dataset.indices("train")
    records = [dataset[int(row)] for row in rows[:512]]
    size = statistics.mean(len(record.image) for record in records) / 1e3
    print(f"{len(rows)} pictures of {size:.0f} kB on average, {SIDE} px, batches of {BATCH}")
    times = []
    for _ in range(2):  # the second finds what the first has prepared
        began = time.perf_counter()
        prepared = open_prepared(dataset, SIDE, "train")
        times.append(time.perf_counter() - began)
    megabytes = prepared.pixels.nbytes / 1e6
    print(
        f"prepared once in {times[0]:.1f} s ({len(rows) / times[0]:.0f} images/s, "
        f"{megabytes:.0f} MB), checked at each start in {times[1]:.2f} s\n"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # As a training process does with its first activations: from then on malloc keeps what is
    # freed, and neither way gets every batch in pages that are new to the process.
    torch.empty(30 * 2**20, dtype=torch.uint8)
    ours = TrainingSet(dataset, SIDE, "train", device).batches(BATCH, seed=0)
    ways = {"plain": (plain_batches(records), PLAIN_BATCHES), "ours": (ours, OUR_BATCHES)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, (batches, count) in ways.items():
            rates[name].append(images_per_second(batches, count))
    ours.close()
    torch.set_num_threads(threads)
    plain_rate, our_rate = (statistics.median(values[1:]) for values in rates.values())
    print("plain images/s   ours images/s   ratio")
    print(f"{plain_rate:14.0f} {our_rate:15.0f} {our_rate / plain_rate:7.1f}\n")


def wait(dataset: Dataset, device: torch.device, steps: int, published: bool) -> None:
    """Print the table of waiting."""
    demo: RunConfig = runpy.run_path(str(DEMO))["SWEEP"].config
    configs = {"demo": (demo, steps)}
    if published:
        configs["published"] = (RunConfig(), max(2, steps // 5))
    print("networks    s a step   waiting for data")
    for name, (config, count) in configs.items():
        seconds, share = waiting_share(config, dataset, device, count)
        print(f"{name:10} {seconds:9.3f} {share:17.2%}")


if __name__ == "__main__":
    main()
