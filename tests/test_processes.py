"""Tests are spread over processes as `tests/conftest.py` says."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("a group")
def test_groups_reach_the_scheduler(request: pytest.FixtureRequest) -> None:
    """pytest-xdist writes a group into the test's id and reads it there. With a pytest whose ids it
    cannot change it says nothing, and keeps nothing together."""
    grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@a group") == grouped
