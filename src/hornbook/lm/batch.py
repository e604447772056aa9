"""Provider batches: many calls handed in at once, answered within a day at half the price.

A batch lives at the provider; what lives here is a note (a file beside the call store) of which calls it
holds. The note is written before the batch is made and carries a word that the provider keeps with it, so a
process that dies in between finds its batch again. Answers land in the call store under the same keys as
single calls, each before it is read: dying at any moment neither loses nor doubles a paid one.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.files import write_json
from hornbook.lm.base import Advances, Capabilities, Completion, Failure, Request, Score
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.wire import RETRYABLE, message_of, name_of, path_of, read_reply

_DONE = frozenset({"completed", "failed", "expired", "cancelled"})
_LEASE_SECONDS = 26 * 3600


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """poll_seconds: between two looks at a batch. rows, bytes: most calls and input of one batch (providers
    take 50,000 and 200 MB). patience_seconds: how long the provider may be out of reach before this gives up
    waiting; the batch goes on without us."""

    poll_seconds: float = 20.0
    rows: int = 20_000
    bytes: int = 100_000_000
    patience_seconds: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What is known here of one batch. `id` is None until the provider has said it."""

    word: str
    base: str
    model: str
    keys: tuple[str, ...]
    id: str | None = None


class BatchModel:
    """The model of `endpoint`, asked in batches. It must have a call store.

    What a batch does not answer (an error of one row, a batch that expired), and corrections of answers that
    break their schema, are asked one by one at the end.
    """

    def __init__(
        self,
        endpoint: EndpointModel,
        settings: BatchSettings | None = None,
        *,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        if endpoint.store is None:
            raise HornbookError(
                "A provider's batches need a call store, where their answers land: give the endpoint one."
            )
        self.endpoint, self.settings, self.say = endpoint, settings or BatchSettings(), say
        self._store = endpoint.store
        self._notes = Path(f"{self._store.path}.batches")

    @property
    def identity(self) -> str:
        """That of the endpoint: a batch gives the same model's answers."""
        return self.endpoint.identity

    @property
    def capabilities(self) -> Capabilities:
        return self.endpoint.capabilities

    @property
    def at_once(self) -> int:
        """How many rows are best asked together."""
        return self.settings.rows

    def call_key(self, request: Request) -> str:
        """As the endpoint's."""
        return self.endpoint.call_key(request)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """By single calls: see `EndpointModel.score`."""
        return self.endpoint.score(pairs)

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        """One result for each request, in order; waits until the provider is done (Ctrl-C: it goes on there).

        Raises:
            HornbookError: the provider takes no batches, or is out of reach for long; the sentence says what
                becomes of the batch. BudgetExceeded: what is asked would pass the ledger's budget.
        """
        import httpx

        missing = {
            self.endpoint.batch_key(request): request
            for request in requests
            if not self.endpoint.is_stored(request)
        }
        if missing:
            with httpx.Client(timeout=self.endpoint.settings.timeout_seconds) as client:
                self._ask(_Provider(self.endpoint, client, self.settings), missing)
        return self.endpoint.complete(requests, progress=progress)

    def _ask(self, provider: "_Provider", missing: Mapping[str, Request]) -> None:
        notes = list(self._taken_up(provider))
        if notes:
            self.say(f"{len(notes)} batches of an earlier run are taken up again")
        covered = {key for note in notes for key in note.keys}
        left = [key for key in missing if key not in covered]
        owner = self._store.new_owner()
        ours = self._store.claim(left, owner=owner, seconds=_LEASE_SECONDS)
        mine = [key for key, free in zip(left, ours) if free]
        try:
            for keys, data in self._chunks({key: missing[key] for key in mine}):
                notes.append(self._hand_in(provider, keys, data))
            for note in notes:
                self._wait(provider, note)
        finally:
            self._store.release(mine, owner=owner)

    def _taken_up(self, provider: "_Provider") -> Iterator[_Note]:
        """The batches of earlier runs; a note without a batch at the provider is forgotten."""
        for path in sorted(self._notes.glob("*.json")):
            fields = json.loads(path.read_text())
            note = _Note(**(fields | {"keys": tuple(fields["keys"])}))
            if (note.base, note.model) != (self.endpoint.address.base, self.endpoint.model):
                continue
            if note.id is None:
                found = provider.find(note.word)
                if found is None:
                    path.unlink()
                    continue
                note = self._write(replace(note, id=found))
            yield note

    def _write(self, note: _Note) -> _Note:
        self._notes.mkdir(parents=True, exist_ok=True)
        write_json(self._notes / f"{note.word}.json", asdict(note))
        return note

    def _chunks(self, asked: Mapping[str, Request]) -> Iterator[tuple[list[str], bytes]]:
        """(keys, JSON lines) of each batch."""
        keys: list[str] = []
        lines: list[bytes] = []
        size, money = 0, 0.0
        for key, request in asked.items():
            body = self.endpoint.batch_body(request)
            money += self.endpoint.worst_price(request)
            budget = self.endpoint.ledger.budget
            if budget is not None and self.endpoint.ledger.money + money > budget:
                raise self.endpoint.ledger.exceeded()
            route = path_of(request)
            url = f"/{route}" if self.endpoint.address.azure else f"/v1/{route}"
            row = {"custom_id": key, "method": "POST", "url": url, "body": body}
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            if keys and (len(keys) >= self.settings.rows or size + len(line) > self.settings.bytes):
                yield keys, b"".join(lines)
                keys, lines, size = [], [], 0
            keys.append(key)
            lines.append(line)
            size += len(line)
        if keys:
            yield keys, b"".join(lines)

    def _hand_in(self, provider: "_Provider", keys: Sequence[str], data: bytes) -> _Note:
        note = _Note(
            word=uuid.uuid4().hex,
            base=self.endpoint.address.base,
            model=self.endpoint.model,
            keys=tuple(keys),
        )
        file = provider.upload(data)
        self._write(note)
        try:
            made = provider.make(file, note.word, json.loads(data.split(b"\n", 1)[0])["url"])
        except HornbookError:
            if provider.reached:  # it said no: there is no batch
                (self._notes / f"{note.word}.json").unlink()
            raise
        self.say(f"{len(keys)} calls are handed in as batch {made}")
        return self._write(replace(note, id=made))

    def _wait(self, provider: "_Provider", note: _Note) -> None:
        assert note.id is not None
        while True:
            batch = provider.look(note.id)
            if batch["status"] in _DONE:
                break
            time.sleep(self.settings.poll_seconds)
        landed = 0
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                landed += self._land(provider.read(batch[name]))
        (self._notes / f"{note.word}.json").unlink()
        rest = len(note.keys) - landed
        self.say(f"batch {note.id}: {landed} answers" + (f"; {rest} are asked one by one" if rest else ""))

    def _land(self, lines: Iterator[str]) -> int:
        """Stores every answer that came; how many did."""
        landed = 0
        for line in lines:
            row = json.loads(line)
            response = row.get("response") or {}
            key = row["custom_id"]
            if response.get("status_code") != 200 or self._store.get(key) is not None:
                landed += response.get("status_code") == 200
                continue
            text = json.dumps(response["body"], ensure_ascii=False)
            self._store.put(key, model=self.identity, request={"batch": row.get("id")}, response=text)
            self.endpoint.ledger.add(self.endpoint.model, read_reply(text).usage)
            landed += 1
        return landed


class _Provider:
    """The four routes that batches need."""

    def __init__(self, endpoint: EndpointModel, client: Any, settings: BatchSettings) -> None:
        self._endpoint, self._client, self._settings = endpoint, client, settings
        self.reached = False  # whether the last call got an answer, of whatever kind

    def upload(self, data: bytes) -> str:
        made = self._call("POST", "files", data={"purpose": "batch"}, files={"file": ("calls.jsonl", data)})
        return str(made.json()["id"])

    def make(self, file: str, word: str, url: str) -> str:
        body = {
            "input_file_id": file,
            "endpoint": url,
            "completion_window": "24h",
            "metadata": {"hornbook": word},
        }
        # Never sent twice: a batch whose answer was lost on the way is found by its word.
        try:
            return str(self._call("POST", "batches", once=True, json=body).json()["id"])
        except HornbookError:
            found = None if self.reached else self.find(word)
            if found is None:
                raise
            return found

    def look(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", f"batches/{batch}").json()
        return found

    def find(self, word: str) -> str | None:
        """The batch that carries `word`."""
        after: dict[str, str] = {}
        while True:
            page = self._call("GET", "batches", params={"limit": "100"} | after).json()
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get("hornbook") == word:
                    return str(batch["id"])
            if not page.get("has_more") or not page["data"]:
                return None
            after = {"after": page["data"][-1]["id"]}

    def read(self, file: str) -> Iterator[str]:
        text = self._call("GET", f"files/{file}/content").content.decode("utf-8", "replace")
        return (line for line in text.split("\n") if line.strip())

    def _call(self, method: str, route: str, *, once: bool = False, **options: Any) -> Any:
        import httpx

        headers = self._endpoint.headers()
        if "files" in options:
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        begun, pause = time.monotonic(), self._endpoint.settings.backoff_seconds
        while True:
            self.reached = False
            try:
                url = self._endpoint.address.route(route)
                answer = self._client.request(method, url, headers=headers, **options)
                self.reached = True
                if answer.status_code < 300:
                    return answer
                text = answer.text
                problem = f"status {answer.status_code}: {message_of(text, answer.status_code)}"
                if answer.status_code not in RETRYABLE:
                    raise HornbookError(
                        f"{self._endpoint.address.base} did not take a batch ({problem}). Ask this model "
                        "call by call, or correct the request."
                    )
            except httpx.HTTPError as error:
                problem = name_of(error)
            if once or time.monotonic() - begun > self._settings.patience_seconds:
                raise HornbookError(
                    f"{self._endpoint.address.base} is out of reach ({problem}). Batches that were handed in "
                    "go on there; the same command takes them up again."
                )
            time.sleep(pause)
            pause = min(pause * 2, self._endpoint.settings.max_backoff_seconds)
