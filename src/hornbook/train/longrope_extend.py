"""From found factors to a checkpoint: written at once, or after fine-tuning on rows of the new length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.train.longrope_search import Found, extended_config, set_config
from hornbook.train.objectives import next_token
from hornbook.train.schedule import Schedule
from hornbook.train.settings import Loader, OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import ProgressLike, Trainer, TrainResult


def config_of(config: ModelConfig, found: Found) -> ModelConfig:
    """`config` with the factors of `found` that a checkpoint can hold: long ones, or the short ones beside
    them.

    Raises:
        HornbookError: when every candidate of the search left first positions unscaled.
    """
    if found.portable.start_tokens:
        raise HornbookError(
            "This search tried no candidate without unscaled first positions, and a checkpoint can hold no "
            "other; let start_tokens include 0."
        )
    if found.part == "short":
        if config.long_rope is None:
            raise HornbookError("Short factors belong to an extended model; this one has no long_rope yet.")
        return replace(config, long_rope=replace(config.long_rope, short_factor=found.portable.factors))
    return extended_config(
        config,
        found.portable,
        target=found.target,
        original=found.original,
        attention_factor=found.attention_factor,
    )


def extend(model: Decoder, found: Found, folder: Path | str) -> Decoder:
    """Gives `model` the found factors for good and writes it to `folder` as the ecosystem loads it.

    Tokenizer files are the caller's to copy. Returns the same model.
    """
    from hornbook.model.hf import save_checkpoint

    config = config_of(model.config, found)
    set_config(model, config)
    save_checkpoint(model, folder)
    return model


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of fine-tuning under one set of factors, such as first those for 128k, then those for 256k.

    name: of the stage's folder. found: whose factors. loader: rows of the stage's length. steps: optimizer
    steps (400 and 600 in the paper).
    """

    name: str
    found: Found
    loader: Loader
    steps: int = 400


def fine_tuning_settings(*, learning_rate: float = 2e-5) -> TrainSettings:
    """The paper's: AdamW without weight decay, a short warm-up, then a straight line to 0 (section 4.1)."""
    return TrainSettings(
        optimizer=OptimizerSettings(learning_rate=learning_rate, weight_decay=0.0),
        schedule=Schedule(kind="linear", warmup=0.05),
    )


@dataclass(frozen=True, kw_only=True)
class Extension:
    """Extended fine-tuning: the stages in order, each a run of the Trainer in `folder/<name>`.

    Each stage begins with the weights of the one before. Running it again goes on where it stopped; the last
    stage's folder is the extended checkpoint.
    """

    stages: Sequence[Stage]
    folder: Path
    settings: TrainSettings = field(default_factory=fine_tuning_settings)

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise HornbookError(f"the stages of an extension need different names, at least one: {names}.")

    def run(
        self,
        model: Decoder,
        progress: ProgressLike | None = None,
        *,
        log: Callable[..., None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> list[TrainResult]:
        """Trains `model` through all stages."""
        results = []
        for stage in self.stages:
            set_config(model, config_of(model.config, stage.found))
            phase = Phase(name=stage.name, loader=stage.loader, steps=stage.steps)
            trainer = Trainer(model, next_token, phase, self.settings, self.folder / stage.name)
            results.append(trainer.run(progress, log=log, say=say))
        return results
