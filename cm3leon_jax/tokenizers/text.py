"""Text <-> ids with SentencePiece, trained on the user's captions (CM3Leon §2.1: a custom tokenizer of 56,320 entries).

Ids are those of the joint vocabulary: pad 0, eos 1, unk 2, then the text pieces. Control ids never come out of
`encode`, whatever the text says: SentencePiece does not look for control pieces in text, so "</s>" is four characters.
"""

from __future__ import annotations

import dataclasses
import io
import os
import random
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, fingerprint, new_directory, read_json, sha256_of_file, write_json
from cm3leon_jax.tokenizers.spaces import leading_spaces
from cm3leon_jax.vocabulary import EOS_ID, NUM_CONTROL, PAD_ID, UNK_ID

KIND = "text tokenizer"
MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "config.json"
MAKE_WITH = "cm3leon train-text-tokenizer"
_SMALL_CORPUS = 1_000_000  # captions
_SPACE = "\u2581"  # how SentencePiece writes a space; in a caption it is read as one


@dataclasses.dataclass(frozen=True)
class TextTokenizerConfig:
    """How the tokenizer is trained. The defaults are the paper's size and SentencePiece's usual settings."""

    size: int = 56_320  # pieces at most, control and byte pieces included; a small corpus gives fewer (see `.size`)
    model_type: str = "unigram"  # "unigram" or "bpe"; for few distinct words bpe keeps them whole, unigram splits them
    byte_fallback: bool = True  # spell unseen characters in 256 byte pieces, so that any text survives; else <unk>
    character_coverage: float = 0.9999  # share of the corpus' characters that get pieces of their own
    normalization: str = "nfkc"  # SentencePiece's rule: "nfkc" or "identity"; nmt_nfkc would turn newlines into spaces
    # Captions used, and their characters: of a larger corpus a random sample (fixed seed), about half of that or more.
    max_captions: int = 10_000_000
    max_characters: int = 1_000_000_000

    def __post_init__(self) -> None:
        if self.model_type not in ("unigram", "bpe"):
            raise UserError(f"text tokenizer of type {self.model_type!r}; use 'unigram' or 'bpe'")
        smallest = NUM_CONTROL + (256 if self.byte_fallback else 0)
        if self.size <= smallest:
            raise UserError(f"a text tokenizer of {self.size} pieces is too small; its size must be over {smallest}")
        if not 0 < self.character_coverage <= 1:
            raise UserError(f"character_coverage {self.character_coverage} is a share; use a number in (0, 1]")
        if self.max_captions <= 100:
            raise UserError(f"max_captions {self.max_captions} is too few to learn from; use over 100")
        if self.max_characters < 10_000:
            raise UserError(f"max_characters {self.max_characters} is too few to learn from; use at least 10,000")


class TextTokenizer:
    """A trained tokenizer. `.size` is the number of pieces that there really are, `.fingerprint` names the model.

    A text that stands alone, as in a retriever, ends with `.end_id`; nothing (`.start_id`) stands before it.
    """

    start_id: int | None = None
    end_id: int = EOS_ID

    def __init__(self, processor: sentencepiece.SentencePieceProcessor, config: TextTokenizerConfig, fingerprint: str):
        self._processor = processor
        self.config = config
        self.fingerprint = fingerprint
        self.size: int = processor.get_piece_size()

    @classmethod
    def load(cls, directory: Path) -> TextTokenizer:
        """Reads a folder that `train_text_tokenizer` wrote. Raises `UserError`."""
        directory = as_path(directory)
        fields = read_json(directory / CONFIG_FILE, what=KIND, make_with=MAKE_WITH)
        model = directory / MODEL_FILE
        if fields.pop("kind", None) != KIND:
            raise UserError(f"{directory} does not hold a {KIND}; name another folder or `{MAKE_WITH}`")
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=model.read_bytes())
            config = TextTokenizerConfig(**fields["training"])
        except (OSError, RuntimeError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the {KIND} in {directory} cannot be read ({reason}); `{MAKE_WITH}` again") from None
        return cls(processor, config, fingerprint(sha256_of_file(model)))

    def encode(self, text: str) -> np.ndarray:
        """-> ids, int32 [T], without pad, eos or any other control id; T = 0 for blank text."""
        return np.asarray(self._processor.encode(_clean(text)), np.int32)

    def encode_parts(self, parts: Sequence[str]) -> list[np.ndarray]:
        """The ids of the text that parts are when put together, as `encode` gives them, by the part in which a piece
        begins, spaces before it apart."""
        whole = _clean("".join(parts))
        pieces = self._processor.encode(whole, out_type="immutable_proto").pieces
        begins = [piece.begin + leading_spaces(whole[piece.begin :]) for piece in pieces]
        ends = np.cumsum([len(part) for part in parts])
        owners = np.minimum(np.searchsorted(ends, begins, side="right"), len(parts) - 1)
        ids = np.array([piece.id for piece in pieces], np.int32)
        return [ids[owners == number] for number in range(len(parts))]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """Ids [T] -> text; pad and eos say nothing. `decode(encode(s)) == normalize(s)`, unk apart.

        Raises ValueError on ids that are not text ids.
        """
        ids = np.asarray(ids, np.int64).reshape(-1)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.size):
            raise ValueError(f"text ids lie in {ids.min()}..{ids.max()}, not in 0..{self.size - 1}")
        return self._processor.decode(ids[(ids != PAD_ID) & (ids != EOS_ID)].tolist())

    def normalize(self, text: str) -> str:
        """What of a text survives: Unicode NFKC, single spaces, none at the ends."""
        return self._processor.normalize(_clean(text)).replace(_SPACE, " ").removeprefix(" ")

    def pieces(self, ids: np.ndarray | Sequence[int]) -> list[str]:
        """The piece behind each id, for people to read."""
        return [self._processor.id_to_piece(int(index)) for index in ids]

    def model_proto(self) -> bytes:
        """SentencePiece's model, as `tokenizer.model` has it."""
        return self._processor.serialized_model_proto()

    def save(self, directory: Path) -> None:
        """Writes `tokenizer.model` and `config.json`, whole or not at all."""
        with new_directory(directory) as aside:
            (aside / MODEL_FILE).write_bytes(self.model_proto())
            fields = {"kind": KIND, "size": self.size, "training": dataclasses.asdict(self.config)}
            write_json(aside / CONFIG_FILE, fields)


def train_text_tokenizer(captions: Iterable[str], config: TextTokenizerConfig, directory: Path) -> TextTokenizer:
    """Trains on `captions` and writes the folder `directory`. The same captions and config give the same bytes; of more
    than a million captions, on machines with as many cores.

    Blank captions are passed over; those of over 4,192 bytes do not take part (SentencePiece's limit). Raises
    `UserError` when none is left, or when `config.size` has no room for the characters of the corpus.
    """
    sentences = sample_captions(captions, config)
    model = io.BytesIO()
    sentencepiece.set_random_generator_seed(0)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=config.size,
            hard_vocab_limit=False,
            model_type=config.model_type,
            byte_fallback=config.byte_fallback,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            # Another number of threads adds up in another order: those of a small corpus are the same on any machine.
            num_threads=1 if len(sentences) <= _SMALL_CORPUS else len(os.sched_getaffinity(0)),
            minloglevel=2,
        )
    except RuntimeError as error:
        if not sentences:
            raise UserError("there is no caption to train a text tokenizer on; check the source's captions") from None
        reason = " ".join(str(error).split()).split("] ")[-1]
        raise UserError(f"the text tokenizer cannot be trained: {reason}") from None
    proto = model.getvalue()
    TextTokenizer(sentencepiece.SentencePieceProcessor(model_proto=proto), config, "").save(directory)
    return TextTokenizer.load(directory)


def sample_captions(captions: Iterable[str], config: TextTokenizerConfig) -> list[str]:
    """Those captions that say something, cleaned; of too many a random sample.

    Each has a random number, and is kept if that is below a limit, which is halved whenever they are too many.
    """
    rng = random.Random(0)
    kept: list[tuple[float, str]] = []
    limit, characters = 1.0, 0
    for caption in captions:
        caption = _clean(caption)
        number = rng.random()
        if number >= limit or not caption.strip():
            continue
        kept.append((number, caption))
        characters += len(caption)
        while len(kept) > config.max_captions or characters > config.max_characters:
            limit /= 2
            kept = [each for each in kept if each[0] < limit]
            characters = sum(len(each[1]) for each in kept)
    return [caption for _, caption in kept]


def _clean(text: str) -> str:
    """Text that SentencePiece takes: valid Unicode (lone surrogates become "?"), spaces written as spaces."""
    return text.encode("utf-8", "replace").decode("utf-8").replace(_SPACE, " ")
