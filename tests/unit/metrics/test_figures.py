import numpy as np
import pytest
from scipy.stats import binomtest

from mixnmatch.metrics.figures import Figure, bootstrap, flat, mean, share, sized


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 40), (13, 40), (199, 200)])
def test_a_share_has_wilsons_interval(right: int, count: int) -> None:
    figure = share(np.arange(count) < right, chance=0.25)
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert (figure.value, figure.count, figure.chance) == (right / count, count, 0.25)
    assert figure.low == pytest.approx(expected.low, abs=1e-7)
    assert figure.high == pytest.approx(expected.high, abs=1e-7)


def covered(figures: list[Figure], truth: float) -> float:
    return float(np.mean([f.low <= truth <= f.high for f in figures if f.low is not None]))


@pytest.mark.parametrize("truth", [0.05, 0.25, 0.5, 0.97])
@pytest.mark.parametrize("count", [60, 500])
def test_intervals_of_shares_cover_the_truth(truth: float, count: int) -> None:
    random = np.random.default_rng(0)
    figures = [share(random.random(count) < truth) for _ in range(2000)]
    # Wilson's interval wavers about 95 % as counts are whole numbers: 91 to 98 % here, exactly.
    assert 0.91 < covered(figures, truth) < 0.985
    assert np.mean([f.value for f in figures]) == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("skewed", [False, True])
def test_bootstrap_intervals_cover_the_truth(skewed: bool) -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        values = random.exponential(size=120) if skewed else random.normal(1, 2, size=120)
        low, high = bootstrap(lambda index, v=values: float(v[index].mean()), 120, resamplings=200)
        hits += low <= 1 <= high
    # The percentile interval is a little narrow, more so where the mean's distribution is skewed;
    # 200 trials waver by 1.6 % (one standard deviation).
    assert 0.88 < hits / 200 < 0.99


def test_bootstrap_reaches_as_far_as_theory_says() -> None:
    values = np.random.default_rng(2).normal(size=2000)
    low, high = bootstrap(lambda index: float(values[index].mean()), len(values))
    reach = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_means_keep_what_belongs_to_a_case_together() -> None:
    # All four values of a case are equal, so there are 100 independent cases and not 400.
    cases = np.random.default_rng(3).random(100).round()
    together, apart = mean(np.repeat(cases[:, None], 4, axis=1)), mean(cases)
    assert together == apart
    assert together.count == 100


def test_means_of_values_that_are_no_numbers() -> None:
    figure = mean(np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]]), chance=0.5)
    assert (figure.value, figure.count, figure.chance) == (3, 2, 0.5)
    nothing = mean(np.full((3, 2), np.nan))
    assert np.isnan(nothing.value)
    assert (nothing.count, nothing.low, nothing.high) == (0, None, None)


def test_the_same_cases_give_the_same_interval() -> None:
    values = np.random.default_rng(4).random(50)
    assert mean(values) == mean(values)


def test_flat_figures_keep_their_chance_and_interval() -> None:
    figures = {"accuracy/shape": share(np.arange(10) < 5, chance=0.3), "fid": Figure(value=12.0)}
    numbers = flat(figures)
    assert numbers.keys() == {
        "accuracy/shape",
        "chance/accuracy/shape",
        "low/accuracy/shape",
        "high/accuracy/shape",
        "fid",
    }
    assert (numbers["accuracy/shape"], numbers["chance/accuracy/shape"]) == (0.5, 0.3)
    assert numbers["low/accuracy/shape"] < 0.5 < numbers["high/accuracy/shape"]


@pytest.mark.parametrize(
    ("samples", "name"), [(30_000, "fid"), (5_000, "fid_5k"), (512, "fid_512"), (2048, "fid_2048")]
)
def test_names_say_how_many(samples: int, name: str) -> None:
    assert sized("fid", samples) == name
