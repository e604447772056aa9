"""Skill extraction without a language model: what a question's rare words say, for MATH^2 offline.

It knows no mathematics and no list of skills. A question is named by its two most telling words, names are
clustered by the questions that bear them, and a question is given the cluster whose questions it resembles.
It stands in for the language model of `skills.py`, answering the same three prompts.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hornbook.errors import HornbookError
from hornbook.evals.math_squared.skills import normal_name
from hornbook.lm.base import Request, content_key
from hornbook.lm.simulated import Answer, SimulatedModel

_WORD = r"[a-zA-Z]{3,}"
_LAYOUT = re.compile(
    r"\[asy\].*?\[/asy\]|\\(?:begin|end)\{[a-z*]+\}|\\(?:text|textbf|displaystyle|left|right|mathrm|mathbf|"
    r"q?quad|[lc]?dots|cdot|[dt]?frac)(?![a-zA-Z])",
    re.S,
)
"""What sets a question and says nothing of it: pictures and commands of LaTeX."""
FARTHEST = 0.75
"""Mean cosine distance up to which clusters are joined."""


def lexical_model(texts: Sequence[str], *, farthest: float = FARTHEST) -> SimulatedModel:
    """A model that answers the prompts of `skills.py` about these questions and those like them.

    Args:
        texts: the questions; the weights of words come from them.
        farthest: the mean cosine distance up to which names become one cluster, in (0, 1].

    Raises:
        HornbookError: no words, or a distance out of range.
    """
    if not 0 < farthest <= 1:
        raise HornbookError(f"lexical_model: farthest is {farthest}; accepted is a distance in (0, 1].")
    reader = _Reader(texts, farthest)
    return SimulatedModel(f"lexical skills {farthest} {content_key(list(texts))[:16]}", reader.answer)


class _Reader:
    def __init__(self, texts: Sequence[str], farthest: float) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.farthest = farthest
        self.weights = TfidfVectorizer(
            token_pattern=_WORD, stop_words="english", sublinear_tf=True, min_df=1, max_df=0.5
        )
        try:
            self.rows = self.weights.fit_transform([_LAYOUT.sub(" ", text) for text in texts])
        except ValueError:
            raise HornbookError(
                "The questions have no words to tell them apart; give more of them, in plain text."
            ) from None
        self.words = self.weights.get_feature_names_out()
        self.named = [self._name(row) for row in self.rows]
        self.meaning: dict[str, Any] = {}

    def answer(self, request: Request) -> Answer:
        prompt = next(m.content for m in request.messages or () if m.role == "user")
        inside = re.search(r"<<<\n(.*)\n>>>", prompt, re.S)
        assert inside is not None
        if "one a line. Put names" in prompt:
            return {"clusters": self._clusters(inside[1].split("\n"))}
        row = self.weights.transform([_LAYOUT.sub(" ", inside[1])])[0]
        if "Here is a list" in prompt:
            skills = prompt.split("one a line:\n\n", 1)[1].split("\n\nWhich one", 1)[0].split("\n")
            near = np.array([float((row @ self._of(skill)).item()) for skill in skills])
            return {"skill": skills[int(near.argmax())], "reason": "the words are nearest to its questions'"}
        return {"skill": self._name(row), "reason": "these words are rare elsewhere"}

    def _name(self, row: Any) -> str:
        order = row.indices[np.argsort(-row.data, kind="stable")][:2]
        return normal_name(" ".join(sorted(self.words[order]))) or "no_words"

    def _of(self, name: str) -> Any:
        """The mean row of the questions that bear a name: unit length, (words,)."""
        if name not in self.meaning:
            members = [i for i, own in enumerate(self.named) if own == name]
            mean = np.asarray(
                self.rows[members].mean(0)
                if members
                else self.weights.transform([name.replace("_", " ")]).todense()
            ).ravel()
            self.meaning[name] = mean / max(1e-9, float(np.linalg.norm(mean)))
        return self.meaning[name]

    def _clusters(self, names: Sequence[str]) -> list[dict[str, Any]]:
        if len(names) < 2:
            return [{"name": names[0], "members": list(names)}]
        from sklearn.cluster import AgglomerativeClustering

        points = np.stack([self._of(name) for name in names])
        near = 1 - points @ points.T
        found = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=self.farthest
        ).fit_predict(np.clip(near, 0, 1))
        groups: dict[int, list[str]] = {}
        for name, group in zip(names, found, strict=True):
            groups.setdefault(int(group), []).append(name)
        made = []
        for members in groups.values():
            sizes = [max(1, self.named.count(name)) for name in members]
            head = self._head(members, sizes)
            mean = np.average([self._of(name) for name in members], axis=0, weights=sizes)
            self.meaning[head] = mean / max(1e-9, float(np.linalg.norm(mean)))
            made.append({"name": head, "members": members})
        return made

    def _head(self, members: Sequence[str], sizes: Sequence[int]) -> str:
        """A cluster is called after the two words its questions' names have most."""
        counts = Counter[str]()
        for name, size in zip(members, sizes, strict=True):
            counts.update({word: size for word in name.split("_") if word != "skill"})
        return "_".join(sorted(word for word, _ in counts.most_common(2))) + "_skill"
