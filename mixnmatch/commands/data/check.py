"""``mixnmatch data check``: whether a data set will do."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnmatch.commands.data.common import add_command, printable, report
from mixnmatch.commands.options import check_range, folder_or_url
from mixnmatch.errors import InputError

if TYPE_CHECKING:
    from mixnmatch.data.advice import Advice
    from mixnmatch.data.check import Findings

DESCRIPTION = """\
Read everything in a data set, name what is odd, and say whether a model can be trained on it.

The exit status is 0 whatever the verdict, unless --strict.

example:
  mixnmatch data check data/birds --out birds.html
"""
_SHOWN = 5
_WIDTH = 46
_FAILED = 1


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = add_command(commands, "check", "say whether a data set will do", DESCRIPTION)
    parser.add_argument("data", metavar="DATA", type=folder_or_url, help="data set folder or URL")
    parser.add_argument("--out", type=Path, metavar="HTML", help="report with pictures to write")
    parser.add_argument(
        "--image-size",
        type=int,
        default=128,
        help="side of the pictures of the model, a power of two (%(default)s)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where the data set will not work"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check a data set."""
    from tqdm import tqdm

    from mixnmatch.data.advice import advise
    from mixnmatch.data.check import check_dataset
    from mixnmatch.data.report import report_page
    from mixnmatch.data.store import open_dataset
    from mixnmatch.sheets import written_whole

    check_range("--image-size", arguments.image_size, 32, 2048)
    if arguments.image_size & (arguments.image_size - 1):
        raise InputError(f"--image-size is {arguments.image_size}: it must be a power of two")
    if arguments.out is not None and arguments.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {arguments.out}: a report is a page, name it .html")
    dataset = open_dataset(arguments.data)
    with tqdm(desc="checking", total=len(dataset), unit="picture", disable=None) as bar:
        found = check_dataset(dataset, arguments.image_size, bar.update)
    found.name = str(arguments.data)  # a URL has been fetched to somewhere else
    advice = advise(found)
    if arguments.out is not None:
        text = report_page(dataset, found, advice)
        with written_whole(arguments.out) as partial:
            partial.write_text(text, encoding="utf-8")
    lines = [*_lines(found, advice)]
    if arguments.out is not None:
        lines += ["", f"report: {arguments.out}"]
    report(arguments, _summary(found, advice), "\n".join(map(printable, lines)))
    return _FAILED if arguments.strict and advice.verdict == "will not work" else 0


def _summary(found: "Findings", advice: "Advice") -> dict[str, Any]:
    """All that was found, in plain types."""
    import numpy as np

    figures = {}
    names = found.measured[0]._fields if found.measured else ()
    for name in names:
        values = found.values(name)
        spread = np.quantile(values, (0, 0.1, 0.5, 0.9, 1)).tolist()
        labels = ("least", "tenth", "median", "ninetieth", "most")
        figures[name] = {"mean": float(values.mean()), **dict(zip(labels, spread, strict=True))}
    return {
        "data": found.name,
        "fingerprint": found.info.fingerprint,
        "image_size": found.image_size,
        "count": found.count,
        "training": found.training,
        "verdict": advice.verdict,
        "judged": {
            name: {
                "value": item.value,
                "good": item.limit.good,
                "works": item.limit.works,
                "at": "least" if item.limit.least else "most",
                "grade": item.grade,
                "reason": item.limit.reason,
            }
            for name, item in advice.judged.items()
        },
        "advice": {
            "super_categories": advice.super_categories,
            "fine_categories": advice.fine_categories,
            "image_size": advice.image_size,
            "pictures_wanted": advice.pictures_wanted,
            "options": advice.options,
            "reasons": list(advice.reasons),
        },
        "figures": figures,
        "odd": {kind: [item._asdict() for item in odd] for kind, odd in found.odd.items()},
        "splits": dict(found.splits),
        "classes": {name: dict(counts) for name, counts in found.classes.items()},
        "rejects": dict(found.rejects),
        "duplicates": [list(group) for group in found.info.duplicates],
    }


def _lines(found: "Findings", advice: "Advice") -> Iterator[str]:
    """What was found, for a terminal."""
    from mixnmatch.data.check import KINDS
    from mixnmatch.data.report import shown_limit, shown_value
    from mixnmatch.data.words import counted

    splits = ", ".join(f"{count} {name}" for name, count in sorted(found.splits.items()))
    yield f"{found.name}: {advice.verdict} ({found.image_size} px)"
    yield f"{counted(found.count, 'picture')} ({splits}); classes: {len(found.classes) or 'none'}"
    yield ""
    yield f"{'':{_WIDTH}} {'found':>8} {'good':>8} {'works':>8}"
    for item in advice.judged.values():
        limits = (shown_limit(item, limit) for limit in (item.limit.good, item.limit.works))
        cells = (shown_value(item, item.value), *limits)
        row = " ".join(f"{cell:>8}" for cell in cells)
        yield f"{item.limit.name:{_WIDTH}} {row}  {item.grade}"
        if item.grade != "good":
            yield f"  → {item.limit.remedy}"
    if found.measured:
        share, barren = (found.values(name).mean() for name in ("object_share", "barren"))
        large = (found.values("enlargement") > 1).mean()
        yield ""
        yield f"boxes take {share:.0%} of their pictures; {barren:.0%} of the background crops have"
        yield f"no patch free of the object; {large:.0%} of the object views are enlarged"
    for kind, title in KINDS.items():
        if odd := found.odd[kind]:
            yield ""
            yield f"{title}: {len(odd)}"
            yield from (f"  {item.id}  {item.source}: {item.detail}" for item in odd[:_SHOWN])
            if len(odd) > _SHOWN:
                yield f"  and {len(odd) - _SHOWN} more, see --json or --out"
    if found.rejects:
        yield ""
        yield f"left out by ingestion: {found.rejects.total()}"
        yield from (f"  {count}  {reason}" for reason, count in found.rejects.most_common(_SHOWN))
    yield ""
    yield "settings that fit:"
    yield f"  {advice.options}"
    yield from (f"  {reason}" for reason in advice.reasons)
