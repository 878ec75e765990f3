"""
The direct port holds what Granian's port guarantees: the same tests, on the other port.

Clocks, the size of heads and unfinished heads are tested on both ports in `test_listening`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.test_bad_input import (
    strict_key,
    test_ambiguous_framing_smuggles_no_second_request,
    test_body_of_32_mib_passes,
    test_body_of_33_mib_by_its_length_is_413_before_it_is_sent,
    test_chunked_body_beyond_32_mib_is_413,
    test_client_who_leaves_inside_its_body_breaks_nothing,
    test_garbage_instead_of_http_is_refused,
    test_slow_body_is_408,
)
from tests.process.test_disconnect import (
    test_client_that_reads_nothing_makes_no_memory_grow,
    test_client_that_reads_slowly_gets_every_byte,
    test_median_of_letting_go_is_below_what_is_promised,
    test_upstream_is_let_go_when_the_client_leaves,
)
from tests.process.test_intake import (
    penniless,
    poor_account,
    rich,
    test_body_cut_short_by_a_half_closed_client_ends_the_call,
    test_client_that_waits_for_a_word_gets_it,
    test_malformed_chunks_are_400,
    test_no_credit_is_told_before_the_body,
)
from tests.process.test_listening import (
    test_large_body_arrives_whole,
    test_model_names_may_be_encoded,
    test_operators_paths_have_one_spelling,
)
from tests.support.service import DemoProcess, Service

pytestmark = pytest.mark.process

__all__ = [
    "penniless",
    "poor_account",
    "rich",
    "strict_key",
    "test_ambiguous_framing_smuggles_no_second_request",
    "test_body_cut_short_by_a_half_closed_client_ends_the_call",
    "test_body_of_32_mib_passes",
    "test_body_of_33_mib_by_its_length_is_413_before_it_is_sent",
    "test_chunked_body_beyond_32_mib_is_413",
    "test_client_that_reads_nothing_makes_no_memory_grow",
    "test_client_that_reads_slowly_gets_every_byte",
    "test_client_that_waits_for_a_word_gets_it",
    "test_client_who_leaves_inside_its_body_breaks_nothing",
    "test_garbage_instead_of_http_is_refused",
    "test_large_body_arrives_whole",
    "test_malformed_chunks_are_400",
    "test_median_of_letting_go_is_below_what_is_promised",
    "test_model_names_may_be_encoded",
    "test_no_credit_is_told_before_the_body",
    "test_operators_paths_have_one_spelling",
    "test_slow_body_is_408",
    "test_upstream_is_let_go_when_the_client_leaves",
]


@pytest.fixture(scope="session")
def gateway(gateway: Service) -> Service:
    """The gateway of all tests on its direct port."""
    return gateway.on_port(direct=True)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway of one worker, on its direct port."""
    made = Service(
        tmp_path_factory.mktemp("direct"),
        demo_upstream,
        workers=1,
        server="body_timeout_s = 1.0",
        direct=True,
    )
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def strict(service: Service) -> Service:
    """The gateway of tests with little patience."""
    return service
