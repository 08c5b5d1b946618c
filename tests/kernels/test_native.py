"""Building C sources with the machine's compiler."""

import ctypes
import shutil

import pytest

from eqlib.kernels import native

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(native.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    native.load_library.cache_clear()
    native.whynot.cache_clear()
    yield
    native.load_library.cache_clear()
    native.whynot.cache_clear()


def source(folder, code):
    path = folder / "half.c"
    path.write_text(code)
    return path


def test_a_source_is_built_once_and_its_macros_count(tmp_path, monkeypatch):
    path = source(tmp_path, "int half(int x) { return x / DIVISOR; }")
    assert native.load_library(path, "DIVISOR=2").half(12) == 6
    assert native.load_library(path, "DIVISOR=3").half(12) == 4
    files = sorted((tmp_path / "eqlib" / "native").iterdir())
    assert [file.suffix for file in files] == [".so", ".so"]
    native.load_library.cache_clear()
    monkeypatch.setattr(native, "_build", None)  # a second build would fail
    assert native.load_library(path, "DIVISOR=2").half(12) == 6


def test_a_changed_source_is_built_again(tmp_path):
    path = source(tmp_path, "int half(int x) { return x / 2; }")
    assert native.load_library(path).half(12) == 6
    path.write_text("int half(int x) { return x / 4; }")
    native.load_library.cache_clear()
    assert native.load_library(path).half(12) == 3


def test_threads_are_those_of_torch(tmp_path):
    code = """
    int half(int threads) {
        int count = 0;
        #pragma omp parallel num_threads(threads) reduction(+:count)
        count += 1;
        return count;
    }
    """
    assert native.load_library(source(tmp_path, code)).half(3) in (1, 3)  # 1: torch has no OpenMP


def test_what_cannot_be_built_says_why(tmp_path, monkeypatch):
    path = source(tmp_path, "int half(int x) { return nonsense; }")
    with pytest.raises(native.NativeError, match=r"cannot compile half\.c:(.|\n)*nonsense"):
        native.load_library(path)
    assert "nonsense" in native.whynot(path)
    assert native.whynot(source(tmp_path, "int half(int x) { return x; }")) != ""  # remembered
    native.whynot.cache_clear()
    assert native.whynot(path) == ""


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda command: None)
    path = source(tmp_path, "int half(int x) { return x / 2; }")
    with pytest.raises(native.NativeError, match="no C compiler was found: install gcc or clang"):
        native.load_library(path)
    assert native.whynot(path).startswith("no C compiler")


def test_a_broken_library_in_the_cache_is_an_error_and_no_crash(tmp_path, monkeypatch):
    path = source(tmp_path, "int half(int x) { return x / 2; }")
    assert isinstance(native.load_library(path), ctypes.CDLL)
    for file in (tmp_path / "eqlib" / "native").iterdir():
        broken = file.with_suffix(".new")
        broken.write_bytes(b"no library")
        broken.replace(file)
    native.load_library.cache_clear()
    assert native.load_library(path).half(4) == 2
    native.load_library.cache_clear()
    monkeypatch.setattr(native, "_build", None)  # the broken one was replaced
    assert native.load_library(path).half(4) == 2
