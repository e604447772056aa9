"""Documents chosen by length: one token file for each band, so that a mixture can weigh the long ones.

Phi-4 report (arXiv 2412.08905) section 3.3: for its longer context, naturally long documents were set apart
and the longest weighed most; they taught more than short ones joined together.
"""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step


def band_names(edges: Sequence[int]) -> list[str]:
    """Names of the bands that `edges` (in tokens) make: "under-256", "256-1023", "1024-up".

    Raises:
        HornbookError: no edge, or edges that do not rise.
    """
    if not edges or min(edges) < 1 or list(edges) != sorted(set(edges)):
        raise HornbookError(f"edges is {list(edges)}; accepted are rising lengths in tokens, at least one.")
    between = [f"{low}-{high - 1}" for low, high in pairwise(edges)]
    return [f"under-{edges[0]}", *between, f"{edges[-1]}-up"]


@step(version="1", makes="tokens")
def by_length(ctx: StepContext, *, tokens: Artifact | Path, edges: Sequence[int]) -> dict[str, Any]:
    """Sorts the documents of a token file into bands of length; `artifact / name` is a token file.

    edges: where one band ends and the next begins, in tokens; names are those of `band_names`. A band without
    documents has no token file.

    Facts: by band documents and tokens.
    """
    names = band_names(edges)
    source = TokenFile.open(tokens.path if isinstance(tokens, Artifact) else tokens)
    lengths = np.diff(source.documents)
    band = np.searchsorted(np.asarray(edges), lengths, side="right")
    facts: dict[str, Any] = {}
    for number, name in enumerate(names):
        shutil.rmtree(ctx.folder / name, ignore_errors=True)
        chosen = np.flatnonzero(band == number)
        facts[name] = {"documents": len(chosen), "tokens": int(lengths[chosen].sum())}
        if not len(chosen):
            continue
        with TokenWriter(
            ctx.folder / name, source.vocab_size, with_mask=source.mask is not None, facts=dict(source.facts)
        ) as writer:
            for index in chosen:
                first, last = source.documents[index], source.documents[index + 1]
                mask = None if source.mask is None else source.mask[first:last]
                writer.write(source.tokens[first:last], mask)
    return facts
