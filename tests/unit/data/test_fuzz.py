"""500 damaged sources; ``tests/benchmarks/fuzz.py`` runs many more."""

import signal
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from fuzzing import cases, end_lines_as_old_macs, mutate, run_case, subjects, weight

COUNT = 500


@pytest.mark.parametrize("layout", ["auto", None])
def test_the_sources_are_valid(layout: str | None, tmp_path: Path) -> None:
    for subject in subjects():
        found = run_case(subject, subject.files, layout or subject.layout, tmp_path / "case")
        assert found == "whole", subject.name


def test_damage_is_the_same_for_the_same_seed() -> None:
    data = bytes(range(256))
    damaged = [mutate(data, Random(seed)) for seed in range(50)]
    assert damaged == [mutate(data, Random(seed)) for seed in range(50)]
    assert sum(changed != data for changed in damaged) > 40


def test_lines_that_end_as_on_old_macs_are_no_damage(tmp_path: Path) -> None:
    random = Random(0)
    random.choice = lambda options: options[0]  # type: ignore[method-assign]
    for subject in subjects():
        texts = {n: c for n, c in subject.files.items() if n.endswith((".txt", ".csv", ".yaml"))}
        ended = {name: end_lines_as_old_macs(text, random) for name, text in texts.items()}
        assert not texts or ended != texts
        assert not any(b"\n" in text for text in ended.values())
        if texts:
            found = run_case(subject, subject.files | ended, subject.layout, tmp_path / "case")
            assert found == "whole", subject.name


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no time limit")
def test_damaged_sources_end_in_a_data_set_or_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes: Counter[str] = Counter()
    for number, subject, files, layout in cases(COUNT, seed=0, weights=weight):
        try:
            outcomes[run_case(subject, files, layout, tmp_path / "case")] += 1
        except BaseException as error:
            error.add_note(f"case {number}: {subject.name} read as {layout}")
            raise
        printed = capfd.readouterr()
        assert printed == ("", "") or subject.name == "tiff", "libtiff says what it found"
    assert sum(outcomes.values()) == COUNT
    assert min(outcomes[kind] for kind in ("whole", "rejects", "refused")) > COUNT / 20, outcomes
