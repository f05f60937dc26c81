"""The user's own code: isolation, names, errors with their line, digests."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.recipe import CodeEntry, code_entry


def put(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def failure(entry: CodeEntry, *, call: bool = False) -> EbbtideError:
    with pytest.raises(EbbtideError) as caught:
        entry.load()() if call else entry.load()
    assert caught.value.exit_status == 2
    return caught.value


def test_function_is_loaded_when_named_by_file_and_name(tmp_path: Path) -> None:
    put(tmp_path, net="def make(n, *, extra=0):\n    return n + extra\n")
    entry = code_entry("net.py:make", tmp_path)
    assert entry.path == (tmp_path / "net.py").resolve()
    assert entry.load()(1, extra=2) == 3


@pytest.mark.parametrize("text", ["net:make", "net.py", "net.py:", "net.py:a b", ":make"])
def test_entry_is_refused_when_of_another_form(tmp_path: Path, text: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        code_entry(text, tmp_path)
    assert caught.value.code == "recipe.value"


def test_files_of_one_name_stay_apart_when_in_two_folders(tmp_path: Path) -> None:
    loaded = []
    for number in (1, 2):
        folder = put(
            tmp_path / str(number),
            net="import common\nfrom parts.block import B\ndef make():\n    return common.N, B\n",
            common=f"N = {number}\n",
        )
        put(folder / "parts", __init__="", block="from .inner import B\n", inner=f"B = 'b{number}'\n")
        loaded.append(code_entry("net.py:make", folder).load())
    assert [function() for function in loaded] == [(1, "b1"), (2, "b2")]
    assert not {"net", "common", "parts", "parts.block"} & set(sys.modules)
    assert not [path for path in sys.path if path.startswith(str(tmp_path))]


def test_sibling_is_found_when_imported_inside_the_function(tmp_path: Path) -> None:
    put(tmp_path, net="def make():\n    import late\n    return late.N\n", late="N = 4\n")
    assert code_entry("net.py:make", tmp_path).load()() == 4
    assert "late" not in sys.modules


def test_module_of_the_same_name_is_untouched_when_loaded_before(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "a", common="N = 1\n")
    put(tmp_path / "b", net="import common\ndef make():\n    return common.N\n", common="N = 2\n")
    sys.path.insert(0, str(elsewhere))
    try:
        import common  # type: ignore[import-not-found]

        assert code_entry("net.py:make", tmp_path / "b").load()() == 2
        assert sys.modules["common"] is common
        assert common.N == 1
    finally:
        sys.path.remove(str(elsewhere))
        sys.modules.pop("common", None)


def test_standard_library_wins_when_a_sibling_has_its_name(tmp_path: Path) -> None:
    put(tmp_path, net="import json\ndef make():\n    return json.dumps({})\n", json="broken =\n")
    assert code_entry("net.py:make", tmp_path).load()() == "{}"


def test_ebbtide_stays_itself_when_a_folder_beside_the_file_has_its_name(tmp_path: Path) -> None:
    import ebbtide.errors

    put(tmp_path, net="from ebbtide.errors import EbbtideError\ndef make():\n    return EbbtideError\n")
    put(tmp_path / "ebbtide", __init__="raise RuntimeError\n")
    assert code_entry("net.py:make", tmp_path).load()() is ebbtide.errors.EbbtideError


def test_edited_file_is_read_again_when_loaded_twice(tmp_path: Path) -> None:
    put(tmp_path, net="from part import N\ndef make():\n    return N\n", part="N = 1\n")
    entry = code_entry("net.py:make", tmp_path)
    before = entry.load()
    put(tmp_path, part="N = 2222\n")
    assert (before(), entry.load()()) == (1, 2222)


def test_objects_can_be_pickled_when_their_class_stands_in_a_sibling(tmp_path: Path) -> None:
    put(tmp_path, net="from part import C\ndef make():\n    return C()\n", part="class C:\n    n = 5\n")
    made = code_entry("net.py:make", tmp_path).load()()
    assert pickle.loads(pickle.dumps(made)).n == 5


def test_name_error_suggests_the_nearest_when_mistyped(tmp_path: Path) -> None:
    put(tmp_path, net="from pathlib import Path\nN = 3\ndef make_model():\n    pass\n")
    error = failure(code_entry("net.py:make_modle", tmp_path))
    assert error.code == "recipe.code_name"
    assert error.hint == "Did you mean `make_model`?"
    assert error.expected == "one of make_model"
    error = failure(code_entry("net.py:N", tmp_path))
    assert error.code == "recipe.code_name"
    assert "int" in str(error.found)


def test_missing_file_is_named_when_it_went_away(tmp_path: Path) -> None:
    assert failure(code_entry("gone.py:make", tmp_path)).code == "recipe.missing_file"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError"),
        ("def f(:\n", 1, "SyntaxError"),
        ("\nimport not_there_at_all\n", 2, "not_there_at_all"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
        ("import part\n", 1, "KeyError"),
    ],
)
def test_error_shows_the_users_line_when_import_fails(tmp_path: Path, text: str, line: int, message: str) -> None:
    put(tmp_path, net=text, part="{}['k']\n")
    error = failure(code_entry("net.py:make", tmp_path))
    assert error.code == "recipe.code_error"
    assert message in error.message
    expected = "part" if message == "KeyError" else "net"
    assert error.place == f"{(tmp_path / expected).resolve()}.py:{line}"
    assert "Traceback" in error.details["traceback"] or message == "SyntaxError"


def test_error_shows_the_users_line_when_the_function_fails(tmp_path: Path) -> None:
    put(tmp_path, net="def make():\n    return inner()\n\ndef inner():\n    import json\n    return json.loads('[')\n")
    error = failure(code_entry("net.py:make", tmp_path), call=True)
    assert error.code == "recipe.code_error"
    assert error.place == f"{(tmp_path / 'net.py').resolve()}:6"
    assert error.found == "return json.loads('[')"


def test_error_passes_unchanged_when_the_users_code_raises_one_of_ours(tmp_path: Path) -> None:
    put(
        tmp_path,
        net="from ebbtide.errors import EbbtideError\ndef make():\n    raise EbbtideError('recipe.value', 'No.')\n",
    )
    assert failure(code_entry("net.py:make", tmp_path), call=True).message == "No."


def test_failed_import_leaves_nothing_when_tried_again(tmp_path: Path) -> None:
    put(tmp_path, net="raise ValueError\n")
    before = set(sys.modules)
    failure(code_entry("net.py:make", tmp_path))
    assert {name for name in set(sys.modules) - before if "ebbtide_user" in name} == set()


def test_digest_changes_when_the_file_or_a_file_it_imports_changes(tmp_path: Path) -> None:
    put(
        tmp_path,
        net="import part\ndef make():\n    from late import x\n",
        part="import deep\n",
        deep="",
        late="x = 1\n",
        other="",
    )
    entry = code_entry("net.py:make", tmp_path)
    seen = {entry.digest()}
    for name in ("net", "part", "deep", "late"):
        path = tmp_path / f"{name}.py"
        path.write_text(path.read_text() + "# edited\n")
        seen.add(entry.digest())
    assert len(seen) == 5
    put(tmp_path, other="# edited")
    assert entry.digest() in seen


def test_digest_is_equal_when_the_folder_moves(tmp_path: Path) -> None:
    digests = {
        code_entry("net.py:make", put(tmp_path / name, net="import part\n", part="N = 1\n")).digest() for name in "ab"
    }
    assert len(digests) == 1
