"""One error for everything a user can get wrong: a stable code, what was expected, what was found, what to do.

A code is ``package.reason`` and never changes its meaning once released, so that scripts and the
SDKs in other languages can rely on it. Every code stands in `CODES` below with what it means; an
unlisted code cannot be raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# Sections are in the order of the packages. Keep each section sorted.
CODES: dict[str, str] = {
    # recipe
    "recipe.code_error": "Code of the user's that the recipe names raised an error.",
    "recipe.code_name": "A file that the recipe names has no function of that name.",
    "recipe.conflict": "Two settings of the recipe exclude each other, or one needs another that is missing.",
    "recipe.missing_file": "A file or folder that the recipe names does not exist.",
    "recipe.missing_key": "A required key is absent.",
    "recipe.no_code": "The recipe names code of the user's, and --no-code forbids running it.",
    "recipe.override": "A --set argument is not of the form a.b=c or names no key.",
    "recipe.syntax": "The recipe is not valid YAML.",
    "recipe.unknown_key": "A key is not one that the recipe knows.",
    "recipe.value": "A value has the wrong type, is out of range or is not one of the allowed ones.",
    # steps
    "steps.busy": "Another build is writing to the same place.",
    "steps.disk_full": "The disk is full; what was being written has been removed.",
    "steps.read_only": "The cache or the output folder cannot be written.",
    # data
    "data.array": "An array is missing or has the wrong type or number of axes.",
    "data.channels": "Images or signals do not have the number of channels that is needed.",
    "data.choices": "The choices handed over to open the test split are empty or not JSON.",
    "data.class_set_empty": "The class set names fewer than two classes.",
    "data.class_unknown": "The class set names a class that the data does not have, or names one twice.",
    "data.corrupt_file": "A data file is damaged or is not of the format its name says.",
    "data.corrupt_image": "An image file cannot be decoded.",
    "data.duplicate_id": "Two samples have the same id.",
    "data.empty": "There are no samples where samples were expected.",
    "data.halves": "Halves of the official test samples were asked for, and there are none.",
    "data.input": "The input section (size, mean, std, color) does not fit the data.",
    "data.labels": "Labels are not whole numbers in the range of the classes.",
    "data.length_mismatch": "Images, labels, ids or splits differ in number.",
    "data.missing": "A data set is not where it was said to be.",
    "data.not_finite": "Signals hold NaN or infinite values.",
    "data.one_class": "The data has samples of fewer than two classes.",
    "data.pickle": "A data file holds Python objects, which could run code when read.",
    "data.prepared": "A prepared data set on disk is damaged or was written by another version.",
    "data.size_unknown": "Images differ in size and nothing says which size the model takes.",
    "data.source": "The data section names no source or several, or a source that is not known or not usable.",
    "data.split": "The split is not three positive fractions, or a sample is assigned to an unknown split.",
    "data.test_sealed": "The test split was touched before, or apart from, the final report.",
    "data.too_few": "A class has too few different samples for train, select and test.",
    # device
    "device.facts": "The facts of a device are not a JSON object of the facts that are known, or one is out of range.",
    "device.groups": "The groups of devices are not valid.",
    "device.no_bundle": "None of the bundles that are there can be used on the device.",
    "device.profile": "A device profile is not valid.",
    "device.unknown": "There is no device profile of that name.",
    # model
    "model.arguments": "The model could not be made with these arguments.",
    "model.batch": "The model works for one fixed batch size only.",
    "model.buffer_change": "The model changes a tensor in place that something else still reads.",
    "model.checkpoint_extra": "The checkpoint has tensors that the model does not have.",
    "model.checkpoint_format": "The weights file is not of a known format or is damaged.",
    "model.checkpoint_missing": "The checkpoint lacks tensors that the model needs.",
    "model.checkpoint_nonfinite": "The checkpoint has NaN or infinite values.",
    "model.checkpoint_shape": "The checkpoint has tensors of another shape than the model's.",
    "model.classes": "The model's number of outputs is not the number of classes.",
    "model.cut_point": "A cut point that was asked for does not exist, or there are too few.",
    "model.data_dependent": "The model decides by the values of its input, which a fixed graph cannot.",
    "model.distillation": "A teacher's share of the loss or its temperature is out of range.",
    "model.dtype": "The model does not compute in float32.",
    "model.dynamic_shape": "The shape of a tensor inside the model depends on the input's values or size.",
    "model.export": "The model cannot be captured as a graph.",
    "model.forward": "The model fails on an input of the data's shape.",
    "model.inputs": "The model does not take exactly one tensor.",
    "model.missing_library": "The library that the model comes from is not installed.",
    "model.not_classifier": "The model's output is not one row of logits for each sample.",
    "model.order": "The order of a coupling group's units is no permutation of them.",
    "model.outputs": "The model puts out more than one tensor.",
    "model.recurrent": "The model has recurrent layers.",
    "model.training_device": "The device asked for training is not there.",
    "model.training_diverged": "The training loss became NaN or infinite.",
    "model.unknown_name": "timm or torchvision has no model of that name.",
    "model.unsafe_checkpoint": "The checkpoint carries code, or objects other than tensors, and was not loaded.",
    "model.unsupported_node": "The model's graph has a node that cannot be handled.",
    "model.width": "A width is asked of a coupling group that does not exist, or one that the group cannot have.",
    # saliency
    "saliency.kind": "There is no importance score of that name.",
    "saliency.nonfinite": "A loss, gradient or score of importance is NaN or infinite.",
    "saliency.plan": "Gradients cannot be collected with these numbers of batches and samples, or on these classes.",
    "saliency.statistics": "Gradient statistics are missing, damaged, or those of another model.",
    "saliency.too_few": "There are too few samples for one batch of gradients.",
    # nesting
    "nesting.budgets": "The budgets of nested widths are not ascending numbers above 0 and at most the full cost.",
    "nesting.dense_table": "A memory limit or measured time depends on too many widths at once.",
    "nesting.file": "A stored nested network is damaged or is one of another model.",
    "nesting.infeasible": "No widths meet a level's budget.",
    "nesting.level": "There is no width of that name.",
    "nesting.nothing_to_shrink": "No group of channels can be made smaller.",
    "nesting.statistics": "Shared batch norm statistics were never collected.",
    "nesting.tuning": "An option of joint tuning is out of range.",
    # pruning
    "pruning.budget": "A share of a model to keep is not above 0 and at most 1.",
    "pruning.floor": "No removal of channels meets a budget.",
    "pruning.scores": "All scores of channels are 0.",
    # sparsity
    "sparsity.budget": "Budgets, a limit or a confidence for the cheapest model within a loss are out of range.",
    "sparsity.few_samples": "Select has too few samples to show a loss as small as the limit.",
    "sparsity.file": "A stored step of pruning is damaged or is one of another run.",
    "sparsity.masks": "Masks are damaged, belong to another graph, or are cut through by a width.",
    "sparsity.none_within": "No smaller model was found whose loss is, with confidence, within the limit.",
    "sparsity.nothing_to_prune": "No layer of a model can carry the pattern of blocks and N:M.",
    "sparsity.packed": "A packed model is damaged, of another format or graph, or its masks cannot be packed.",
    "sparsity.schedule": "A schedule of pruning has numbers out of range.",
    "sparsity.shape": "The sizes of a pattern of blocks and N:M do not fit each other.",
    "sparsity.unknown_pattern": "There is no pattern of sparsity of that name.",
    # exits
    "exits.channels": "It cannot be told which axis of a feature map holds the channels.",
    "exits.features": "An exit cannot be trained on the backbone's features.",
    "exits.identity": "Records, temperatures or a table of one width and precision are used for another.",
    "exits.records": "Records of exits whose rows do not fit their exits and samples.",
    "exits.settings": "Exits cannot be trained with the numbers given.",
    "exits.unfit": "An exit of that type cannot stand at that place.",
    "exits.unknown_type": "A recipe names an exit type that does not exist.",
    # engine
    "engine.closed": "A method was called on a program that has been closed.",
    "engine.failed": "The runtime failed while running a method.",
    "engine.input": "The input of a method has the wrong type or shape.",
    "engine.load": "A program is damaged or needs what this runtime does not have.",
    "engine.no_program": "There is no such program.",
    "engine.threads": "The thread count of this process is already fixed, or is not a positive number.",
    "engine.unknown_method": "A program has no method of this name.",
    # lowering
    "lowering.failed": "A program could not be lowered; the message names the method and the cause.",
    "lowering.gate": "A lowered program decides differently from the model it was lowered from.",
    "lowering.not_executed": "A freshly lowered method does not load or run in the runtime.",
    "lowering.spec": "A program to lower is not well formed: positions, shapes, temperatures or modules do not fit.",
    "lowering.unknown_backend": "There is no lowering back end of this name.",
    # profiling
    "profiling.methods": "A program has no such method, or its methods do not form a path.",
    "profiling.plan": "A timing plan is out of range, or times are compared that were not taken in one run.",
    "profiling.record": "A file is not a record of measurements.",
    "profiling.results": "A file is not what a measuring program on a device writes, or contradicts itself.",
    # search
    "search.costs": "A cost of a stage, an exit or the head is missing or is not a number of at least 0.",
    "search.floor": "No configuration reaches the floor that was asked for.",
    "search.limits": "A limit on loss or latency is out of range, or there are no times to hold a latency against.",
    "search.mapping_exit": "Exits that are to be mapped stand where none can, or are not those of the records.",
    "search.mapping_times": "A processor has neither measured times of a model nor a throughput.",
    "search.settings": "A setting of the search is out of range.",
    "search.split": "Configurations were to be searched on the test split.",
    "search.trade_off": "A trade-off between quality and cost lies outside 0 to 1.",
    "search.types": "A configuration turns on two exits of one position.",
    "search.no_configuration": "No configuration keeps the limits of exits.constraint.",
    "search.outside": "A threshold for what lies outside of the classes cannot be chosen.",
    "search.width": "A configuration of one width is used with records or a program of another.",
    # bundle
    "bundle.busy": "Another installation is writing to the same store.",
    "bundle.exists": "The place to write to holds something that is not a bundle of the same name.",
    "bundle.extra_file": "The folder of a bundle holds something that its manifest does not list.",
    "bundle.file_hash": "A file of the bundle does not have the SHA-256 that the manifest states.",
    "bundle.file_kind": "A part of the bundle is a link or something else that is not a plain file or folder.",
    "bundle.file_missing": "A part of the bundle is not there or cannot be read.",
    "bundle.file_size": "A file of the bundle does not have the size that the manifest states.",
    "bundle.key": "A key is not a P-256 key in PEM form.",
    "bundle.key_exists": "A key file would be overwritten.",
    "bundle.key_untrusted": "The bundle is signed by a key that is not among the trusted ones.",
    "bundle.limit": "The bundle is larger than its reader accepts.",
    "bundle.manifest_duplicate": "A name or path of the manifest stands twice, or differs from another only in case.",
    "bundle.manifest_missing_key": "The manifest lacks a key.",
    "bundle.manifest_order": "Parts of the manifest do not follow each other as they must.",
    "bundle.manifest_reference": "The manifest names something that it does not hold.",
    "bundle.manifest_syntax": "The manifest is not one strict JSON object in UTF-8.",
    "bundle.manifest_unknown_key": "The manifest has a key that its version does not know.",
    "bundle.manifest_value": "A value of the manifest has the wrong type, is out of range or contradicts another.",
    "bundle.manifest_version": "The manifest has a format that this reader does not know.",
    "bundle.none_installed": "The store holds no bundle of that name.",
    "bundle.payload": "The payload is not the one xz stream that the manifest describes.",
    "bundle.rollback": "The bundle is older than the one it would replace.",
    "bundle.runtime_version": "The runtime's version is outside the range that the bundle was built for.",
    "bundle.signature": "The signature is not a valid one of the manifest's exact bytes.",
    "bundle.source_date": "SOURCE_DATE_EPOCH is not a whole number of seconds.",
    "bundle.store": "The store's own record of what is installed is damaged.",
    # runtime
    "runtime.below_floor": "A configuration promises less than the accuracy floor that the application set.",
    "runtime.bench": "There is nothing to time.",
    "runtime.callback": "A callback of the application raised an error.",
    "runtime.closed": "The session has been closed.",
    "runtime.configuration": "The bundle has no such configuration.",
    "runtime.engine": "The bundle cannot be run by this engine or this version of it.",
    "runtime.floor": "The accuracy floor is out of range or above what every tier promises.",
    "runtime.input": "An input of a prediction is missing or is not an image, a signal or an archive of them.",
    "runtime.interval": "An interval of polling is not a whole number of milliseconds of at least 1.",
    "runtime.log": "The decision log cannot be opened or written.",
    "runtime.other_bundle": "A server was asked for another bundle than the one it holds.",
    "runtime.output": "A program put out something that is not a number.",
    "runtime.runner": "The C++ runner is not there, or ended without an answer.",
    "runtime.serve": "A bundle cannot be served: nothing of it is for a server, or the address cannot be had.",
    "runtime.server": "The address of a server, or how it is to be asked, is not valid.",
    "runtime.stream": "The settings of a stream do not fit the bundle or the frames.",
    "runtime.switch": "A switch failed; the configuration in force stays.",
    "runtime.tier": "The bundle has no such tier.",
    "runtime.vectors": "A file of vectors cannot be read, or is not of the form of its kind.",
    "runtime.wire": "A message between a session and a server is not of its form.",
    # policy, of the runtime
    "policy.limits": "The application's limits are not a minimum and a maximum tier in order.",
    "policy.parameters": "The policy's entries are out of order, or the number of tiers is not 1 to 4.",
    "policy.signal": "A signal has the wrong type, is out of range or is not known.",
    "policy.time": "Time runs backwards from one reading to the next.",
    # runner, in C++
    "runner.vectors": "A file of test vectors is missing or is not one of its kind.",
    # signals, of the runtime
    "signals.recording": "A recording of signals is missing, damaged, of another version, or out of order.",
    "signals.script": "The readings of a script of signals are out of order.",
    "signals.source": "A source of signals failed, or gave something that is no reading.",
    "signals.value": "What the system reports is no possible value of its kind.",
    "signals.zone": "A thermal zone that was asked for does not exist or says too little about itself.",
    # simulation
    "simulation.ambient": "The temperatures of the air are out of order or out of range.",
    "simulation.bundle": "The bundle says too little to be simulated.",
    "simulation.hours": "The time to simulate is not above 0 and at most 48 hours.",
    "simulation.not_finite": "A simulated temperature, charge or power is no finite number.",
    "simulation.phone": "There is no phone of that name to simulate.",
    "simulation.policy": "There is no policy of that name to compare.",
    "simulation.power": "The file of assumptions about power is missing, damaged or out of range.",
    "simulation.runs": "The number of simulated runs is not 1 to 1000.",
    # report
    "report.figures": "A stored figure, its goal or a table of figures in a document is not valid.",
    "report.record": "A build record is missing or not one that this version can read.",
    # api, cli
    "api.changed": "The recipe of a build is not what it was, so its universal model cannot be taken.",
    "api.class_set": "A build of a class set alone has no universal model that others could be made from.",
    "api.exists": "A file that would be written exists already.",
    "api.internal": "Something inside Ebbtide failed that no input should be able to cause.",
    "api.interrupted": "The command was stopped; what was finished is kept and the same command continues.",
}

# What to do where the place that raises has nothing better to say: no error leaves its reader without a next step.
_ADVICE = {
    "recipe": "Correct the recipe; `ebb init` writes one with every key explained.",
    "steps": "Make room, or choose another folder; the same command continues.",
    "data": "Correct the data or the recipe's `data` section; `ebb check` looks at both without building.",
    "device": "See devices/README.md for profiles, groups and facts, and what they hold.",
    "model": "Correct the model or the recipe's `model` section; `ebb inspect` shows what was read.",
    "saliency": "Correct the `widths` section, or train the model longer; `ebb check` shows its accuracy.",
    "nesting": "Correct the `widths` section; `ebb inspect --groups` shows what can shrink.",
    "pruning": "Raise the budget, or lower what channels must be a multiple of.",
    "sparsity": "Correct the `sparsity` section of the recipe.",
    "exits": "Leave `exits` out to build without them, or correct the section.",
    "engine": "Use the runtime that the manifest names, and check the bundle with `ebb verify`.",
    "lowering": "Build again; if it stays, choose other `stages` or report the model.",
    "profiling": "Measure again; leave --measurements out to do so.",
    "search": "Loosen the `tiers` section, or start from a better model.",
    "bundle": "Do not use this bundle: fetch it again from its source, or build it again.",
    "runtime": "Check the bundle with `ebb verify`, and the input against the manifest's `model.input`.",
    "runner": "Write the vectors again with `make vectors`, and build the runner with `make runner`.",
    "policy": "The state is unchanged; correct what is handed over and go on.",
    "signals": "Read again, or leave the signal out: an absent signal demands nothing.",
    "simulation": "`ebb simulate --help` says what can be simulated.",
    "report": "Run the build or the benchmark again with this version.",
    "api": "Report it together with what the command printed.",
}

# Exit status by kind: 2 is bad input, 3 a check of ours that failed on good input, 1 a defect of ours.
_STATUS = {"api.internal": 1, "api.interrupted": 130}
_STATUS_BY_PACKAGE = {"lowering": 3}


class EbbtideError(Exception):
    """A failure that a user can act on.

    Args:
        code: one of `CODES`.
        message: what is wrong, one sentence with a capital first letter, the bad value in it.
        expected: what would have been right, if that is not plain from the message.
        found: what was there instead.
        hint: what to do now; left out, the general advice for errors of this package.
        place: where: ``file:line``, a JSON path, a node or tensor name.
        details: more facts for ``--json`` output; values must be JSON.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        place: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if code not in CODES:
            raise KeyError(f"error code {code!r} is not listed in ebbtide.errors.CODES")
        self.code = code
        self.message = message
        self.expected = expected
        self.found = found
        self.hint = hint if hint is not None else _ADVICE[code.split(".", 1)[0]]
        self.place = place
        self.details = dict(details or {})
        super().__init__(str(self))

    @property
    def exit_status(self) -> int:
        """The process exit status: 2 bad input, 3 a failed check of ours, 1 a defect, 130 interrupted."""
        return _STATUS.get(self.code, _STATUS_BY_PACKAGE.get(self.code.split(".")[0], 2))

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        for label, text in (("expected", self.expected), ("found", self.found), ("do", self.hint)):
            if text is not None:
                lines.append(f"  {label}: {text}")
        return "\n".join([f"[{self.code}] {lines[0]}", *lines[1:]])

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries in parallel lowering; the default would lose the keywords.
        return (_rebuild, (self.as_dict(),))

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON values, for ``--json`` and logs."""
        return {
            "code": self.code,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
            "place": self.place,
            "details": self.details,
        }


def _rebuild(fields: dict[str, Any]) -> EbbtideError:
    code, message = fields.pop("code"), fields.pop("message")
    return EbbtideError(code, message, **fields)


def nearest(word: str, known: list[str]) -> str | None:
    """The known name closest to a mistyped one, or None if none is close."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def named(name: str, known: Mapping[str, T], *, code: str, what: str, place: str) -> T:
    """What goes by a name.

    Args:
        name: as a user wrote it.
        known: everything there is, by name.
        code: of the error.
        what: a word for it, as in "There is no exit type 'x'".
        place: where the name stands.

    Raises:
        EbbtideError: with that code, all names and the nearest one.
    """
    if name in known:
        return known[name]
    near = nearest(name, list(known))
    raise EbbtideError(
        code,
        f"There is no {what} {name!r}",
        expected=", ".join(sorted(known)),
        hint=f"Did you mean {near!r}?" if near else None,
        place=place,
    )
