"""Forms a student is exported in. One file each; a new one is one line in `FORMS`."""

from stages.exporters.adapter import Adapter
from stages.exporters.base import Form
from stages.exporters.gguf import Gguf, GgufQ8
from stages.exporters.onnx import Onnx
from stages.exporters.onnx_int8 import OnnxInt8
from stages.exporters.safetensors import Safetensors

FORMS: tuple[Form, ...] = (Safetensors(), Onnx(), OnnxInt8(), Gguf(), GgufQ8(), Adapter())
