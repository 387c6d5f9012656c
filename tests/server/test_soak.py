"""A short soak: the whole one is benchmarks/serve_soak.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "serve_soak.py"


@pytest.mark.slow
def test_mixed_requests_are_answered_and_refused_as_they_should_be() -> None:
    command = [sys.executable, str(PROGRAM), "--requests", "60", "--rounds", "2", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(finished.stdout)
    assert found["wrong"] == []
    assert found["bad"] == 20
    assert found["alive"]
    assert found["exit code"] == 0
    assert found["seconds p95"] >= found["seconds p50"] > 0
