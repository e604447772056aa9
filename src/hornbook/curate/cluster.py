"""Examining on a Daft-on-Ray cluster (extra `cluster`): pieces are rows of a data frame, `work` its function.

Ray restarts workers that die, and Daft gives their rows out again; what still fails comes back here as
`WorkerLost`, and the pieces without a result are sent once more.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hornbook.curate.pieces import Piece
from hornbook.curate.pipeline import Examiner
from hornbook.curate.places import Results, WorkerLost, work
from hornbook.errors import HornbookError

# Neither library may report its use to anybody.
_QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
}
_PARTITION = 4  # pieces that travel together


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`: "host:port", "ray://host:port", "auto" (the one this machine belongs to)
    or "local" (one is started on this machine, and ends with this process).

    Every node needs this version of Hornbook, and the folder of the corpus under the same path.
    """

    address: str

    def connect(self) -> tuple[Any, Any]:
        """The modules daft and ray, connected.

        Raises:
            HornbookError: the extra is missing, or no cluster answers there.
        """
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import daft
            import ray
        except ImportError as error:
            raise HornbookError(
                f"Examining on a cluster needs {error.name}. Install it: pip install 'hornbook[cluster]'"
            ) from None
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            if self.address != "local":
                options["address"] = self.address
            else:
                options["include_dashboard"] = False
            try:
                ray.init(**options)
            except Exception as error:  # the library raises many kinds
                raise HornbookError(
                    f"No Ray cluster answers at {self.address!r} ({_first_line(error)}). Start one with "
                    "`ray start --head`, name its address, or say `local` for one on this machine."
                ) from None
        daft.set_runner_ray(noop_if_initialized=True)
        return daft, ray

    def examine(self, examiner: Examiner, pieces: Sequence[Piece]) -> Results:
        daft, ray = self.connect()
        workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(pieces)))

        @daft.cls(max_concurrency=workers, use_process=True)
        class Work:
            def __init__(self, given: Examiner) -> None:
                self.examiner = given

            @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)  # type: ignore[untyped-decorator,unused-ignore]
            def run(self, rows: Any) -> Any:
                import pyarrow as pa

                made = [work(self.examiner, Piece(**row)) for row in rows.to_pylist()]
                return pa.array(made, pa.binary())

        table = {"number": [p.number for p in pieces], "piece": [asdict(p) for p in pieces]}
        frame = daft.from_pydict(table).into_partitions(-(-len(pieces) // _PARTITION))
        frame = frame.select("number", Work(examiner).run(frame["piece"]).alias("data"))
        try:
            for row in frame.iter_rows(results_buffer_size=2 * workers):
                yield row["number"], row["data"]
        except HornbookError:
            raise
        except Exception as error:  # what Daft and Ray raise for a lost worker has no common kind
            said = _said_by_us(error)
            if said is not None:
                raise HornbookError(said) from None
            if isinstance(error, MemoryError) or not _is_loss(error):
                raise
            raise WorkerLost((), _first_line(error)) from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return text[:200] or type(error).__name__


def _said_by_us(error: BaseException) -> str | None:
    """The sentence of a HornbookError that a worker raised and the cluster wrapped in its own."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, HornbookError):
            return str(link)
        for line in str(link).splitlines():
            mark, _, sentence = line.partition("HornbookError: ")
            if sentence and "Error" not in mark.rstrip("."):
                return sentence
        link = link.__cause__ or link.__context__
    return None


def _is_loss(error: BaseException) -> bool:
    import ray

    losses = (ray.exceptions.RayError, ConnectionError, OSError)
    words = ("died", "actor", "worker", "node", "unavailable", "connection")
    return isinstance(error, losses) or any(word in str(error).lower() for word in words)
