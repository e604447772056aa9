"""The vision model against `transformers`' CLIP and against the layout of tiles, token by token."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from hornbook.errors import HornbookError
from hornbook.model.cache import KeyValueCache
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.pictures import CLIP_MEAN, CLIP_STD, picture_prompt, prepare, tile_grid
from hornbook.model.presets import preset
from hornbook.model.vision import Pictures
from hornbook.model.vision_config import VisionConfig

EYE = VisionConfig(
    hidden_size=16, layers=3, heads=2, intermediate_size=24, image_size=24, patch_size=4, tiles=6
)
CONFIG = ModelConfig(
    family="phi3_v",
    vocab_size=61,
    hidden_size=32,
    layers=2,
    heads=4,
    intermediate_size=48,
    vision=EYE,
    max_position=4096,
)
RELEASED = VisionConfig()


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    model = Decoder(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def picture(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def clip_like(tower):
    """transformers' CLIP with the weights of `tower`, by the names that checkpoints store."""
    config = tower.config
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate_size,
            image_size=config.image_size,
            patch_size=config.patch_size,
            layer_norm_eps=config.norm_eps,
            hidden_act="quick_gelu",
        )
    ).eval()


@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_tower_equals_the_clip_of_transformers(decoder, layer, tmp_path):
    model = copy.deepcopy(decoder)
    model.config = replace(CONFIG, vision=replace(EYE, feature_layer=layer))
    model.vision.config = model.vision.tower.config = model.config.vision
    save_checkpoint(model, tmp_path)
    theirs = clip_like(model.vision.tower)
    prefix = "model.vision_embed_tokens.img_processor."
    stored = {
        name.removeprefix(prefix): value
        for name, value in load_file(tmp_path / "model.safetensors").items()
        if name.startswith(prefix)
    }
    wanted = {name.removeprefix("vision_model."): name for name in theirs.state_dict()}
    assert {name.removeprefix("vision_model.") for name in stored} >= {
        name for name in wanted if "position_ids" not in name
    }
    theirs.load_state_dict(
        {wanted[n.removeprefix("vision_model.")]: value for n, value in stored.items()}, strict=False
    )
    pixels = torch.randn(3, 3, 24, 24)
    expected = theirs(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]
    ours = model.vision.tower(pixels)
    assert ((ours - expected).norm() / expected.norm()).item() < 1e-5
    weight = torch.randn_like(expected)
    model.zero_grad()
    (ours * weight).sum().backward()
    (expected * weight).sum().backward()
    gradient = dict(theirs.named_parameters())[wanted["embeddings.patch_embedding.weight"]].grad
    mine = model.vision.tower.patch_embedding.grad
    assert ((mine - gradient).norm() / gradient.norm()).item() < 1e-5


@pytest.mark.parametrize(
    ("width", "height", "tiles", "rows", "columns", "tokens"),
    [
        (1000, 1000, 16, 4, 4, 2509),
        (1920, 1080, 16, 3, 5, 2353),
        (1080, 1920, 16, 5, 3, 2377),
        (640, 480, 16, 3, 4, 1921),
        (1344, 336, 4, 1, 4, 745),
        (1000, 600, 4, 2, 2, 757),
        (300, 1200, 4, 4, 1, 781),
        (336, 336, 4, 2, 2, 757),
    ],
)
def test_published_grids_and_token_counts(width, height, tiles, rows, columns, tokens):
    assert tile_grid(width, height, RELEASED, tiles=tiles) == (rows, columns)
    assert RELEASED.tokens(rows, columns) == tokens


def published_grid(width, height, tiles, size):
    """The search as published: the largest scale that fits, then the padded height."""
    turned = width < height
    if turned:
        width, height = height, width
    ratio = width / height
    scale = 1
    while scale * np.ceil(scale / ratio) <= tiles:
        scale += 1
    scale -= 1
    wide = int(scale * size)
    high = int(np.ceil(int(wide / ratio) / size) * size)
    return (wide // size, high // size) if turned else (high // size, wide // size)


def test_grids_of_every_shape_follow_the_published_search():
    sizes = [*range(1, 40, 3), 99, 336, 337, 500, 672, 1000, 1344]
    for width in sizes:
        for height in sizes:
            for tiles in (1, 4, 5, 16):
                if max(width, height) / min(width, height) > tiles * 300:
                    continue  # the published resize has height 0 there
                expected = published_grid(width, height, tiles, 336)
                assert tile_grid(width, height, RELEASED, tiles=tiles) == (
                    max(1, expected[0]),
                    max(1, expected[1]),
                )


def test_tokens_of_a_picture_lie_as_its_tiles_do(decoder):
    """Every token rebuilt alone: which tile, which four patches, where newlines and the separator stand."""
    embedding, side, grid = decoder.vision, EYE.merged, EYE.grid
    shapes = ((2, 3), (1, 1), (3, 1))
    pictures = Pictures(pixels=torch.randn(3, 7, 3, 24, 24), tiles=shapes)
    with torch.no_grad():
        made = embedding(pictures)
        for number, (rows, columns) in enumerate(shapes):
            features = embedding.tower(pictures.pixels[number])

            def merged(view, line, place, features=features):
                corner = (2 * line) * grid + 2 * place
                at = (corner, corner + 1, corner + grid, corner + grid + 1)
                return torch.cat([features[view, index] for index in at])

            expected = []
            for line in range(rows * side):
                for place in range(columns * side):
                    tile = (line // side) * columns + place // side
                    expected.append(merged(1 + tile, line % side, place % side))
                expected.append(embedding.newline.flatten())
            expected.append(embedding.separator.flatten())
            for line in range(side):
                expected += [merged(0, line, place) for place in range(side)]
                expected.append(embedding.newline.flatten())
            tokens = torch.stack(expected)
            tokens = F.linear(tokens, embedding.project_in.weight, embedding.project_in.bias)
            tokens = 0.5 * tokens * (1 + torch.erf(tokens / 2**0.5))
            tokens = F.linear(tokens, embedding.project_out.weight, embedding.project_out.bias)
            assert len(tokens) == EYE.tokens(rows, columns)
            torch.testing.assert_close(made[number], tokens, rtol=1e-4, atol=1e-4)


def encode(text):
    return [3 + ord(c) % 50 for c in text]


def test_prompts_replace_placeholders_in_any_order():
    pictures = prepare([picture(24, 24), picture(48, 20, 1)], EYE, tiles=2)
    first, second = (EYE.tokens(*shape) for shape in pictures.tiles)
    ids = picture_prompt("ab<|image_2|>c<|image_1|><|image_2|>", pictures, EYE, encode)
    expected = encode("ab") + [-2] * second + encode("c") + [-1] * first + [-2] * second
    assert ids == expected


@pytest.mark.parametrize("text", ["none", "<|image_2|>", "<|image_1|><|image_3|>", "<|image_0|><|image_1|>"])
def test_placeholders_that_do_not_fit_the_pictures_are_refused(text):
    pictures = prepare([picture(24, 24), picture(24, 24)], EYE)
    with pytest.raises(HornbookError, match="2 pictures need the placeholders"):
        picture_prompt(text, pictures, EYE, encode)


def test_pictures_reach_the_decoder_where_their_ids_stand(decoder):
    """Two rows with their own pictures, one shown twice, against embeddings put in by hand."""
    mine = [prepare([picture(24, 24), picture(60, 20, 1)], EYE), prepare([picture(20, 44, 2)], EYE)]
    texts = ["a<|image_2|>b<|image_1|>c", "<|image_1|>xy<|image_1|>"]
    rows = [picture_prompt(text, p, EYE, encode) for text, p in zip(texts, mine, strict=True)]
    length = max(len(row) for row in rows)
    rows = [row + [5] * (length - len(row)) for row in rows]
    tokens = torch.tensor(rows)
    all_pictures = prepare([picture(24, 24), picture(60, 20, 1), picture(20, 44, 2)], EYE)
    with torch.no_grad():
        hidden = decoder(tokens, pictures=all_pictures)
        blocks = [decoder.vision(p) for p in mine]
        for row, ids in enumerate(rows):
            embedded, done = [], {}
            for token in ids:
                if token >= 0:
                    embedded.append(decoder.embed_tokens.weight[token])
                    continue
                block = blocks[row][-token - 1]
                embedded.append(block[done.get(token, 0) % len(block)])
                done[token] = done.get(token, 0) + 1
            text = copy.deepcopy(decoder)
            text.vision = None
            text.embed_tokens = torch.nn.Embedding.from_pretrained(torch.stack(embedded))
            alone = text(torch.arange(length)[None])
            torch.testing.assert_close(hidden[row], alone[0], rtol=1e-4, atol=1e-4)


def test_cached_answer_equals_the_whole_pass(decoder):
    pictures = prepare([picture(50, 30)], EYE)
    ids = torch.tensor([picture_prompt("q<|image_1|>what", pictures, EYE, encode)])
    answer = torch.randint(0, 61, (1, 5))
    with torch.no_grad():
        whole = decoder(torch.cat([ids, answer], 1), pictures=pictures)
        cache = KeyValueCache(CONFIG, batch=1, length=ids.shape[1] + 5)
        parts = [decoder(ids, cache=cache, pictures=pictures)]
        parts += [decoder(answer[:, n : n + 1], cache=cache) for n in range(5)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_ids_and_pictures_that_do_not_fit_are_refused(decoder):
    pictures = prepare([picture(24, 24)], EYE)
    count = EYE.tokens(*pictures.tiles[0])
    with pytest.raises(ValueError, match="stand for 1 pictures, but 0"):
        decoder(torch.tensor([[-1] * count]))
    with pytest.raises(ValueError, match="stand for 0 pictures, but 1"):
        decoder(torch.tensor([[4, 5]]), pictures=pictures)
    with pytest.raises(ValueError, match=f"picture 1 has {count} tokens, but {count - 1}"):
        decoder(torch.tensor([[-1] * (count - 1)]), pictures=pictures)


def triangle_resize(array, new_height, new_width):
    """Antialiased bilinear resize, pixel by pixel in double precision, grey levels unrounded."""

    def weights(old, new):
        scale = old / new
        reach = max(scale, 1.0)
        out = np.zeros((new, old))
        for place in range(new):
            centre = (place + 0.5) * scale
            first, last = max(0, int(centre - reach + 0.5)), min(old, int(centre + reach + 0.5))
            values = np.array([max(0.0, 1 - abs((i + 0.5 - centre) / reach)) for i in range(first, last)])
            out[place, first:last] = values / values.sum()
        return out

    return np.einsum(
        "ij,jkc,lk->ilc", weights(len(array), new_height), array, weights(array.shape[1], new_width)
    )


@pytest.mark.parametrize(("width", "height"), [(50, 30), (30, 50), (24, 24), (7, 100), (200, 90)])
def test_pixels_are_resized_padded_with_white_and_cut(width, height):
    array = picture(width, height)
    pictures = prepare([array], EYE)
    (rows, columns), size = pictures.tiles[0], EYE.image_size
    long = max(rows, columns) * size
    short = int(long / (max(width, height) / min(width, height)))
    new_height, new_width = (short, long) if width >= height else (long, short)
    canvas = np.full((rows * size, columns * size, 3), 255.0)
    top, left = (rows * size - new_height) // 2, (columns * size - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = triangle_resize(array, new_height, new_width)
    for row in range(rows):
        for column in range(columns):
            got = pictures.pixels[0, 1 + row * columns + column].permute(1, 2, 0).double().numpy()
            grey = (got * np.array(CLIP_STD) + np.array(CLIP_MEAN)) * 255
            expected = canvas[row * size : (row + 1) * size, column * size : (column + 1) * size]
            assert np.abs(grey - expected).max() <= 1.01  # rounding in each of the two directions
    whole = pictures.pixels[0, 0]
    assert whole.shape == (3, size, size)
    tiles = pictures.pixels[0, 1 : 1 + rows * columns].view(rows, columns, 3, size, size)
    canvas_again = tiles.permute(2, 0, 3, 1, 4).reshape(1, 3, rows * size, columns * size)
    expected = F.interpolate(canvas_again, (size, size), mode="bicubic", align_corners=False)[0]
    torch.testing.assert_close(whole, expected)


def test_arrays_that_are_no_pictures_are_refused():
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(HornbookError, match="Picture 2"):
            prepare([picture(4, 4), wrong], EYE)
    with pytest.raises(HornbookError, match="No pictures"):
        prepare([], EYE)


def test_folder_round_trip_with_spare_tensors(decoder, tmp_path):
    save_checkpoint(decoder, tmp_path / "a")
    again = load_checkpoint(tmp_path / "a")
    assert again.config == CONFIG
    save_checkpoint(again, tmp_path / "b")
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    for name, parameter in decoder.named_parameters():
        assert torch.equal(parameter, dict(again.named_parameters())[name])


def test_names_of_the_released_folder():
    from hornbook.model.hf import tensor_map

    names = {piece.name for parts in tensor_map(preset("phi-3.5-vision")).values() for piece in parts}
    prefix = "model.vision_embed_tokens"
    assert {f"{prefix}.glb_GN", f"{prefix}.sub_GN", f"{prefix}.img_projection.2.bias"} <= names
    clip = f"{prefix}.img_processor.vision_model"
    assert {f"{clip}.pre_layrnorm.weight", f"{clip}.embeddings.class_embedding"} <= names
    assert f"{clip}.encoder.layers.23.self_attn.out_proj.bias" in names
    assert len([name for name in names if name.startswith(clip)]) == 24 * 16 + 7


def test_released_config_says_no_sizes():
    config = preset("phi-3.5-vision")
    written = json.loads(json.dumps(config.to_hf()))
    assert written["img_processor"] == {
        "image_dim_out": 1024,
        "model_name": "openai/clip-vit-large-patch14-336",
        "name": "clip_vision_model",
        "num_img_tokens": 144,
    }
    assert ModelConfig.from_hf(written) == config
    written["rope_scaling"]["type"] = "su"
    assert ModelConfig.from_hf(written) == config
    with pytest.raises(HornbookError, match="hd_transform_order"):
        ModelConfig.from_hf(written | {"embd_layer": {"hd_transform_order": "glb_sub"}})


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(HornbookError, match="image_size"):
        replace(EYE, image_size=20)
    with pytest.raises(HornbookError, match="feature_layer"):
        replace(EYE, feature_layer=0)
    with pytest.raises(HornbookError, match="vision"):
        replace(CONFIG, vision=None).to_hf()
    with pytest.raises(HornbookError, match="vision"):
        replace(CONFIG, family="phi3").to_hf()
