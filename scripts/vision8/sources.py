"""One parser per source of vision8: each turns the bytes of package archives into labelled images."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import struct
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cairosvg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from registries import members


class Example(NamedTuple):
    """An image, its class name and its group; a `spare` one shows the same as another one, and is for training only."""

    image: Image.Image
    label: str
    group: str
    spare: bool = False


ARTICLES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def clothing(path: Path) -> Iterator[Example]:
    """Fashion-MNIST, both of its parts; which pictures show the same article is not known."""
    files = members(path, ("-ubyte.gz",))
    for name, content in files.items():
        if "images" in name:
            labels = gzip.decompress(files[name.replace("images-idx3", "labels-idx1")])[8:]
            raw = gzip.decompress(content)
            count, height, width = struct.unpack_from(">3I", raw, 4)
            for i, pixels in enumerate(np.frombuffer(raw, np.uint8, offset=16).reshape(count, height, width)):
                yield Example(Image.fromarray(pixels), ARTICLES[labels[i]], f"{Path(name).name} {i}")


def digits(path: Path) -> Iterator[Example]:
    """Five hundred of every digit of MNIST; who wrote which is not known."""
    (content,) = members(path, ("mnist_5k.csv.gz",)).values()
    for i, line in enumerate(gzip.decompress(content).splitlines()):
        *pixels, label = map(int, line.split(b","))
        yield Example(Image.fromarray(np.array(pixels, np.uint8).reshape(28, 28)), str(label), str(i))


SILHOUETTES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")


def animals(path: Path) -> Iterator[Example]:
    """Silhouettes of animals; the class names stand in the package's description, in the order of the labels."""
    images, labels = (_unpickled(members(path, (f"animal_{kind}_version_3.gz",))) for kind in ("data", "label"))
    for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        yield Example(Image.fromarray(pixels), SILHOUETTES[label], str(i))


def _unpickled(files: dict[str, bytes]) -> np.ndarray:
    """The array in a compressed pickle, which may run code: its archive's digest was checked, so it is the file that was looked at."""
    (content,) = files.values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it names a module by which NumPy 1 went
        return np.asarray(pickle.loads(gzip.decompress(content)))


COVERS = {
    2: "evergreen broadleaf forest", 5: "mixed forest", 7: "open shrubland", 8: "woody savanna", 9: "savanna", 10: "grassland",
    12: "cropland", 15: "snow and ice", 16: "barren",
}  # fmt: skip
PATCH = 16
BLOCK = 160
PURE = 0.75


def land(pictures: Path, maps: Path) -> Iterator[Example]:
    """Patches of Blue Marble of nearly one land cover; the group is a block of 10 × 10 patches, 10.7 degrees wide."""
    (picture,) = (Image.open(io.BytesIO(content)).convert("RGB") for content in members(pictures, ("bmng.jpg",)).values())
    (codes,) = (np.asarray(Image.open(io.BytesIO(content))) for content in members(maps, (".tif",)).values())
    width, height = picture.size
    rows, columns = ((np.arange(size) + 0.5) * of / size for size, of in zip((height, width), codes.shape, strict=True))
    codes = codes[np.ix_(rows.astype(int), columns.astype(int))]  # nearest cells of the finer map
    for top in range(0, height - PATCH + 1, PATCH):
        for left in range(0, width - PATCH + 1, PATCH):
            counts = np.bincount(codes[top : top + PATCH, left : left + PATCH].ravel())
            cover = COVERS.get(int(counts.argmax()))
            if cover and counts.max() >= PURE * PATCH * PATCH:
                yield Example(picture.crop((left, top, left + PATCH, top + PATCH)), cover, f"{top // BLOCK} {left // BLOCK}")


VARIANTS = re.compile(r"\b(left|right|straight|both|led|\d+)\b")
DRAWINGS = 3
CANVAS = 64


def signs(path: Path) -> Iterator[Example]:
    """Drawings of traffic signs; grouped by meaning without numbers and directions: a speed limit is one group."""
    for name, content in members(path, ("package_signs/",)).items():
        label, meaning, _ = Path(name).stem.split("--")
        group = "-".join(filter(None, VARIANTS.sub("", meaning).split("-")))
        sign = Image.open(io.BytesIO(cairosvg.svg2png(content, output_width=4 * CANVAS, output_height=4 * CANVAS)))
        rng = np.random.default_rng([*Path(name).name.encode()])
        for drawing in range(DRAWINGS):
            yield Example(_placed(sign, rng), label, group, spare=drawing > 0)


def _placed(sign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A sign at a random size, angle and place on a plain random colour."""
    size = int(rng.integers(44, CANVAS - 3))
    turned = sign.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BICUBIC, expand=True)
    turned = turned.resize((size, size), Image.Resampling.LANCZOS)
    left, top = (int(at) for at in rng.integers(0, CANVAS - size, size=2, endpoint=True))
    ground = Image.new("RGB", (CANVAS, CANVAS), tuple(int(part) for part in rng.integers(70, 200, size=3)))
    ground.paste(turned, (left, top), turned)
    return ground


PEOPLE = {"1F468": "1F9D1", "1F469": "1F9D1", "1F471": "1F9D1", "1F9D4": "1F9D1", "1F474": "1F9D3", "1F475": "1F9D3", "1F466": "1F9D2",
          "1F467": "1F9D2", "1F57A": "1F483", "1F934": "1F478", "1F936": "1F385", "1FAC3": "1F930", "1FAC4": "1F930"}  # fmt: skip
MODIFIERS = {"FE0F", "200D", "2640", "2642", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3"}
QUALITIES = re.compile(
    r"\b(light|heavy|large|medium|small|red|orange|yellow|green|blue|purple|brown|black|white|gr[ae]y|pink|left|right|up|down|\w+wards|"
    r"pointing|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirty|oclock|with|[\d:*-])(?=\W|$)"
)
REPEATED = {"family", "geometric", "keycap"}


def emoji(path: Path) -> Iterator[Example]:
    """Emoji of Google; grouped by what is left of their names without gender, hair, direction, colour, size and number."""
    (listed,) = (json.loads(content) for content in members(path, ("package/emoji.json",)).values())
    listed = [one for one in listed if one["category"] != "Component" and one["has_img_google"] and "obsoleted_by" not in one]
    images = {Path(name).name: content for name, content in members(path, ("img/google/64/",)).items()}
    names = {_base(one["unified"]): one["name"] for one in sorted(listed, key=lambda one: len(one["unified"]), reverse=True)}
    for one in listed:
        drawn = Image.open(io.BytesIO(images[one["image"]])).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
        words = re.findall(r"\w+", QUALITIES.sub(" ", names[_base(one["unified"])].lower()))
        group = one["subcategory"] if one["subcategory"] in REPEATED else " ".join(words)
        yield Example(image, one["category"].lower(), group)


def _base(unified: str) -> str:
    """A sequence of code points without modifiers, its people without gender."""
    return "-".join(PEOPLE.get(code, code) for code in unified.split("-") if code not in MODIFIERS)


DEFECTS = {"nominal": "none", "local": "local", "global": "global"}
FABRIC = 96


def textile(path: Path) -> Iterator[Example]:
    """Simulated fabrics; each was drawn by itself, whatever its number."""
    for name, content in members(path, ("textile_images/simulated/",)).items():
        kind = Path(name).parent.name
        image = Image.open(io.BytesIO(content)).convert("L").resize((FABRIC, FABRIC), Image.Resampling.BOX)
        yield Example(image, DEFECTS[kind], f"{kind} {Path(name).stem}")


ALPHABETS = ("Armenian", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Kannada", "Khmer", "Latin",
             "Malayalam", "Myanmar", "Sinhala", "Telugu", "Thai")  # fmt: skip
STYLES = ("Sans-Regular", "Sans-Bold", "Serif-Regular", "Serif-Bold")
GLYPH = 32
EM = 24
NO_CHARACTER = "\U0010ffff"


def scripts(path: Path) -> Iterator[Example]:
    """Letters in four typefaces; grouped by code point, of the letter without marks and in lower case where there is such a one."""
    letters = defaultdict(list)
    for code in range(0x10000):
        name = unicodedata.name(chr(code), "").split()
        if name and name[0].title() in ALPHABETS and unicodedata.category(chr(code)) in ("Lu", "Ll", "Lo"):
            letters[name[0].title()].append(chr(code))
    files = {Path(name).stem: content for name, content in members(path, ("/truetype/noto/NotoS",)).items()}
    for script in ALPHABETS:
        for style in STYLES:
            family, weight = style.split("-")
            own = "" if script in ("Latin", "Greek", "Cyrillic") else script
            content = files[f"Noto{family}{own}-{weight}"]
            font = ImageFont.truetype(io.BytesIO(content), EM, layout_engine=ImageFont.Layout.BASIC)
            for letter in letters[script]:
                if image := _glyph(font, letter):
                    yield Example(image, script, unicodedata.normalize("NFD", letter)[0].lower())


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> Image.Image | None:
    """A letter in the middle of a white square; nothing when the typeface lacks it, or it does not fit."""
    left, top, right, bottom = font.getbbox(letter)
    lacks = bytes(font.getmask(letter)) == bytes(font.getmask(NO_CHARACTER))
    if lacks or not 0 < right - left <= GLYPH or not 0 < bottom - top <= GLYPH:
        return None
    image = Image.new("L", (GLYPH, GLYPH), 255)
    at = ((GLYPH - right - left) / 2, (GLYPH - bottom - top) / 2)
    ImageDraw.Draw(image).text((round(at[0]), round(at[1])), letter, fill=0, font=font)
    return image
