"""Equal models do not change places, and a better one is promoted: the gate on drawn items, over many draws."""

import pytest

from benchmarks.gate import ALPHA, CASES, promotions

DRAWS = 300


@pytest.mark.parametrize("name", CASES)
def test_equal_models_keep_their_places(name: str) -> None:
    """At most ALPHA of the draws, and three standard errors of a share over so many."""
    noise = 3 * (ALPHA * (1 - ALPHA) / DRAWS) ** 0.5
    by_interval, by_point = promotions(CASES[name], 100, 0.0, DRAWS)
    assert by_interval <= ALPHA + noise
    assert by_interval < by_point / 3


@pytest.mark.parametrize("name", [name for name in CASES if "99 %" not in name])
def test_a_better_model_is_promoted(name: str) -> None:
    case = CASES[name]
    by_interval, _ = promotions(case, 400, 2 * case.better, DRAWS // 3, seed=1)
    assert by_interval > 0.8
