"""What several shapes share."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta


def about(description: str) -> Meta:
    """Return the annotation that describes a member."""
    return Meta(description=description)


ModelName = Annotated[
    str, about("Name or alias of a model, as `/v1/models` lists it; with or without the prefix.")
]
JsonSchema = Annotated[dict[str, Any], about("A JSON schema.")]
Temperature = Annotated[float, about("Sampling temperature.")]
TopP = Annotated[float, about("Nucleus sampling: share of the probability mass to sample from.")]
Stream = Annotated[bool, about("Send the response as server-sent events while it is generated.")]
CacheControl = Annotated[dict[str, Any], about("Marks the end of a prefix that is to be cached.")]
Dollars = Annotated[str, about("Decimal dollars, exact.")]
NanoDollars = Annotated[int, about("The same amount in billionths of a dollar.")]
Metadata = Annotated[dict[str, Any], about("Free key-value pairs of the client.")]
Fallbacks = Annotated[
    list[str],
    about("Models to serve the call if no deployment of `model` can; not sent to the upstream."),
]
