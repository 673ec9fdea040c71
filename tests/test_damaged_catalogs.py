"""However a catalog is damaged, it is a catalog or has faults. `python -m benchmarks.fuzz_catalog` does the same for as long as one likes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog_mutations import FILES, check, some_repo


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some/where").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "some/where")


def test_what_is_damaged_is_a_good_catalog() -> None:
    assert check({name: text.encode() for name, text in FILES.items()})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(min_value=0, max_value=2**32))
def test_a_damaged_catalog_is_a_catalog_or_has_faults_in_lines_that_are_there(seed: int) -> None:
    check(some_repo(Random(seed)))
