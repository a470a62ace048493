"""The producer's side: submit work, follow it live, read its result, steer it; and what a tool's service needs.

with Client(redis_url="redis://localhost") as client:
    run_id = client.chat.submit(model="accounts/fireworks/models/...", messages=[...])
    for event in client.follow(run_id):
        ...
    session = client.stt.open(language="en")
    session.send_audio(pcm)
"""

from api_contracts.client.aio import AsyncClient
from api_contracts.client.envelope import tool_errors, tool_reply
from api_contracts.client.guard import OutcomeUnknown, RedisGuard, SqlGuard, at_most_once
from api_contracts.client.settings import ClientSettings
from api_contracts.client.speaking import AsyncSession, Session
from api_contracts.client.sync import Client

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "Client",
    "ClientSettings",
    "OutcomeUnknown",
    "RedisGuard",
    "Session",
    "SqlGuard",
    "at_most_once",
    "tool_errors",
    "tool_reply",
]  # fmt: skip
