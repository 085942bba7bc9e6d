"""How workers open ONNX models: with one thread, because thread pools do not survive a fork."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
