"""Prepare Moonshine base-en for speed, once, at install: `python -m gpu_workers.cascade.prepare`.

The package ships its weights as int8 that is turned into float at every run (1.4 s an utterance). Here the weights are
folded into floats and quantised again for integer matrix multiplication, and the decoder is taken out of its `If`: the
encoder gives the keys and values that every decoder step attends to, and one decoder graph does all steps.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

RECIPE = 1
"""Raise this when the way of preparing changes: the folder of the prepared models is named by it."""

ENCODER, DECODER, TOKENS = "encoder.onnx", "decoder.onnx", "tokenizer.bin"


def source_folder() -> Path:
    """Return the folder of the models inside the installed package, without loading its native library."""
    spec = importlib.util.find_spec("moonshine_cpp")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The package moonshine-cpp is not installed: run make setup.")
    return Path(spec.origin).parent / "models" / "base-en"


def prepared_folder() -> Path:
    """Return where the prepared models lie: in `WARMLINE_MODELS_DIR`, else under `WARMLINE_STATE_DIR`."""
    source = source_folder()
    sizes = "".join(str((source / name).stat().st_size) for name in ("encoder_model.ort", "decoder_model_merged.ort"))
    key = hashlib.sha256(f"{RECIPE} {sizes}".encode()).hexdigest()[:8]
    state = os.environ.get("WARMLINE_STATE_DIR") or ".warmline"
    models = os.environ.get("WARMLINE_MODELS_DIR") or os.path.join(state, "models")
    return Path(models) / f"moonshine-base-en-{key}"


def prepare() -> Path:
    """Make the prepared models if they are not there (about 20 s), and return their folder. May run twice at once."""
    target = prepared_folder()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _prepare_models(source_folder(), Path(scratch), made)
        (made / TOKENS).write_bytes((source_folder() / TOKENS).read_bytes())
        try:
            made.rename(target)
        except OSError:  # another process was first, with the same result
            if not target.exists():
                raise
    return target


def _prepare_models(source: Path, scratch: Path, made: Path) -> None:
    import onnx

    encoder = _fold(onnx.load(_as_onnx(source / "encoder_model.ort", scratch)), scratch)
    merged = onnx.load(_as_onnx(source / "decoder_model_merged.ort", scratch))
    cross_keys = [output.name for output in merged.graph.output if ".encoder." in output.name]

    # The first step's branch holds what turns the encoder's result into keys and values; only that part is taken of it.
    # It reads the batch size off the token ids: with these constant, nothing of the decoder hangs on it any more.
    branch = _branch(merged, "else_branch", merged.graph.output)
    branch.graph.initializer.append(onnx.helper.make_tensor("input_ids", onnx.TensorProto.INT64, [1, 1], [1]))
    del branch.graph.input[[value.name for value in branch.graph.input].index("input_ids")]
    first_step = _fold(branch, scratch)
    cross = onnx.utils.Extractor(first_step).extract_model(["encoder_hidden_states"], cross_keys)
    joined = onnx.compose.merge_models(
        encoder, cross, [("last_hidden_state", "encoder_hidden_states")], prefix1="encoder/", prefix2="cross/"
    )
    del joined.opset_import[len(encoder.opset_import) :]  # each was listed twice
    _quantise(joined, scratch / "joined.onnx", made / ENCODER)

    # The branch with a past also does the first step: its past is then of length 0.
    outputs = [output for output in merged.graph.output if output.name not in cross_keys]
    _quantise(_fold(_branch(merged, "then_branch", outputs), scratch), scratch / "step.onnx", made / DECODER)


def _as_onnx(ort_model: Path, scratch: Path) -> str:
    """Write an .ort model as .onnx, unchanged, and return its path."""
    path = str(scratch / f"{ort_model.stem}.onnx")
    _optimise(str(ort_model), path, "ORT_DISABLE_ALL")
    return path


def _fold(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """Return the model with all that is computed from constants alone computed: its weights as floats."""
    import onnx

    onnx.save(model, scratch / "before.onnx")
    _optimise(str(scratch / "before.onnx"), str(scratch / "after.onnx"), "ORT_ENABLE_BASIC")
    return onnx.load(scratch / "after.onnx")


def _optimise(source: str, target: str, level: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = target
    options.add_session_config_entry("session.save_model_format", "ONNX")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _branch(merged: onnx.ModelProto, name: str, outputs: Iterable[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Return one branch of the merged decoder as a model of its own, with what it takes from outside."""
    import onnx

    choice = next(node for node in merged.graph.node if node.op_type == "If")
    branch = next(attribute.g for attribute in choice.attribute if attribute.name == name)
    nodes = [*(node for node in merged.graph.node if node is not choice), *branch.node]
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        [node for node in nodes if node.op_type != "If"],
        name,
        [value for value in merged.graph.input if value.name in used],
        list(outputs),
        [weight for weight in (*merged.graph.initializer, *branch.initializer) if weight.name in used],
    )
    return onnx.helper.make_model(graph, opset_imports=merged.opset_import, ir_version=merged.ir_version)


def _quantise(model: onnx.ModelProto, scratch: Path, target: Path) -> None:
    """Write the model with int8 weights, at 7 bits: with 8, processors without VNNI overflow in their 16-bit sums."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(model, scratch)
    logging.disable(logging.WARNING)  # it tells of each layer, and advises a step that was done here by hand
    try:
        quantize_dynamic(
            scratch,
            target,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gather"],
        )
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    print(prepare())
