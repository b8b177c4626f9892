"""``platform sweep``, ``resume``, ``logs`` and ``runs`` on one small sweep."""

import json
import sys
from pathlib import Path

import pytest

from mixnmatch.commands.options import write_config
from mixnmatch.config import RunConfig
from mixnmatch_platform.cli import main
from mixnmatch_platform.session_log import noted_command

pytestmark = pytest.mark.integration

EXPERIMENT = '''
"""Two trials."""
import sys
from pathlib import Path

from mixnmatch.commands.options import read_config
from mixnmatch.settings import from_dict
from mixnmatch.config import RunConfig
from mixnmatch_platform.experiment import main
from mixnmatch_platform.sweep import Objective, SearchSpace, Sweep
import json

SWEEP = Sweep(
    name="pair",
    data=Path({data!r}),
    config=from_dict(RunConfig, json.loads(Path({config!r}).read_text())),
    space=SearchSpace(super_categories=(2,), fine_per_super=(1, 2)),
    trials=2,
    concurrent=2,
    objectives=(Objective("disentanglement_accuracy", "max"),),
    home=Path({home!r}),
)
if __name__ == "__main__":
    sys.exit(main(SWEEP))
'''


@pytest.fixture
def file(home: Path, drawn_data: Path, tiny_config: RunConfig, tmp_path: Path) -> Path:
    write_config(tiny_config, tmp_path / "config.json")
    text = EXPERIMENT.format(
        data=str(drawn_data), config=str(tmp_path / "config.json"), home=str(home)
    )
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "sweep_pair.py").write_text(text)
    return tmp_path / "experiments" / "sweep_pair.py"


@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_by_name_and_what_it_left(
    home: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parents[1])
    assert main(["sweep", "pair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == 2

    assert main(["logs", "pair"]) == 0
    log = capsys.readouterr().out
    assert "trial-0000 starts" in log
    assert "best of 2 trials" in log
    assert main(["logs", "pair/trial-0001", "--lines", "1"]) == 0
    last = capsys.readouterr().out
    assert last.count("\n") == 1
    assert "trial-0001" in last

    assert main(["runs", "pair"]) == 0
    rows = capsys.readouterr().out.splitlines()
    first, *trials = [row.split()[0] for row in rows[1:]]
    assert first == "pair/pair"
    assert sorted(trials) == ["trial-0000", "trial-0001"]
    assert rows[2].startswith("  trial")

    arguments, where = noted_command(home / "pair")
    assert arguments == sys.orig_argv
    assert main(["resume", "--dry-run", "pair", "--max-hours", "2"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"cd {where}")
    assert said.strip().endswith("--max-hours 2")


def test_what_cannot_be_run_is_one_line(
    home: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parents[1])
    (file.parent / "broken.py").write_text("from nowhere import nothing\n")
    (file.parent / "empty.py").write_text("SWEEP = 3\n")
    for arguments, said in [
        (["sweep", "birds"], "no experiment birds: there is broken, empty, pair"),
        (["sweep", "broken"], "No module named 'nowhere'"),
        (["sweep", "empty"], "has no SWEEP"),
        (["sweep", "pair", "--trials", "3"], "trials is 3: it must be at most the 2 combinations"),
        (["resume", "birds"], "no run or sweep birds"),
        (["logs", "../x"], "is no name"),
        (["runs", "birds"], "no MLflow store"),
    ]:
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert said in error
