"""What the suites measure on, and how."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class SuitesConfig:
    """Data sets are sources (docs/data.md). Of those in their published form all is taken that the source gives (its
    `?split=`); of others, what `cm3leon evaluate --split` names."""

    text_to_image: str = ""  # captions with the pictures that drawn ones are compared with
    coco_captions: str = ""
    flickr30k: str = ""
    image_paragraph: str = ""
    vqa2: str = ""
    okvqa: str = ""
    vizwiz: str = ""
    scienceqa: str = ""
    visdial: str = ""  # a folder with visdial_1.0_val.json, its dense annotations and the pictures
    retrieval: str = ""  # held-out pairs

    examples: int = 0  # of each data set, drawn by `seed`; 0: all
    seed: int = 0  # of that draw and of the resamples behind the intervals; what is drawn: SamplingConfig.seed
    most_left_out: float = 0.02  # share of examples that may lack their picture, or be too long for the model
    shown: int = 24  # examples on the page
    piece: int = 256  # examples that are finished at once: what is lost at most when the work is stopped

    captions: int = 30_000  # that are drawn, of so many pictures, where `examples` is 0; 0: of all
    samples: int = 8  # pictures of a caption, of which CLIP chooses one (paper, §3.1)
    retrieved: tuple[int, ...] = (0, 1, 2)  # documents before a caption; each number is measured by itself
    network: str = "inception"  # whose features FID compares, or "clip"
    network_weights: str = ""  # its weights: pytorch-fid's file, or a retriever's model folder
    statistics: str = ""  # its statistics of the reference pictures (.npz), instead of the data set's pictures
    clip_distances: bool = True  # CLIP-FD and CMMD by the retriever, too
    distance_draws: int = 100  # resamples for the intervals of distances

    meteor_jar: str = ""  # meteor-1.5.jar, and …
    meteor_paraphrases: str = ""  # … paraphrase-en.gz: METEOR is measured only with both

    text_rule: str = "greedy"  # of SamplingConfig: how texts are written
    caption_tokens: int = 64  # of a text, at most
    paragraph_tokens: int = 256
    answer_tokens: int = 16
    explanation_tokens: int = 256

    visdial_history: bool = True  # the rounds before, and the caption, stand before a question
    visdial_all_rounds: bool = True  # False: those with the relevance of all answers, which NDCG is of, alone
    length_normalized: bool = False  # candidates are ranked by their log-probability a token, not by that of the whole
    before: str = ""  # the decoder before fine-tuning: suite scene_tasks draws captions with both
    documents: int = 1024  # held-out documents whose loss is measured, where `examples` is 0; 0: all

    def __post_init__(self) -> None:
        least = {"examples": 0, "seed": 0, "shown": 0, "piece": 1, "samples": 1, "distance_draws": 0, "documents": 0}
        least["captions"] = 0
        least |= dict.fromkeys(("caption_tokens", "paragraph_tokens", "answer_tokens", "explanation_tokens"), 1)
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"SuitesConfig.{name} is {getattr(self, name)}; it must be {value} or more")
        if not 0 <= self.most_left_out < 1:
            raise UserError(f"SuitesConfig.most_left_out is {self.most_left_out}; it is a share, from 0 to below 1")
        if not self.retrieved or min(self.retrieved) < 0 or len(set(self.retrieved)) < len(self.retrieved):
            raise UserError(f"SuitesConfig.retrieved is {self.retrieved}; name numbers of documents, such as (0, 1, 2)")
