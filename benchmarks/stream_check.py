"""What the rows of the training stream teach, at the paper's sizes: one line of JSON.

    python benchmarks/stream_check.py --gin_file runs/pretrain --caption_tokens 30 --rows 512
    python benchmarks/stream_check.py --gin_file runs/sft --caption_tokens 30 --rows 512     # questions of 30 tokens

Simulated documents of 1,024 codes go through the stream with the settings of a gin file. The rows are then read from
their ids alone: sentinels are paired, what was hidden is put back, and random codes and texts tell which document an id
is from. Rows are those of whole lanes, one after the other, so that what is cut at a row's end is looked for in the
next, and what a lane leaves out where it starts afresh is counted.

    hidden_captions, hidden_query_captions   whole texts that stand in a row's tail, or whose sentinel has no tail
    …_with_sentinel_in_row                   of those, the ones with both sentinel and tail
    …_after_their_image                      of those, the ones whose whole image is seen before the tail
    image_tokens_never_targets               share of the query images' tokens
    tokens_left_out                          share of all tokens of the examples that are in no row
    rarest_to_commonest_position             of the 1,024 of a query's image, how often each is a target
    …_implied                                how many the objective's settings let expect
    hidden_answers                           that count in the loss
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import gin
import numpy as np

CODES = 1024
ANSWER_TOKENS = 2
_LANES = 8  # at least: each begins anywhere in its examples


def main() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gin_file", action="append", default=[], help="as of `cm3leon train`; may be repeated")
    parser.add_argument("--gin", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--caption_tokens", type=int, default=30)
    parser.add_argument(
        "--rows", type=int, default=512, help="rounded up to whole lanes, of which there are at least 8"
    )
    parser.add_argument("--documents", type=int, default=4_000, help="that are simulated")
    arguments = parser.parse_args()
    settings = read_settings(arguments.gin_file, arguments.gin)
    finetuning = settings["FinetuningConfig"]
    is_sft = finetuning.answers_alone or settings["ObjectiveConfig"].answer_probability > 0
    with tempfile.TemporaryDirectory() as folder:
        check = Check(pathlib.Path(folder), arguments.documents, arguments.caption_tokens, settings, is_sft)
        figures = check.run(arguments.rows)
    result = {"benchmark": "stream_check", "gin_file": arguments.gin_file, "caption_tokens": arguments.caption_tokens}
    print(json.dumps(result | figures))


def read_settings(files: list[str], bindings: list[str]) -> dict[str, Any]:
    """The dataclasses of a run's gin files, by name."""
    from cm3leon_jax.cli import GIN_CONFIGS
    from cm3leon_jax.gin_names import register

    register(gin)
    gin.add_config_file_search_path(str(GIN_CONFIGS))
    names = [name if name.endswith(".gin") else f"{name}.gin" for name in files]
    gin.parse_config_files_and_bindings(names, bindings, finalize_config=False)  # a model's macros may be missing
    wanted = ("StreamConfig", "PretrainingConfig", "FinetuningConfig", "ObjectiveConfig")
    return {name: gin.get_configurable(name)() for name in wanted}


class Check:
    """Rows of simulated documents, and what they say. Figures are counted up in `found`."""

    def __init__(self, folder: pathlib.Path, documents: int, text_tokens: int, settings: dict[str, Any], is_sft: bool):
        from simulated import simulate

        from cm3leon_jax.vocabulary import CM3LEON

        self.folder, self.settings, self.is_sft, self.vocabulary = folder, settings, is_sft, CM3LEON
        answer_tokens = ANSWER_TOKENS if is_sft else 0
        self.documents = simulate(folder, CM3LEON, documents, text_tokens=text_tokens, answer_tokens=answer_tokens)
        self.text_tokens = text_tokens
        self.of_text = {text[-answer_tokens:].tobytes(): n for n, (text, _) in enumerate(self.documents)}
        # Three neighbouring codes tell the document and the position.
        self.of_codes = {
            codes[start : start + 3].tobytes(): (number, start)
            for number, (_, codes) in enumerate(self.documents)
            for start in range(CODES - 2)
        }
        pretraining = settings["PretrainingConfig"]
        self.retrieved = 0 if is_sft else pretraining.retrieved_max
        self.constant = is_sft or (pretraining.retrieved_min == self.retrieved and not pretraining.plain_rate)
        document = text_tokens + answer_tokens + 1 + CODES
        self.example_length = (self.retrieved + 1) * (document + 1) + 1
        self.found: collections.Counter[str] = collections.Counter()
        self.positions = np.zeros(CODES, int)  # of the query's image: how often each is a target

    def run(self, rows: int) -> dict[str, Any]:
        for lane in self.lanes(rows):
            ids_of_lane = []
            for tokens, targets, weights in lane:
                ids_of_lane.append(self.read_row(np.append(tokens, targets[-1]), np.append(0, weights)))
            self.follow(ids_of_lane)
        return self.figures()

    def lanes(self, rows: int) -> Iterator[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """Rows [tokens, targets, weights] of a lane, from one fresh start to the next, for so many lanes as needed."""
        from simulated import NumberTokenizer

        from cm3leon_jax.data.instruction_tasks import finetuning_mixture
        from cm3leon_jax.data.shards import PreparedData
        from cm3leon_jax.data.stream import make_stream
        from cm3leon_jax.data.tasks import pretraining_mixture

        config, objective = self.settings["StreamConfig"], self.settings["ObjectiveConfig"]
        if self.is_sft:
            finetuning = self.settings["FinetuningConfig"]
            mixture = finetuning_mixture("check", [PreparedData(self.folder)], finetuning, NumberTokenizer())
        else:
            mixture = pretraining_mixture(str(self.folder), "check", self.settings["PretrainingConfig"])
        of_lane = config.chapter_steps * config.batch_size // config.lanes
        with mixture as name:
            for lane in range(max(_LANES, -(-rows // of_lane))):
                share = {"process_index": lane, "process_count": config.lanes}
                alone = self.is_sft and self.settings["FinetuningConfig"].answers_alone
                stream = make_stream(name, config, objective, answers_alone=alone, **share)
                batches = (batch for batch, _ in itertools.islice(stream(None), config.chapter_steps))
                print(f"lane {lane}: {of_lane} rows", file=sys.stderr, flush=True)
                yield [
                    each
                    for batch in batches
                    for each in zip(batch["tokens"], batch["targets"], batch["weights"], strict=True)
                ]

    def read_row(self, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Counts what a row of ids hides -> its ids with all put back."""
        vocabulary, found = self.vocabulary, self.found
        found["rows"] += 1
        found["begin_inside_an_image"] += bool(vocabulary.is_image(ids[:1])[0])
        sentinels = np.flatnonzero(vocabulary.is_sentinel(ids))
        seen: dict[int, int] = {}
        spans: dict[int, np.ndarray] = {}  # by the index of their sentinel
        tail_at, counted = len(ids), {}
        for index in sentinels.tolist():
            if ids[index] in seen:
                stop = index + 1 + int((ids[index:] == vocabulary.eoss_id).argmax()) - 1
                spans[seen[ids[index]]] = ids[index + 1 : stop]
                counted[seen[ids[index]]] = bool(weights[index + 1 : stop].all())
                tail_at = min(tail_at, index)
            else:
                seen[int(ids[index])] = index
        in_body = [index for index in seen.values() if index < tail_at]
        tails_alone = [index for index in seen.values() if index >= tail_at]
        found["tails_without_sentinel"] += len(tails_alone)
        restored, starts, begin = [], {}, 0
        for index in in_body:
            restored += [ids[begin:index], spans.get(index, ids[index : index + 1])]
            starts[index] = sum(map(len, restored)) - len(restored[-1])
            begin = index + 1
        whole = np.concatenate([*restored, ids[begin:tail_at]])
        for index in in_body:
            body = ids[index + 1 : tail_at]  # what is seen behind the sentinel, before the tail
            self.read_hidden(whole, starts[index], spans.get(index), body, counted.get(index, False))
        return whole

    def read_hidden(
        self, ids: np.ndarray, start: int, span: np.ndarray | None, seen: np.ndarray, counted: bool
    ) -> None:
        """Counts one hidden span that begins at index `start` of the restored row, with what is `seen` behind it."""
        before, found, vocabulary = ids[:start], self.found, self.vocabulary
        number = None if span is None else self.of_text.get(span.tobytes())
        if span is None:  # the tail is lost: what was hidden is what stands between control ids
            behind = ids[start + 1 : start + 2]
            alone = len(before) and before[-1] in (1, vocabulary.break_id) and behind.tolist() == [vocabulary.break_id]
            found["hidden_captions"] += bool(alone) and not self.is_sft
            return
        if number is None:
            return
        text, codes = self.documents[number]
        has_image = np.array_equal(seen[1 : 1 + CODES], codes + vocabulary.image_offset)  # behind <break>
        if self.is_sft:
            question = text[: self.text_tokens]
            found["hidden_answers"] += counted
            found["hidden_answers_with_question_and_image"] += counted and bool(
                has_image and np.array_equal(before[-len(question) :], question)
            )
            return
        found["hidden_captions"] += 1
        found["hidden_captions_with_sentinel_in_row"] += 1
        if self.is_query(ids, start, start + len(span) + 1 + CODES):
            found["hidden_query_captions"] += 1
            found["hidden_query_captions_after_their_image"] += has_image

    def is_query(self, ids: np.ndarray, start: int, end: int) -> bool:
        """Whether the document from `start` to `end` is the last of its example: <eos> is behind it, or, where the row
        ends before, as many documents before it as are retrieved."""
        if end < len(ids):
            return bool(ids[end] == 1)
        firsts = np.flatnonzero(ids[:start] == 1)
        breaks = int((ids[firsts[-1] : start] == self.vocabulary.break_id).sum()) if len(firsts) else 0
        return self.constant and len(firsts) > 0 and breaks == 2 * self.retrieved

    def follow(self, rows: list[np.ndarray]) -> None:
        """Counts, over consecutive rows of a lane, what of its examples they hold."""
        ids, found = np.concatenate(rows), self.found
        is_target = np.ones(len(ids), bool)
        is_target[np.cumsum([0, *map(len, rows[:-1])])] = False  # the first id of a row is only read
        # Where examples begin: two <eos> one after another, the second is the first id.
        ends = np.flatnonzero((ids[:-1] == 1) & (ids[1:] == 1))
        examples = len(ends) + 1  # with the cut ones at both ends
        found["examples"] += examples
        found["examples_begun"] += len(ends)
        if self.constant:
            found["ids_due"] += examples * self.example_length
            found["ids_there"] += len(ids)
            found["query_tokens_due"] += examples * CODES
        for end in (*ends.tolist(), None):
            self.follow_query(ids, is_target, end)

    def follow_query(self, ids: np.ndarray, is_target: np.ndarray, end: int | None) -> None:
        """The last image before an example's end; of the last example of a lane (None), as much as is there."""
        vocabulary = self.vocabulary
        if end is None:
            firsts = np.flatnonzero((ids[:-1] == 1) & (ids[1:] == 1))
            begin = int(firsts[-1]) + 1 if len(firsts) else 0
            breaks = begin + np.flatnonzero(ids[begin:] == vocabulary.break_id)
            if len(breaks) <= 2 * self.retrieved or not self.constant:
                return
            start = int(breaks[2 * self.retrieved]) + 1
            there = ids[start : start + CODES]
        else:
            there = ids[max(0, end - CODES) : end]
            start = end - len(there)
        if len(there) < 3:
            return
        is_image = vocabulary.is_image(there)
        first = int(is_image.argmax())
        codes = (there - vocabulary.image_offset).astype(np.int32)
        if not is_image[first:].all() or len(codes) - first < 3:
            return
        number, offset = self.of_codes[codes[first : first + 3].tobytes()]
        for index in range(first, len(codes)):
            position = offset + index - first
            if position < CODES and codes[index] == self.documents[number][1][position] and is_target[start + index]:
                self.positions[position] += 1

    def captions_implied(self) -> float:
        """How many captions the objective hides in a row on average, by its settings: with a row's probability all of
        its masks are whole segments, at most one of each whole document, and half of these segments are texts."""
        config: Any = self.settings["ObjectiveConfig"]
        documents = self.settings["StreamConfig"].length // (self.text_tokens + 2 + CODES)
        share = 0.5 if config.whole_text_share is None else config.whole_text_share
        masks = config.rate
        if config.mode == "poisson":
            masks *= sum(math.exp(-config.rate) * config.rate**n / math.factorial(n) for n in range(documents))
        return masks * config.whole_segment_probability * share

    def figures(self) -> dict[str, Any]:
        found = self.found
        rows = found["rows"]
        common = {
            "rows": rows,
            "tails_without_sentinel": found["tails_without_sentinel"],
            "image_tokens_never_targets": 1 - self.positions.sum() / found["query_tokens_due"]
            if self.constant
            else None,
            "tokens_left_out": 1 - found["ids_there"] / found["ids_due"] if self.constant else None,
            "examples_a_row": found["examples_begun"] / rows,
            "rows_that_begin_inside_an_image": found["begin_inside_an_image"] / rows,
            "rarest_to_commonest_position": self.positions.min() / max(1, self.positions.max()),
        }
        if self.is_sft:
            names = ("hidden_answers", "hidden_answers_with_question_and_image")
        else:
            implied = rows * self.captions_implied()
            common |= {"hidden_captions_implied": implied}
            common |= {"hidden_query_captions_implied": implied / (self.retrieved + 1)}
            names = ("hidden_captions", "hidden_captions_with_sentinel_in_row", "hidden_query_captions",
                     "hidden_query_captions_after_their_image")  # fmt: skip
        figures = {name: found[name] for name in names} | common
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


if __name__ == "__main__":
    main()
