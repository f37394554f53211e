"""A pretrained OPT with a tokenizer of its own becomes a decoder of our vocabulary."""

import json

import numpy as np
import pytest
from tiny_decoder import CONFIG, random_params

from cm3leon_jax.interop.opt.config import opt_config
from cm3leon_jax.interop.opt.load import open_pretrained_opt
from cm3leon_jax.interop.opt.names import opt_tensors
from cm3leon_jax.interop.opt.vocabulary import their_tokens
from cm3leon_jax.model.folder import load_decoder, write_decoder
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.vocabulary import Vocabulary

PIECES = ["<pad>", "</s>", "<unk>", "\u2581red", "\u2581dot", "s", "\u00e9", "\u2581\u2581"]
OURS = Vocabulary(text_size=len(PIECES), image_size=20, num_sentinels=4, multiple_of=16)
BYTES = {"<pad>": 1, "\u0120red": 10, "s": 11, "\u00c3\u00a9": 12, "\u00c3": 13, "\u0120\u0120": 14}
LIST = [[piece, 0.0] for piece in ("<unk>", "\u2581red", "\u00e9", "s")]


@pytest.fixture
def pretrained(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    weights = random_params(CONFIG)
    tensors = opt_tensors(CONFIG, flatten(weights).__getitem__)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.save_file(contiguous, tmp_path / "model.safetensors")
    settings = opt_config(CONFIG, "float32") | {"pad_token_id": 1, "eos_token_id": 2, "unk_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    write_tokenizer(tmp_path, BYTES, {"type": "ByteLevel"})
    return tmp_path, weights


def write_tokenizer(folder, vocabulary, decoder):
    content = {"model": {"vocab": vocabulary}, "decoder": decoder, "pre_tokenizer": None}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_tokens_of_both_kinds_are_read_as_text(pretrained):
    folder, _ = pretrained
    assert their_tokens(folder) == {"<pad>": 1, " red": 10, "s": 11, "\u00e9": 12, "  ": 14}
    write_tokenizer(folder, LIST, {"type": "Metaspace"})
    assert their_tokens(folder) == {"<unk>": 0, " red": 1, "\u00e9": 2, "s": 3}


def test_known_pieces_keep_their_rows_and_new_ones_do_not_stand_out(pretrained, tmp_path):
    folder, weights = pretrained
    opened = open_pretrained_opt(folder, OURS, PIECES)
    assert opened.kept == 6 and opened.config.vocab_size == OURS.size
    for name in ("first", "second"):
        write_decoder(tmp_path / name, opened.config, opened.vocabulary, opened.tensors)
    assert (tmp_path / "first/weights.safetensors").read_bytes() == (
        tmp_path / "second/weights.safetensors"
    ).read_bytes()
    config, vocabulary, params = load_decoder(tmp_path / "first")
    assert (config.max_length, vocabulary) == (CONFIG.max_length, OURS)
    table, theirs = params["embedding"]["tokens"], weights["embedding"]["tokens"]
    kept = {0: 1, 1: 2, 3: 10, 5: 11, 6: 12, 7: 14}
    for ours, row in kept.items():
        np.testing.assert_array_equal(table[ours], theirs[row])
    new = np.delete(table, list(kept), axis=0)
    assert len(np.unique(new, axis=0)) == len(new)
    assert np.abs(new.mean() - theirs.mean()) < 0.05 and np.abs(new.std() / theirs.std() - 1) < 0.1
    np.testing.assert_array_equal(params["layers"]["attention"]["query"], weights["layers"]["attention"]["query"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "lacks tokenizer.json"), ("{", "cannot be read"), ("{}", "cannot be read"), ("[]", "cannot be read")],
)
def test_a_tokenizer_that_cannot_be_read(pretrained, content, message):
    folder, _ = pretrained
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=message):
        open_pretrained_opt(folder, OURS, PIECES)


def test_ids_beyond_the_weights(pretrained):
    folder, _ = pretrained
    write_tokenizer(folder, {" red": 1000, "\u0120red": 1000}, {"type": "ByteLevel"})
    with pytest.raises(UserError, match="id 1000 and the weights 64 rows"):
        open_pretrained_opt(folder, OURS, PIECES)
