"""Reading the sources of the documentation."""

import pytest

from gateway.console.library.sources import duration, path_of, without_dead_links


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86_400, "1 day"),
        (172_800, "2 days"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (61, "61 seconds"),
    ],
)
def test_spans_are_said_in_their_largest_whole_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_pages_of_the_repository_stand_below_docs() -> None:
    """Those that have another form here lead to that."""
    assert path_of("routing.md") == "/docs/routing"
    assert path_of("clients.md") == "/docs/clients"
    assert path_of("README.md") == "/docs"


def test_links_to_files_of_the_repository_are_text() -> None:
    """Links to other pages stay."""
    body = "see [a](../bench/README.md), [b](decisions/0001-x.md), [c](/docs/errors) and [d](https://x.test)"

    assert without_dead_links(body) == "see a, b, [c](/docs/errors) and [d](https://x.test)"
