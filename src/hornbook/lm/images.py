"""Models that draw: any OpenAI-compatible images endpoint, with the same patience and the same call store.

artist = ImageEndpoint.from_spec("http://localhost:8080/v1#sdxl", store=CallStore(path))
artist.draw(["a red car"])        # [the bytes of a picture file, or a Failure]
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hornbook.lab.png import media_type
from hornbook.lm.base import Advances, Completion, Failure, Json, Request, Usage
from hornbook.lm.endpoint import EndpointModel, replace_extra
from hornbook.lm.wire import Address, Reply, error_in_body, parse_spec

_AS_BYTES = {"response_format": "b64_json"}


class ImagesWire:
    """`/images/generations`: a prompt in, one picture in base64 out."""

    name = "openai-compatible images"

    def path(self, request: Request) -> str:
        """The one route there is."""
        return "images/generations"

    def body(
        self, request: Request, *, model: str, address: Address, with_schema: bool, extra: Mapping[str, Json]
    ) -> dict[str, Json]:
        """One picture for the request's prompt; how it is sampled is the endpoint's own matter."""
        return {"model": model, "prompt": request.prompt, "n": 1, **extra}

    def read(self, response: str) -> Reply | Failure:
        """The picture in base64 as the reply's text."""
        try:
            raw = json.loads(response)
            if raw.get("error"):
                return error_in_body(raw)
            item = raw["data"][0]
            text, address = item.get("b64_json"), item.get("url") or ""
            if not text and address.startswith("data:"):
                text = address.partition(",")[2]
            if not text:
                return Failure(
                    kind="malformed",
                    message="the endpoint sent no picture but an address, which may be gone tomorrow; "
                    "set it to answer with b64_json",
                    raw=raw,
                )
            kind = media_type(base64.b64decode(text, validate=True))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            what = f"{type(error).__name__}: {error}"
            return Failure(
                kind="malformed",
                message=f"the response has not the shape of a picture ({what})",
                raw=response,
            )
        if kind is None:
            return Failure(
                kind="malformed", message="the picture is no PNG, JPEG, WebP or GIF file", raw=response
            )
        return Reply(text, "stop", Usage(), None, None)


IMAGES = ImagesWire()


class ImageEndpoint:
    """The drawing model `model` at `url`; `settings` as for `EndpointModel` (store, patience, key, ...).

    size: such as "512x512"; empty leaves it to the endpoint. Endpoints that do not know `response_format` are
    found out by their first refusal and asked without it.
    """

    def __init__(self, url: str, model: str, *, size: str = "", **settings: Any) -> None:
        extra = {"size": size} if size else {}
        self._plain = EndpointModel(url, model, wire=IMAGES, extra=extra, **settings)
        self._asking = replace_extra(self._plain, _AS_BYTES)

    @classmethod
    def from_spec(cls, spec: str, **settings: Any) -> "ImageEndpoint":
        """From `http://localhost:8080/v1#model`."""
        url, model = parse_spec(spec)
        return cls(url, model, **settings)

    @property
    def identity(self) -> str:
        """Names the endpoint, the model and what is asked of every picture."""
        return self._plain.identity

    def draw(
        self, prompts: Sequence[str], *, sample_index: int = 0, progress: Advances | None = None
    ) -> list[bytes | Failure]:
        """One picture file for each prompt, in order, or why there is none.

        sample_index: another number, another picture of the same prompt.

        Raises:
            HornbookError: nothing answers there, or every prompt would be refused (a wrong key or model).
        """
        requests = [Request(prompt=text, sample_index=sample_index, tag="draw") for text in prompts]
        results = self._asking.complete(requests, progress=progress)
        refused = [i for i, r in enumerate(results) if isinstance(r, Failure) and r.kind == "bad_request"]
        if refused and self._asking is not self._plain:
            again = self._plain.complete([requests[i] for i in refused])
            for i, result in zip(refused, again, strict=True):
                results[i] = result
            if all(isinstance(result, Completion) for result in again):
                self._asking = self._plain
        return [
            base64.b64decode(result.text) if isinstance(result, Completion) else replace(result, raw=None)
            for result in results
        ]
