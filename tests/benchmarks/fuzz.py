"""Many damaged sources of every layout, and how they end; the first that ends badly is kept.

    python tests/benchmarks/fuzz.py --count 10000

Each case depends on the seed and its number alone: ``--first`` and ``--count 1`` do one again.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "data"))

from fuzzing import cases, run_case, weight

OUTCOMES = ("whole", "rejects", "refused")


def main() -> int:
    """Run the cases and print a table of outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="cases (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all damage (%(default)s)")
    options = parser.parse_args()
    outcomes: dict[str, Counter[str]] = {}
    end = options.first + options.count
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number, subject, files, layout in tqdm(cases(end, options.seed, weight), total=end):
            if number < options.first:
                continue
            seen = outcomes.setdefault(subject.name, Counter())
            try:
                seen[run_case(subject, files, layout, Path(folder) / "case")] += 1
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever it is, it must not happen
                seen["FAILED"] += 1
                failed += 1
                kind = type(error).__name__
                print(f"case {number}: {subject.name} read as {layout}: {kind}: {error}")
    print(f"{'damaged':12}{''.join(f'{name:>10}' for name in OUTCOMES)}")
    for name, seen in outcomes.items():
        print(f"{name:12}{''.join(f'{seen[outcome]:10}' for outcome in OUTCOMES)}")
    total = sum(outcomes.values(), Counter())
    print(f"{'all':12}{''.join(f'{total[outcome]:10}' for outcome in OUTCOMES)}")
    print(f"{options.count} cases, {failed} ended as they must not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
