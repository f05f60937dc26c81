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

from ebbtide.recipe.base import FilePath, Name, Section, Seed, SharedSeed, absent, conflict
from ebbtide.recipe.exits import MAX_STAGES, Exits, ExitsSection
from ebbtide.recipe.learning import LearningSection
from ebbtide.recipe.outside import Outside
from ebbtide.recipe.policy import PolicySection
from ebbtide.recipe.sources import DataSection, ModelSection, with_seed
from ebbtide.recipe.sparsity import SparsitySection
from ebbtide.recipe.widths import Widths

MAX_TIERS = 4


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


def _short_tiers(value: Any) -> Any:
    short = value == "auto" or (isinstance(value, int) and not isinstance(value, bool))
    return {"count": value} if short else value


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
    head: Literal["restricted", "full"] = Field(
        default="restricted",
        description="restricted: the model answers with the class set only; full: it keeps the outputs of all classes "
        "and is judged on samples of the class set",
    )
    outside: Outside | None = Field(
        default=None,
        description="Answer outside for images of other classes: energy, confidence or a section; left out or null: "
        "every answer is a class",
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
    sparsity: SparsitySection | None = Field(
        default=None,
        description="A smaller model for the class set alone; what is trained here is then trained on all classes "
        "first; left out or null: the universal model as it is",
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
        return self._learning(self.widths.tuning if self.widths else None)

    @property
    def fine_tuning_settings(self) -> TrainingSection:
        """How a model for the class set learns after removals: `sparsity.tuning` over what `training` says."""
        return self._learning(self.sparsity.tuning if self.sparsity else None)

    @property
    def joint_settings(self) -> TrainingSection:
        """How backbone and exits learn together: `exits.joint` over what `training` says."""
        return self._learning(self.exits.joint if self.exits else None)

    def _learning(self, section: LearningSection | None) -> TrainingSection:
        given = section.model_dump(include=set(LearningSection.model_fields)) if section else {}
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
        self._check_halves()
        self._check_outside()
        self._check_sparsity()
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

    def _check_outside(self) -> None:
        if self.outside is None:
            return
        if self.head == "full":
            raise conflict(
                "A full head answers with the other classes themselves, so nothing is outside of it.",
                key="outside",
                expected="head: restricted",
                hint="Leave out `outside`, or say head: restricted.",
            )
        if self.outside.fallback == self.name:
            raise conflict(
                f"The bundle {self.name!r} cannot be asked instead of itself.",
                key="outside.fallback",
                expected="the name of another bundle",
                hint="Name the universal bundle, or leave it out.",
            )

    def _check_sparsity(self) -> None:
        if self.sparsity is None:
            return
        if self.sparsity.max_drop_points is not None and self.metric != "accuracy":
            raise conflict(
                f"The confidence bound of `max_drop_points` is one of accuracy, and the metric is {self.metric}.",
                key="sparsity.max_drop_points",
                expected="metric: accuracy",
                hint="Say metric: accuracy, or give a target.",
            )
        if self.widths is not None and self.widths.images == "all":
            raise conflict(
                "A model of the class set alone does not know all classes.",
                key="widths.images",
                expected="user",
                hint="Say images: user.",
            )
        if self.widths is not None and self.sparsity.pattern == "hybrid" and self.widths.controls:
            raise conflict(
                "Masks belong to the order and the widths that they were made with, so other ones cannot be tuned.",
                key="widths.controls",
                expected="[]",
                hint="Leave `controls` out, or say sparsity.pattern: channels.",
            )

    def _check_halves(self) -> None:
        if self.data.split.protocol == "test-halves" and self.trains_model:
            raise conflict(
                "Halves of the test samples are for models that were trained on everything else before they came here; "
                "this one is trained here, so it can keep three splits.",
                key="data.split",
                expected="shares of train, select and test",
                hint="Say split: {train: 0.7, select: 0.15, test: 0.15}.",
            )

    def _check_exit_learning(self, exits: ExitsSection) -> None:
        augmentation = self.training_settings.augmentation
        if exits.passes > 1 and augmentation == AugmentationSection():
            raise conflict(
                f"`passes` is {exits.passes}, but `training.augmentation` changes nothing, so all would be the same.",
                key="exits.passes",
                expected="1",
                hint="Say what training.augmentation changes, or passes: 1.",
            )
        if exits.train == "frozen":
            return
        if self.widths is not None:
            raise conflict(
                "Nested widths share one set of weights, and a backbone that learns with its exits has its own.",
                key="exits.train",
                expected="frozen",
                hint="Say train: frozen, or leave `widths` out.",
            )
        if self.sparsity is not None and self.sparsity.pattern == "hybrid":
            raise conflict(
                "A backbone that learns with its exits would fill the weights that a hybrid pattern has taken out.",
                key="exits.train",
                expected="frozen",
                hint="Say train: frozen, or sparsity.pattern: channels.",
            )
        if exits.joint.epochs == 0:
            raise conflict("`train: joint` needs an epoch.", key="exits.joint.epochs", hint="Say 1 or more.")

    def _check_exits(self) -> None:
        if self.exits is not None:
            self._check_exit_learning(self.exits)
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
