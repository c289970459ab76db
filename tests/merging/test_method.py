"""What methods are called in tables, notes and manifests."""

from suture.merging import Dare, WeightAveraging


def test_labels_tell_what_is_not_the_default_and_settings_tell_all() -> None:
    assert (WeightAveraging().label, WeightAveraging().settings) == ("weight_averaging", "weight_averaging")
    published = WeightAveraging(as_published=True)
    assert published.label == published.settings == "weight_averaging(as_published=True)"
    dare = Dare(drop=0.5, seed=3)
    assert (dare.label, Dare().label, Dare().settings) == ("dare(drop=0.5)", "dare", "dare(drop=0.9)")
    assert str(dare) == "dare(drop=0.5, seed=3)"
