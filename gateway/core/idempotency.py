"""
Idempotency-Key: by what a repeated call is recognised, and what is kept of its answer.

Rules.
1. Everything that leaves this module for a store is a keyed hash or encrypted; the keys come by
   HKDF-SHA256 from the caller's raw API key, which is stored nowhere. So neither the header's
   value, nor a prompt, nor an answer can be read or guessed at rest, and equal prompts of two
   callers do not look equal.
2. A claim's `scope` names the record: account, API key, endpoint and the header's value. Its
   `fingerprint` tells whether the body is the same, byte for byte: SDKs repeat what they sent.
3. A sealed answer is bound to its scope and fingerprint: moved to another record it does not open.
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
FINGERPRINT_BYTES: Final = 32

_SALT: Final = b"gateway idempotency key, form 1"
_TAG_BYTES: Final = 16
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_REPEATED: Final = frozenset({b"content-type", b"x-upstream-request-id", b"x-capio-dropped"})

_encode = msgspec.msgpack.Encoder().encode


class StoredResponse(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer as the caller got it."""

    status: int
    headers: tuple[Header, ...]
    """Only those that hold for a repetition too."""
    body: bytes
    request_id: str
    """The id of the call that was run."""


_decode_answer = msgspec.msgpack.Decoder(StoredResponse).decode


class Sealer:
    """
    The keys of one caller for names, fingerprints and answers. Costs 8 us: make it when needed.

    Args:
        api_key: The raw API key; it is not kept.
    """

    __slots__ = ("_fingerprint_key", "_name_key", "_seal_key")

    def __init__(self, api_key: str) -> None:
        keys = HKDF(SHA256(), 96, _SALT, b"name, fingerprint, seal").derive(api_key.encode())
        self._name_key, self._fingerprint_key, self._seal_key = keys[:32], keys[32:64], keys[64:]

    def name(self, *parts: str) -> bytes:
        """Return 16 bytes that stand for the parts, and that nobody without the key can guess."""
        return hmac.digest(self._name_key, _encode(parts), "sha256")[:SCOPE_BYTES]

    def fingerprint(self, body: bytes) -> bytes:
        """Return 32 bytes that stand for the body. 0.7 us a kilobyte."""
        return hmac.digest(self._fingerprint_key, body, "sha256")

    def seal(self, answer: StoredResponse, claim: Claim, nonce: bytes) -> bytes:
        """
        Return the answer encrypted for `claim`.

        Args:
            answer: What to keep.
            claim: What it belongs to.
            nonce: 12 random bytes, never used twice with the same API key.
        """
        sealed = AESGCM(self._seal_key).encrypt(nonce, _encode(answer), _bound_to(claim))
        return nonce + sealed

    def unseal(self, sealed: bytes, claim: Claim) -> StoredResponse | None:
        """Return the answer sealed for `claim`; None: changed since, or not sealed for it."""
        if len(sealed) < NONCE_BYTES + _TAG_BYTES:
            return None
        nonce, encrypted = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return _decode_answer(
                AESGCM(self._seal_key).decrypt(nonce, encrypted, _bound_to(claim))
            )
        except (InvalidTag, msgspec.DecodeError):
            return None


class Claim(msgspec.Struct, frozen=True):
    """What a call with the header asks for: to be the only one that runs."""

    account_id: str
    scope: bytes
    """16 bytes: the name of the record."""
    fingerprint: bytes
    """32 bytes: which body."""
    sealer: Sealer


class Hold(msgspec.Struct, frozen=True):
    """A claim that was granted. Whoever has it runs the call and then finishes or frees it."""

    claim: Claim
    token: bytes
    """16 random bytes: tells this run from every other."""


class KeyedRequest:
    """
    The header of one request and the caller's keys, until the body is known.

    Args:
        value: The header's value.
        sealer: Made of the caller's raw API key.
    """

    __slots__ = ("_sealer", "_value")

    def __init__(self, value: str, sealer: Sealer) -> None:
        self._value = value
        self._sealer = sealer

    def claim(self, principal: Principal, endpoint: Endpoint, body: bytes) -> Claim:
        """Return the claim of a call; `body` is the request's, as it came."""
        sealer = self._sealer
        scope = sealer.name(principal.account_id, principal.key_id, endpoint.value, self._value)
        return Claim(principal.account_id, scope, sealer.fingerprint(body), sealer)


def keyed_request(headers: Iterable[Header], api_key: str) -> KeyedRequest | None:
    """
    Return what is needed of a request that carries the header; None: it carries none.

    Args:
        headers: The request's, names in lower case.
        api_key: The raw API key, after it has proved valid; it is not kept.

    Raises:
        GatewayError: BAD_REQUEST when the value is not 1 to 255 visible ASCII characters, or the
            header occurs twice with different values.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == HEADER:
            if found is not None and found != value:
                raise _unusable("must occur once")
            found = value
    if found is None:
        return None
    if not 0 < len(found) <= MAX_VALUE_LENGTH or found.translate(None, _VISIBLE):
        raise _unusable(f"must be 1 to {MAX_VALUE_LENGTH} visible ASCII characters")
    return KeyedRequest(found.decode("ascii"), Sealer(api_key))


class ResponseRecorder:
    """
    Collects an answer on its way to the caller, up to a limit; beyond it, forgets it.

    Args:
        limit_bytes: Largest body that is kept.
    """

    __slots__ = ("_headers", "_limit_bytes", "_pieces", "_size", "_status")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._status = 0
        self._headers: tuple[Header, ...] = ()
        self._pieces: list[bytes] = []
        self._size = 0

    def start(self, status: int, headers: Iterable[Header]) -> None:
        """Take the head."""
        self._status = status
        self._headers = tuple(header for header in headers if header[0] in _REPEATED)

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._size += len(chunk)
        if self._size > self._limit_bytes:
            self._pieces.clear()
        else:
            self._pieces.append(chunk)

    def answer(self, request_id: str) -> StoredResponse | None:
        """Return the whole answer of the call `request_id`; None: none began, or it is too long."""
        if not self._status or self._size > self._limit_bytes:
            return None
        return StoredResponse(self._status, self._headers, b"".join(self._pieces), request_id)


def replay_headers(answer: StoredResponse, request_id: str) -> list[Header]:
    """Return the headers with which a stored answer goes to the call `request_id`."""
    own_id = request_id.encode("latin-1")
    return [
        *answer.headers,
        (b"content-length", str(len(answer.body)).encode()),
        (b"request-id", own_id),
        (b"x-request-id", own_id),
        (b"x-original-request-id", answer.request_id.encode("latin-1")),
        (b"idempotent-replayed", b"true"),
    ]


def _bound_to(claim: Claim) -> bytes:
    return claim.scope + claim.fingerprint


def _unusable(why: str) -> GatewayError:
    return GatewayError(ErrorKind.BAD_REQUEST, f"The header Idempotency-Key {why}.")
