"""
Idempotency-Key: identifies repeated calls and encrypts their stored responses.

1. Everything stored is a keyed hash or encrypted; the keys are derived by HKDF-SHA256 from the
   client's raw API key, which is not stored. Header values, prompts and responses can therefore not
   be read or guessed at rest, and equal prompts of two clients do not look equal.
2. A claim's `scope` names the record: account, API key, endpoint and the header's value. Its
   `fingerprint` is equal for equal bodies, byte for byte: SDKs resend the same bytes.
3. A sealed response is bound to its scope and fingerprint, and cannot be opened for another record.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.model import Endpoint, Principal
from gateway.errors import ErrorKind, GatewayError

Header = tuple[bytes, bytes]

HEADER: Final = b"idempotency-key"
MAX_VALUE_LENGTH: Final = 255
NONCE_BYTES: Final = 12
SCOPE_BYTES: Final = 16

_SALT: Final = b"gateway idempotency key, form 1"
_TAG_BYTES: Final = 16
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_REPEATED: Final = frozenset({b"content-type", b"x-upstream-request-id", b"x-capio-dropped"})

_encode = msgspec.msgpack.Encoder().encode


class StoredResponse(msgspec.Struct, frozen=True, array_like=True):
    """A complete response as the client received it."""

    status: int
    headers: tuple[Header, ...]
    """Only those that also apply to a replay."""
    body: bytes
    request_id: str
    """The id of the original call."""


_decode_response = msgspec.msgpack.Decoder(StoredResponse).decode


class Sealer:
    """
    The keys of one client for names, fingerprints and responses. Creating it costs 8 us.

    Args:
        api_key: The raw API key; it is not kept.
    """

    __slots__ = ("_fingerprint_key", "_name_key", "_seal_key")

    def __init__(self, api_key: str) -> None:
        keys = HKDF(SHA256(), 96, _SALT, b"name, fingerprint, seal").derive(api_key.encode())
        self._name_key, self._fingerprint_key, self._seal_key = keys[:32], keys[32:64], keys[64:]

    def name(self, *parts: str) -> bytes:
        """Return a keyed hash of the parts, 16 bytes."""
        return hmac.digest(self._name_key, _encode(parts), "sha256")[:SCOPE_BYTES]

    def fingerprint(self, body: bytes) -> bytes:
        """Return a keyed hash of the body, 32 bytes. Costs 0.7 us per kilobyte."""
        return hmac.digest(self._fingerprint_key, body, "sha256")

    def seal(self, response: StoredResponse, claim: Claim, nonce: bytes) -> bytes:
        """
        Return the response encrypted for `claim`.

        Args:
            response: The response to store.
            claim: The claim it belongs to.
            nonce: 12 random bytes, never used twice with the same API key.
        """
        sealed = AESGCM(self._seal_key).encrypt(nonce, _encode(response), _bound_to(claim))
        return nonce + sealed

    def unseal(self, sealed: bytes, claim: Claim) -> StoredResponse | None:
        """Return the response sealed for `claim`; None if altered or sealed for another claim."""
        if len(sealed) < NONCE_BYTES + _TAG_BYTES:
            return None
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return _decode_response(
                AESGCM(self._seal_key).decrypt(nonce, encrypted, _bound_to(claim))
            )
        except (InvalidTag, msgspec.DecodeError):
            return None


class Claim(msgspec.Struct, frozen=True):
    """A request to be the only running call with this idempotency key."""

    account_id: str
    scope: bytes
    """16 bytes that name the record."""
    fingerprint: bytes
    """32 bytes that identify the body."""
    sealer: Sealer


class GrantedClaim(msgspec.Struct, frozen=True):
    """A granted claim. Its holder runs the call, then finishes or frees the claim."""

    claim: Claim
    token: bytes
    """16 random bytes that identify this run."""


class KeyedRequest:
    """
    The header value and the client's keys of a request whose body has not been read yet.

    Args:
        value: The header's value.
        sealer: Made from the client's raw API key.
    """

    __slots__ = ("_sealer", "_value")

    def __init__(self, value: str, sealer: Sealer) -> None:
        self._value = value
        self._sealer = sealer

    def claim(self, principal: Principal, endpoint: Endpoint, body: bytes) -> Claim:
        """Return the claim of a call; `body` is the request's, unmodified."""
        sealer = self._sealer
        scope = sealer.name(principal.account_id, principal.key_id, endpoint.value, self._value)
        return Claim(principal.account_id, scope, sealer.fingerprint(body), sealer)


def keyed_request(headers: Iterable[Header], api_key: str) -> KeyedRequest | None:
    """
    Return the keyed request, or None if the request has no `Idempotency-Key` header.

    Args:
        headers: The request's headers, names in lower case.
        api_key: The validated raw API key; it is not kept.

    Raises:
        GatewayError: BAD_REQUEST: the value is not 1 to 255 visible ASCII characters, or the header
            occurs twice with different values.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == HEADER:
            if found is not None and found != value:
                raise _invalid_header("must occur only once")
            found = value
    if found is None:
        return None
    if not 0 < len(found) <= MAX_VALUE_LENGTH or found.translate(None, _VISIBLE):
        raise _invalid_header(f"must be 1 to {MAX_VALUE_LENGTH} visible ASCII characters")
    return KeyedRequest(found.decode("ascii"), Sealer(api_key))


class ResponseRecorder:
    """
    Records a response on its way to the client, unless its body exceeds a limit.

    Args:
        limit_bytes: Largest body that is stored.
    """

    __slots__ = ("_headers", "_limit_bytes", "_pieces", "_size", "_status")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._status = 0
        self._headers: tuple[Header, ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0

    def start(self, status: int, headers: Iterable[Header]) -> None:
        """Record the status, and the headers that also apply to a replay."""
        self._status = status
        self._headers = tuple(header for header in headers if header[0] in _REPEATED)

    def add(self, chunk: bytes) -> None:
        """Record the next bytes of the body."""
        self._size += len(chunk)
        if self._size > self._limit_bytes:
            self._pieces.clear()
        else:
            self._pieces.append(chunk)

    def stored_response(self, request_id: str) -> StoredResponse | None:
        """Return the response of call `request_id`; None if none was started or it is too large."""
        if not self._status or self._size > self._limit_bytes:
            return None
        return StoredResponse(self._status, self._headers, b"".join(self._pieces), request_id)


def replay_headers(response: StoredResponse, request_id: str) -> list[Header]:
    """Return the headers with which a stored response is replayed to call `request_id`."""
    own_id = request_id.encode("latin-1")
    return [
        *response.headers,
        (b"content-length", str(len(response.body)).encode()),
        (b"request-id", own_id),
        (b"x-request-id", own_id),
        (b"x-original-request-id", response.request_id.encode("latin-1")),
        (b"idempotent-replayed", b"true"),
    ]


def _bound_to(claim: Claim) -> bytes:
    return claim.scope + claim.fingerprint


def _invalid_header(reason: str) -> GatewayError:
    return GatewayError(ErrorKind.BAD_REQUEST, f"The header Idempotency-Key {reason}.")
