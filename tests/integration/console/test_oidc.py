"""Signing in with an OpenID provider, a real one on loopback, and what is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from joserfc.jwk import ECKey

from gateway.console.openid import provider as provider_module
from gateway.settings import Brand, Console, Oidc, Secrets, Server, Settings
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.identities import Identity
from gateway.store.people.users import User
from gateway.store.sql.database import Database
from tests.support.console import HOST, ORIGIN, ConsoleApp
from tests.support.openid import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from tests.support.postgres import copy_migrated

PASSWORD = "seven quiet herons cross"
CALLBACK = "/sign-in/oidc/callback"


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with OpenIdProvider() as running:
        yield running


@pytest.fixture
async def app(tmp_path: Path, provider: OpenIdProvider) -> AsyncIterator[ConsoleApp]:
    oidc = Oidc(
        issuer=provider.issuer,
        client_id=CLIENT_ID,
        client_secret_env="SECRET",
        name="Acme",
        operator_group="ops",
    )
    settings = Settings(
        server=Server(data_dir=str(tmp_path)),
        brand=Brand(public_url=ORIGIN),
        console=Console(oidc=oidc),
    )
    copy_migrated(tmp_path)
    async with ConsoleApp(
        Database(settings), settings, real_sessions=True, secrets=Secrets({}, oidc=CLIENT_SECRET)
    ) as made:
        yield made


async def start(app: ConsoleApp, path: str = "/sign-in/oidc", **form: str) -> str:
    """Begin; return where the browser is sent."""
    response = await app.client.post(path, data={"next": "/app", **form})
    assert response.status_code == 303
    return response.headers["location"]


async def finish(app: ConsoleApp, query: dict[str, str]) -> httpx2.Response:
    """Come back from the provider, as a navigation from another site."""
    return await app.client.get(CALLBACK, params=query, headers={"sec-fetch-site": "cross-site"})


async def sign_in(app: ConsoleApp, provider: OpenIdProvider, **form: str) -> httpx2.Response:
    """Sign in from the start to the callback."""
    return await finish(app, provider.authorize(await start(app, **form)))


async def linked_user(app: ConsoleApp, provider: OpenIdProvider) -> User:
    """Return a user who is connected to the provider's person."""
    people = app.services.people
    user = await people.users.create("ada", "Ada", password="x")
    await people.identities.add(user.id, Identity(provider.issuer, "person-1"), SYSTEM)
    return user


async def password_user(app: ConsoleApp, login: str) -> User:
    """Return a user who has signed in with their password."""
    people = app.services.people
    user = await people.users.create(login, login, password=await people.passwords.hash(PASSWORD))
    await app.client.post("/sign-in", data={"login": login, "password": PASSWORD})
    return user


async def viewer_id(app: ConsoleApp) -> str | None:
    """Return the signed-in user's id."""
    found = await app.services.people.find(app.client.cookies.get("session"))
    return None if found is None else found.user_id


async def test_connected_user_signs_in_and_is_led_on(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """The description and the keys are fetched once; the flow's cookie is gone."""
    user = await linked_user(app, provider)

    done = await sign_in(app, provider, next="/app/usage")
    assert await viewer_id(app) == user.id
    assert (done.status_code, done.headers["location"]) == (303, "/app/usage")
    assert "oidc" not in app.client.cookies
    app.client.cookies.clear()
    await sign_in(app, provider)

    assert await viewer_id(app) == user.id
    assert provider.requests == ["/.well-known/openid-configuration", "/token", "/keys", "/token"]


async def test_sign_in_page_offers_the_provider_and_the_policy_allows_it(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """A form may lead to the provider."""
    page = await app.client.get("/sign-in")

    assert "Sign in with Acme" in page.text
    assert f"form-action 'self' {provider.issuer};" in page.headers["content-security-policy"]


async def test_token_that_is_not_for_this_sign_in_is_refused(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Each claim alone: replaced, or removed by None."""
    await linked_user(app, provider)
    wrong: list[dict[str, Any]] = [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": [CLIENT_ID, "another"]},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "https://evil.test"},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"sub": "x" * 256},
        {"sub": 7},
    ]
    for claims in wrong:
        provider.claims = claims
        assert (await sign_in(app, provider)).status_code == 403, claims
        assert await viewer_id(app) is None, claims


async def test_token_of_two_audiences_names_this_client(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Then it is accepted."""
    await linked_user(app, provider)
    provider.claims = {"aud": ["another", CLIENT_ID], "azp": CLIENT_ID}

    assert (await sign_in(app, provider)).status_code == 303


async def test_state_is_bound_to_the_browser_and_works_once(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Another browser's callback, a replay, another state and another issuer are refused."""
    await linked_user(app, provider)
    url = await start(app)
    cookie = app.client.cookies["oidc"]
    query = provider.authorize(url)
    app.client.cookies.clear()

    statuses = [(await finish(app, query)).status_code]
    for changed in ({"state": "x"}, {"iss": "https://evil.test"}, {"code": ""}, {}, {}):
        app.client.cookies.clear()
        app.client.cookies.set("oidc", cookie, domain=HOST)
        statuses.append((await finish(app, {**query, **changed})).status_code)

    assert statuses == [403, 403, 403, 403, 303, 403]


async def test_flow_expires(
    app: ConsoleApp, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten minutes it starts again."""
    await linked_user(app, provider)
    query = provider.authorize(await start(app))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 601)

    assert (await finish(app, query)).status_code == 403


async def test_identity_of_nobody_is_not_let_in(app: ConsoleApp, provider: OpenIdProvider) -> None:
    """Not even with the mail address of a user: addresses change hands, subjects do not."""
    await app.services.people.users.create("ada@example.com", "Ada", password="x")

    done = await sign_in(app, provider)

    assert done.status_code == 403
    assert "This identity is not connected to a user" in done.text
    assert await viewer_id(app) is None


async def test_invitation_is_accepted_with_the_provider(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """The verified mail address is the sign-in name; the invitation works once."""
    account = await Accounts(app.services.database).create("Acme")
    links = app.services.people.links
    token = await links.create_invitation(account.id, "member", SYSTEM)

    provider.claims = {"email_verified": False}
    unverified = await sign_in(app, provider, token=token)
    provider.claims = {"email_verified": None}
    unsaid = await sign_in(app, provider, token=token)
    provider.claims = {}
    joined = await sign_in(app, provider, token=token)
    found = await app.services.people.find(app.client.cookies.get("session"))
    app.client.cookies.clear()
    provider.claims = {"sub": "person-2", "email": "bob@example.com"}
    used = await sign_in(app, provider, token=token)

    statuses = [each.status_code for each in (unverified, unsaid, joined, used)]
    assert statuses == [403, 403, 303, 403]
    assert found is not None
    assert (found.login, found.name) == ("ada@example.com", "Ada Lovelace")
    assert [(each.account_id, each.role.value) for each in found.memberships] == [
        (account.id, "member")
    ]


async def test_invitation_does_not_take_over_a_user(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Whose sign-in name is the person's verified mail address."""
    await app.services.people.users.create("ada@example.com", "Ada", password="x")
    account = await Accounts(app.services.database).create("Acme")
    token = await app.services.people.links.create_invitation(account.id, "owner", SYSTEM)

    done = await sign_in(app, provider, token=token)

    assert done.status_code == 403
    assert "Sign in first" in done.text


async def test_invitation_makes_no_user_of_a_closed_service(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """It stays unused, and lets a connected user join."""
    settings = app.services.settings
    console = msgspec.structs.replace(settings.console, signup="closed")
    app.services.settings = msgspec.structs.replace(settings, console=console)
    account = await app.services.accounts.create("Acme", None, SYSTEM)
    token = await app.services.people.links.create_invitation(account.id, "member", SYSTEM)

    refused = await sign_in(app, provider, token=token)
    user = await linked_user(app, provider)
    joined = await sign_in(app, provider, token=token)

    assert (refused.status_code, joined.status_code) == (403, 303)
    assert "takes no new people" in refused.text
    members = await app.services.people.users.members(account.id)
    assert [each.user_id for each in members] == [user.id]


async def test_viewer_connects_and_disconnects(app: ConsoleApp, provider: OpenIdProvider) -> None:
    """An identity has one user, and the only way in stays."""
    user = await password_user(app, "ada")
    people = app.services.people

    done = await finish(app, provider.authorize(await start(app, "/app/security/oidc")))
    assert done.headers["location"] == "/app/security?done=oidc"
    assert "Disconnect" in (await app.client.get("/app/security")).text
    await people.users.change(user.id, SYSTEM, "user.password", password=None)
    kept = await start(app, "/app/security/oidc/remove")
    await people.users.change(user.id, SYSTEM, "user.password", password="x")
    gone = await start(app, "/app/security/oidc/remove")

    assert (kept, gone) == ("/app/security?done=only-oidc", "/app/security?done=oidc-removed")
    other = await people.users.create("bob", "Bob")
    await people.identities.add(other.id, Identity(provider.issuer, "person-1"), SYSTEM)
    taken = await finish(app, provider.authorize(await start(app, "/app/security/oidc")))
    assert taken.status_code == 403
    assert await viewer_id(app) == user.id


async def test_connecting_ends_in_the_session_that_began_it(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """A callback of another user's flow does not connect their identity to the viewer."""
    await password_user(app, "ada")
    query = provider.authorize(await start(app, "/app/security/oidc"))
    await app.client.post("/sign-out")
    await password_user(app, "bob")

    assert (await finish(app, query)).status_code == 403
    identity = Identity(provider.issuer, "person-1")
    assert await app.services.people.identities.find(identity) is None


async def test_group_decides_who_is_operator(app: ConsoleApp, provider: OpenIdProvider) -> None:
    """A member gets in without an invitation; who leaves the group is no operator any more."""
    provider.claims = {"groups": ["ops", "staff"]}
    first = await sign_in(app, provider)
    user = await app.services.people.users.find("ada@example.com")
    provider.claims = {"groups": ["staff"]}
    app.client.cookies.clear()
    await sign_in(app, provider)
    after = await app.services.people.users.find("ada@example.com")

    assert first.status_code == 303
    assert user is not None
    assert after is not None
    assert (user.is_operator, after.is_operator) == (True, False)


async def test_optional_claims_of_another_type_do_not_lock_out(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Providers send null for what they do not know, and a text for a single group."""
    await linked_user(app, provider)
    provider.claims = {
        "email": None,
        "email_verified": None,
        "name": None,
        "preferred_username": 7,
        "groups": "ops",
    }

    assert (await sign_in(app, provider)).status_code == 303
    user = await app.services.people.users.find("ada")
    assert user is not None
    assert user.is_operator


async def test_disabled_user_is_not_let_in(app: ConsoleApp, provider: OpenIdProvider) -> None:
    user = await linked_user(app, provider)
    await app.services.people.users.change(user.id, SYSTEM, "user.disable", disabled_at=1)

    assert (await sign_in(app, provider)).status_code == 403


async def test_new_key_of_the_provider_is_fetched(
    app: ConsoleApp, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Providers rotate keys; a token signed by an unpublished one is refused."""
    monkeypatch.setattr(provider_module, "RETRY_S", 0.0)
    await linked_user(app, provider)
    await sign_in(app, provider)
    provider.key = ECKey.generate_key("P-256", {"kid": "two", "use": "sig", "alg": "ES256"})

    unpublished = await sign_in(app, provider)
    provider.published = [provider.key]
    published = await sign_in(app, provider)

    assert (unpublished.status_code, published.status_code) == (403, 303)


async def test_provider_that_cannot_be_used_is_not(
    app: ConsoleApp, provider: OpenIdProvider
) -> None:
    """Of another issuer, without encryption, incomplete, too long; or away."""
    wrong: list[dict[str, Any]] = [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://evil.test/token"},
        {"jwks_uri": None},
        {"jwks_uri": [[]]},
        {"filler": "x" * provider_module.MAX_RESPONSE_BYTES},
    ]
    for description in wrong:
        provider.description = description
        response = await app.client.post("/sign-in/oidc", data={"next": "/app"})
        assert response.status_code == 503, description
        assert "oidc" not in app.client.cookies

    oidc = Oidc(issuer="http://127.0.0.1:1", client_id=CLIENT_ID)
    app.services.people.provider = provider_module.Provider(oidc, None)
    away = await app.client.post("/sign-in/oidc", data={"next": "/app"})
    assert (away.status_code, "does not respond" in away.text) == (503, True)
