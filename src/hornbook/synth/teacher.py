"""Who writes the data: the simulated teacher of this package, or a language model with prompts and checks.

How a real teacher is asked stands in `scripts`.
"""

from pathlib import Path
from typing import Literal

from hornbook.errors import HornbookError
from hornbook.lm.base import LanguageModel

SIMULATED = "simulated"
Teacher = Literal["simulated"] | LanguageModel


def open_teacher(spec: str | LanguageModel, *, calls: Path | None = None) -> Teacher:
    """`"simulated"`, a language model as it is, or what `infer.open.open_model` understands.

    With `calls`, answers of a model opened here are kept in that call store and never asked for again.
    `"embedded"` (or `"smollm2"`) is SmolLM2-135M-Instruct: fit for fluent text (stories, small talk),
    measured unfit for maths, judging and refusals; the writers of those refuse it.

    Raises:
        HornbookError: an empty specification, or one that cannot be opened.
    """
    if not isinstance(spec, str):
        return spec
    if not spec.strip():
        raise HornbookError(
            'The teacher is empty; give "simulated", "embedded", a checkpoint folder or http://host/v1#model.'
        )
    if spec == SIMULATED:
        return "simulated"
    if calls is None:
        from hornbook.infer.open import open_model

        return open_model(spec)
    from hornbook.lm.store import CallStore

    if spec.startswith(("http://", "https://")):
        from hornbook.lm.endpoint import EndpointModel

        return EndpointModel.from_spec(spec, store=CallStore(calls))
    from hornbook.infer.open import open_model
    from hornbook.synth.remembered import RememberedModel

    return RememberedModel(open_model(spec), CallStore(calls))


def is_small_embedded(teacher: LanguageModel) -> bool:
    """Whether this is SmolLM2-135M, which must not write maths, exercises or refusals."""
    return "smollm2" in teacher.identity.lower()
