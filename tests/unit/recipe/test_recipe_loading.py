"""A recipe file in, a Recipe or every problem with its line out."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebbtide.errors import EbbtideError
from ebbtide.recipe import ClassDraw, Recipe, canonical_json, load_recipe, named_paths, step_inputs

SMALL = "model: {timm: resnet18}\ndata: {digits: true}\ntraining: {epochs: 3}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "my recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, **options: object) -> list[dict[str, str]]:
    with pytest.raises(EbbtideError) as caught:
        load_recipe(write(folder, text), **options)  # type: ignore[arg-type]
    assert caught.value.exit_status == 2
    found = caught.value.details["problems"]
    assert caught.value.code == found[0]["code"]
    assert caught.value.place == found[0]["place"]
    for problem in found:
        assert problem["message"] in str(caught.value)
        assert problem["hint"]
    return found


def only(folder: Path, text: str, **options: object) -> dict[str, str]:
    found = problems(folder, text, **options)
    assert len(found) == 1, found
    return found[0]


def line(problem: dict[str, str]) -> int:
    file, _, number = problem["place"].rpartition(":")
    assert file.endswith("my recipe.yaml")
    return int(number)


def test_load_gives_defaults_when_only_model_and_data_are_there(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    assert recipe.name == "my-recipe"
    assert recipe.devices == ["host"]
    assert recipe.exits is None
    assert recipe.tiers.count == "auto"
    assert (recipe.data.split.train, recipe.data.split.select, recipe.data.split.test) == (0.7, 0.15, 0.15)
    assert (recipe.precision, recipe.payload, recipe.seed, recipe.metric) == ("float32", "raw", 0, "accuracy")
    assert recipe.training is not None
    assert recipe.training.epochs == 3
    assert recipe.trains_model


def test_short_forms_are_opened_when_exits_and_tiers_are_single_words(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL + "exits: auto\ntiers: 3\nclasses: {count: 4, seed: 2}\n"))
    assert recipe.exits is not None
    assert recipe.exits.positions == "auto"
    assert recipe.tiers.count == 3
    assert recipe.classes == ClassDraw(count=4, seed=2)


def test_seed_is_shared_when_a_section_has_none_of_its_own(tmp_path: Path) -> None:
    text = "seed: 7\nmodel: {timm: a}\ndata: {digits: true, split: {seed: 3}}\ntraining: {}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.training is not None
    assert (recipe.seed, recipe.training.seed, recipe.data.split.seed) == (7, 7, 3)


def test_training_settings_are_defaults_when_no_training_section_stands(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    recipe = load_recipe(write(tmp_path, "seed: 9\nmodel: {timm: a, weights: w.pt}\ndata: {digits: true}\n"))
    assert recipe.training is None
    assert not recipe.trains_model
    assert recipe.training_settings.seed == 9


@pytest.mark.parametrize(
    ("section", "trains"),
    [
        ("{timm: a, weights: w.pt}", False),
        ("{timm: a, weights: w.pt, fine_tune: true}", True),
        ("{timm: a}", True),
        ("{factory: 'm.py:f', trained: true}", False),
        ("{exported: w.pt}", False),
    ],
)
def test_trains_model_follows_the_weights_when_a_training_section_stands(
    tmp_path: Path, section: str, trains: bool
) -> None:
    (tmp_path / "w.pt").touch()
    (tmp_path / "m.py").touch()
    recipe = load_recipe(write(tmp_path, f"model: {section}\ndata: {{digits: true}}\ntraining: {{}}\n"))
    assert recipe.trains_model is trains


# Unknown keys, wrong values ----------------------------------------------------------------------


def test_unknown_key_names_line_and_nearest_when_mistyped(tmp_path: Path) -> None:
    problem = only(tmp_path, SMALL + "\nclases: all\n")
    assert problem["code"] == "recipe.unknown_key"
    assert line(problem) == 5
    assert problem["hint"] == "Did you mean `classes`?"
    assert "classes" in problem["expected"]


def test_unknown_key_names_its_section_when_it_stands_in_the_wrong_one(tmp_path: Path) -> None:
    problem = only(tmp_path, SMALL + "learning_rate: 0.1\n")
    assert "`training`" in problem["hint"]


@pytest.mark.parametrize(
    ("text", "key", "expected", "hint"),
    [
        ("metric: acuracy", "metric", "one of accuracy, balanced_accuracy, macro_f1", "Did you mean `accuracy`?"),
        ("tiers: 5", "tiers", "auto, or a whole number from 1 to 4", "Write"),
        ("tiers: {count: 0}", "tiers.count", "auto, or a whole number from 1 to 4", "Write"),
        ("stages: 0", "stages", "auto, or a whole number from 1 to 64", "Write"),
        ("stages: [a, 3]", "stages[1]", "text", 'in quotes: "3"'),
        ("devices: host", "devices", "a list of one or more (text each)", "[host]"),
        ("devices: []", "devices", "a list of one or more", "Write"),
        ("classes: []", "classes", "all, or a list of at least 2", "Write"),
        ("classes: [only]", "classes", "all, or a list of at least 2", "Write"),
        ("seed: '3'", "seed", "a whole number", "without quotes: 3"),
        ("seed: 1.5", "seed", "a whole number", "Write"),
        ("seed: true", "seed", "a whole number", "Write"),
        ("name: true", "name", "text", "in quotes"),
        ("classes: [true, dk]", "classes[0]", "text", "in quotes"),
        ("precision: null", "precision", "float32", "default"),
        ("sequence: 0", "sequence", "a whole number from 1", "Write"),
        ("exits: {positions: [-1]}", "exits.positions[0]", "of at least 0", "Write"),
        ("exits: atuo", "exits", "auto, or a section", "Did you mean `auto`?"),
        ("name: a/b", "name", "text of letters", "Write"),
    ],
)
def test_value_error_says_expected_and_way_out_when_wrong(
    tmp_path: Path, text: str, key: str, expected: str, hint: str
) -> None:
    problem = only(tmp_path, SMALL + text + "\n")
    assert problem["code"] == "recipe.value"
    assert problem["key"] == key
    assert line(problem) == 4
    assert expected in problem["expected"]
    assert hint in problem["hint"]


@pytest.mark.parametrize("bad", [".nan", ".inf", "0", "-1", "yes"])
def test_learning_rate_is_refused_when_not_a_positive_number(tmp_path: Path, bad: str) -> None:
    text = f"model: {{timm: a}}\ndata: {{digits: true}}\ntraining:\n  learning_rate: {bad}\n"
    problem = only(tmp_path, text)
    assert (problem["code"], problem["key"], line(problem)) == ("recipe.value", "training.learning_rate", 4)


def test_bool_is_explained_when_yes_is_written(tmp_path: Path) -> None:
    problem = only(tmp_path, "model: {timm: a}\ndata: {digits: true}\ntraining: {augmentation: {flip: yes}}\n")
    assert "true or false" in problem["hint"]


def test_missing_sections_are_named_when_the_file_is_empty(tmp_path: Path) -> None:
    found = problems(tmp_path, "# nothing\n")
    assert [(p["code"], p["key"]) for p in found] == [("recipe.missing_key", "model"), ("recipe.missing_key", "data")]
    assert found[1]["hint"] == "Add it, for example `data: {folder: photos}`."


def test_missing_key_is_placed_at_its_section_when_absent(tmp_path: Path) -> None:
    problem = only(tmp_path, "model: {timm: a}\ntraining: {}\ndata:\n  torchvision:\n    name: CIFAR10\n")
    assert (problem["code"], problem["key"], line(problem)) == ("recipe.missing_key", "data.torchvision.root", 4)
    assert "`root: downloads`" in problem["hint"]


def test_root_is_refused_when_it_is_a_list(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError) as caught:
        load_recipe(write(tmp_path, "- a\n"))
    assert caught.value.code == "recipe.value"


# Impossible combinations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "key", "number"),
    [
        ("model:\n  timm: a\n  factory: m.py:f\ndata: {digits: true}\ntraining: {}", "conflict", "model.timm", 2),
        ("model: {arguments: {}}\ndata: {digits: true}\ntraining: {}", "missing_key", "model", 1),
        ("model: {timm: a}\ndata: {}\ntraining: {}", "missing_key", "data", 2),
        ("model: {timm: a}\ndata: {digits: true, npz: m.py}\ntraining: {}", "conflict", "data.npz", 2),
        ("model: {timm: a}\ndata: {digits: true}", "missing_key", "model", 1),
        ("model: {timm: a, fine_tune: true}\ndata: {digits: true}", "conflict", "model.fine_tune", 1),
        ("model: {timm: a, trained: true}\ndata: {digits: true}", "conflict", "model.trained", 1),
        ("model: {factory: 'm.py:f', weights: m.py, trained: true}\ndata: {digits: true}", "conflict", None, 1),
        ("model: {exported: m.py, weights: m.py}\ndata: {digits: true}", "conflict", "model.weights", 1),
        ("model: {exported: m.py, arguments: {a: 1}}\ndata: {digits: true}", "conflict", "model.arguments", 1),
        (SMALL + "stages: 3\nexits: {positions: [0, 2]}", "conflict", "exits.positions", 5),
        (SMALL + "stages: [a, b]\nexits: {positions: [2]}", "conflict", "exits.positions", 5),
        (SMALL + "stages: 1\nexits: {positions: [0]}", "conflict", "exits.positions", 5),
        (SMALL + "exits: {positions: [1, 0]}", "conflict", "exits.positions", 4),
        (SMALL + "devices: [host, host]", "conflict", "devices", 4),
        (SMALL + "classes: [a, b, a]", "conflict", "classes", 4),
        ("model: {timm: a}\ndata:\n  digits: true\n  split: {train: 0.5}\ntraining: {}", "value", "data.split", 4),
        (
            "model: {timm: a}\ndata: {digits: true, split: {select: 0, test: 0.3}}\ntraining: {}",
            "value",
            "data.split.select",
            2,
        ),
        ("model: {timm: a}\ndata: {digits: true}\ntraining: {epochs: 2, warmup_epochs: 2}", "conflict", None, 3),
        (
            "model: {timm: a}\ndata: {idx: {images: m.py, labels: m.py, test_images: m.py}}\ntraining: {}",
            "conflict",
            None,
            2,
        ),
        (
            "model: {timm: a}\ndata: {digits: true, input: {mean: [0.5]}}\ntraining: {}",
            "conflict",
            "data.input.mean",
            2,
        ),
        (
            "model: {timm: a}\ndata: {digits: true, input: {color: RGB, mean: [0.5], std: [1]}}\ntraining: {}",
            "conflict",
            "data.input.mean",
            2,
        ),
    ],
)
def test_combination_is_refused_when_impossible(
    tmp_path: Path, text: str, code: str, key: str | None, number: int
) -> None:
    (tmp_path / "m.py").touch()
    problem = only(tmp_path, text + "\n")
    assert problem["code"] == f"recipe.{code}"
    assert key is None or problem["key"] == key
    assert line(problem) == number


def test_exit_position_is_accepted_when_it_stands_before_the_last_stage(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL + "stages: 3\nexits: {positions: [0, 1]}\n"))
    assert recipe.exits is not None
    assert recipe.exits.positions == [0, 1]


def test_all_problems_are_listed_when_there_are_several(tmp_path: Path) -> None:
    text = "clases: all\nmodel:\n  timm: a\n  factory: no.py:f\n  weigths: w\ndata: {folder: none}\nseed: x\ntiers: 9\n"
    found = problems(tmp_path, text)
    assert [(line(p), p["code"].partition(".")[2]) for p in found] == [
        (1, "unknown_key"),
        (3, "conflict"),
        (4, "missing_file"),
        (5, "unknown_key"),
        (6, "missing_file"),
        (7, "value"),
        (8, "value"),
    ]


def test_no_conflict_is_invented_when_a_wrong_value_beside_it_is_left_out(tmp_path: Path) -> None:
    text = "model: {timm: a, weights: 5, fine_tune: true}\ndata: {digits: true}\n"
    assert [p["key"] for p in problems(tmp_path, text)] == ["model.weights"]


# Files ---------------------------------------------------------------------------------------------


def test_paths_count_from_the_recipes_folder_when_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "sub" / "m.py").touch()
    (tmp_path / "sub" / "k.pem").touch()
    path = tmp_path / "sub" / "r.yaml"
    text = "model: {factory: 'm.py:f', trained: true}\ndata: {folder: ../photos}\nsign: {key: k.pem}\n"
    path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("sub/r.yaml")
    root = tmp_path.resolve()
    assert recipe.model.factory == f"{root / 'sub' / 'm.py'}:f"
    assert recipe.data.folder == root / "photos"
    assert dict(named_paths(recipe)) == {
        "model.factory": root / "sub" / "m.py",
        "data.folder": root / "photos",
        "sign.key": root / "sub" / "k.pem",
    }


def test_missing_file_names_line_and_neighbour_when_mistyped(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    problem = only(tmp_path, "data: {digits: true}\nmodel:\n  timm: a\n  weights: wieghts.pt\n")
    assert problem["code"] == "recipe.missing_file"
    assert line(problem) == 4
    assert problem["hint"] == "Did you mean `weights.pt`?"


def test_file_is_refused_when_it_is_a_folder(tmp_path: Path) -> None:
    problem = only(tmp_path, "data: {npz: .}\nmodel: {timm: a}\ntraining: {}\n")
    assert problem["code"] == "recipe.missing_file"
    assert "is a folder" in problem["message"]


@pytest.mark.parametrize("text", ["module:f", "m.py:", "m.py", "m.py:1f", "m.txt:f"])
def test_code_entry_is_refused_when_not_file_and_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").touch()
    found = problems(tmp_path, f"data: {{digits: true}}\nmodel: {{factory: '{text}', trained: true}}\n")
    assert "recipe.value" in {p["code"] for p in found}


@pytest.mark.parametrize(
    "text",
    [
        "model: {factory: 'm.py:f', trained: true}\ndata: {digits: true}\n",
        "model: {exported: m.pt2}\ndata: {digits: true}\n",
        "model: {timm: a}\ndata: {function: 'm.py:f'}\ntraining: {}\n",
    ],
)
def test_code_is_refused_when_no_code_is_asked_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").write_text("raise SystemExit('code ran')")
    (tmp_path / "m.pt2").touch()
    assert load_recipe(write(tmp_path, text))
    assert only(tmp_path, text, allow_code=False)["code"] == "recipe.no_code"


def test_recipe_is_missing_when_there_is_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(EbbtideError) as caught:
            load_recipe(path)
        assert caught.value.code == "recipe.missing_file"
        assert caught.value.hint


# --set -----------------------------------------------------------------------------------------------


def test_override_wins_when_given_and_the_later_one_over_the_earlier(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, SMALL + "exits: auto\ntiers: 3\n"),
        overrides=[
            "training.epochs=8",
            "training.epochs=9",
            "training.augmentation.crop_padding=1",
            "devices=[host, any-android]",
            "exits.learning_rate=1e-2",
            "tiers.floor=0.5",
            "model.arguments.depth=3",
            "classes.count=4",
            "name=a-b",
        ],
    )
    assert recipe.training is not None
    assert recipe.exits is not None
    assert (recipe.training.epochs, recipe.training.augmentation.crop_padding) == (9, 1)
    assert recipe.devices == ["host", "any-android"]
    assert recipe.exits.learning_rate == 0.01
    assert (recipe.tiers.count, recipe.tiers.floor) == (3, 0.5)
    assert recipe.model.arguments == {"depth": 3}
    assert recipe.classes == ClassDraw(count=4)
    assert recipe.name == "a-b"


def test_override_mends_the_file_when_it_replaces_a_wrong_value(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, SMALL + "exits: {positions: [9, x]}\n"), overrides=["exits=null"]).exits is None


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("epochs", "recipe.override", "--set seed=3"),
        ("seed=", "recipe.override", "--set seed=3"),
        ("training..epochs=3", "recipe.override", "--set seed=3"),
        ("training.epoch=3", "recipe.override", "Did you mean `epochs`?"),
        ("trainin.epochs=3", "recipe.override", "Did you mean `training`?"),
        ("name.first=3", "recipe.override", "--set name="),
        ("training.epochs=x", "recipe.value", "Write a whole number"),
        ("training.epochs=[1", "recipe.syntax", "brackets"),
        ("exits={a: 1, a: 2}", "recipe.syntax", "Delete one"),
    ],
)
def test_override_is_refused_with_its_text_as_place_when_wrong(tmp_path: Path, text: str, code: str, hint: str) -> None:
    with pytest.raises(EbbtideError) as caught:
        load_recipe(write(tmp_path, SMALL), overrides=[text])
    assert caught.value.code == code
    assert caught.value.place == f"--set {text}"
    assert hint in str(caught.value)


# Stable bytes and speed -------------------------------------------------------------------------------


def test_canonical_json_is_equal_when_keys_are_written_in_another_order(tmp_path: Path) -> None:
    one = load_recipe(write(tmp_path, SMALL))
    two = load_recipe(write(tmp_path, "training: {epochs: 3}\ndata: {digits: true}\nmodel: {timm: resnet18}\n"))
    assert canonical_json(one) == canonical_json(two)
    assert Recipe.model_validate_json(canonical_json(one)) == one
    assert canonical_json(one) != canonical_json(load_recipe(write(tmp_path, SMALL), overrides=["seed=1"]))


def test_step_inputs_hold_digests_when_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "m.py").write_text("def f(): ...")
    text = "model: {factory: 'm.py:f', weights: w.safetensors}\ndata: {digits: true}\n"
    recipe = load_recipe(write(tmp_path, text))
    plain = step_inputs(recipe, "model.weights", "training.epochs", "seed")
    assert plain == {"model.weights": str(tmp_path / "w.safetensors"), "training.epochs": None, "seed": 0}
    inputs = step_inputs(recipe, "model", digest=lambda path: f"digest of {path.name}")
    assert inputs["model"]["weights"] == {"file": "digest of w.safetensors", "suffix": ".safetensors"}
    before = inputs["model"]["factory"]
    assert before["name"] == "f"
    assert str(tmp_path) not in canonical_json(inputs)
    (tmp_path / "m.py").write_text("def f(): return 1")
    assert step_inputs(recipe, "model", digest=str)["model"]["factory"] != before


def test_bad_recipe_answers_fast_when_everything_is_wrong(tmp_path: Path) -> None:
    path = write(
        tmp_path, "clases: 1\nmodel: {tim: 1}\ndata: {folder: none}\n" + "".join(f"k{i}: 1\n" for i in range(50))
    )
    with pytest.raises(EbbtideError):
        load_recipe(path)
    start = time.process_time()
    with pytest.raises(EbbtideError):
        load_recipe(path)
    assert time.process_time() - start < 0.3


def test_import_stays_light_when_recipes_are_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    code = (
        "import sys; from ebbtide.recipe import load_recipe, init_text; load_recipe(sys.argv[1]); init_text();"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
