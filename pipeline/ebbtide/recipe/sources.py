"""Where the model and the data come from: the `model` and `data` sections of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from ebbtide.recipe.base import (
    CodeText,
    FilePath,
    FolderPath,
    Fraction,
    ProgramPath,
    Section,
    SharedSeed,
    absent,
    conflict,
    out_of_range,
)

Positive = Annotated[float, Field(gt=0.0)]
PixelSize = Annotated[int, Field(ge=1, le=4096)]


def _one_of(section: Section, keys: tuple[str, ...], what: str) -> str:
    """The one of `keys` that is set; a broken rule otherwise."""
    given = [key for key in keys if getattr(section, key) is not None]
    known = ", ".join(keys)
    if not given:
        raise absent(
            f"The {what} is not named.", key="", expected=f"exactly one of {known}", hint=f"Add one of {known}."
        )
    if len(given) > 1:
        raise conflict(
            f"The {what} is named {len(given)} times: {', '.join(given)}.",
            key=given[1],
            expected=f"exactly one of {known}",
            hint=f"Keep one of {', '.join(given)} and delete the rest.",
        )
    return given[0]


class ModelSection(Section):
    """The universal model: the trained classifier over all classes that the build starts from."""

    factory: CodeText | None = Field(
        examples=["model.py:make_model"],
        default=None,
        description="file.py:function of your own that returns the model",
    )
    timm: Annotated[str, Field(min_length=1)] | None = Field(
        examples=["mobilenetv3_small_100"], default=None, description="Name of a timm model (never downloaded)"
    )
    torchvision: Annotated[str, Field(min_length=1)] | None = Field(
        examples=["mobilenet_v3_small"], default=None, description="Name of a torchvision classifier (never downloaded)"
    )
    exported: ProgramPath | None = Field(
        examples=["model.pt2"],
        default=None,
        description="A program that torch.export.save wrote (.pt2), with its weights",
    )
    weights: FilePath | None = Field(
        examples=["model.safetensors"],
        default=None,
        description="Trained weights: .safetensors, or .pt/.pth holding tensors only (code in it is refused)",
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments for the factory, timm or torchvision model"
    )
    trained: bool = Field(
        default=False, description="true: the factory itself returns a model that already carries its trained weights"
    )
    fine_tune: bool = Field(default=False, description="true: go on training the loaded weights as `training` says")

    @property
    def source(self) -> Literal["factory", "timm", "torchvision", "exported"]:
        """Which of the four ways names the model."""
        for key in ("factory", "timm", "torchvision", "exported"):
            if getattr(self, key) is not None:
                return key
        raise AssertionError("validated: exactly one source is set")

    @property
    def has_weights(self) -> bool:
        """Whether the model arrives trained."""
        return self.weights is not None or self.exported is not None or self.trained

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        source = _one_of(self, ("factory", "timm", "torchvision", "exported"), "model")
        if self.exported is not None:
            for key in ("weights", "arguments"):
                if getattr(self, key):
                    raise conflict(
                        f"`{key}` cannot be given with `exported`: an exported program carries its own.",
                        key=key,
                        hint=f"Delete `{key}`, or name the model by factory, timm or torchvision.",
                    )
        if self.trained and source != "factory":
            raise conflict(
                f"`trained` says that a factory loads its weights itself, but the model is named by `{source}`.",
                key="trained",
                hint="Delete `trained` and give the weights file as `weights`.",
            )
        if self.trained and self.weights is not None:
            raise conflict(
                "`trained` says that the factory loads its weights itself, but `weights` are given too.",
                key="trained",
                hint="Keep one of the two.",
            )
        if self.fine_tune and not self.has_weights:
            raise conflict(
                "`fine_tune` needs trained weights to start from, and none are given.",
                key="fine_tune",
                hint="Give `weights`, or delete `fine_tune` to train from scratch with a `training` section.",
            )
        return self


class IdxSection(Section):
    """Files in the IDX format of MNIST and Fashion-MNIST, plain or .gz."""

    images: FilePath = Field(examples=["train-images-idx3-ubyte.gz"], description="Training images")
    labels: FilePath = Field(examples=["train-labels-idx1-ubyte.gz"], description="Training labels")
    test_images: FilePath | None = Field(
        examples=["t10k-images-idx3-ubyte.gz"], default=None, description="Official test images; they stay test"
    )
    test_labels: FilePath | None = Field(
        examples=["t10k-labels-idx1-ubyte.gz"], default=None, description="Official test labels"
    )

    @model_validator(mode="after")
    def _paired(self) -> Self:
        pair = {"test_images": self.test_images, "test_labels": self.test_labels}
        missing = [key for key, path in pair.items() if path is None]
        if len(missing) == 1:
            given = next(key for key in pair if key != missing[0])
            raise conflict(
                f"`{given}` is given without `{missing[0]}`.", key=given, hint="Give both test files or neither."
            )
        return self


class TorchvisionData(Section):
    """A torchvision data set that is already on disk; nothing is downloaded."""

    name: str = Field(
        examples=["CIFAR10"], min_length=1, description="Class name in torchvision.datasets, such as CIFAR10"
    )
    root: FolderPath = Field(examples=["downloads"], description="The folder torchvision was told to download to")


class SplitSection(Section):
    """How samples are divided: tuned on train, chosen on select, reported from test."""

    protocol: Literal["shares", "test-halves"] = Field(
        default="shares",
        description="shares: as below; test-halves: train is all that is not officially test, temperatures and "
        "thresholds are chosen on one half of the official test samples (by id) and reported on the other, and the "
        "halves then change places. Only for weights that have seen every other sample",
    )
    choose_on: Literal["first", "second"] = Field(
        default="first", description="test-halves: the half that the bundle's thresholds are chosen on"
    )
    train: Fraction = Field(default=0.7, description="Share that weights and exits are tuned on")
    select: Fraction = Field(default=0.15, description="Share that thresholds and stages are chosen on")
    test: Fraction = Field(default=0.15, description="Share the report's numbers come from; nothing else reads it")
    seed: SharedSeed = Field(default=0, description="Seed of the division; left out: the recipe's seed")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.select + self.test
        if abs(total - 1.0) > 1e-6:
            raise out_of_range(
                f"The shares of `split` add up to {total:g}, not 1.",
                key="",
                expected="train + select + test = 1",
                hint="For example train: 0.7, select: 0.15, test: 0.15.",
            )
        return self


def _short_split(value: Any) -> Any:
    return {"protocol": value} if isinstance(value, str) else value


Split = Annotated[
    SplitSection, BeforeValidator(_short_split, json_schema_input_type=Literal["test-halves"] | SplitSection)
]


class InputSection(Section):
    """How a sample becomes the model's input; what is left out comes from the model (timm, torchvision) or the data."""

    size: PixelSize | Annotated[list[PixelSize], Field(min_length=2, max_length=2)] | None = Field(
        examples=[224],
        default=None,
        description="Height and width in pixels: one number or [height, width]; left out: the model's or data's own",
    )
    mean: Annotated[list[float], Field(min_length=1)] | None = Field(
        examples=[[0.485, 0.456, 0.406]],
        default=None,
        description="Mean per channel, of pixels in 0..1; left out: the model's own",
    )
    std: Annotated[list[Positive], Field(min_length=1)] | None = Field(
        examples=[[0.229, 0.224, 0.225]],
        default=None,
        description="Standard deviation per channel, of pixels in 0..1; left out: the model's own",
    )
    color: Literal["RGB", "gray"] | None = Field(
        examples=["RGB"], default=None, description="RGB or gray; left out: as the data is"
    )
    crop: Literal["center"] | None = Field(
        default="center", description="center: cut to the aspect of `size` before resizing; null: stretch"
    )

    @model_validator(mode="after")
    def _channels(self) -> Self:
        if (self.mean is None) != (self.std is None):
            given = "std" if self.mean is None else "mean"
            other = "mean" if self.mean is None else "std"
            raise conflict(f"`{given}` is given without `{other}`.", key=given, hint="Give both or neither.")
        if self.mean is not None and self.std is not None:
            channels = {"RGB": 3, "gray": 1}.get(self.color or "", len(self.mean))
            for key, values in (("mean", self.mean), ("std", self.std)):
                if len(values) != channels:
                    raise conflict(
                        f"`{key}` has {len(values)} values for {channels} channels.",
                        key=key,
                        hint=f"Give {channels} numbers, one per channel.",
                    )
        return self


class DataSection(Section):
    """The labelled samples."""

    digits: Literal[True] | None = Field(
        examples=[True], default=None, description="true: the 1,797 scanned digits that scikit-learn carries"
    )
    folder: FolderPath | None = Field(
        examples=["photos"], default=None, description="Images (PNG, JPEG, WebP) in one folder per class"
    )
    npz: FilePath | None = Field(
        examples=["samples.npz"], default=None, description="A NumPy .npz with images, labels and optionally names"
    )
    idx: IdxSection | None = Field(default=None, description="IDX files as MNIST and Fashion-MNIST have them")
    torchvision: TorchvisionData | None = Field(default=None, description="A torchvision data set already on disk")
    function: CodeText | None = Field(
        examples=["data.py:samples"],
        default=None,
        description="file.py:function of your own that returns arrays and labels",
    )
    split: Split = Field(
        default_factory=SplitSection,
        description="Shares of train, select and test; an official test set stays test. Or test-halves",
    )
    input: InputSection = Field(default_factory=InputSection, description="How a sample becomes the model's input")

    @property
    def source(self) -> Literal["digits", "folder", "npz", "idx", "torchvision", "function"]:
        """Which of the six ways names the data."""
        for key in ("digits", "folder", "npz", "idx", "torchvision", "function"):
            if getattr(self, key) is not None:
                return key
        raise AssertionError("validated: exactly one source is set")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _one_of(self, ("digits", "folder", "npz", "idx", "torchvision", "function"), "data")
        return self


def with_seed(section: Any, seed: int) -> Any:
    """A section (as written or validated) whose seed is the recipe's unless it has its own."""
    if isinstance(section, dict):
        return section if "seed" in section else {**section, "seed": seed}
    if isinstance(section, Section) and "seed" not in section.model_fields_set:
        return section.model_copy(update={"seed": seed})
    return section
