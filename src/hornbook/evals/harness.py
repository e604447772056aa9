"""Any of our models as a model of `lm-eval` (extra `eval`): its tasks then run on our engine."""

from collections.abc import Sequence
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lm.base import Completion, LanguageModel, Request, Sampling, require

_LONGEST_ANSWER = 256


def harness_model(model: LanguageModel) -> Any:
    """An `lm_eval.api.model.LM` that asks `model`; give it to `lm_eval.simple_evaluate(model=...)`.

    Raises:
        HornbookError: lm-eval is not installed, or the model cannot score.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError:
        raise HornbookError("lm-eval is not installed: pip install 'hornbook[eval]'") from None
    require(model, "can_score")

    class HarnessModel(LM):  # type: ignore[misc]
        """Log-likelihoods and greedy or sampled texts of a `LanguageModel`."""

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            scores = model.score([request.args for request in requests])
            return [(score.logprob, score.greedy) for score in scores]

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            return [score.logprob for score in model.score([("", request.args[0]) for request in requests])]

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            results = model.complete([_request(*request.args) for request in requests])
            failed = [result for result in results if not isinstance(result, Completion)]
            if failed:
                raise HornbookError(
                    f"{len(failed)} of {len(results)} calls failed, the first: {failed[0].message}"
                )
            return [result.text for result in results if isinstance(result, Completion)]

    return HarnessModel()


def _request(prompt: str, told: dict[str, Any]) -> Request:
    stop = told.get("until") or ()
    sampling = Sampling(
        temperature=float(told.get("temperature", 0.0)) if told.get("do_sample") else 0.0,
        top_p=float(told.get("top_p", 1.0)),
        max_tokens=int(told.get("max_gen_toks") or _LONGEST_ANSWER),
        stop=tuple(s for s in ([stop] if isinstance(stop, str) else stop) if s),
    )
    return Request(prompt=prompt, sampling=sampling)
