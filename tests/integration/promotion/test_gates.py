from pathlib import Path

import pytest

from mixnmatch.errors import InputError
from mixnmatch_platform.promotion.gates import Gates, Requirement, judge, read_gates

METRICS = {
    "fid_5k": 20.0,
    "accuracy/shape": 0.4,
    "low/accuracy/shape": 0.36,
    "high/accuracy/shape": 0.44,
    "chance/accuracy/shape": 0.35,
    "leak": 0.2,
    "high/leak": 0.26,
    "chance/leak": 0.25,
    "broken": float("nan"),
}


@pytest.mark.parametrize(
    ("text", "passed", "said"),
    [
        ("fid_5k <= 20", True, "fid_5k is 20, wanted is <= 20"),
        ("fid_5k<=19.9", False, "fid_5k is 20, wanted is <= 19.9"),
        ("accuracy/shape >= 0.41", False, "accuracy/shape is 0.4, wanted is >= 0.41"),
        ("accuracy/shape >= chance", True, "interval begins at 0.36, chance is 0.35"),
        ("leak <= chance", False, "interval ends at 0.26, chance is 0.25"),
        ("fid_5k <= chance", False, "fid_5k has no known chance level or interval"),
        ("recall >= 0", False, "recall was not measured"),
        ("broken >= 0", False, "broken was not measured"),
    ],
)
def test_requirements(text: str, passed: bool, said: str) -> None:
    verdict = Requirement.parse(text).judge(METRICS)
    assert verdict.passed is passed
    assert said in verdict.said


@pytest.mark.parametrize("text", ["fid", "fid < 3", "fid <= nan", "fid <= x", "<= 3", "a b <= 3"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write METRIC<=NUMBER, METRIC>=NUMBER or METRIC>=chance"):
        Requirement.parse(text)


def test_a_file_and_flags_together(tmp_path: Path) -> None:
    file = tmp_path / "gates.toml"
    file.write_text('require = ["fid_5k <= 20"]\nprotocol = "5k"\nlicence = true\n')
    gates = read_gates(file, ["leak <= 0.3"])
    assert [r.metric for r in gates.require] == ["fid_5k", "leak"]
    assert (gates.protocol, gates.licence, gates.data_licence) == ("5k", True, False)
    assert read_gates(None) == Gates()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minimum = 3", "has 'minimum': known are require, protocol"),
        ("samples = 'many'", "samples must be a int"),
        ("samples = -1", "gate samples is -1"),
        ("protocol = 'mine'", "protocol is 'mine': it must be one of paper, 5k, quick"),
        ("require = [3]", "require must be a list of texts"),
        ("require = ['fid']", "requirement 'fid'"),
        ("require =", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gates.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_gates(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_gates(tmp_path / "none.toml")


def test_what_is_not_recorded_passes_no_gate() -> None:
    verdicts = judge(Gates(protocol="5k", samples=10, data_licence=True), {}, None)
    assert [(v.gate, v.passed) for v in verdicts] == [
        ("protocol", False),
        ("samples", False),
        ("data licence", False),
    ]
    assert "unknown number of samples" in verdicts[1].said


def test_all_ways_that_figures_were_measured_must_pass() -> None:
    few, many = ({"generated": {"protocol": None, "samples": count}} for count in (16, 5_000))
    gates = Gates(samples=5_000)
    assert [v.passed for v in judge(gates, METRICS, many)] == [True]
    assert [v.passed for v in judge(gates, METRICS, many, few)] == [True, False]
