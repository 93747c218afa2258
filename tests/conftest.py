"""Fixtures for every test: no network, no leftovers in the working folder."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline import console

FIXTURES = [HealthCheck.function_scoped_fixture]
settings.register_profile("quick", deadline=None, max_examples=60, suppress_health_check=FIXTURES)
settings.register_profile("long", deadline=None, max_examples=2000, suppress_health_check=FIXTURES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs go to the test's own folder, the Hub is out of reach, talk is off."""
    monkeypatch.setenv("PIPELINE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr(console, "_quiet", True)
