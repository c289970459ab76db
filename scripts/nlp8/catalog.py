"""The eight tasks of nlp8: source archive, description, licence and credit."""

from __future__ import annotations

from records import Task

VADER_CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media "
    "Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI, June 2014."
)
PANG_LEE_CITATION = (
    "The sentences descend from: Pang, B. & Lee, L. (2004). A Sentimental Education: Sentiment Analysis Using "
    "Subjectivity Summarization Based on Minimum Cuts. ACL 2004."
)

TASKS = (
    Task(
        "movies", ("vader",), "sentiment of a sentence of a film review, as rated by people",
        "MIT", "LICENSE.txt of the archive: 'The MIT License (MIT), Copyright (c) 2014 cjhutto'",
        "C.J. Hutto and Eric Gilbert, vaderSentiment, additional_resources/hutto_ICWSM_2014.tar.gz",
        VADER_CITATION + " " + PANG_LEE_CITATION,
    ),
    Task(
        "tweets", ("vader",), "sentiment of a tweet, as rated by people",
        "MIT", "LICENSE.txt of the archive: 'The MIT License (MIT), Copyright (c) 2014 cjhutto'",
        "C.J. Hutto and Eric Gilbert, vaderSentiment, additional_resources/hutto_ICWSM_2014.tar.gz",
        VADER_CITATION,
    ),
    Task(
        "glosses", ("wordnet",), "kind of thing (lexicographer file) that a WordNet noun definition defines",
        "WordNet License", "header of dict/data.noun: 'WordNet 3.1 Copyright 2011 by Princeton University'; LICENSE",
        "WordNet 3.1 Copyright 2011 by Princeton University. All rights reserved.",
        "Fellbaum, C. (ed.) (1998). WordNet: An Electronic Lexical Database. MIT Press.",
    ),
    Task(
        "spam", ("spamassassin",), "whether an e-mail is spam",
        "PDDL-1.0 (database) and CC0-1.0 (contents)",
        "README.md of the archive, section License: 'The data files (databases) are licensed under an Open Data "
        "Commons Public Domain Dedication & License 1.0 and their contents are licensed under Creative Commons Zero "
        "v1.0 Universal'",
        "The Stdlib Authors; SpamAssassin public mail corpus",
    ),
    Task(
        "debian", ("debian",), "archive section of a Debian package, from its one-line description",
        "no single licence: each description is under the terms of its package (Debian Free Software Guidelines)",
        "the index carries no licence; all packages are from the section main",
        "The Debian project and the maintainers of its packages",
        per_group=1,
    ),
    Task(
        "code", ("libxmljs", "react-native", "golang-net", "webpack", "phpunit", "django", "tokio"),
        "programming language of two neighbouring lines of source code",
        "MIT (libxml2, React Native, webpack, Tokio) and BSD-3-Clause (Go x/net, PHPUnit, Django)",
        "package/vendor/libxml2/Copyright; package/LICENSE of react-native and webpack; dist-info/LICENSE of Django; "
        "usr/share/doc/*/copyright of the Debian archives",
        "Copyright (C) 1998-2012 Daniel Veillard (libxml2); (c) Meta Platforms, Inc. and affiliates (React Native); JS "
        "Foundation and other contributors (webpack); The Go Authors (x/net); Sebastian Bergmann (PHPUnit); Django "
        "Software Foundation and individual contributors; Tokio Contributors",
        per_group=6,
    ),
    Task(
        "diagnoses", ("icd10cm",), "chapter of the ICD-10-CM classification, from the name of a diagnosis",
        "public domain (work of the U.S. government: NCHS and CMS); the package around it: MIT",
        "MIT: dist-info/licenses/LICENSE of the archive; the XML file itself carries no notice",
        "ICD-10-CM 2026, National Center for Health Statistics and Centers for Medicare & Medicaid Services; packaged "
        "by Stefano Travasci as simple-icd-10-cm",
        per_group=12,
    ),
    Task(
        "scripture", ("kjv",), "kind of book that a verse of the King James Bible stands in",
        "public domain (text); 'unrestricted use' (Bible Retrieval System file)",
        "usr/share/doc/bible-kjv-text/copyright of the archive: 'The copyright for the King James Version text of the "
        "Bible is expired'",
        "King James Version, 1611. Bible Retrieval System by Chip Chapin: this file is provided for unrestricted use "
        "provided that this legend is included on all tape media and as a part of the software program in whole or "
        "part. Users may copy, modify or distribute this file at will. -- Chip Chapin, September 4, 1989",
        per_group=6,
    ),
)  # fmt: skip
