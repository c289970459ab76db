"""One parser per source of nlp8: each turns the bytes of a package archive into labelled examples."""

from __future__ import annotations

import email
import hashlib
import html
import json
import re
import struct
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from email.message import Message
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from registries import members, tar_members


class Example(NamedTuple):
    """A text, its class name and its group; `clear` says that it may stand as a support example."""

    text: str
    label: str
    group: str
    clear: bool = True


RUDE = re.compile(
    r"\b(f+u+c+k\w*|mother\W?f\w*|s+h+i+t+\w*|bullsh\w*|bitch\w*|porn\w*|sex\w*|cunts?|nigg\w*|xxx|horny|pussy|dicks?|"
    r"cocks?|cum|blow\W?jobs?|sluts?|whores?|ass|assholes?|fags?|faggots?|buk\w*|asian girls|penis\w*|orgasm\w*|"
    r"erot\w*|nud\w+|naked|viagra|boobs?|tits?|virgins?)\b",
    re.IGNORECASE,
)


def _ratings(path: Path, file: str, hide_phones: bool) -> Iterator[Example]:
    """Texts of one VADER rating file whose mean human rating (-4 to 4) is at least 0.6 away from neutral."""
    outer = members(path, ("hutto_ICWSM_2014.tar.gz",))
    content = next(iter(tar_members(next(iter(outer.values())), (file,)).values()))
    for line in content.decode("utf-8").splitlines():
        fields = line.split("\t", 2)
        if len(fields) == 3 and abs(float(fields[1])) >= 0.6 and not RUDE.search(fields[2]):
            text = html.unescape(fields[2]).replace("http://url_removed", "<url>")
            label = "positive" if float(fields[1]) > 0 else "negative"
            text = mask_phones(text) if hide_phones else text
            yield Example(text, label, fields[0], clear=abs(float(fields[1])) >= 1.5)


def movies(path: Path) -> Iterator[Example]:
    """Sentences of film reviews, rated by people."""
    return _ratings(path, "movieReviewSnippets_GroundTruth.txt", hide_phones=False)


def tweets(path: Path) -> Iterator[Example]:
    """Tweets, anonymised by the corpus authors, rated by people."""
    return _ratings(path, "tweets_GroundTruth.txt", hide_phones=True)


LEXICOGRAPHER_FILES = {
    "04": "act", "05": "animal", "06": "artifact", "07": "attribute", "09": "cognition", "10": "communication",
    "14": "group", "15": "location", "18": "person", "20": "plant", "26": "state", "27": "substance",
}  # fmt: skip


def glosses(path: Path) -> Iterator[Example]:
    """WordNet noun definitions without their quoted examples; the class is the lexicographer file."""
    content = next(iter(members(path, ("dict/data.noun",)).values())).decode("utf-8")
    for line in content.splitlines():
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        if gloss and fields[1] in LEXICOGRAPHER_FILES:
            text = re.split(r'[;:,]?\s*"', gloss, maxsplit=1)[0].strip(" ;")
            yield Example(text, LEXICOGRAPHER_FILES[fields[1]], fields[0])


QUOTED = re.compile(r"^\s*\w{0,3}[>|:].*$|^.*\b(wrote|writes|said):\s*$|^On .{5,80}$|^(URL|Date|From|To|Subject): .*$", re.MULTILINE)
MARKUP = re.compile(r"<(script|style|title)\b.*?</\1\s*>|<!--.*?-->|<[!/a-z][^>]*>", re.DOTALL | re.IGNORECASE)
PHONE = re.compile(r"\+?\(?\d[\d\-. ()/]{6,}\d")


def mask_phones(text: str) -> str:
    """Long runs of digits outside of URLs, as in telephone numbers, become <phone>; collapses white space first."""
    text = re.sub(r"https?://\s?[^\s<>\"]+", "<url>", " ".join(text.split()), flags=re.IGNORECASE)
    return PHONE.sub(" <phone> ", text)


def _body(message: Message) -> str:
    """First text part of an e-mail as plain text without markup, quotations and signature."""
    parts = [p for p in message.walk() if p.get_content_type() in ("text/plain", "text/html")]
    if not parts:
        return ""
    payload = parts[0].get_payload(decode=True)
    text = payload.decode("utf-8", errors="replace") if isinstance(payload, bytes) else ""
    if parts[0].get_content_type() == "text/html" or "<html" in text.lower():
        text = html.unescape(MARKUP.sub(" ", text))
    text = re.split(r"^-- ?$|^_{10,}|^-{10,}\s*$", text, maxsplit=1, flags=re.MULTILINE)[0] or text
    return re.sub(r"([^\w\s])\1{3,}", r"\1\1\1", QUOTED.sub(" ", text))


def _subject(message: Message) -> str:
    """Subject line without reply marks and mailing-list tags."""
    subject = " ".join(str(message.get("subject", "")).split())
    return re.sub(r"^((re|fwd?|aw)\s*(\[\d+\])?:\s*|\[[^\]]*\]\s*)+", "", subject, flags=re.IGNORECASE)


def spam(path: Path) -> Iterator[Example]:
    """E-mails of the Spam Assassin corpus (body only), one class per kind; grouped by subject."""
    for name, content in members(path, (".json",)).items():
        kind = re.search(r"/data/(spam|easy-ham|hard-ham)-\d/", name)
        if kind:
            message = email.message_from_string(json.loads(content)["text"])
            subject = re.sub(r"[\W\d_]+", " ", _subject(message).lower()).strip()
            text = _body(message)
            readable = sum(c.isascii() and (c.isalpha() or c.isspace()) for c in text) >= 0.75 * max(len(text), 1)
            if readable and len(text.split()) >= 8 and not RUDE.search(text):
                label = "spam" if kind[1] == "spam" else "wanted mail"
                yield Example(mask_phones(text), label, _short_hash(subject or name))


SECTIONS = {
    "admin": "system administration", "devel": "development", "games": "games", "graphics": "graphics",
    "math": "mathematics", "net": "network", "science": "science", "sound": "sound", "text": "text processing",
    "utils": "utilities", "web": "world wide web", "x11": "desktop",
}  # fmt: skip
EXTRA = re.compile(r"\b(data|doc\w*|transitional|dummy|metapackage|debug\w*|common files|plug-?ins?)\b", re.IGNORECASE)


def debian(path: Path) -> Iterator[Example]:
    """One-line descriptions of Debian packages; the class is the archive section, the group the source package."""
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        fields: dict[str, str] = dict(re.findall(r"^(Package|Source|Section|Description): (.*)$", paragraph, re.MULTILINE))
        text = fields.get("Description", "")
        section = fields.get("Section", "")
        printed = re.search(rf"\b{section.rstrip('s')}", text, re.IGNORECASE)
        if section in SECTIONS and len(text.split()) >= 4 and not printed and not EXTRA.search(text):
            yield Example(text, SECTIONS[section], fields.get("Source", fields["Package"]).split()[0])


LANGUAGES = {
    "C": ("vendor/libxml2/", ".c"), "C++": ("ReactCommon/", ".cpp"), "Go": ("golang.org/x/net/", ".go"),
    "Java": ("com/facebook/", ".java"), "JavaScript": ("package/lib/", ".js"), "Objective-C": ("package/", ".m"),
    "PHP": ("share/php/PHPUnit/", ".php"), "Python": ("django/", ".py"), "Rust": ("cargo/registry/", ".rs"),
}  # fmt: skip
CODE = re.compile(r"[(){}=\[\].:;]")
NOT_CODE = re.compile(r"#|//|/?\*|\"\"\"|--|;|import |use |package |from |<\?php")

OTHER_LICENCE = re.compile(rb"Apache License|GNU |Mozilla Public")


def code(*paths: Path) -> Iterator[Example]:
    """Pairs of neighbouring lines of code; the class is the language, the group the file."""
    for path in paths:
        files = members(path, tuple(folder for folder, _ in LANGUAGES.values()))
        for name, content in files.items():
            label = next((k for k, (folder, end) in LANGUAGES.items() if folder in name and name.endswith(end)), None)
            if label is None or "publicsuffix" in name or OTHER_LICENCE.search(content[:3000]):
                continue
            lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
            lines = [ln for ln in lines if len(ln) >= 12 and not NOT_CODE.match(ln) and CODE.search(ln)]
            for first, second in zip(lines[::2], lines[1::2], strict=False):
                if len(re.findall(r"[A-Za-z]{3,}", first + " " + second)) >= 4:
                    yield Example(f"{first} {second}", label, f"{Path(name).name} {_short_hash(name)}")


def _short_hash(text: str) -> str:
    """Eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


CHAPTERS = {
    "1": "infection", "4": "endocrine or metabolic disease", "5": "mental disorder", "6": "nervous system disease",
    "7": "eye disease", "9": "circulatory disease", "10": "respiratory disease", "11": "digestive disease",
    "13": "musculoskeletal disease", "14": "genitourinary disease", "17": "congenital malformation", "19": "injury",
}  # fmt: skip
SIDES = re.compile(r"\b(left|right|bilateral|unspecified|upper|lower|other|specified|side|eye|eyelid)\b", re.IGNORECASE)


def diagnoses(path: Path) -> Iterator[Example]:
    """Names of diagnoses and their synonyms in ICD-10-CM; class: the chapter, group: the 3-character category."""
    content = next(iter(members(path, ("icd10c-tabular",)).values()))
    for chapter in ElementTree.fromstring(content).iter("chapter"):
        label = CHAPTERS.get(chapter.findtext("name", ""))
        seen: set[str] = set()
        if label is None:
            continue
        for diagnosis in chapter.iter("diag"):
            notes = [note.text or "" for note in diagnosis.findall("inclusionTerm/note")]
            for text in [diagnosis.findtext("desc", ""), *notes]:
                stem = " ".join(sorted(set(re.findall(r"[a-z]+", SIDES.sub(" ", text.lower())))))
                if stem not in seen and len(text.split()) >= 2 and not re.search(r"\b[A-Z]\d[\dA-Z]\b", text):
                    seen.add(stem)
                    yield Example(text, label, diagnosis.findtext("name", "")[:3], "specified" not in text)


BOOKS = {
    "law": "Ge Exo Lev Num Deu",
    "history": "Josh Jdgs Ruth 1Sm 2Sm 1Ki 2Ki 1Chr 2Chr Ezra Neh Est",
    "poetry and wisdom": "Job Psa Prv Eccl SSol",
    "prophets": "Isa Jer Lam Eze Dan Hos Joel Amos Obad Jonah Mic Nahum Hab Zep Hag Zec Mal",
    "gospels and acts": "Mat Mark Luke John Acts",
    "epistles": "Rom 1Cor 2Cor Gal Eph Phi Col 1Th 2Th 1Tim 2Tim Titus Phmn Heb Jas 1Pet 2Pet 1Jn 2Jn 3Jn Jude",
}


def scripture(path: Path) -> Iterator[Example]:
    """Verses of the King James Bible; the class is the kind of book, the group the chapter."""
    kinds = {book: kind for kind, books in BOOKS.items() for book in books.split()}
    packed = next(iter(members(path, ("usr/lib/bible.data",)).values()))
    (windows,) = struct.unpack_from(">I", packed, 0x58)
    offsets = struct.unpack_from(f">{windows + 1}I", packed, 0x5C)
    text = b"".join(_uncompress(packed[a:b]) for a, b in pairwise(offsets))
    for verse in re.finditer(r"^(\d?[A-Z][A-Za-z]*)(\d+):\d+ (.+)$", text.decode("latin-1"), re.MULTILINE):
        if verse[1] in kinds and len(verse[3].split()) >= 8:
            yield Example(verse[3], kinds[verse[1]], verse[1] + verse[2])


def _uncompress(window: bytes) -> bytes:
    """One window of the Bible program's file: a compress(1) stream that lacks its three leading bytes."""
    return subprocess.run(["gzip", "-dc"], input=b"\x1f\x9d\x90" + window, check=True, capture_output=True).stdout
