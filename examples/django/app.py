"""Django: a view that enqueues a chat, and one that streams its events as server-sent events.

    FW_REDIS_URL=redis://localhost:6379/0 uvicorn examples.django.app:application
    curl --json '{"text": "Hello"}' localhost:8000/chats        # {"run_id": "..."}
    curl -N localhost:8000/chats/RUN_ID/events

One file stands for a project; in yours the views go to views.py. Plain `manage.py runserver` serves it, too.
"""

import json
import os
from collections.abc import AsyncIterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from api_contracts.client import AsyncClient
from api_contracts.failure import RunNotFound
from api_contracts.keys import BadRunId

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY=os.environ.get("SECRET_KEY", "example"))
    django.setup()

MODEL = os.environ.get("FW_MODEL", "accounts/fireworks/models/<model>")


@csrf_exempt  # an example for curl: your forms have a token
@require_POST
async def submit(request: HttpRequest) -> JsonResponse:
    """Record and ring; the same Idempotency-Key is the same run, however often the browser retries."""
    async with AsyncClient() as client:  # reads FW_REDIS_URL, FW_BROKER_URL, FW_SIGNING_KEYS
        messages = [{"role": "user", "content": json.loads(request.body)["text"]}]
        key = request.headers.get("Idempotency-Key")
        return JsonResponse({"run_id": await client.chat.submit(model=MODEL, messages=messages, idempotency_key=key)})


async def events(request: HttpRequest, run_id: str) -> StreamingHttpResponse:
    """Stream the journal; after a lost connection the browser says in Last-Event-ID where to go on."""
    after = int(request.headers.get("Last-Event-ID", "0"))
    return StreamingHttpResponse(_stream(run_id, after), content_type="text/event-stream")


async def _stream(run_id: str, after: int) -> AsyncIterator[str]:
    async with AsyncClient() as client:
        try:
            async for event in client.follow(run_id, after):
                yield f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event.data)}\n\n"
        except (RunNotFound, BadRunId):
            yield "event: error\ndata: no such run\n\n"


urlpatterns = [path("chats", submit), path("chats/<str:run_id>/events", events)]
application = get_asgi_application()
