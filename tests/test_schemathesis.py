"""The API against its own document, and against bodies of any kind. Longer runs are programs: fuzz_api, fuzz_bodies."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import fuzz_api
import fuzz_bodies


@pytest.mark.parametrize("number", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_answers_are_those_of_the_document(micro, number):
    seen, _ = fuzz_api.fuzz(number, micro)
    assert sum(seen.values()) >= 0.9 * number
    assert len({label for label, _ in seen}) > 12
    assert {200, 400} <= {status for _, status in seen}


@pytest.mark.parametrize("number", [500, pytest.param(5_000, marks=pytest.mark.slow)])
def test_no_body_is_too_strange(micro, number):
    seen, grown = fuzz_bodies.fuzz(number, micro)
    assert sum(seen.values()) >= 0.9 * number
    assert {200, 400, 415} <= {status for _, status in seen}
    assert grown < 64
