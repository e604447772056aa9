"""The OpenAI-compatible API of `serve/api`, over the models that are open in the studio."""

import asyncio
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.serve.api.app import Served, create_api
from hornbook.serve.api.server import model_name
from hornbook.studio.guard import Receive, Scope, Send
from hornbook.studio.models import Models, OpenModel


class V1:
    """An ASGI application for the paths below /v1.

    It answers for the models that the chat has opened; while none is open, for that of the newest run.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; its models stay open until it is answered."""
        held = await asyncio.to_thread(self._hold)
        try:
            served = [
                Served(name=name, model=one.local, service=one.service)
                for name, one in _named(held).items()
                if one.local is not None and one.service is not None
            ]
            await create_api(served)({**scope, "root_path": ""}, receive, send)
        finally:
            for one in held:
                self._models.release(one)

    def _hold(self) -> list[OpenModel]:
        specs = [one.spec for one in self._models.opened() if one.local is not None]
        if not specs:
            specs = [offer.spec for offer in self._models.offers() if Path(offer.spec).exists()][:1]
        held = []
        for spec in specs:
            try:
                held.append(self._models.acquire(spec))
            except HornbookError:  # it has gone from the disk; the others answer
                continue
        return held


def _named(held: list[OpenModel]) -> dict[str, OpenModel]:
    """Each under the name of its folder or file; a second one of a name gets a number."""
    found: dict[str, OpenModel] = {}
    for one in held:
        name, number = model_name(one.spec), 2
        while name in found:
            name, number = f"{model_name(one.spec)}-{number}", number + 1
        found[name] = one
    return found
