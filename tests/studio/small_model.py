"""A checkpoint of random weights that chats in no language, and a studio on a real port."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import torch
import uvicorn

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint
from hornbook.studio.app import create_app
from hornbook.studio.settings import StudioSettings

TEXTS = [
    "Once upon a time a small cat found a red ball.",
    "¿Dónde está? Здравствуй 猫 🙂",
    "def f(x): return x",
]


def small_model(folder: Path, max_position: int = 8192) -> Path:
    """Hidden size 32, one layer; it practically never ends an answer by itself."""
    tokenizer = Tokenizer.train(TEXTS * 20, 400, folder)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        layers=1,
        heads=2,
        kv_heads=1,
        intermediate_size=32,
        tied_embeddings=False,
        max_position=max_position,
        bos_id=0,
        eos_ids=(0,),
        pad_id=0,
        init_std=0.1,
    )
    torch.manual_seed(1)
    model = Decoder(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "output" in name or "lm_head" in name:
                weight[:5] = 0  # the special tokens are never the likeliest
    save_checkpoint(model, folder)
    return folder


@contextlib.contextmanager
def served(settings: StudioSettings):
    """The studio in a thread, on a free port of loopback; yields its address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(256)
    config = uvicorn.Config(
        create_app(settings), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
