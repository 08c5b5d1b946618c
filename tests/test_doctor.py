"""What `eqlib doctor` finds, on a sound machine and on others."""

import importlib.metadata
import shutil
from pathlib import Path

import pytest
import torch

import eqlib.kernels
from eqlib.cli import main
from eqlib.doctor import Finding, examine, installed_versions, page


def findings(**options: bool) -> dict[str, Finding]:
    return {found.name: found for _, section in examine(**options) for found in section}


def test_sound_machine_is_well(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    assert main(["doctor", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "versions"
    assert lines[-1] == "all well"
    text = "\n".join(lines)
    for name in ("eqlib", "python", "torch", "triton", "e3nn", "torch-scatter", "matplotlib"):
        assert f"\n  {name} " in text
    assert torch.__version__ in text


def test_versions_need_no_import():
    found = installed_versions("eqlib", "python", "torch", "no-such-package")
    assert found["torch"] == torch.__version__
    assert found["eqlib"] == eqlib.__version__
    assert found["no-such-package"] is None


def test_missing_requirement_is_to_be_mended(monkeypatch, capsys):
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("e3nn", "matplotlib"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("eqlib.doctor.version", without)
    assert main(["doctor", "--quick"]) == 1
    text = capsys.readouterr().out
    assert text.endswith("to mend: e3nn: install what eqlib needs: pip install e3nn\n")
    assert "not installed (pictures need it: pip install eqlib[plot])" in text


def test_cache_that_cannot_be_written_is_to_be_mended(monkeypatch, tmp_path):
    # its own folder alone: kernels that are built on the way would make the user's
    monkeypatch.setattr("eqlib.doctor._cache_folder", lambda: tmp_path / "a" / "eqlib")
    assert findings(compilation=False)["data cache"].mend == ""
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    found = findings(compilation=False)["data cache"]
    assert found.mend == f"make {tmp_path} writable or choose another folder with --data-dir"


def test_full_disk_is_to_be_mended(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    found = findings(compilation=False)["data cache"]
    assert "0.0 GB free" in found.state
    assert "make room" in found.mend


def test_compilation_that_fails_is_to_be_mended(monkeypatch):
    def fail(function):
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setattr("eqlib.doctor._device_names", lambda: ["cpu"])
    found = dict(examine())["torch.compile"]
    assert found == [Finding("cpu", "fails: no compiler", found[0].mend)]
    assert "--training.compile no" in found[0].mend


@pytest.mark.slow
def test_compilation_works_here():
    assert [found.mend for found in dict(examine())["torch.compile"] if found.mend] == []


def test_device_that_does_not_compute_is_to_be_mended(monkeypatch):
    from eqlib import doctor

    def fail(*sizes, device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fail)
    found = doctor._tried_matmul("cuda:0", "Some GPU")
    assert found.state == "Some GPU; a matrix product fails: no kernel image is available"
    assert "for this GPU" in found.mend


def test_segment_reductions_name_their_backend():
    state = findings(compilation=False)["segment reductions"].state
    assert state.startswith("torch")


def kernels_found(tmp_path, monkeypatch, **codes):
    for name, code in codes.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(code)
    (tmp_path / "problems.py").touch()
    monkeypatch.setattr(eqlib.kernels, "__path__", [str(tmp_path)])
    monkeypatch.setattr("eqlib.doctor._device_names", lambda: ["cpu"])
    return findings(compilation=False)


def test_kernels_are_discovered_with_what_auto_picks(monkeypatch, tmp_path):
    code = "def pick(device):\n    return 'naive', f'the only one on {device}'\n"
    found = kernels_found(tmp_path, monkeypatch, some_product=code)
    assert found["some_product"].state == "cpu: naive, the only one on cpu"
    assert "problems" not in found


def test_choices_by_degree_are_told_together(monkeypatch, tmp_path):
    code = (
        "def pick(device, dtype, lmaxes, odd):\n"
        "    assert str(dtype) == 'torch.float32' and not odd and len(lmaxes) == 3\n"
        "    return ('sparse', 'few') if max(lmaxes) <= 4 else ('grid', 'many')\n"
    )
    found = kernels_found(tmp_path, monkeypatch, by_degree=code)
    assert found["by_degree"].state == "cpu: sparse up to L=4, few; grid up to L=10, many"


def test_kernels_without_a_choice_are_left_out(monkeypatch, tmp_path):
    found = kernels_found(tmp_path, monkeypatch, no_choice="")
    assert "no_choice" not in found
    assert found["kernels"].state == "none in this version"


def test_kernels_of_this_version_are_told():
    state = findings(compilation=False)["gaunt_product"].state
    assert state.startswith("cpu: ")
    assert "up to L=10" in state


def test_page_is_aligned():
    text = page("title", [Finding("a", "x"), Finding("long", "y", "mend it")])
    assert text.splitlines() == ["title", "  a     x", "  long  y"]
