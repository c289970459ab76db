"""What is shown of long work where there is no terminal."""

import pytest

from suture.cli import console


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, ["25", "50", "75", "100", "100"]), (1e9, ["100"])])
def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float, shown: list[str]
) -> None:
    monkeypatch.setattr(console, "MINUTE", seconds)
    with console.progress_stage("Encoding [test]", 8) as progress:
        for _ in range(4):
            progress(2)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("Encoding [test]") for line in lines)
    assert [line[: line.index("%")].split()[-1] for line in lines] == shown
