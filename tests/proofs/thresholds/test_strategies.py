"""No strategy of a dishonest provider gains anything over honest work, with real draws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proofs.thresholds.spotcheck import ONE, CheckTerms
from scripts.evaluation.strategies import (
    HONEST,
    MARKETS,
    STRATEGIES,
    Market,
    mean_gain,
    play,
    rate_in,
)

LIGHT = {name: market for name, market in MARKETS.items() if market.nodes <= 5}


@pytest.mark.parametrize("market", LIGHT.values(), ids=LIGHT)
@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_gains(name: str, market: Market) -> None:
    assert mean_gain(name, market, 6) < 0.0


def test_a_fleet_of_fifty_gains_nothing() -> None:
    market = MARKETS["50 nodes of one provider"]
    assert rate_in(market) == ONE
    assert mean_gain("forging the last unit before leaving", market, 2) < 0.0


def test_honest_work_is_the_measure() -> None:
    assert play(lambda *_: HONEST, Market(), 100, 1) == 0.0


def test_the_games_can_be_won() -> None:
    """Where work is hardly looked at, cheating pays: the games would show it."""
    lax = replace(Market(), terms=CheckTerms(margin=0, probation=0))  # type: ignore[arg-type]
    assert rate_in(lax) == ONE // 16
    for name in ("cheaper arithmetic in one unit of 16", "cheaper arithmetic always"):
        assert mean_gain(name, lax, 6) > 0.0
