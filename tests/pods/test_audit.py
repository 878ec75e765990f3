"""The comparison of records finds lost, doubled and wrongly charged calls."""

from __future__ import annotations

import msgspec
import pytest

from gateway.demo.record import Served
from tests.pods.audit import Row, compare
from tests.pods.fleet import INPUT_NANOUSD, OUTPUT_NANOUSD

COST = 3 * INPUT_NANOUSD + 20 * OUTPUT_NANOUSD
SERVED = Served(
    id="r1", deployment="both", model="up", dialect="openai", streamed=True, status=200,
    tokens_sent=20, input_tokens=3, output_tokens=20, ending="complete",
)  # fmt: skip
ROW = Row(
    request_id="req_1", upstream_request_id="r1", outcome="completed", input_tokens=3,
    output_tokens=20, cost_nanousd=COST, charged_nanousd=COST, charges=1,
)  # fmt: skip
HALF = 3 * INPUT_NANOUSD + 10 * OUTPUT_NANOUSD
ABANDONED = msgspec.structs.replace(
    ROW, outcome="abandoned", output_tokens=10, cost_nanousd=HALF, charged_nanousd=HALF
)


@pytest.mark.parametrize("row", [ROW, ABANDONED], ids=["whole", "settled for a killed pod"])
def test_right_records_have_no_differences(row: Row) -> None:
    """One row a response, charged once."""
    assert compare([row], [SERVED]).differences == []


@pytest.mark.parametrize(
    ("rows", "difference"),
    [
        ([], "served and not recorded"),
        ([ROW, msgspec.structs.replace(ROW, request_id="req_2")], "2 rows of one response"),
        ([msgspec.structs.replace(ROW, charges=2)], "charged otherwise than recorded"),
        ([msgspec.structs.replace(ROW, charged_nanousd=0)], "charged otherwise than recorded"),
        ([msgspec.structs.replace(ROW, output_tokens=19)], "not what the upstream reported"),
        ([msgspec.structs.replace(ROW, upstream_request_id="r2")], "not what the upstream"),
        ([msgspec.structs.replace(ABANDONED, output_tokens=31)], "charged more than was sent"),
    ],
)
def test_difference_is_found(rows: list[Row], difference: str) -> None:
    """Each kind of difference is named."""
    assert any(difference in each for each in compare(rows, [SERVED]).differences)
