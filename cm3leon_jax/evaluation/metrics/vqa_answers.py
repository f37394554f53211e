"""How the VQA evaluation rewrites an answer before comparing it: punctuation, numbers, articles, contractions."""

from __future__ import annotations

import functools
import re

# In the order in which the evaluation removes them.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
# The evaluation passes a flag where the number of replacements belongs, so that it removes this many periods at most.
_MOST_PERIODS = 32

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(digits) for digits, word in enumerate(_DIGITS)}
_NUMBERS["none"] = "0"
_ARTICLES = {"a", "an", "the"}

# Words to which the evaluation gives back a lost apostrophe. Those that are words without it too, such as "well",
# "were", "shed" and "ill", are not among them; nor are "im", "ive" and "idve", which it lists with a capital although
# it compares lower-cased words.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[: match.start()] + word[match.end() :] for match in re.finditer("'", word)]


_RESTORED = {lost: word for word in _CONTRACTIONS.split() for lost in _without_one_apostrophe(word)}
_RESTORED["somebody'd"] = "somebodyd"  # its table has these two the wrong way round


@functools.lru_cache(maxsize=1 << 16)
def normalize_answer(answer: str) -> str:
    """An answer as the evaluation of VQA v2 compares it (visualqa.org/evaluation.html, release of March 2021).

    Punctuation is dropped where it stands beside a space, or where the answer has a comma within a number, and
    becomes a space elsewhere; periods go unless a digit follows; then words are lower-cased, number words up to ten
    become digits, articles go, and contractions get their apostrophe back.
    """
    text = re.sub(r"[\n\t]", " ", answer).strip()
    words = [_NUMBERS.get(word, word) for word in _without_punctuation(text).lower().split()]
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    rewritten = text
    for mark in _PUNCTUATION:
        beside_space = mark + " " in text or " " + mark in text
        rewritten = rewritten.replace(mark, "" if beside_space or in_number else " ")
    return _PERIOD.sub("", rewritten, count=_MOST_PERIODS)
