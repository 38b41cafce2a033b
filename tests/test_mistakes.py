"""Error messages name what was found, where, and the way out."""

from __future__ import annotations

import pytest

from .mistakes import MISTAKES, Mistake, page

pytest.importorskip("pandas")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
@pytest.mark.filterwarnings("ignore")
def test_the_message_says_what_where_and_the_way_out(mistake: Mistake) -> None:
    if not mistake.possible():
        pytest.skip(f"needs {mistake.installed or 'no ' + mistake.absent}")
    error = mistake.make()
    assert isinstance(error, mistake.error)
    message = str(error)
    assert [word for word in mistake.words if word not in message] == [], message


@pytest.mark.filterwarnings("ignore")
def test_the_page_has_every_mistake_with_its_message() -> None:
    text = page()
    assert len(MISTAKES) >= 20
    for mistake in MISTAKES:
        assert f"\n{mistake.what}\n{'-' * len(mistake.what)}\n" in text
    assert text.count("Error: ") >= 20
