"""What all attempts of a call share, and what becomes of the response of one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.departure import Departure
from gateway.pipeline.request.inbound_request import InboundRequest, Reshape
from gateway.pipeline.stored.keeper import ResponseKeeper
from gateway.ports import UpstreamRequest
from gateway.protocols.codec.usage_bound import UNBOUNDED, UsageBound
from gateway.protocols.streams.relayed import Unchanged
from gateway.protocols.streams.transform import StreamTransform

UNCHANGED = Unchanged()


class ResponseTransforms(msgspec.Struct):
    """The transformations between one attempt's response and the client."""

    transform: StreamTransform = UNCHANGED
    """For a stream."""
    reshape: tuple[Reshape, ...] = ()
    """For a whole response, applied in order."""
    translated: bool = False
    """The response is in another API than the client's request."""
    reasoning_apart: bool = False
    """How usage is read, see `Capabilities.reasoning_apart`."""
    bound: UsageBound = UNBOUNDED
    """What usage is believed."""


Prepared = tuple[UpstreamRequest, ResponseTransforms]


class CallContext(msgspec.Struct):
    """The state that all attempts of one call share."""

    call: Call
    request: InboundRequest
    channel: ClientChannel
    departure: Departure
    release_body: Callable[[], None]
    """Frees the request's body, once no retry is possible because the response head is sent."""
    session_id: str | None
    created: int
    keeper: ResponseKeeper | None = None
    """Stores the response for follow-up requests."""
    max_attempts: int | None = None
    """The client's own bound, over all models of the call; None: it has none."""
    last_resort: bool = False
    """No deployment of the model is ready: a single attempt is made."""
    began: float | None = None
    """When the first attempt began, in the loop's time; None: it has not."""
    models_left: int = 0
    """Fallback models after the one in use; each keeps an attempt for itself."""
    input_estimate: int = 0
    """Input tokens for a stream's first event, if the upstream reports them only at the end."""
    without_reasoning: bool = False
    """An upstream rejected a reasoning signature: send no reasoning of the history."""
