"""The headers that every request to one provider on one wire carries, built once at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from gateway import __version__

Headers = tuple[tuple[bytes, bytes], ...]

USER_AGENT = f"capio-gateway/{__version__}".encode("ascii")


def upstream_headers(
    authority: str,
    auth: Literal["bearer", "x-api-key"],
    credential: str | None,
    extra: Mapping[str, str],
) -> Headers:
    """
    Return host, credential, user-agent, accept-encoding and the provider's own, ready to send.

    Compression is refused: it delays events inside the compressor, and usage could not be read
    from the bytes as they pass. A user-agent among the extra headers replaces the gateway's.

    Args:
        authority: Host, and the port where it is not the scheme's own.
        auth: How the credential is sent.
        credential: Visible ASCII; None sends none.
        extra: Names and values in ASCII; none of the names above but user-agent.
    """
    own = {name.lower().encode("ascii"): value.encode("ascii") for name, value in extra.items()}
    headers = [(b"host", authority.encode("ascii"))]
    if credential is not None and auth == "bearer":
        headers.append((b"authorization", b"Bearer " + credential.encode("ascii")))
    elif credential is not None:
        headers.append((b"x-api-key", credential.encode("ascii")))
    headers.append((b"user-agent", own.pop(b"user-agent", USER_AGENT)))
    headers.append((b"accept-encoding", b"identity"))
    headers.extend(own.items())
    return tuple(headers)
