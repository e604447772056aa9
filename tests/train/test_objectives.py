"""Preferences, verifier and soft labels against closed forms (and TRL, as an oracle)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_training import tiny_config

from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.train.batches import TensorBatch, to_tensors
from hornbook.train.objectives import Preference, TokenVerifier, soft_labels, token_verifier
from hornbook.train.preference import Pair, PreferenceLoader, reference_log_probabilities, with_reference


def pairs(count: int = 7) -> list[Pair]:
    random = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        return random.integers(0, 32, random.integers(low, high)).tolist()

    return [Pair.of(ids(2, 6), ids(1, 5), ids(3, 9)) for _ in range(count)]


def decoders() -> tuple[Decoder, Decoder]:
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(Decoder(tiny_config(init_std=0.3)))
    return models[0], models[1]


def by_hand(model: Decoder, ids, mask) -> tuple[torch.Tensor, int]:
    """log p(response) of one text alone, over all logits."""
    tokens = torch.tensor(ids)
    log_p = torch.log_softmax(model.logits(model(tokens[None, :-1]))[0], -1)
    picked = log_p.gather(1, tokens[1:, None])[:, 0]
    keep = torch.tensor(mask[1:], dtype=torch.bool)
    return picked[keep].sum(), int(keep.sum())


def closed_form(policy: Decoder, reference: Decoder, pair: Pair, kind: str, beta: float) -> torch.Tensor:
    ratios = []
    for ids, mask in ((pair.chosen, pair.chosen_mask), (pair.rejected, pair.rejected_mask)):
        new, length = by_hand(policy, ids, mask)
        with torch.no_grad():
            old, _ = by_hand(reference, ids, mask)
        ratios.append((new - old) / (1 if kind == "sigmoid" else length))
    h = ratios[0] - ratios[1]
    return (h - 1 / (2 * beta)) ** 2 if kind == "ipo" else torch.log(1 + torch.exp(-beta * h))


@pytest.mark.parametrize(("kind", "beta"), [("sigmoid", 0.1), ("ipo", 0.2), ("length_normalised", 2.0)])
def test_preference_loss_and_gradient_equal_the_closed_form(kind: str, beta: float) -> None:
    policy, reference = decoders()
    loader = with_reference(PreferenceLoader(pairs(), rows=3, time=40, seed=0), reference)
    total, count = torch.zeros(()), 0
    for step in range(loader.steps_per_epoch):
        loss = Preference(kind=kind, beta=beta)(policy, to_tensors(loader.batch(step)))  # type: ignore[arg-type]
        total, count = total + loss.sum, count + int(loss.tokens)
    assert count == 7
    total.backward()
    found = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    expected = sum(closed_form(policy, reference, pair, kind, beta) for pair in pairs())
    expected.backward()  # type: ignore[union-attr]
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-4)
    for name, p in policy.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=2e-3, atol=2e-4)


def test_at_the_reference_the_loss_is_log_2_and_the_gradient_raises_the_chosen() -> None:
    policy, _ = decoders()
    loader = with_reference(PreferenceLoader(pairs(), rows=8, time=64, seed=0), policy)
    batch = to_tensors(loader.batch(0))
    loss = Preference()(policy, batch)
    assert (loss.sum / loss.tokens).item() == pytest.approx(math.log(2), rel=1e-4)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (Preference(beta=1.0)(policy, batch).sum / 7).backward()
        optimizer.step()
    after = Preference(beta=1.0)(policy, batch)
    assert after.parts["margin"] > 0.5 * 7
    assert after.parts["accuracy"] >= 6


def test_cutting_a_preference_batch_between_rows_changes_nothing() -> None:
    policy, reference = decoders()
    loader = with_reference(PreferenceLoader(pairs(12), rows=6, time=40, seed=0), reference)
    batch = to_tensors(loader.batch(0))
    whole = Preference()(policy, batch)
    parts = [Preference()(policy, piece) for piece in batch.split(2)]
    torch.testing.assert_close(sum(p.sum for p in parts), whole.sum, rtol=1e-5, atol=1e-5)
    assert sum(int(p.tokens) for p in parts) == int(whole.tokens)


def test_every_pair_comes_once_an_epoch_on_any_number_of_ranks() -> None:
    made = pairs(23)
    loader = PreferenceLoader(made, rows=4, time=40, seed=5)
    for epoch in range(3):
        steps = range(epoch * loader.steps_per_epoch, (epoch + 1) * loader.steps_per_epoch)
        one = [loader.batch(s).index for s in steps]
        assert sorted(i for b in one for i in b[b >= 0].tolist()) == list(range(23))
        ranks = [PreferenceLoader(made, 4, 40, 5, rank, 2) for rank in range(2)]
        two = [r.batch(s).index for r in ranks for s in steps]
        assert sorted(i for b in two for i in b[b >= 0].tolist()) == list(range(23))
    assert loader.fingerprint != PreferenceLoader(made[:-1], rows=4, time=40, seed=5).fingerprint


def test_only_response_tokens_are_targets() -> None:
    pair = Pair.of([1, 2, 3], [4, 5], [6])
    batch = PreferenceLoader([pair], rows=1, time=10, seed=0).batch(0)
    assert batch.inputs[0, :7].tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert batch.targets[0].tolist() == [-100, -100, 4, 5, -100, -100, 6, -100, -100, -100]
    assert batch.document[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_pairs_that_cannot_be_used_are_named() -> None:
    with pytest.raises(HornbookError, match=r"1 of 2 preference pairs .* longest takes 25"):
        PreferenceLoader(
            [Pair.of([1], [2], [3]), Pair.of([1] * 5, [2] * 10, [3] * 7)], rows=1, time=20, seed=0
        )
    with pytest.raises(HornbookError, match="no response token"):
        Pair.of([1, 2], [], [3])


def test_reference_log_probabilities_equal_texts_taken_alone() -> None:
    model, _ = decoders()
    made = pairs()
    found = reference_log_probabilities(PreferenceLoader(made, rows=2, time=40, seed=0), model)
    with torch.no_grad():
        expected = [
            [
                by_hand(model, p.chosen, p.chosen_mask)[0].item(),
                by_hand(model, p.rejected, p.rejected_mask)[0].item(),
            ]
            for p in made
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_token_verifier_is_binary_cross_entropy_at_every_position() -> None:
    verifier = TokenVerifier(decoders()[0])
    torch.nn.init.normal_(verifier.head.weight)
    inputs = torch.randint(0, 32, (3, 9))
    labels = torch.tensor([[1] * 9, [0] * 9, [-100] * 4 + [1] * 5])
    loss = token_verifier(verifier, TensorBatch(inputs=inputs, labels=labels))
    odds = verifier.head(verifier.decoder(inputs))[..., 0].detach()
    terms = [
        -math.log(1 / (1 + math.exp(-o if y == 1 else o)))
        for o, y in zip(odds.reshape(-1).tolist(), labels.reshape(-1).tolist())
        if y >= 0
    ]
    assert loss.tokens == 23
    assert loss.sum.item() == pytest.approx(sum(terms), rel=1e-4)
    loss.sum.backward()
    assert verifier.decoder.embed_tokens.weight.grad is not None


def test_soft_labels_are_kullback_leibler() -> None:
    model, teacher = decoders()
    inputs = torch.randint(0, 32, (2, 6))
    with torch.no_grad():
        p = torch.softmax(teacher.logits(teacher(inputs)), -1)
    log_q = torch.log_softmax(model.logits(model(inputs)), -1)
    expected = F.kl_div(log_q, p, reduction="sum")
    every = torch.arange(32).expand(2, 6, 32)
    full = soft_labels(model, TensorBatch(inputs=inputs, label_ids=every, label_probabilities=p))
    torch.testing.assert_close(full.sum, expected, rtol=1e-4, atol=1e-4)
    gradients = [
        torch.autograd.grad(x, model.embed_tokens.weight, retain_graph=True)[0] for x in (full.sum, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    top, ids = p.topk(5)
    some = soft_labels(model, TensorBatch(inputs=inputs, label_ids=ids, label_probabilities=top))
    # Merging events can only lower a divergence; at the teacher itself it is 0.
    assert 0 < some.sum < full.sum
    same = soft_labels(teacher, TensorBatch(inputs=inputs, label_ids=ids, label_probabilities=top))
    assert abs(same.sum.item()) < 1e-3


@pytest.mark.oracle
@pytest.mark.parametrize(("kind", "theirs", "beta"), [("sigmoid", "sigmoid", 0.1), ("ipo", "ipo", 0.2)])
def test_preference_loss_and_gradient_equal_trl(kind: str, theirs: str, beta: float, tmp_path) -> None:
    """One batch through TRL's DPOTrainer on the same weights saved as a Hugging Face folder."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    from hornbook.model.hf import save_checkpoint

    policy, reference = decoders()
    for name, model in (("policy", policy), ("reference", reference)):
        save_checkpoint(model, tmp_path / name)
    vocabulary = {f"t{i}": i for i in range(32)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")),
        pad_token="t0",
        eos_token="t1",
    )
    made = pairs(4)
    split = [sum(1 for m in p.chosen_mask if m == 0) for p in made]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tmp_path / "policy"),
        ref_model=AutoModelForCausalLM.from_pretrained(tmp_path / "reference"),
        args=DPOConfig(
            output_dir=str(tmp_path / "out"),
            beta=beta,
            loss_type=[theirs],
            report_to=[],
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=4,
            disable_dropout=True,
            gradient_checkpointing=False,
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": "t2", "chosen": "t3", "rejected": "t4"}] * 4),
    )
    rows = [
        {
            "prompt_ids": list(p.chosen[:n]),
            "chosen_ids": list(p.chosen[n:]),
            "rejected_ids": list(p.rejected[n:]),
        }
        for p, n in zip(made, split)
    ]
    trainer.model.train()
    theirs_loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    theirs_loss.backward()
    loader = with_reference(PreferenceLoader(made, rows=4, time=40, seed=0), reference)
    loss = Preference(kind=kind, beta=beta)(policy, to_tensors(loader.batch(0)))  # type: ignore[arg-type]
    mean = loss.sum / loss.tokens
    mean.backward()
    assert mean.item() == pytest.approx(theirs_loss.item(), rel=1e-4)
    gradient = trainer.model.model.embed_tokens.weight.grad
    torch.testing.assert_close(policy.embed_tokens.weight.grad, gradient, rtol=1e-3, atol=1e-5)
