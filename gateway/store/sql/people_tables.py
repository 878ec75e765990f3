"""
The SQL tables about people: users, their accounts, and how they sign in.

Secrets that users present (session tokens, links, recovery codes) are stored as SHA-256 only.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.sql.tables import METADATA

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("login", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("password", sa.Text),
    sa.Column("totp", sa.LargeBinary),
    sa.Column("totp_step", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("is_operator", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("disabled_at", sa.BigInteger),
    sa.Column("seen_at", sa.BigInteger),
    sa.Column("time_zone", sa.Text),
    sa.Column("language", sa.Text),
    sa.Column("guide_closed_at", sa.BigInteger),
)
"""
People. `login` is a mail address or another name in lower case; `password` is a PHC string. `totp`
is the authenticator's secret, encrypted; `totp_step` the last time step whose code was used.
"""

MEMBERSHIPS = sa.Table(
    "memberships",
    METADATA,
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.CheckConstraint("role IN ('owner', 'member', 'viewer')", name="ck_memberships_role"),
    sa.Index("ix_memberships_account_id", "account_id"),
)
"""The accounts that a user may see, with the user's role."""

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
    sa.Column("account_id", sa.Text),
    sa.Column("browser", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at", sa.BigInteger, nullable=False),
    sa.Index("ix_sessions_user_id", "user_id"),
)
"""
Signed-in browsers. `account_id` is the account that the pages show; `confirmed_at` is when the user
last proved who they are.
"""

PASSKEYS = sa.Table(
    "passkeys",
    METADATA,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("credential", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger),
    sa.Index("ix_passkeys_user_id", "user_id"),
)
"""Passkeys by credential id; `credential` is the attested credential data with the public key."""

RECOVERY_CODES = sa.Table(
    "recovery_codes",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
    sa.Index("ix_recovery_codes_user_id", "user_id"),
)
"""Codes that replace an authenticator's; each is deleted by its use."""

LINKS = sa.Table(
    "links",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id")),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id")),
    sa.Column("role", sa.Text),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.CheckConstraint("kind IN ('setup', 'enter', 'invite', 'reset')", name="ck_links_kind"),
    sa.Index("ix_links_account_id", "account_id"),
)
"""Links that can be used once: each is deleted by its use."""

IDENTITIES = sa.Table(
    "identities",
    METADATA,
    sa.Column("issuer", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("ix_identities_user_id", "user_id"),
)
"""Users of an OpenID provider, by the provider's identifier."""

FORMS = sa.Table(
    "forms",
    METADATA,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    sa.Index("ix_forms_sent_at", "sent_at"),
)
"""One-time tokens of forms that were sent, kept for a day, so that a form acts once."""
