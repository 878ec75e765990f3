"""Every error has words for operators and clients, and an example in the documents."""

from gateway.console.openapi.errors import (
    ERROR_TEXTS,
    INFERENCE_ERRORS,
    error_components,
    error_responses,
)
from gateway.core.model import Wire
from gateway.errors import ErrorKind


def test_every_kind_has_a_meaning_and_a_remedy() -> None:
    """Both are sentences."""
    assert list(ERROR_TEXTS) == list(ErrorKind)
    for text in ERROR_TEXTS.values():
        assert text.meaning.endswith(".")
        assert text.remedy.endswith((".", "`."))


def test_kinds_of_one_status_share_a_component() -> None:
    """The component of 429 shows each kind that has this status, in OpenAI's shape."""
    component = error_components(Wire.OPENAI)["openai_429"]
    examples = component["content"]["application/json"]["examples"]

    assert list(examples) == ["rate_limited", "no_credit", "budget_spent"]
    assert examples["no_credit"]["value"] == {
        "error": {
            "message": "Insufficient balance.",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }
    }
    assert (
        "- `no_credit`: The account's credit does not cover the call." in component["description"]
    )


def test_dialects_have_their_own_statuses() -> None:
    """An account without credit gets 402 from Anthropic's API and 429 from OpenAI's."""
    kinds = (ErrorKind.NO_CREDIT,)

    assert error_responses(kinds, Wire.ANTHROPIC) == {
        "402": {"$ref": "#/components/responses/anthropic_402"}
    }
    assert error_responses(kinds, Wire.OPENAI) == {
        "429": {"$ref": "#/components/responses/openai_429"}
    }


def test_calls_may_end_in_every_error_that_reaches_a_client() -> None:
    """Left out are those without a response, of other paths, and of kept responses."""
    assert set(ErrorKind) - set(INFERENCE_ERRORS) == {
        ErrorKind.UNKNOWN_PATH,
        ErrorKind.WRONG_METHOD,
        ErrorKind.RESPONSE_NOT_FOUND,
        ErrorKind.SLOW_CLIENT,
        ErrorKind.CLIENT_GONE,
    }
