"""The headers for the collector of traces, as operators write them."""

import pytest

from gateway.settings.telemetry import read_otlp_headers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("authorization=Bearer%20x", {"authorization": "Bearer x"}),
        ("X-A=1, x-b=two=2,\n", {"x-a": "1", "x-b": "two=2"}),
    ],
)
def test_headers_are_read(text: str, expected: dict[str, str]) -> None:
    """Names in lower case, values percent-decoded."""
    assert read_otlp_headers(text) == expected


@pytest.mark.parametrize("text", ["secret", "a b=c", "a=", "a=b%0d%0aevil: 1", "a=\u00e9"])
def test_malformed_headers_are_refused_without_showing_them(text: str) -> None:
    """No header is forged by an encoded line break."""
    with pytest.raises(ValueError, match=r"^is not a list of headers; use a form like name=value"):
        read_otlp_headers(text)
