"""A small report with everything in it, and text that would like to be markup."""

from suture.report.exhibits import AnyExhibit, Bars, Cloud, Dots, Lines, Plane, Report, Series, Table

HOSTILE = "</script ><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
TASKS = ["spam", "$cash & co", HOSTILE]
MODELS = ["individual", "ties", "ties + surgery"]
EACH = 4
"""Samples of each task."""


def table(name: str = "cost") -> Table:
    rows = [["ties_2", "131,072", "9.5 ± 0.5"], ["average", "−3", "10.0"], ["dare 10%", "", "101.25"], [HOSTILE, "7", "n/a"]]
    return Table(name=name, title=f"Cost {HOSTILE}", notes=["a note"], header=["model", "parameters", "accuracy, %"], rows=rows)


def bars() -> Bars:
    series = [
        Series(label=label, mean=[0.5, None, 0.25 + place], deviation=[0.1, None, None])
        for place, label in enumerate(["pretrained", HOSTILE, "ties_2"])
    ]
    return Bars(name="bias", title="Bias", section="Drift", y="mean |ΔZ|, $", groups=TASKS, series=series)


def dots() -> Dots:
    series = [
        Series(label="pretrained", mean=[40.0] * 3, deviation=[None] * 3),
        Series(label=HOSTILE, mean=[50.0, None, 61.0], deviation=[0.5, None, None]),
        Series(label="ties_2", mean=[55.0, 58.0, 60.0], deviation=[None] * 3),
    ]
    return Dots(name="merges", title="Merges", section="Drift", x="accuracy, %, $", groups=TASKS, series=series)


def lines(logarithmic: bool = True) -> Lines:
    series = [
        Series(label=label, mean=[1.0, 2.5, None, 4.0], deviation=[0.5, None, None, 0.25]) for label in ["ties", "ties + surgery", HOSTILE]
    ]
    return Lines(name="ranks", title="Ranks", x="rank", y="accuracy, %", places=[4, 8, 16, 64], logarithmic=logarithmic, series=series)


def plane() -> Plane:
    clouds = [
        Cloud(
            model=model,
            task=task,
            x=[10.0 * place + number for number in range(EACH)],
            y=[float(number * shift) for number in range(EACH)],
            samples=[f"{HOSTILE} {number}" for number in range(EACH)],
            right=[number > shift for number in range(EACH)],
        )
        for shift, model in enumerate(MODELS)
        for place, task in enumerate(TASKS)
    ]
    return Plane(name="tsne", title="Places", section="Drift", reference="individual", clouds=clouds)


def hardly_anything() -> list[AnyExhibit]:
    """Exhibits with nothing in them, or next to nothing."""
    lone = Cloud(model="individual", task="spam", x=[1.0], y=[1.0], samples=["one"], right=[True])
    unmeasured = Series(label="ties", mean=[None], deviation=[None])
    return [
        Table(name="t", title="", header=["model"], rows=[]),
        Bars(name="b0", title="", y="", groups=[], series=[]),
        Bars(name="b1", title="", y="", groups=["spam"], series=[unmeasured]),
        Dots(name="d0", title="", x="", groups=[], series=[]),
        Dots(name="d1", title="", x="", groups=["ties"], series=[unmeasured]),
        Lines(name="l0", title="", x="", y="", places=[], logarithmic=True, series=[]),
        Lines(name="l1", title="", x="", y="", places=[0.0], logarithmic=True, series=[unmeasured]),
        Plane(name="p0", title="", reference="individual", clouds=[]),
        Plane(name="p1", title="", reference="individual", clouds=[lone]),
    ]


def report() -> Report:
    return Report(
        title=f"Everything {HOSTILE}",
        summary=f"What was found {HOSTILE}",
        notes=["first", HOSTILE],
        exhibits=[table(), bars(), dots(), lines(), plane()],
        recipe=f"name: tiny  # {HOSTILE}\n",
        provenance={"torch": "2.5", HOSTILE: "ab" * 32},
    )
