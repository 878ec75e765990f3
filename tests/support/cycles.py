"""What the gateway's code left for the garbage collector."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any


@contextmanager
def no_cycles() -> Iterator[None]:
    """
    Fail if the block leaves objects of the gateway, or frames of its code, in reference cycles.

    Objects of others do not count: the collector also finds what other threads of the test run
    have dropped.
    """
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [repr(each)[:200] for each in gc.garbage if _is_ours(each)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left, left


def _is_ours(thing: Any) -> bool:
    code = _code(thing)
    if code is not None:
        return "/gateway/" in code.co_filename
    return type(thing).__module__.partition(".")[0] == "gateway"


def _code(thing: Any) -> CodeType | None:
    """Return the code that a frame, traceback, function, coroutine or generator runs."""
    if inspect.istraceback(thing):
        thing = thing.tb_frame
    for name in ("f_code", "__code__", "cr_code", "gi_code", "ag_code"):
        code = getattr(thing, name, None)
        if isinstance(code, CodeType):
            return code
    return None
