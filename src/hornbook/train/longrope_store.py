"""The answers of a LongRoPE search on disk, so that an interruption costs one candidate at most."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.files import disk_guard, sha256_of, write_json
from hornbook.model.decoder import Decoder
from hornbook.train.longrope import Candidate


def fingerprint(model: Decoder) -> str:
    """Names a model by its config and 64 numbers of every tensor: enough to notice another checkpoint."""
    digest = hashlib.sha256(sha256_of(model.config.to_dict()).encode())
    for name, value in model.state_dict().items():
        flat = value.reshape(-1)
        some = flat[:: max(1, flat.numel() // 64)].float().cpu().contiguous()
        digest.update(name.encode() + some.numpy().tobytes())
    return digest.hexdigest()


class SearchStore:
    """The evaluated candidates on disk: one JSON line each, a torn last line dropped."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.known: dict[Candidate, float] = {}
        self._path = folder / "evaluated.jsonl"
        self._folder = folder
        head = folder / "search.json"
        if head.is_file():
            self._agree(head, identity)
        else:
            write_json(head, identity)
        if self._path.is_file():
            self._read()
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)

    def _agree(self, head: Path, identity: Mapping[str, Any]) -> None:
        try:
            before = json.loads(head.read_text())
        except ValueError as error:
            raise HornbookError(
                f"{head} is damaged ({error}); move the folder away to start anew."
            ) from error
        changed = [name for name in identity if before.get(name) != identity[name]]
        if changed:
            raise HornbookError(
                f"{self._folder} holds a search with another {' and '.join(changed)}. Give the same as "
                "before, or another folder."
            )

    def _read(self) -> None:
        whole = 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    candidate = Candidate(tuple(entry["steps"]), entry["start_tokens"])
                    value = entry["perplexity"]
                    self.known[candidate] = math.inf if value is None else float(value)
                except (ValueError, KeyError, TypeError) as error:
                    raise HornbookError(
                        f"{self._path} is damaged in line {number} ({error}); remove the line to go on."
                    ) from error
                whole += len(line)
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)

    def keep(self, candidate: Candidate, value: float) -> None:
        """On disk before it counts."""
        entry = {
            "steps": candidate.steps,
            "start_tokens": candidate.start_tokens,
            "perplexity": value if math.isfinite(value) else None,
        }
        with disk_guard(self._folder):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.known[candidate] = value

    def close(self) -> None:
        """Closes the file of lines."""
        self._file.close()
