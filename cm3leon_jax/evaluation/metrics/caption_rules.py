"""The rules by which captions are split: what a token is, and as what it is written.

They reproduce the outcome of Stanford's PTBTokenizer on captions after its punctuation has been dropped, not its
construction: quotes, dashes and periods that would be dropped need no rule of their own. The longest match counts, with
what has to follow; the first rule of equal ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_LETTER = r"(?:[^\W\d_²³¹¼½¾⁰-₉⅐-⅟]|[\u00ad\u0300-\u036f]|&[aeiou](?:acute|grave|uml);)"
_ALNUM = r"[^\W_²³¹¼½¾⁰-₉⅐-⅟]"
_SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
_APOSTROPHE = r"(?:['\u2019\u00b4\u0092]|&apos;)"
_ANY_APOSTROPHE = rf"(?:{_APOSTROPHE}|[`\u2018\u0091\u201b])"
_WORD = rf"{_LETTER}(?:{_LETTER}|\d)*(?:[.!?]{_LETTER}(?:{_LETTER}|\d)*)*"
_NUMERAL = r"(?:\d*(?:[.:,\u00ad]\d+)+|\d+)"
_NUMBER = rf"[-+]?{_NUMERAL}"
_NOT = rf"n{_ANY_APOSTROPHE}t"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])*"
_NAME_PREFIX = rf"(?:[dol]{_ANY_APOSTROPHE}{_ALNUM})?"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_COMPOUND = rf"{_NAME_PREFIX}{_ALNUM}+(?:{_HYPHEN}{_NAME_PREFIX}{_ALNUM}+)*"
_DOTTED_COMPOUND = r"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\u00ad]+))+"

# Abbreviations that keep their period. `(?-i:…)`: only with this case, as the word exists in the other.
_TITLES = "|".join(
    [
        "mr|mrs|ms|drs?|profs?|sens?|reps?|govs?|gen|col|maj|lt|lieut|capt|cpl|sgt|pvt|pfc|spc|sfc|adm|brig|co?mdr|ens",
        "rev|hon|pres|messrs|msgr|mlle|mme|attys?|supts?|insp|det|adj|adv|asst|assoc|sr|ph|ste?|mt|ft|(?-i:M)iss",
        "ave|blvd|rd|dept|elec|invt|natl|mfg|mtg|rt|vs|(?-i:v)|cf|a\\.k\\.a|alex|jos|wm|cie|treas",
    ]
)
# These keep it against what may follow, too: "Jan.25" is two tokens where "Mr.25" is three.
_FIRM_ABBREVIATIONS = "|".join(
    [
        "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs)?|fri",
        "ala|ariz|(?-i:A)rk|(?-i:A)z|calif|colo|conn|ct|dak|(?-i:D)el|fla|ga|(?-i:I)ll|ind|kans?|ky|(?-i:L)a|(?-i:M)ass",
        "md|mich|minn|(?-i:M)iss|mo|mont|neb|nev|okla|(?-i:O)re|(?-i:P)a|penn|tenn|(?-i:T)ex|va|vt|(?-i:W)ash|wisc?|wyo",
        "inc|cos?|corp|ltd|plc|pp?t[ey]s?|rt|bros|bancorp|bhd|assn|univ|intl|sys|jr|esq|(?:ph|ed)\\.d|bldg",
        "etc|al|seq|est|ext|tel|sq",
    ]
)
_NUMBERED = "ca|figs?|prop|nos?|art|bldg|pp|op"  # keep it before a number
_EXTENSIONS = (
    "jpe?g|png|gif|bmp|mp[34]|avi|mov|mpeg|wav|pdf|ps|docx?|ppt|txt|html?|xml|php|cgi|jar|java|c|h|py|pl|x|zip|tar|exe"
)
_TAG_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"
# A single letter before them, or before the end, is the last word of a sentence, not an initial.
_SENTENCE_STARTS = (
    "A|An|The|This|That|These|They|There|Their|He|Her|She|It|In|If|At|As|And|But|So|Some|Such|One|Our|We|You"
    "|Mr\\.|Ms\\."
)
# The lexer's class has ",-_" in it, which is a range and shuts out digits and capitals: they start no address.
_HOST = r"(?:[^\s\"`'<>|!(){}$,-_]+\.)+(?:com|net|org|edu)"
_PATH = r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?"
_ATTRIBUTE = rf" +{_TAG_NAME}(?: *= *(?:'[^'\n]*'|\"[^\"\n]*\"|{_TAG_NAME}))?"

# What is dropped: pycocoevalcap's list, as far as lower-casing has left it something to find ("-LRB-" is "-lrb-").
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_CURLY = str.maketrans({"\u2018": "`", "\u201b": "`", "\u2019": "'", "\u00b4": "'", "\u0091": "`", "\u0092": "'"})
_BRACKETS = str.maketrans({"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"})
_SYMBOLS = {
    "¢": "cents",
    "£": "#",
    "¤": "$",
    "€": "$",
    "\u20a0": "$",
    "\u0080": "$",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}


class Rule(NamedTuple):
    """`pattern` matches a token (group 1) and what has to follow it; `write` gives the token in its written form."""

    pattern: re.Pattern
    write: Callable[[str], str]


def _rule(token: str, follows: str = "", write: Callable[[str], str] = str, *, cased: bool = False) -> Rule:
    return Rule(re.compile(f"({token})(?:{follows})", 0 if cased else re.IGNORECASE), write)


def _apostrophes(token: str) -> str:
    return token.replace("&apos;", "'").translate(_CURLY)


def _brackets(token: str) -> str:
    return token.translate(_BRACKETS)


def _plain(token: str) -> str:
    return token.replace("\u00ad", "")


def _dropped(_: str) -> str:
    return ""


RULES = [
    # Words, and what is cut off at their end.
    _rule("can", "not"),
    _rule("'t", "was"),
    _rule(f"{_APOSTROPHE}t", "is", _apostrophes),
    _rule("gon|wan", "na"),
    _rule("got", "ta"),
    _rule("lem|gim", "me"),
    _rule(_WORD, rf"{_APOSTROPHE}(?:[msd]|re|ve|ll)", _plain),
    _rule(r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad?", _NOT, _plain, cased=True),
    _rule(_WORD, write=_plain),
    _rule(rf"{_APOSTROPHE}(?:re|ve|ll|[msd])", "[^A-Za-z]", _apostrophes),
    _rule(_NOT, "[^A-Za-z]", _apostrophes),
    # Words with apostrophes, which stay as they are.
    _rule(
        rf"{_APOSTROPHE}n{_APOSTROPHE}|{_APOSTROPHE}n(?=[ \n])|[ldj]{_APOSTROPHE}|(?:dunkin|somethin|ol){_APOSTROPHE}"
    ),
    _rule(rf"{_APOSTROPHE}(?:em|cause|till?|[2-9]0s)|diff{_ANY_APOSTROPHE}rent"),
    _rule(rf"(?:[A-HJ-XZ]|n){_ANY_APOSTROPHE}{_LETTER}{{2,}}", cased=True),
    _rule(rf"{_LETTER}+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z]{_LETTER}*", cased=True),
    _rule(r"cont'd\.|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l"),
    _rule(rf"o{_ANY_APOSTROPHE}o|cap{_APOSTROPHE}n|c{_APOSTROPHE}est"),
    _rule(rf"y{_APOSTROPHE}", _LETTER),
    # Abbreviations and acronyms.
    _rule(rf"(?:{_TITLES}|{_ACRONYM})\."),
    _rule(rf"(?:{_FIRM_ABBREVIATIONS})\.", r"[\s\S]{0,2}"),
    _rule(rf"(?:{_NUMBERED})\.", rf"{_SPACE}?\d"),
    _rule(
        _ACRONYM,
        rf"\.(?:{_SPACE}+(?:{_SENTENCE_STARTS}){_SPACE}|{_SPACE}*\n.)",
        lambda token: token + "." * (len(token) > 1),
        cased=True,
    ),
    _rule(rf"{_WORD}\.", "[,;:\u3001]", _plain),
    # Numbers.
    _rule(_NUMBER, write=_plain),
    _rule(r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"),
    _rule(r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}"),
    _rule("[¼½¾⅓-⅞]", write=lambda token: _FRACTIONS.get(token, token)),
    _rule("[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)"),
    _rule(rf"{_APOSTROPHE}\d\d", rf"(?:{_SPACE}|\n)", _apostrophes),
    _rule(
        r"(?:\(\d{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:\d{2,4}[- \u00a0])?\d{2,4}[- \u00a0])\d{3,4}[- \u00a0]?\d{3,5}",
        write=_brackets,
    ),
    _rule(r"(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}"),
    # Compounds.
    _rule(_COMPOUND),
    _rule(rf"{_COMPOUND}\.", "[,;:\u3001]"),
    _rule(_DOTTED_COMPOUND, write=_plain),
    _rule(rf"{_DOTTED_COMPOUND}\.", "[,;:\u3001]", _plain),
    _rule("s(?:&|&amp;)(?:p-500|ls)", write=lambda token: token.replace("&amp;", "&")),
    _rule(rf"{_ALNUM}+(?:-[A-Za-z]+){{0,2}}(?:\\?/{_ALNUM}+(?:-[A-Za-z]+){{0,2}}){{1,2}}"),
    _rule(r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", write=lambda token: token.replace("&amp;", "&"), cased=True),
    _rule(r"pro-|anti-|c\+\+|[cf]#"),
    _rule(r"[A-Z]*\$", cased=True),
    # Addresses and files.
    _rule(rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.(?:{_EXTENSIONS})", rf"(?:{_SPACE}|[\n.?!,\"'<])"),
    _rule(r"https?://[^\s\"<>|()]+[^\s\"<>|.!?(){},-]"),
    _rule(rf"(?:www\.(?:[^\s\"<>|.!?(){{}},]+\.)+[A-Za-z]{{2,4}}|{_HOST}){_PATH}", cased=True),
    _rule(r"(?:&lt;|<)?[a-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}.,;:]+(?:&gt;|>)?"),
    _rule(rf"@[A-Za-z_][A-Za-z_0-9]*|#{_LETTER}(?:\w)*"),
    _rule(rf"<(?:[!?][A-Za-z-][^>\n]*|/?{_TAG_NAME}(?:{_ATTRIBUTE})* */?) *>"),
    # Marks.
    _rule(
        r"[<>]?[:;=][-o*']?[()dpo\\{@|\[\]]",
        "[^A-Za-z0-9]",
        lambda token: token.replace("(", "-LRB-").replace(")", "-RRB-"),  # other brackets of a smiley stay
    ),
    _rule(r"[-^x=~<>']_[-^x=~<>']"),
    _rule(r"[()\[\]{}]", write=_brackets),
    _rule(r"[¢£¤€\u0080\u20a0]|&(?:amp|lt|gt);", write=lambda token: _SYMBOLS[token.lower()]),
    _rule(
        r"\.[ \u00a0](?:\.[ \u00a0])+\.|\.{3,}|[\u0085\u2026]|[\u0096\u0097\u2013-\u2015]|&(?:md|mdash|ndash);",
        write=_dropped,
    ),
    _rule(
        "-{1,4}|[.,;:]|''|[`'\"]|&(?:quot|apos);|[\u2018\u2019\u201b-\u201d\u0091-\u0094\u2039\u203a«»\u00b4]{1,2}",
        write=_dropped,
    ),
    _rule(r"[?!]+|-+|<<|>>|@+|#+|_+|\*+|[=/<>$¡¿\u037e\u3001\u3002]"),
    _rule(
        r"[+%&~^|\\¦§¨©¬®¯°±¶·\u00b8\u00d7÷¥\u2016\u2020-\u2022\u2030-\u2038\u203b\u2100-\u214f\u2190-\u2bff\u3003-\u3020„‟]"
    ),
]
