"""Results as logs of `inspect` (extra `inspect`): `inspect view` opens them, item by item."""

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError

from .result import Result
from .sample_store import SampleStore


def need_inspect() -> None:
    """Said before anything is measured.

    Raises:
        HornbookError: inspect is not installed.
    """
    try:
        import inspect_ai.log  # noqa: F401
    except ImportError:
        raise HornbookError("inspect is not installed: pip install 'hornbook[inspect]'") from None


def write_logs(results: Sequence[Result], model: str, folder: Path, store: SampleStore) -> list[Path]:
    """One `.eval` file a result; every item of a benchmark (from `store`), the samples of other tasks.

    Raises:
        HornbookError: inspect is not installed, or the folder cannot be written.
    """
    need_inspect()
    from inspect_ai.log import write_eval_log

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    written = []
    for result in results:
        if not result.scores:
            continue
        path = _free(folder / f"{now.replace(':', '-').removesuffix('+00-00')}_{result.task}.eval")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_eval_log(_log(result, model, now, store), str(path), format="eval")
        except OSError as error:
            raise HornbookError(f"The log {path} cannot be written: {error}") from None
        written.append(path)
    return written


def _free(path: Path) -> Path:
    """This path, or with a number behind it: two models may be logged within a second."""
    number = 2
    found = path
    while found.exists():
        found, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return found


def _log(result: Result, model: str, now: str, store: SampleStore) -> Any:
    from inspect_ai import log

    samples = _samples(result, store)
    return log.EvalLog(
        status="error" if result.unfinished else "success",
        eval=log.EvalSpec(
            created=now,
            task=result.task,
            dataset=log.EvalDataset(name=result.task, samples=len(samples)),
            model=model,
            config=log.EvalConfig(),
            metadata={key: value for key, value in result.details.items() if isinstance(value, str | int)},
        ),
        results=log.EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=[
                log.EvalScore(
                    name=score.name,
                    scorer=score.name,
                    metrics={
                        "mean": log.EvalMetric(name="mean", value=score.value),
                        "low": log.EvalMetric(name="low", value=_finite(score.interval[0])),
                        "high": log.EvalMetric(name="high", value=_finite(score.interval[1])),
                    },
                )
                for score in result.scores
            ],
        ),
        stats=log.EvalStats(started_at=now, completed_at=now),
        samples=[_sample(one, number, model) for number, one in enumerate(samples, 1)],
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _samples(result: Result, store: SampleStore) -> list[Mapping[str, Any]]:
    run = result.details.get("run")
    known = store.known(run, result.ids) if run and result.ids else {}
    if not known:
        return [
            {"id": number, **sample, "values": {"right": float(bool(sample.get("right")))}}
            for number, sample in enumerate(result.samples, 1)
        ]
    return [
        {
            "id": name,
            "request": known[name].get("asked", ""),
            "answer": known[name].get("text", known[name].get("read", "")),
            "note": known[name].get("note", ""),
            "target": known[name].get("reference", ""),
            "values": known[name]["values"],
        }
        for name in result.ids
        if name in known
    ]


def _sample(told: Mapping[str, Any], number: int, model: str) -> Any:
    from inspect_ai import log
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    return log.EvalSample(
        id=told.get("id", number),
        epoch=1,
        input=str(told.get("request", "")),
        target=str(told.get("target", "")),
        output=ModelOutput.from_content(model, str(told.get("answer", ""))),
        scores={
            name: Score(
                value=value, answer=str(told.get("answer", "")), explanation=str(told.get("note", ""))
            )
            for name, value in told["values"].items()
        },
    )
