"""
The types of settings: each names its range, or says in `allowed` what a value must look like.

The unit of a setting follows from the suffix of its name (`_s`, `_ms`, `_bytes`, `_days`), or is
given as `extra={"unit": ...}` beside its description.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
BodyBytes = Annotated[int, Meta(ge=1024, le=1024 * 1024 * 1024)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
ModelName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z",
        extra={"allowed": "a name of at most 128 letters, digits and . _ : / @ + -"},
    ),
]
UpstreamName = Annotated[
    str,
    Meta(
        pattern=r"^[\x21-\x7e]{1,256}\Z",
        extra={"allowed": "a name of at most 256 visible ASCII characters"},
    ),
]
ProviderName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        extra={"allowed": "a name of at most 64 letters, digits and . _ -"},
    ),
]
TagName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z",
        extra={"allowed": "a name of at most 32 lower-case letters, digits and _ -"},
    ),
]
Network = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?\Z",
        extra={"allowed": 'an IP address or a network like "10.0.0.0/8"'},
    ),
]
EnvName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z",
        # Hidden, because people paste the secret itself here.
        extra={"allowed": "the name of an environment variable", "hidden": True},
    ),
]
Price = Annotated[
    str,
    Meta(
        # A price times the largest accepted count fits into 64 bits.
        pattern=r"^[0-9]{1,5}(\.[0-9]{1,9})?\Z",
        extra={"allowed": 'a decimal in quotes like "0.07", below 100000, at most nine decimals'},
    ),
]
Multiplier = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,2}(\.[0-9]{1,6})?\Z",
        extra={"allowed": 'a factor in quotes like "2.5", below 100, at most six decimals'},
    ),
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, and unknown keys are errors."""
