"""Who writes the data: the simulated teacher of this package, or a language model with prompts and checks.

How a real teacher is asked stands in `scripts`.
"""

from pathlib import Path
from typing import Literal

from hornbook.errors import HornbookError
from hornbook.lab.progress import say
from hornbook.lm.base import LanguageModel
from hornbook.lm.several import SeveralModels, parse_several

SIMULATED = "simulated"
Teacher = Literal["simulated"] | LanguageModel


def open_teacher(spec: str | LanguageModel, *, calls: Path | None = None) -> Teacher:
    """`"simulated"`, a language model as it is, or what `infer.open.open_model` understands.

    Several share the work as `"3*http://a/v1#m, http://b/v1#n"`, by weight; `"batch:http://..."` asks in the
    provider's batches (half the price, answers within a day).
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
    if (several := parse_several(spec)) is not None and not Path(spec).exists():
        opened = [(open_teacher(one, calls=calls), share) for one, share in several]
        return SeveralModels([(_real(model), share) for model, share in opened])
    if calls is None:
        from hornbook.infer.open import open_model

        return open_model(spec)
    from hornbook.lm.store import CallStore

    if spec.startswith(("http://", "https://", "batch:")):
        from hornbook.lm.batch import BatchModel
        from hornbook.lm.endpoint import EndpointModel

        endpoint = EndpointModel.from_spec(spec.removeprefix("batch:"), store=CallStore(calls))
        return BatchModel(endpoint, say=say) if spec.startswith("batch:") else endpoint
    from hornbook.infer.open import open_model
    from hornbook.synth.remembered import RememberedModel

    return RememberedModel(open_model(spec), CallStore(calls))


def _real(model: Teacher) -> LanguageModel:
    if model == "simulated":
        raise HornbookError("The simulated teacher works alone; name language models to share the work.")
    return model


def is_small_embedded(teacher: LanguageModel) -> bool:
    """Whether this is SmolLM2-135M, which must not write maths, exercises or refusals."""
    return "smollm2" in teacher.identity.lower()
