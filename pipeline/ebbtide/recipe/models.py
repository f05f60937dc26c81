"""What a recipe may say: the sections, their defaults and the rules between them.

These models are the single source of the JSON Schema, of the commented template that ``ebb init``
writes and of every error message, so each field carries its description. Values are strict: a
number in quotes is not a number and a bool is not a string. A later section (sparsity) is one more
class in this package and one more field of `Recipe`.

Relative paths are kept as written here; `ebbtide.recipe.load_recipe` resolves them against the
recipe's folder before validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ebbtide.recipe.base import FilePath, Section, Seed, SharedSeed, absent, conflict
from ebbtide.recipe.policy import PolicySection
from ebbtide.recipe.sources import DataSection, ModelSection, with_seed
from ebbtide.recipe.widths import Widths

MAX_TIERS = 4
MAX_STAGES = 64
# Lower case, because bundles are stored under it on systems that ignore case.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]


class ClassDraw(Section):
    """A class set drawn at random from all classes."""

    count: int = Field(examples=[10], ge=2, description="How many classes to draw")
    seed: Seed = Field(default=0, description="Seed of the draw")


class AugmentationSection(Section):
    """Random changes of training samples; none are made where a value is 0 or false."""

    flip: bool = Field(default=False, description="Images: mirror left to right with probability 1/2")
    crop_padding: int = Field(
        default=0, ge=0, le=256, description="Images: pixels of zero padding before a random crop"
    )
    noise: float = Field(
        default=0.0, ge=0.0, description="Signals: standard deviation of added noise, in the data's unit"
    )
    shift: int = Field(default=0, ge=0, description="Signals: largest random shift in time, in samples")


class TrainingSection(Section):
    """The training loop, for the universal model and for every later step that tunes weights."""

    epochs: int = Field(default=30, ge=1, le=100_000, description="Passes over the train split")
    batch_size: int = Field(default=128, ge=2, le=65_536, description="Samples per step")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd (with Nesterov momentum) or adamw")
    learning_rate: float = Field(default=0.05, gt=0.0, le=100.0, description="Highest learning rate")
    weight_decay: float = Field(
        default=5e-4, ge=0.0, le=1.0, description="Weight decay; not applied to biases and norms"
    )
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="Momentum of sgd")
    schedule: Literal["cosine"] = Field(
        default="cosine", description="cosine: from learning_rate down to 0 over all epochs"
    )
    warmup_epochs: int = Field(default=0, ge=0, description="Epochs in which the learning rate rises from 0")
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the target spread over all classes"
    )
    augmentation: AugmentationSection = Field(
        default_factory=AugmentationSection, description="Random changes of training samples"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: CUDA where there is one, else the CPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32",
        description="What layers compute in; weights and loss stay float32. auto: bfloat16 where the device has units "
        "for it",
    )
    seed: SharedSeed = Field(
        default=0, description="Seed of initial weights, order and augmentation; left out: the recipe's seed"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise conflict(
                f"`warmup_epochs` is {self.warmup_epochs}, but there are only {self.epochs} epochs.",
                key="warmup_epochs",
                expected=f"less than {self.epochs}",
                hint="Lower warmup_epochs or raise epochs.",
            )
        return self


Position = Annotated[int, Field(ge=0, lt=MAX_STAGES)]


class ExitsSection(Section):
    """Early exits: small classifiers after a stage, trained on a frozen backbone."""

    positions: Literal["auto"] | Annotated[list[Position], Field(min_length=1)] = Field(
        default="auto",
        description="auto: after every stage where an exit pays; or a list of stage indices, 0 is the first",
    )
    type: Literal["pool-linear"] = Field(
        default="pool-linear", description="Kind of exit: global mean of each channel, then linear"
    )
    epochs: int = Field(default=40, ge=1, le=100_000, description="Passes over the cached features of the train split")
    learning_rate: float = Field(
        default=0.01, gt=0.0, le=100.0, description="Highest learning rate of the exits' optimiser (AdamW)"
    )
    weight_decay: float = Field(
        default=1e-3, ge=0.0, le=1.0, description="Weight decay of the exits' weights, not of their biases"
    )
    batch_size: int = Field(default=256, ge=2, le=65_536, description="Samples per step")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if isinstance(self.positions, list) and sorted(set(self.positions)) != self.positions:
            raise conflict(
                f"Exit positions must be distinct and ascending, found {self.positions}.",
                key="positions",
                expected=str(sorted(set(self.positions))),
                hint="Write each position once, smallest first.",
            )
        return self


class TiersSection(Section):
    """The configurations the policy moves between; tier 0 is the best quality, the last the cheapest."""

    count: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_TIERS)] = Field(
        default="auto", description="auto: as many as differ usefully, at most 4; or how many, 1 to 4"
    )
    max_drop_points: float = Field(
        default=10.0,
        ge=0.0,
        le=100.0,
        description="The cheapest tier loses at most this many points of the metric on select",
    )
    floor: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        examples=[0.9],
        default=None,
        description="No tier may have less than this metric on select (0..1); left out: no floor",
    )


class SignSection(Section):
    """Who signs the bundle."""

    key: FilePath = Field(
        examples=["keys/dev.pem"], description="Private key (PEM, ECDSA P-256) as `ebb keys new` writes it"
    )


def _auto_exits(value: Any) -> Any:
    return {} if value == "auto" else value


def _short_tiers(value: Any) -> Any:
    short = value == "auto" or (isinstance(value, int) and not isinstance(value, bool))
    return {"count": value} if short else value


Exits = Annotated[ExitsSection, BeforeValidator(_auto_exits, json_schema_input_type=Literal["auto"] | ExitsSection)]
Tiers = Annotated[
    TiersSection,
    BeforeValidator(
        _short_tiers,
        json_schema_input_type=Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_TIERS)] | TiersSection,
    ),
]
ClassChoice = Annotated[list[Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0)]], Field(min_length=2)]


class Recipe(Section):
    """One build: a model and data in, one signed bundle for each device out.

    Only `model` and `data` are required. A section that is left out means that its step is skipped:
    without `training` the model is not trained, without `exits` it gets none.
    """

    name: Name = Field(default="model", description="Name of the bundles; left out: the recipe's file name")
    sequence: int = Field(
        default=1, ge=1, le=2**53 - 1, description="Grows with every release; phones refuse to go back"
    )
    model: ModelSection = Field(
        examples=[{"timm": "mobilenetv3_small_100", "weights": "model.safetensors"}],
        description="The trained classifier to start from",
    )
    data: DataSection = Field(examples=[{"folder": "photos"}], description="Labelled samples")
    classes: Literal["all"] | ClassChoice | ClassDraw = Field(
        default="all", description="all; or a list of class names or indices; or {count: N, seed: S} drawn at random"
    )
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = Field(
        default="accuracy", description="What every step counts as right: accuracy, balanced_accuracy or macro_f1"
    )
    training: TrainingSection | None = Field(
        default=None, description="How weights are trained; left out: the model is used as it comes"
    )
    stages: (
        Literal["auto"]
        | Annotated[int, Field(ge=1, le=MAX_STAGES)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_STAGES - 1)]
    ) = Field(
        default="auto",
        description="auto: balanced by cost; or how many stages; or the cut points to use, by name (`ebb inspect`)",
    )
    widths: Widths | None = Field(
        default=None,
        description="Nested widths: how many, their shares of the multiply-accumulates, or a section; left out or "
        "null: the model as it is",
    )
    exits: Exits | None = Field(default=None, description="Early exits; auto or a section; left out or null: none")
    precision: Literal["float32"] = Field(default="float32", description="Number format of the lowered programs")
    devices: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] = Field(
        default=["host"], description="Device profiles by name; one bundle is built for each"
    )
    tiers: Tiers = Field(
        default_factory=TiersSection, description="Configurations to switch between: auto, 1 to 4, or a section"
    )
    policy: PolicySection = Field(
        default_factory=PolicySection, description="When a phone changes its tier: the numbers of the rule"
    )
    sign: SignSection | None = Field(
        default=None, description="The key that signs the bundles; left out: a development key of this machine"
    )
    payload: Literal["raw", "xz"] = Field(
        default="raw", description="raw: plain files for app assets; xz: one small download"
    )
    seed: Seed = Field(default=0, description="Seed of everything random that has no seed of its own")

    @property
    def trains_model(self) -> bool:
        """Whether the universal model's weights are trained here: from scratch, or further with `fine_tune`."""
        return self.model.fine_tune or (self.training is not None and not self.model.has_weights)

    @property
    def training_settings(self) -> TrainingSection:
        """The `training` section, or its defaults with the recipe's seed where there is none."""
        return self.training or TrainingSection(seed=self.seed)

    @property
    def tuning_settings(self) -> TrainingSection:
        """How nested widths are tuned together: `widths.tuning` over what `training` says."""
        given = self.widths.tuning.model_dump(exclude={"distill", "sandwich"}) if self.widths else {}
        return self.training_settings.model_copy(update={k: v for k, v in given.items() if v is not None})

    @model_validator(mode="before")
    @classmethod
    def _share_seed(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        filled, seed = dict(value), value.get("seed", 0)
        if "training" in filled:
            filled["training"] = with_seed(filled["training"], seed)
        data = filled.get("data")
        if isinstance(data, dict):
            filled["data"] = {**data, "split": with_seed(data.get("split", {}), seed)}
        elif isinstance(data, DataSection):
            filled["data"] = data.model_copy(update={"split": with_seed(data.split, seed)})
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.training is None and not self.model.has_weights:
            raise absent(
                f"The model named by `{self.model.source}` has no weights, and there is no `training` section.",
                key="model",
                expected="trained weights or a training section",
                hint="Give model.weights, or add `training: {}`, or say model.trained: true if the factory loads them.",
            )
        self._check_exits()
        if self.widths is not None and self.widths.images == "all" and self.classes != "all" and self.trains_model:
            raise conflict(
                "The model is trained here on the class set alone, so importance cannot be measured on all classes.",
                key="widths.images",
                expected="user",
                hint="Say images: user, or give trained weights of all classes.",
            )
        for key, values in (("devices", self.devices), ("classes", self.classes), ("stages", self.stages)):
            repeated = [v for i, v in enumerate(values) if v in values[:i]] if isinstance(values, list) else []
            if repeated:
                raise conflict(f"`{key}` names {repeated[0]!r} twice.", key=key, hint="Write each one once.")
        return self

    def _check_exits(self) -> None:
        if self.exits is None or not isinstance(self.exits.positions, list) or self.stages == "auto":
            return
        # A list names the cuts between stages, so it makes one stage more than it has names.
        count = self.stages if isinstance(self.stages, int) else len(self.stages) + 1
        highest = count - 2
        wrong = [position for position in self.exits.positions if position > highest]
        if wrong:
            known = "no exit is possible" if highest < 0 else f"positions 0 to {highest}"
            raise conflict(
                f"Exit position {wrong[0]} is not before the last of {count} stages, where the head stands.",
                key="exits.positions",
                expected=known,
                hint="Lower the position, or ask for more stages.",
            )
