import pytest
import torch
from engine_helpers import ByteTokenizer, ragged, small

from hornbook.errors import HornbookError
from hornbook.infer.embedding import mean_hidden
from hornbook.infer.engine import Engine


def test_a_vector_is_the_mean_of_the_hidden_states_whatever_stands_beside_it() -> None:
    model = small()
    engine = Engine(model, ByteTokenizer(), weights="fp32")
    texts = ragged(5)
    vectors = mean_hidden(engine, texts)
    for text, vector in zip(texts, vectors):
        with torch.no_grad():
            mean = model(torch.tensor([text]))[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_what_cannot_be_embedded_is_said() -> None:
    engine = Engine(small(), ByteTokenizer(), weights="fp32")
    for text, words in (([], "no token"), ([1] * 257, "context holds"), ([300], "vocabulary")):
        with pytest.raises(HornbookError, match=words):
            mean_hidden(engine, [[1, 2], text])
