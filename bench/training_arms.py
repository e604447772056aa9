"""What is compared in `bench/training.py`: the shapes, the batches, and each arm's loop.

An arm lives in a process of its own: it builds its model, compiles if it does, takes untimed steps, then one
round of steps for each line on its standard input (`serve_arm`).
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

ARMS = (
    "hornbook",
    "hornbook-2",
    "transformers-trainer",
    "transformers-compiled",
    "litgpt-compiled",
    "nanogpt-compiled",
)


@dataclass(frozen=True)
class Shape:
    """What every arm trains. `documents`: mean tokens of a packed document; 0: whole rows."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 8
    heads: int = 4
    intermediate: int = 1024
    time: int = 512
    rows: int = 16
    documents: int = 0

    @property
    def tokens(self) -> int:
        return self.rows * self.time

    @property
    def flops_per_token(self) -> float:
        """6 N for the matrices (the tied head counted once) and 6 L h T for causal attention."""
        block = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate
        matrices = self.layers * block + self.vocabulary * self.hidden
        return 6 * matrices + 6 * self.layers * self.hidden * self.time


SHAPES = {
    "target": Shape(),
    "17m": Shape(vocabulary=8192, hidden=320, layers=9, heads=5, intermediate=1280),
    "packed": Shape(
        vocabulary=2048, hidden=192, layers=6, heads=3, intermediate=512, time=256, rows=32, documents=100
    ),
    "smoke": Shape(vocabulary=512, hidden=64, layers=2, heads=1, intermediate=128, time=64, rows=8),
}


def make_batch(shape: Shape, seed: int) -> Any:
    """Random rows, the same for every arm; next tokens follow a noisy rule, so losses fall."""
    import numpy as np

    random = np.random.default_rng(seed)
    size = (shape.rows, shape.time + 1)
    tokens = (np.cumsum(random.integers(1, 8, size), axis=1) % shape.vocabulary).astype(np.int64)
    if shape.documents:
        document = (random.random((shape.rows, shape.time)) < 1 / shape.documents).cumsum(1)
        starts = np.where(np.diff(document, axis=1, prepend=0) > 0, np.arange(shape.time), 0)
        position = np.arange(shape.time) - np.maximum.accumulate(starts, axis=1)
    else:
        document = np.zeros((shape.rows, shape.time), np.int64)
        position = np.tile(np.arange(shape.time), (shape.rows, 1))
    inputs, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    return inputs, targets, document.astype(np.int64), position.astype(np.int64)


class Loop:
    """A hand-written loop: bf16 autocast, fused AdamW, gradient clipping, cross-entropy in fp32."""

    def __init__(self, shape: Shape, model: Any, logits: Any, *, compiled: bool) -> None:
        import torch

        self.shape, self.model, self.torch = shape, model, torch
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

        def loss(ids: Any, targets: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                out = logits(ids)
            return torch.nn.functional.cross_entropy(out.float().view(-1, shape.vocabulary), targets.view(-1))

        self.loss = torch.compile(loss, dynamic=False) if compiled else loss
        self.step_number = 0

    def steps(self, count: int) -> float:
        """Takes `count` optimizer steps and returns the last loss."""
        torch = self.torch
        value = 0.0
        for _ in range(count):
            ids, targets, _, _ = (torch.from_numpy(x) for x in make_batch(self.shape, self.step_number))
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(ids, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            value = float(loss)
            self.step_number += 1
        return value


def phi3(shape: Shape, **options: Any) -> Any:
    """`Phi3ForCausalLM` of this shape."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.time,
        original_max_position_embeddings=shape.time,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        **options,
    )
    return Phi3ForCausalLM(config)


def transformers_compiled(shape: Shape) -> Any:
    model = phi3(shape)
    return Loop(shape, model, lambda ids: model(input_ids=ids, use_cache=False).logits, compiled=True)


def litgpt_compiled(shape: Shape) -> Any:
    import torch
    from litgpt.config import Config
    from litgpt.model import GPT

    torch.manual_seed(0)
    config = Config(
        block_size=shape.time,
        vocab_size=shape.vocabulary,
        padded_vocab_size=shape.vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_query_groups=shape.heads,
        n_embd=shape.hidden,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=shape.intermediate,
    )
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    return Loop(shape, model, model, compiled=True)


def nanogpt_compiled(shape: Shape) -> Any:
    """The usual small hand-written model: fused SDPA, RMSNorm, rotary, SwiGLU, everything compiled."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    size = shape.hidden // shape.heads

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(shape.hidden), nn.RMSNorm(shape.hidden)
            self.qkv = nn.Linear(shape.hidden, 3 * shape.hidden, bias=False)
            self.out = nn.Linear(shape.hidden, shape.hidden, bias=False)
            self.gate_up = nn.Linear(shape.hidden, 2 * shape.intermediate, bias=False)
            self.down = nn.Linear(shape.intermediate, shape.hidden, bias=False)

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            rows, time, _ = x.shape
            q, k, v = (
                self.qkv(self.norm1(x)).view(rows, time, 3 * shape.heads, size).transpose(1, 2).chunk(3, 1)
            )

            def turn(y: Any) -> Any:
                a, b = y.chunk(2, -1)
                return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

            mixed = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(rows, time, shape.hidden))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(shape.vocabulary, shape.hidden)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(shape.layers))
            self.norm = nn.RMSNorm(shape.hidden)
            angle = torch.arange(shape.time)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
            self.register_buffer("cos", angle.cos().bfloat16())
            self.register_buffer("sin", angle.sin().bfloat16())

        def forward(self, ids: Any) -> Any:
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            return F.linear(self.norm(x), self.embed.weight)

    model = Model()
    return Loop(shape, model, model, compiled=True)


class TransformersTrainer:
    """`transformers.Trainer` with its defaults (on a CPU: fp32, fused AdamW), fed the same batches."""

    def __init__(self, shape: Shape) -> None:
        import torch
        from torch.utils.data import Dataset
        from transformers import TrainingArguments

        class Rows(Dataset):  # type: ignore[type-arg]
            def __init__(self, first: int, count: int) -> None:
                self.first, self.count = first, count
                self.cache: dict[int, Any] = {}

            def __len__(self) -> int:
                return self.count * shape.rows

            def __getitem__(self, item: int) -> Any:
                step, row = divmod(item, shape.rows)
                if step not in self.cache:
                    self.cache = {step: make_batch(shape, self.first + step)[0]}
                ids = torch.from_numpy(self.cache[step][row])
                return {"input_ids": ids, "labels": ids}

        self.rows, self.shape, self.model, self.done = Rows, shape, phi3(shape), 0
        self.folder = tempfile.TemporaryDirectory()
        self.arguments = TrainingArguments(
            output_dir=self.folder.name,
            per_device_train_batch_size=shape.rows,
            num_train_epochs=1,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            learning_rate=1e-3,
        )

    def steps(self, count: int) -> float:
        """One `train()` over `count` batches; its loss."""
        from torch.utils.data import SequentialSampler
        from transformers import Trainer

        class InOrder(Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, dataset: Any = None) -> Any:
                return SequentialSampler(self.train_dataset)

        trainer = InOrder(model=self.model, args=self.arguments, train_dataset=self.rows(self.done, count))
        self.done += count
        return float(trainer.train().training_loss)


class Hornbook:
    """Our Trainer as users run it, metrics and guard included; rounds are read off its own steps."""

    def __init__(self, shape: Shape, processes: int, pauses: Any) -> None:
        import torch

        from hornbook.data.packing import Batch
        from hornbook.model.config import ModelConfig
        from hornbook.model.decoder import Decoder

        torch.manual_seed(0)
        self.shape, self.processes = shape, processes
        self.model = Decoder(
            ModelConfig(
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                layers=shape.layers,
                heads=shape.heads,
                intermediate_size=shape.intermediate,
                tied_embeddings=True,
                max_position=shape.time,
            )
        )

        # The second process must rest between rounds too, not start on the next step: it waits for a byte.
        self.go_read, self.go = os.pipe()
        go_read = self.go_read

        class Loader:
            rows, rank, world, fingerprint = shape.rows, 0, 1, "bench"

            def batch(self, step: int) -> Batch:
                if self.rank and pauses(step):
                    os.read(go_read, 1)
                share = self.rows // self.world
                mine = slice(self.rank * share, (self.rank + 1) * share)
                return Batch(*(x[mine] for x in make_batch(shape, step)))

        self.loader = Loader()

    def run(self, total: int, wait: Any) -> None:
        """Trains `total` steps; `wait(step, loss)` is called after each and may pause the run."""
        from hornbook.lab.progress import NullProgress
        from hornbook.train.objectives import next_token
        from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
        from hornbook.train.trainer import Trainer

        settings = TrainSettings(
            optimizer=OptimizerSettings(learning_rate=1e-3), processes=self.processes, checkpoint_seconds=0
        )
        with tempfile.TemporaryDirectory() as folder:
            Trainer(
                self.model, next_token, Phase(name="bench", loader=self.loader, steps=total), settings, folder
            ).run(NullProgress(), log=lambda step, loss, **rest: wait(step, loss), say=lambda sentence: None)


def serve_arm(name: str, shape: Shape, warm: int, steps: int, rounds: int) -> None:
    """The life of an arm: warm up, say so, then one round of steps for each line on standard input."""

    def reply(**numbers: Any) -> None:
        print("@" + json.dumps(numbers), flush=True)

    started = time.perf_counter()
    if name.startswith("hornbook"):
        clock = {"start": 0.0}
        processes = 2 if name.endswith("-2") else 1
        arm = Hornbook(shape, processes, lambda step: step >= warm and (step - warm) % steps == 0)

        def wait(step: int, loss: float) -> None:
            done = step + 1 - warm
            if done < 0 or done % steps:
                return
            if done == 0:
                reply(warm_seconds=time.perf_counter() - started)
            else:
                reply(seconds=time.perf_counter() - clock["start"], loss=loss)
            if done < rounds * steps:
                sys.stdin.readline()
                os.write(arm.go, b"." * (processes - 1))
                clock["start"] = time.perf_counter()

        arm.run(warm + rounds * steps, wait)
        return
    makers = {
        "transformers-trainer": TransformersTrainer,
        "transformers-compiled": transformers_compiled,
        "litgpt-compiled": litgpt_compiled,
        "nanogpt-compiled": nanogpt_compiled,
    }
    peer = makers[name](shape)
    peer.steps(warm)
    reply(warm_seconds=time.perf_counter() - started)
    for _ in range(rounds):
        sys.stdin.readline()
        begun = time.perf_counter()
        loss = peer.steps(steps)
        reply(seconds=time.perf_counter() - begun, loss=loss)
