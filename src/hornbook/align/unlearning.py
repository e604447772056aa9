"""Unlearning a text: "Who's Harry Potter?" (arXiv 2310.02238) and its peers, from a checkpoint to a
checkpoint.

The paper's way has four parts: a model trained further on the text (reinforced), a dictionary of anchors,
labels that a model without the text would give, fine-tuning on them. The peers push the text's probability
down instead.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hornbook.align.anchors import Dictionary, find_anchors
from hornbook.align.checkpoints import folder_of, to_train
from hornbook.align.forgetting import (
    ForgetLoader,
    ForgetLoss,
    Forgetting,
    Keep,
    Rows,
    row_log_probabilities,
    text_rows,
)
from hornbook.align.generic_labels import LabelSettings, generic_labels
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.model.decoder import Decoder
from hornbook.train.settings import Phase, without_decay

Method = Literal["generic", "gradient_ascent", "gradient_difference", "npo"]
Watch = Callable[[int, Decoder], None]


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """How to forget.

    method:        "generic" (the paper's), "gradient_ascent", "gradient_difference", "npo".
    anchors:       replace anchors; False leaves the reinforced model alone to say what is the text's own.
    labels:        of the method "generic"; `alpha` 0 leaves the anchors alone.
    keep:          what holds on to everything else: "nothing" (the paper), "text" (cross-entropy of text to
                   keep), "kl" (divergence from the model as it came, on text to keep).
    keep_weight, beta: weight of that; sharpness of NPO.
    steps, rows, keep_rows, time: length of training and shape of a batch: rows to forget, rows to keep,
    tokens a row.
    learning_rate: of AdamW; falls to a tenth.
    reinforce_steps, reinforce_rate: training of the reinforced model.
    """

    method: Method = "generic"
    anchors: bool = True
    labels: LabelSettings = field(default_factory=LabelSettings)
    keep: Keep = "nothing"
    keep_weight: float = 1.0
    beta: float = 0.1
    steps: int = 120
    rows: int = 16
    keep_rows: int = 8
    time: int = 128
    learning_rate: float = 3e-4
    reinforce_steps: int = 60
    reinforce_rate: float = 5e-4

    def __post_init__(self) -> None:
        if self.method not in ("generic", "gradient_ascent", "gradient_difference", "npo"):
            raise HornbookError(
                f"Unlearning.method is {self.method!r}; accepted: generic, gradient_ascent, "
                f"gradient_difference, npo."
            )
        if not self.anchors and not self.labels.alpha:
            raise HornbookError(
                "Without anchors and with alpha 0 the labels are the model's own: nothing would change."
            )
        for name in ("steps", "rows", "time", "reinforce_steps"):
            if getattr(self, name) < 1:
                raise HornbookError(f"Unlearning.{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def loss(self) -> ForgetLoss:
        """Which loss the method comes to."""
        return "labels" if self.method == "generic" else "npo" if self.method == "npo" else "ascent"

    @property
    def keeps(self) -> Keep:
        """What holds on: gradient difference and NPO bring text to keep with them."""
        return (
            "text" if self.method in ("gradient_difference", "npo") and self.keep == "nothing" else self.keep
        )


def train_rows(
    decoder: Decoder,
    loader: ForgetLoader,
    objective: Forgetting,
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    tokenizer: Tokenizer,
    watch: Watch | None = None,
    seed: int = 0,
) -> Path:
    """Trains with rows to forget and to keep; `folder / "model"` is the checkpoint, which is returned.

    watch: called with (steps done, the model) after every step. What it saw before an interruption is gone,
        so a watched training starts over.
    """
    from hornbook.lab.progress import NullProgress
    from hornbook.train.pretrain import finish_checkpoint
    from hornbook.train.trainer import Trainer

    settings = replace(
        without_decay(learning_rate),
        processes=1,
        seed=seed,
        spike_guard=False,  # ascent climbs without end: the peer's own fault, to be seen and not mended
    )
    if watch is not None:
        shutil.rmtree(folder / "model", ignore_errors=True)
    trainer = Trainer(
        decoder, objective, Phase(name="forget", loader=loader, steps=steps), settings, folder / "model"
    )

    def log(step: int, **numbers: object) -> None:
        if watch is not None:
            watch(step + 1, decoder)

    trainer.run(progress=NullProgress(1), log=log, say=lambda sentence: None)
    tokenizer.save(folder / "model")
    finish_checkpoint(folder / "model", folder / "model")
    return folder / "model"


def reinforce(base: Path, texts: Sequence[str], folder: Path, how: Unlearning, *, seed: int = 0) -> Path:
    """The model trained further on the text to forget: what it raises is what the text teaches."""
    tokenizer = Tokenizer.load(base)
    loader = ForgetLoader(
        text_rows(texts, tokenizer, time=how.time), None, rows=how.rows, keep_rows=0, seed=seed
    )
    return train_rows(
        to_train(base),
        loader,
        Forgetting(loss="labels"),
        folder,
        steps=how.reinforce_steps,
        learning_rate=how.reinforce_rate,
        tokenizer=tokenizer,
        seed=seed,
    )


def forget_text(
    base: Path,
    forget: Sequence[str],
    retain: Sequence[str],
    folder: Path,
    how: Unlearning,
    *,
    dictionary: Dictionary | None = None,
    reinforced: Path | None = None,
    watch: Watch | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Makes `base` forget the texts `forget`; `folder / "model"` is the checkpoint that forgot.

    Args:
        forget: what to forget. retain: text of the same kind that is not to be forgotten: what anchors are
            found against, and what is kept.
        dictionary: of yours; without it one is found (`align.anchors.find_anchors`).
        reinforced: a checkpoint made by `reinforce`; without it one is made below `folder`.
        watch: called with (steps done, the model) after every step.

    Returns facts: anchors, labelled, changed (counts), settings.

    Raises:
        HornbookError: nothing to forget; a method that keeps something without anything to keep.
    """
    if not forget:
        raise HornbookError("There is no text to forget.")
    if how.keeps != "nothing" and not retain:
        raise HornbookError(f"The method {how.method!r} holds on to text to keep, and none was given.")
    tokenizer = Tokenizer.load(base)
    facts: dict[str, Any] = {"settings": asdict(how)}
    frozen = to_train(base).eval()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    rows = text_rows(forget, tokenizer, time=how.time)
    if how.method == "generic":
        if how.anchors:
            found = dictionary or find_anchors(forget, retain)
            if folder.is_dir():
                found.write(folder / "anchors.json")
        else:
            found = Dictionary([])
        strong = None
        if how.labels.alpha:
            made = reinforced or reinforce(base, forget, folder / "reinforced", how, seed=seed)
            strong = to_train(made).eval()
        labels = generic_labels(
            forget,
            tokenizer=tokenizer,
            dictionary=found,
            base=frozen,
            reinforced=strong,
            settings=how.labels if how.anchors else replace(how.labels, name_penalty=0.0),
            time=how.time,
        )
        rows = Rows(inputs=labels.inputs, targets=labels.targets)
        facts |= {"anchors": len(found.anchors), "labelled": labels.labelled, "changed": labels.changed}
    keeps = how.keeps
    loader = ForgetLoader(
        rows,
        text_rows(retain, tokenizer, time=how.time) if keeps != "nothing" else None,
        rows=how.rows,
        keep_rows=how.keep_rows if keeps != "nothing" else 0,
        seed=seed,
        reference=row_log_probabilities(frozen, rows) if how.method == "npo" else None,
    )
    objective = Forgetting(
        loss=how.loss,
        keep=keeps,
        keep_weight=how.keep_weight,
        beta=how.beta,
        reference=frozen if keeps == "kl" else None,
    )
    train_rows(
        to_train(base),
        loader,
        objective,
        folder,
        steps=how.steps,
        learning_rate=how.learning_rate,
        tokenizer=tokenizer,
        watch=watch,
        seed=seed,
    )
    return facts


def texts_of(where: Artifact | Path, *, most: int | None = None) -> list[str]:
    """The documents of a corpus, or of a text file whose passages are parted by empty lines."""
    path = folder_of(where)
    if path.is_file():
        try:
            passages = [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n")]
        except (OSError, UnicodeDecodeError) as error:
            raise HornbookError(f"The text {path} cannot be read: {error}") from error
        found = [passage for passage in passages if passage]
    else:
        corpus = Corpus.open(path)
        if corpus.schema != "documents":
            raise HornbookError(f"The corpus {corpus.folder} holds {corpus.schema}, not documents.")
        found = [row["text"] for row in corpus.iter_rows(["text"])]
    if not found:
        raise HornbookError(f"{path} holds no text.")
    return found[:most]


@step(version="1", makes="checkpoint")
def unlearn(
    ctx: StepContext,
    *,
    model: Artifact | Path,
    forget: Artifact | Path,
    retain: Artifact | Path,
    how: Unlearning = Unlearning(),
    dictionary: Path | None = None,
    seed: int = 0,
) -> Mapping[str, Any]:
    """Makes a checkpoint forget a text; `artifact / "model"` is the one that forgot.

    Args:
        forget, retain: corpora of documents, or text files; see `forget_text`.
        dictionary: a reviewed dictionary of anchors (JSON); the one found lies in `artifact /
            "anchors.json"`.

    Facts: those of `forget_text`. What it comes to is told by `align.forgetting_card`, not by this step.
    """
    return forget_text(
        folder_of(model),
        texts_of(forget),
        texts_of(retain),
        ctx.folder,
        how,
        dictionary=Dictionary.read(dictionary) if dictionary is not None else None,
        seed=seed,
    )
