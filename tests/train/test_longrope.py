"""The search's constraints, its resume, and what it finds on a small model that reads by position."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hornbook.data.packing import Batch
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.progress import NullProgress
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.rope import Rope
from hornbook.train.longrope import (
    Candidate,
    SearchSettings,
    Space,
    cross,
    evolve,
    interpolation,
    mutate,
    ntk,
    seeds,
    yarn,
)
from hornbook.train.longrope_extend import Extension, Stage, config_of, extend, fine_tuning_settings
from hornbook.train.longrope_search import (
    Found,
    LongRopeSettings,
    LongRows,
    extended_config,
    perplexity,
    search,
    search_short,
    set_config,
    under,
)
from hornbook.train.longrope_step import FineTuning, extend_context, long_rows

VOCABULARY, DISTANCE, ORIGINAL, TARGET = 16, 12, 64, 256
CONFIG = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    layers=1,
    heads=1,
    intermediate_size=64,
    max_position=ORIGINAL,
    tied_embeddings=True,
)
WHOLE = SearchSettings(population=32, parents=8, mutations=10, crossovers=10, iterations=16)
SMALL = SearchSettings(population=16, parents=8, mutations=6, crossovers=6, iterations=8)


def echo(rows: int, time: int, seed: object) -> np.ndarray:
    """Each token is that of 12 places before, or (one in ten) a random one: only position tells which."""
    random = np.random.default_rng(seed)  # type: ignore[arg-type]
    tokens = random.integers(0, VOCABULARY, (rows, time + 1))
    for t in range(DISTANCE, time + 1):
        tokens[:, t] = np.where(random.random(rows) < 0.9, tokens[:, t - DISTANCE], tokens[:, t])
    return tokens


@pytest.fixture(scope="module")
def trained() -> Decoder:
    """A decoder that has learned the task on rows of 64, in a few seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(4)
    model = Decoder(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(250):
        tokens = torch.from_numpy(echo(16, ORIGINAL, [1, step]))
        logits = model.logits(model(tokens[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def found(trained: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run_search(trained, tmp_path_factory.mktemp("found"), search=WHOLE)


def run_search(model: Decoder, folder: Path, **changes: object) -> Found:
    settings = LongRopeSettings(**{"search": SMALL, "rows_at_once": 4, **changes})  # type: ignore[arg-type]
    return search(model, validation(), settings, folder, progress=NullProgress(), say=lambda sentence: None)


def validation(seed: int = 99) -> LongRows:
    return LongRows.from_tokens(echo(4, TARGET, seed))


# ---------------------------------------------------------------------- the space and its moves

spaces = st.builds(
    Space,
    pairs=st.integers(1, 12),
    scale=st.floats(1.01, 64),
    start_tokens=st.sampled_from([(0,), (0, 1, 4), (2, 8)]),
)


@given(space=spaces, seed=st.integers(0, 1 << 30), probability=st.floats(0.01, 1.0))
def test_no_move_leaves_the_space(space: Space, seed: int, probability: float) -> None:
    random = np.random.default_rng(seed)
    founders = [interpolation(space), ntk(space)]
    for candidate in founders:
        assert space.holds(candidate)
    for _ in range(5):
        founders = [mutate(space, candidate, probability, random) for candidate in founders]
        for candidate in founders:
            assert space.holds(candidate)
            assert all(1.0 <= factor <= 1.25 * space.scale + 1e-9 for factor in candidate.factors)
    mixed = cross(*founders, probability, random)
    assert all(value in pair for value, *pair in zip(mixed.steps, *(f.steps for f in founders)))


@given(seed=st.integers(0, 1000), pairs=st.integers(2, 8))
def test_a_search_looks_at_nothing_twice_and_at_nothing_forbidden(seed: int, pairs: int) -> None:
    space = Space(pairs=pairs, scale=4.0, start_tokens=(0, 4))
    looked: list[Candidate] = []

    def fitness(candidate: Candidate) -> float:
        looked.append(candidate)
        return float(sum(candidate.steps))

    settings = SearchSettings(population=8, parents=4, mutations=3, crossovers=3, iterations=4, seed=seed)
    ranked = evolve(space, [interpolation(space), ntk(space)], settings, fitness)
    assert len(looked) == len(set(looked)) == len(ranked) <= settings.evaluations
    assert all(space.holds(candidate) for candidate in looked)
    assert [value for value, _ in ranked] == sorted(value for value, _ in ranked)


def test_search_nears_the_known_optimum_of_a_bowl() -> None:
    space = Space(pairs=6, scale=8.0)
    goal = np.array([0, 50, 120, 300, 600, 850])

    def distance(candidate: Candidate) -> float:
        return float(np.abs(np.array(candidate.steps) - goal).mean())

    first = [interpolation(space), ntk(space)]
    ranked = evolve(space, first, SearchSettings(seed=1), distance)
    assert ranked[0][0] < 0.1 * min(distance(candidate) for candidate in first)
    assert evolve(space, first, SearchSettings(seed=1), distance) == ranked  # by seed alone
    assert evolve(space, first, SearchSettings(seed=2), distance) != ranked


def test_seeds_are_their_closed_forms() -> None:
    config = replace(CONFIG, hidden_size=128, head_dim=128)
    space = Space(pairs=64, scale=4.0)
    named = seeds(space, config, 4096)
    assert set(named["interpolation"].factors) == {4.0}
    base = 10_000.0 * 4.0 ** (128 / 126)  # NTK-aware: the base that gives the slowest pair the scale
    for pair, factor in enumerate(named["ntk"].factors):
        assert factor == pytest.approx((base / 10_000.0) ** (2 * pair / 128), abs=0.0051)
    turns = [4096 / (2 * np.pi * 10_000.0 ** (2 * pair / 128)) for pair in range(64)]
    for pair, factor in enumerate(yarn(space, config, 4096).factors):
        if turns[pair] > 40:
            assert factor == 1.0
        elif turns[pair] < 0.8:
            assert factor == 4.0
        else:
            assert 1.0 <= factor <= 4.0


# ---------------------------------------------------------------------- unscaled first positions


def test_angles_of_the_first_positions_are_unscaled_beyond_the_original_length_only() -> None:
    candidate = Candidate(tuple(range(0, 320, 20)), start_tokens=5)
    config = extended_config(CONFIG, candidate, target=TARGET, attention_factor=1.0)
    position = torch.arange(80)
    plain = Rope(CONFIG)(position, 80)
    scaled = Rope(replace(config, long_rope=replace(config.long_rope, start_tokens=0)))(position, 80)  # type: ignore[type-var, arg-type]
    for length in (80, torch.tensor(80)):
        got = Rope(config)(position, length)
        for ours, before, after in zip(got, plain, scaled):
            assert torch.equal(ours[:5], before[:5])
            assert torch.equal(ours[5:], after[5:])
            assert not torch.equal(before[5:], after[5:])
    for length in (64, torch.tensor(64)):
        assert torch.equal(Rope(config)(position[:64], length)[0], plain[0][:64])


def test_a_file_cannot_hold_unscaled_positions_and_says_so() -> None:
    config = extended_config(CONFIG, Candidate((0,) * 16, start_tokens=4), target=TARGET)
    with pytest.raises(HornbookError, match="start_tokens = 4"):
        config.to_hf()


# ---------------------------------------------------------------------- on a trained model


def test_search_reads_long_rows_better_than_any_founder_and_than_no_scaling(
    trained: Decoder, found: Found
) -> None:
    with under(trained, replace(CONFIG, max_position=TARGET)):
        by_hand = perplexity(trained, validation())
    assert found.perplexities["unscaled"] == pytest.approx(by_hand, rel=1e-5)
    assert found.best_perplexity <= found.portable_perplexity
    for name, value in found.perplexities.items():
        assert found.portable_perplexity < (1.0 if name == "unscaled" else 0.9) * value, name
    assert list(found.rounds) == sorted(found.rounds, reverse=True)
    # And on rows the search never saw.
    unseen = validation(seed=77)
    with under(trained, config_of(CONFIG, found)):
        fresh = perplexity(trained, unseen)
    with under(trained, extended_config(CONFIG, interpolation(Space(pairs=16, scale=4.0)), target=TARGET)):
        assert fresh < 0.9 * perplexity(trained, unseen)
    with under(trained, replace(CONFIG, max_position=TARGET)):
        assert fresh < perplexity(trained, unseen)


def test_search_beats_a_brute_force_over_all_rotary_bases(trained: Decoder, found: Found) -> None:
    """The one-parameter family lambda_i = b^(i / 15): every base change from none to 1.25 s."""
    space, tried = Space(pairs=16, scale=4.0), []
    for b in np.linspace(1.0, 5.0, 41):
        candidate = space.snap(b ** (pair / 15) for pair in range(16))
        with under(trained, extended_config(CONFIG, candidate, target=TARGET)):
            tried.append(perplexity(trained, validation(), rows_at_once=4))
    assert found.portable_perplexity <= min(tried)


def test_the_perplexity_is_that_of_the_logits(trained: Decoder) -> None:
    rows = validation()
    targets = rows.targets.copy()
    targets[:, :100] = -100
    with under(trained, replace(CONFIG, max_position=TARGET)), torch.no_grad():
        logits = trained.logits(trained(torch.from_numpy(rows.inputs)))
        wanted = torch.from_numpy(targets)
        mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        got = perplexity(trained, LongRows(rows.inputs, targets), rows_at_once=3)
    assert got == pytest.approx(float(mean.exp()), rel=1e-5)


def test_the_model_is_as_before_after_a_search(trained: Decoder, found: Found) -> None:
    assert trained.config is CONFIG
    assert trained.rope.config is CONFIG


def test_the_extended_checkpoint_is_what_was_found(trained: Decoder, found: Found, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    copy = Decoder(CONFIG).eval()
    copy.load_state_dict(trained.state_dict())
    extend(copy, found, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.long_rope == copy.config.long_rope
    assert loaded.config.max_position == TARGET
    assert perplexity(loaded, validation()) == pytest.approx(found.portable_perplexity, rel=1e-4)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.from_numpy(validation().inputs)
    with torch.no_grad():
        for length in (ORIGINAL - 4, TARGET):  # short factors, long factors
            ours = loaded.logits(loaded(tokens[:, :length]))
            theirs = reference(tokens[:, :length]).logits
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


class EchoLoader:
    """Long rows of the task as one document each."""

    fingerprint = "echo 256"

    def batch(self, step: int) -> Batch:
        tokens = echo(4, TARGET, [5, step])
        position = np.broadcast_to(np.arange(TARGET), (4, TARGET)).copy()
        return Batch(tokens[:, :-1], tokens[:, 1:], np.zeros_like(position), position)


def test_fine_tuning_on_long_rows_lowers_the_perplexity_further(
    trained: Decoder, found: Found, tmp_path: Path
) -> None:
    model = Decoder(CONFIG)
    model.load_state_dict(trained.state_dict())
    stages = [
        Stage(name="first", found=found, loader=EchoLoader(), steps=10),
        Stage(name="second", found=found, loader=EchoLoader(), steps=20),
    ]
    settings = replace(fine_tuning_settings(learning_rate=3e-3), precision="fp32", compile="off")
    extension = Extension(stages=stages, folder=tmp_path, settings=settings)
    results = extension.run(model, NullProgress(), say=lambda sentence: None)
    assert [result.steps for result in results] == [10, 20]
    last = load_checkpoint(tmp_path / "second")
    after = perplexity(last, validation())
    assert after < 0.9 * found.portable_perplexity
    # Begun again it trains nothing, and a fresh model ends at the same weights.
    again = Decoder(CONFIG)
    extension.run(again, NullProgress(), say=lambda sentence: None)
    assert perplexity(again.eval(), validation()) == pytest.approx(after, rel=1e-5)


# ---------------------------------------------------------------------- short rows, and all of it as a step


def test_short_factors_win_back_what_the_extension_cost(
    trained: Decoder, found: Found, tmp_path: Path
) -> None:
    model = Decoder(CONFIG).eval()
    model.load_state_dict(trained.state_dict())
    rows = LongRows.from_tokens(echo(8, ORIGINAL, 5))
    settings = LongRopeSettings(search=SMALL, rows_at_once=8)
    with pytest.raises(HornbookError, match="no long_rope yet"):
        search_short(model, rows, settings, tmp_path / "early")
    set_config(model, config_of(CONFIG, found))
    with pytest.raises(HornbookError, match="used up to 64 only"):
        search_short(model, validation(), settings, tmp_path / "long")
    recovered = search_short(
        model, rows, settings, tmp_path / "short", progress=NullProgress(), say=lambda sentence: None
    )
    assert recovered.portable_perplexity <= recovered.perplexities["ones"]
    assert max(recovered.portable.factors) <= 3.0
    config = config_of(model.config, recovered)
    assert config.long_rope is not None
    assert config.long_rope.short_factor == recovered.portable.factors
    assert config.long_rope.long_factor == found.portable.factors
    with under(model, config):
        assert perplexity(model, rows) == pytest.approx(recovered.portable_perplexity, rel=1e-5)
        # Long rows do not notice.
        assert perplexity(model, validation()) == pytest.approx(found.portable_perplexity, rel=1e-5)


def write_tokens(folder: Path, documents: int, length: int, seed: int) -> Path:
    with TokenWriter(folder, VOCABULARY) as writer:
        for row in echo(documents, length - 1, seed):
            writer.write(row)
    return folder


def test_long_rows_begin_documents_that_are_long_enough(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "mixed", VOCABULARY) as writer:
        for index, length in enumerate((10, 50, 9, 41, 40, 60)):
            writer.write(np.full(length, index))
    file = TokenFile.open(tmp_path / "mixed")
    rows = long_rows(file, 40, 3)
    assert rows.inputs[:, 0].tolist() == [1, 3, 5]
    assert (rows.inputs == rows.inputs[:, :1]).all()
    assert (rows.targets == rows.inputs[:, :1]).all()
    with pytest.raises(HornbookError, match="3 documents of more than 40 tokens, and 4 are wanted"):
        long_rows(file, 40, 4)
    joined = long_rows(file, 40, 5, across_documents=True)
    flat = np.asarray(file.tokens)
    for row, at in enumerate(range(0, 200, 40)):
        assert joined.inputs[row].tolist() == flat[at : at + 40].tolist()
        assert joined.targets[row].tolist() == flat[at + 1 : at + 41].tolist()


def test_the_step_makes_a_checkpoint_that_transformers_reads_alike_and_survives_interruption(
    trained: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    save_checkpoint(trained, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    tune = replace(fine_tuning_settings(learning_rate=3e-3), precision="fp32", compile="off", processes=1)
    inputs: dict[str, Any] = {
        "model": tmp_path / "model",
        "target": TARGET,
        "validation": write_tokens(tmp_path / "validation", 6, TARGET + 1, 7),
        "training": write_tokens(tmp_path / "training", 80, TARGET + 1, 8),
        "search_settings": SMALL,
        "fine_tuning": FineTuning(steps=12, rows=4, settings=tune),
        "rows": 4,
    }

    def run(home: str) -> Artifact:
        return Run(tmp_path / home, recipe="longer", scale="smoke", settings=None, quiet=True).step(
            extend_context, **inputs
        )

    whole = run("whole")
    measured = whole.facts["perplexity"]
    assert measured["long"]["found"] < 0.9 * measured["long"]["interpolation"]
    assert measured["long"]["tuned"] < measured["long"]["found"]
    assert measured["short"]["found"] <= measured["short"]["ones"]
    assert (whole / "model" / "tokenizer.json").read_text() == "{}"
    assert not (whole.path / "tuning").exists()
    # Stopped before the last search, then begun again.
    from hornbook.train import longrope_step

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(longrope_step, "search_short", stop)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    again = run("broken")
    assert again.facts["long_factor"] == whole.facts["long_factor"]
    assert again.facts["perplexity"]["long"] == pytest.approx(measured["long"], rel=1e-5)
    loaded = load_checkpoint(whole / "model")
    rope = loaded.config.long_rope
    assert rope is not None
    assert list(rope.short_factor) == whole.facts["short_factor"] != [1.0] * 16
    stored = json.loads((whole / "model" / "config.json").read_text())
    assert stored["original_max_position_embeddings"] == ORIGINAL
    reference = AutoModelForCausalLM.from_pretrained(whole / "model").eval()
    tokens = torch.from_numpy(validation().inputs)
    with torch.no_grad():
        for length in (ORIGINAL, ORIGINAL + 1, TARGET):  # short factors up to and with 64 tokens
            ours = loaded.logits(loaded(tokens[:, :length]))
            torch.testing.assert_close(ours, reference(tokens[:, :length]).logits, rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------------- resume and refusals


def small_search(folder: Path) -> list[str]:
    """A search of a second, the same in every process; what it said."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = Decoder(
        ModelConfig(vocab_size=16, hidden_size=32, layers=1, heads=1, intermediate_size=32, max_position=16)
    )
    rows = LongRows.from_tokens(np.random.default_rng(0).integers(0, 16, (2, 65)))
    evolution = SearchSettings(population=12, parents=6, mutations=5, crossovers=5, iterations=6, seed=4)
    said: list[str] = []
    settings = LongRopeSettings(search=evolution)
    search(model, rows, settings, folder, progress=NullProgress(), say=said.append)
    return said


def test_a_killed_search_goes_on_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    small_search(whole)
    lines = (whole / "evaluated.jsonl").read_text().splitlines(keepends=True)
    # Killed in the middle of a line: what a power cut leaves.
    program = f"import pathlib, test_longrope; test_longrope.small_search(pathlib.Path({str(broken)!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parent)
    kept = broken / "evaluated.jsonl"
    try:
        while not kept.exists() or kept.stat().st_size < 300:
            assert process.poll() is None, "it ended before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    text = kept.read_text()
    kept.write_text(text[: len(text) - 7])
    already = text[: len(text) - 7].count("\n")
    assert 0 < already < len(lines)
    assert f"{already} candidates are evaluated already" in " ".join(small_search(broken))
    assert kept.read_text().splitlines(keepends=True) == lines
    assert (broken / "found.json").read_text() == (whole / "found.json").read_text()


def test_a_finished_search_is_not_made_again(
    trained: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = SearchSettings(population=4, parents=2, mutations=1, crossovers=1, iterations=1)
    first = run_search(trained, tmp_path, search=few)
    lines = (tmp_path / "evaluated.jsonl").read_text()
    assert run_search(trained, tmp_path, search=few) == first
    assert (tmp_path / "evaluated.jsonl").read_text() == lines


def test_a_folder_of_another_search_is_refused_by_name(trained: Decoder, tmp_path: Path) -> None:
    few = SearchSettings(population=3, parents=1, mutations=0, crossovers=0, iterations=0)
    run_search(trained, tmp_path, search=few)
    with pytest.raises(HornbookError, match="another settings"):
        run_search(trained, tmp_path, search=replace(few, seed=1))
    other = Decoder(CONFIG)
    with pytest.raises(HornbookError, match="another model"):
        run_search(other, tmp_path, search=few)
    path = tmp_path / "evaluated.jsonl"
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(HornbookError, match="damaged in line 1"):
        run_search(trained, tmp_path, search=few)


def test_weights_that_are_not_numbers_end_as_infinite_perplexity(tmp_path: Path) -> None:
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    few = SearchSettings(population=3, parents=1, mutations=0, crossovers=0, iterations=0)
    found = run_search(model, tmp_path, search=few)
    assert found.best_perplexity == float("inf")
    lines = (tmp_path / "evaluated.jsonl").read_text().splitlines()
    assert all(json.loads(line)["perplexity"] is None for line in lines)


def test_impossible_requests_are_refused(trained: Decoder, tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match="more than the target"):
        run_search(trained, tmp_path, target=128)
    with pytest.raises(HornbookError, match="beyond 512 only"):
        run_search(trained, tmp_path, original=512, target=1024)
    with pytest.raises(HornbookError, match="parents is 9"):
        SearchSettings(population=8, parents=9)
    phi = replace(CONFIG, family="phi", block="parallel", norm="layernorm", activation="gelu_new")
    with pytest.raises(HornbookError, match="family 'phi'"):
        extended_config(phi, Candidate((0,) * 16), target=TARGET)
